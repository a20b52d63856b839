"""How far a relay is open, as its settings say: tokens, names, certificate, and the ready link."""

import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from dreamrelay.config import RelaySettings
from dreamrelay.errors import ConfigError
from dreamrelay.importer import Entry
from dreamrelay.relay.auth import (
    PERMISSIONS,
    Gate,
    Grant,
    Keyring,
    Permission,
    host_name,
    make_token,
    read_tokens,
)
from dreamrelay.relay.limits import is_loopback

if TYPE_CHECKING:
    from dreamrelay.relay.tls import Certificate

CERTIFICATE = Entry("dreamrelay.relay.tls:certificate_of", "TLS", "relay")
"""Imported when TLS is asked for: the library behind it is a large one."""

ANYWHERE = ("0.0.0.0", "::", "")


class Opening:
    """What follows from the settings before anything listens.

    Attributes:
        gate: the rules.
        made_token: one that was made up, because strangers can reach us and none was given.
        certificate: None in the clear.

    Raises:
        ConfigError: a file of tokens or a certificate cannot be used.
    """

    def __init__(self, settings: RelaySettings) -> None:
        self._settings = settings
        self._local = is_loopback(settings.host)
        given = self._tokens()
        self.made_token: str | None = None
        reachable = not self._local or settings.behind_proxy or not settings.trust_local
        if reachable and not given:
            self.made_token = make_token()
            given = [(self.made_token, Grant(PERMISSIONS, name="made up"))]
        self.token = settings.token or self.made_token
        self.gate = Gate(
            Keyring(given),
            frozenset(settings.allowed_origins),
            frozenset(self._names()),
            settings.behind_proxy,
            settings.trust_local,
        )
        self.certificate = self._certificate()

    @property
    def shows_token(self) -> bool:
        """Whether whoever opens the link needs the token in it."""
        settings = self._settings
        return self.token is not None and (
            not self._local or settings.behind_proxy or not settings.trust_local
        )

    def link(self, port: int, *, with_token: bool = True) -> str:
        """Where a browser finds the studio; ready with the token, if one is needed."""
        shown = own_address() if self._settings.host in ANYWHERE else self._settings.host
        if ":" in shown:
            shown = f"[{shown}]"
        scheme = "http" if self.certificate is None else "https"
        address = f"{scheme}://{shown}:{port}/"
        if with_token and self.shows_token and self.token is not None:
            return f"{address}?token={quote(self.token, safe='')}"
        return address

    def _tokens(self) -> list[tuple[str, Grant]]:
        settings = self._settings
        tokens: list[tuple[str, Grant]] = []
        if settings.token is not None:
            tokens.append((settings.token, Grant(PERMISSIONS, name="token")))
        single: tuple[tuple[str | None, Permission], ...] = (
            (settings.publish_token, "publish"),
            (settings.work_token, "work"),
            (settings.view_token, "view"),
            (settings.control_token, "control"),
        )
        for token, permission in single:
            if token is not None:
                tokens.append((token, Grant.of([permission], name=f"{permission}_token")))
        if settings.tokens_file is not None:
            tokens += read_tokens(Path(settings.tokens_file))
        if len({token for token, _ in tokens}) < len(tokens):
            raise ConfigError("expected each token once: the same one stands for two permissions")
        return tokens

    def _names(self) -> set[str]:
        """Host names that are ours, beside localhost and addresses."""
        return {
            host_name(f"//{name}") for name in (*self._settings.allow_host, self._settings.host)
        }

    def _certificate(self) -> "Certificate | None":
        settings = self._settings
        if settings.tls == "off" and settings.tls_cert is None and settings.tls_key is None:
            return None
        names = [*self._names(), own_address()]
        made: Certificate = CERTIFICATE.load()(settings, names)
        return made


def own_address() -> str:
    """The address by which others reach this machine; nothing is sent to find out."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # a documentation address: only the route is looked up
        return str(probe.getsockname()[0])
    return "127.0.0.1"
