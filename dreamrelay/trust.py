"""Whom a link trusts: what the certificate of a relay must be before the relay is told anything.

A relay that was started with ``--tls=auto`` has a certificate that nobody vouches for. It prints
the fingerprint, and who is given that knows the relay better than any authority does.
"""

import hashlib
import hmac
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection

from dreamrelay.errors import AuthError, ConfigError


def fingerprint_of(der: bytes) -> str:
    """SHA-256 of a certificate, as browsers show it: 32 bytes, ``AB:CD:...``."""
    return hashlib.sha256(der).digest().hex(":").upper()


@dataclass(frozen=True, slots=True)
class Trust:
    """What a relay's certificate is checked against.

    Attributes:
        fingerprint: SHA-256 of the one certificate that is right; its names and dates do not
            matter then.
        ca: a file of certificates (PEM) that may vouch for it; None: those of this system.
    """

    fingerprint: str | None = None
    ca: str | None = None

    def __post_init__(self) -> None:
        if self.fingerprint is not None and not re.fullmatch(r"[0-9a-f]{64}", self._digits):
            raise ConfigError(
                f"--tls-fingerprint: expected 64 hexadecimal digits, got {self.fingerprint[:80]!r}"
            )

    @property
    def _digits(self) -> str:
        return re.sub(r"[:\s]", "", self.fingerprint or "").lower()

    def context(self, uri: str) -> ssl.SSLContext | None:
        """What to connect with; None where the address has no TLS.

        Raises:
            ConfigError: the file of authorities cannot be read, or there is a fingerprint and no
                TLS to check it in.
        """
        if not uri.startswith("wss:"):
            if self.fingerprint is not None:
                raise ConfigError(f"--tls-fingerprint goes with wss://, got {uri.split('?')[0]}")
            return None
        if self.fingerprint is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE  # ``check`` does more
            return context
        try:
            return ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError):
            raise ConfigError(
                f"--tls-ca: expected a file of PEM certificates, got {Path(self.ca or '')}"
            ) from None

    def check(self, der: bytes | None) -> None:
        """Look at the certificate that came.

        Raises:
            AuthError: it is another one.
        """
        if self.fingerprint is None:
            return
        came = fingerprint_of(der or b"")
        if not hmac.compare_digest(came.replace(":", "").lower(), self._digits):
            raise AuthError(
                f"this is another relay, or somebody between: its certificate is {came[:23]}...,"
                " not the one of --tls-fingerprint"
            )

    def connection(self) -> type[ClientConnection]:
        """A connection that looks at the certificate before it says a word."""
        trust = self

        class Checked(ClientConnection):
            async def handshake(self, *arguments: Any, **options: Any) -> None:
                tls = self.transport.get_extra_info("ssl_object")
                if tls is not None:
                    trust.check(tls.getpeercert(binary_form=True))
                await super().handshake(*arguments, **options)

        return Checked


def unknown_certificate(error: ssl.SSLCertVerificationError, uri: str) -> AuthError:
    """What a certificate that nobody vouches for means for people."""
    return AuthError(
        f"{uri}: its certificate is not trusted ({error.verify_message or error.reason}):"
        " give --tls-fingerprint (the relay prints it) or --tls-ca=FILE"
    )
