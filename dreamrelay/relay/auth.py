"""Who may do what: the rules, as data and plain functions.

Three questions, in this order, once per request or connection and never per message:

1. Is it meant for us? The ``Host`` must be an address, ``localhost`` or a name that the operator
   gave, or somebody's page whose DNS points at us would speak to us as its own server.
2. Does a page of somebody else's speak through a browser? Its ``Origin`` must be ours or allowed.
3. Who is it? A peer that comes straight from this machine may do everything; any other shows a
   token, and the token says what it may do and on which streams.
"""

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
import stat
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from dreamrelay.errors import AuthError, ConfigError
from dreamrelay.relay.limits import address_key, is_loopback

Permission = Literal["publish", "work", "view", "control"]
PERMISSIONS: frozenset[Permission] = frozenset(get_args(Permission))

IMPLIED: Mapping[Permission, frozenset[Permission]] = {
    "publish": frozenset({"publish"}),
    "view": frozenset({"view"}),
    "control": frozenset({"control", "view"}),  # who sets a value must see which there are
    "work": frozenset({"work", "control", "view"}),  # a worker sees all and says what can be set
}

COOKIE = "dreamrelay_token"
"""Its name begins so; the port follows, because cookies know none and hosts have several relays."""

FIRST_MESSAGE = "first"
"""``?auth=first``: the token comes as the first message of the WebSocket."""

TOKEN_PATTERN = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")
TOKEN_EXPECTED = "expected a token of 16-512 letters, digits, . _ ~ + / = -"

_FORWARDED = frozenset({"forwarded", "via", "x-real-ip", "x-client-ip", "cf-connecting-ip"})
_DREAMSTREAM = re.compile(r"/(ws|broadcaster|viewer)(/|\Z)")
_STREAM_PATH = re.compile(r"/streams/([A-Za-z0-9_.-]{1,64})(?:/|\Z)")
_READING = ("GET", "HEAD", "OPTIONS")


def make_token() -> str:
    """A token that nobody guesses and that fits in a link."""
    return secrets.token_urlsafe(18)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


# -- what a peer may ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody may do.

    Attributes:
        permissions: with all that they imply.
        streams: where; None is everywhere, and needed for what is not of one stream.
        name: of the token, for the log.
        address: what the limits count by; empty for peers on this machine.
    """

    permissions: frozenset[Permission] = frozenset()
    streams: frozenset[str] | None = None
    name: str = ""
    address: str = ""

    def allows(self, permission: Permission, stream: str | None) -> bool:
        """Whether this may be done on ``stream``; None for what is of no stream, or of all."""
        return permission in self.permissions and self.reaches(stream)

    def reaches(self, stream: str | None) -> bool:
        return self.streams is None or (stream is not None and stream in self.streams)

    def check(self, permission: Permission, stream: str | None) -> None:
        """Raise unless ``allows``.

        Raises:
            AuthError: naming the permission that is missing.
        """
        if not self.allows(permission, stream):
            where = f" on stream {stream!r}" if stream and not self.reaches(stream) else ""
            raise AuthError(f"this needs the permission {permission!r}{where}: ask for a token")

    @classmethod
    def of(
        cls,
        permissions: Iterable[Permission],
        streams: frozenset[str] | None = None,
        name: str = "",
    ) -> "Grant":
        """A grant of these and all that they imply."""
        implied = frozenset[Permission]().union(*(IMPLIED[p] for p in permissions))
        return cls(implied, streams, name)

    def at(self, address: str) -> "Grant":
        return Grant(self.permissions, self.streams, self.name, address)


LOCAL = Grant(PERMISSIONS, name="local")
"""A peer on this machine."""


class Keyring:
    """The tokens there are. Their text is kept to black it out in logs, and for nothing else."""

    def __init__(self, tokens: Iterable[tuple[str, Grant]] = ()) -> None:
        pairs = list(tokens)
        self._grants = [(_digest(token), grant) for token, grant in pairs]
        self.secrets = tuple(token for token, _ in pairs)

    def __len__(self) -> int:
        return len(self._grants)

    def find(self, shown: str) -> Grant | None:
        """The grant of a token. All are compared, each in constant time, whichever fits."""
        digest = _digest(shown)
        found = None
        for known, grant in self._grants:
            if hmac.compare_digest(known, digest):
                found = grant
        return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def read_tokens(path: Path) -> list[tuple[str, Grant]]:
    """Read a file of tokens: a TOML table for each, with ``token``, ``may``, perhaps ``streams``.

    Raises:
        ConfigError: it cannot be read, others may read it, or an entry is wrong.
    """
    try:
        if sys.platform != "win32" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            mode = stat.S_IMODE(path.stat().st_mode)
            raise ConfigError(f"{path}: others may read it (mode {mode:o}): chmod 600 it")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a TOML file"
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
    return [_entry(path, name, fields) for name, fields in content.items()]


def _entry(path: Path, name: str, fields: Any) -> tuple[str, Grant]:
    here = f"{path}: [{name}]"
    if not isinstance(fields, dict) or set(fields) - {"token", "may", "streams"}:
        raise ConfigError(f"{here}: expected a table of token, may and perhaps streams")
    token, may, streams = fields.get("token"), fields.get("may"), fields.get("streams")
    if not isinstance(token, str) or not TOKEN_PATTERN.fullmatch(token):
        raise ConfigError(f"{here}: {TOKEN_EXPECTED}")  # what came is a secret
    if not isinstance(may, list) or not may or not all(p in PERMISSIONS for p in may):
        raise ConfigError(f"{here}: may: expected a list of {', '.join(sorted(PERMISSIONS))}")
    if streams is not None and not (
        isinstance(streams, list) and streams and all(isinstance(s, str) for s in streams)
    ):
        raise ConfigError(f"{here}: streams: expected a list of streams' names, or none for all")
    return token, Grant.of(may, None if streams is None else frozenset(streams), name)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        scratch.replace(path)
    except BaseException:  # no file with half a secret in it stays
        scratch.unlink(missing_ok=True)
        raise


# -- what is asked --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """What the rules look at. The token is taken out of the address: nothing behind can log it.

    Attributes:
        client: the address at the other end of the socket.
        shown: tokens that were shown on purpose; a cookie is not, browsers send it by themselves.
        in_link: one of them stood in the address.
        first_message: the token will be said on the WebSocket.
    """

    method: str
    path: str
    secure: bool
    websocket: bool
    headers: Headers
    client: str
    shown: tuple[str, ...] = ()
    in_link: bool = False
    first_message: bool = False

    @property
    def over_tls(self) -> bool:
        """Whether it came by TLS, to us or to a proxy before us. Who only says so has less for it:
        cookies that are for TLS alone, and no page that came in the clear.
        """
        said = self.headers.get("x-forwarded-proto", "").rpartition(",")[2].strip()
        return self.secure or said == "https"

    @classmethod
    def of(cls, scope: Scope) -> "Request":
        """Read a request, and take ``?token=`` out of the scope."""
        headers = Headers(scope=scope)
        text = scope["query_string"].decode("latin-1")
        pairs = parse_qsl(text, keep_blank_values=True)
        shown = [value for name, value in pairs if name == "token"]
        in_link = bool(shown)
        if in_link:
            rest = urlencode([pair for pair in pairs if pair[0] != "token"])
            scope["query_string"] = rest.encode("ascii")
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            shown.append(bearer.strip())
        return cls(
            scope.get("method", "GET"),
            scope["path"],
            scope["scheme"] in ("https", "wss"),
            scope["type"] == "websocket",
            headers,
            str((scope.get("client") or ("", 0))[0]),
            tuple(shown),
            in_link,
            # Of our own protocol only: the others have no word for it.
            scope["path"].startswith("/streams/") and ("auth", FIRST_MESSAGE) in pairs,
        )

    @property
    def host(self) -> str:
        return self.headers.get("host", "").lower()

    @property
    def origin(self) -> str | None:
        return self.headers.get("origin")

    @property
    def forwarded(self) -> bool:
        """Whether a proxy says that it speaks for somebody."""
        return any(n.startswith("x-forwarded") or n in _FORWARDED for n in self.headers)

    @property
    def is_navigation(self) -> bool:
        """Whether a browser goes to a page, as against a page fetching something."""
        mode = self.headers.get("sec-fetch-mode", "navigate")
        asks = "text/html" in self.headers.get("accept", "")
        return self.method in ("GET", "HEAD") and not self.websocket and asks and mode == "navigate"

    @property
    def is_framed(self) -> bool:
        """Whether the page goes into a frame: no address bar shows it, and no cookie reaches it."""
        return self.headers.get("sec-fetch-dest", "document") != "document"

    @property
    def stream(self) -> str | None:
        """The stream in the path, if one is named there."""
        match = _STREAM_PATH.match(self.path)
        return match.group(1) if match else None

    @property
    def needs(self) -> Permission:
        """What HTTP needs, route by route alike: reading is viewing, all else is control."""
        return "view" if self.method in _READING else "control"

    def cookies(self) -> Iterator[str]:
        try:
            jar = SimpleCookie(self.headers.get("cookie", ""))
        except CookieError:
            return
        for name, morsel in jar.items():
            if name == COOKIE or name.startswith(f"{COOKIE}_"):
                yield morsel.value


@dataclass(frozen=True, slots=True)
class Gate:
    """The rules.

    Attributes:
        keys: the tokens; without any, nobody comes in but this machine.
        origins: web pages besides our own that may connect.
        hosts: names, beside ``localhost`` and addresses, under which we are known; ``*`` behind a
            proxy that serves no others.
        behind_proxy: nobody is local; the last of ``X-Forwarded-For`` is who asks.
        trust_local: peers on this machine need no token.
    """

    keys: Keyring
    origins: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    behind_proxy: bool = False
    trust_local: bool = True

    def admit(self, request: Request) -> Grant | None:
        """Say who it is.

        Returns:
            None: a WebSocket that is yet to say its token.

        Raises:
            AuthError: 401 where a token would help, 403 where it would not.
        """
        self._check_host(request)
        self._check_page(request)
        grant = self.recognise(request)
        if grant is None and not (request.websocket and request.first_message):
            raise AuthError("a token is needed: a ready link, or Authorization: Bearer", status=401)
        return grant

    def recognise(self, request: Request) -> Grant | None:
        """Who it is, by its token or its place; None for a stranger."""
        for token in (*request.shown, *request.cookies()):
            grant = self.keys.find(token)
            if grant is not None:
                # The address of somebody on this machine is not counted, token or not.
                return grant.at("" if self.is_local(request) else self.address(request))
        return LOCAL if self.trust_local and self.is_local(request) else None

    def is_local(self, request: Request) -> bool:
        """Whether it comes straight from this machine, and knows us under a name that says so."""
        return (
            not self.behind_proxy
            and not request.forwarded
            and _is_address(request.client)
            and is_loopback(request.client)
            and is_loopback(host_name(f"//{request.host}"))
        )

    def address(self, request: Request) -> str:
        """Whom the limits count."""
        client = request.client
        if self.behind_proxy:
            # The last one is what our proxy wrote itself, some on a line of its own.
            said = request.headers.getlist("x-forwarded-for") or [client]
            client = _bare(said[-1].rpartition(",")[2].strip())
        return address_key(client)

    def _check_host(self, request: Request) -> None:
        """Against DNS rebinding: an address cannot be rebound, and our names are known."""
        name = host_name(f"//{request.host}").rstrip(".")
        known = self.hosts | {host_name(origin) for origin in self.origins}
        if self.behind_proxy and "*" in known:
            return
        if request.host and not (is_loopback(name) or _is_address(name) or name in known):
            raise AuthError(
                f"expected localhost, an address or a name that is allowed as Host, got"
                f" {request.host[:100]!r}: start the relay with --allow-host=NAME"
            )

    def _check_page(self, request: Request) -> None:
        """Against pages of others: they may neither connect, nor change, nor show what is here."""
        origin = request.origin
        if origin is not None:
            if not (self._may_connect(origin, request) or self._is_neighbour(origin, request)):
                raise AuthError(
                    f"pages of {origin[:100]!r} may not connect: start the relay with"
                    " --allowed-origins=scheme://host:port"
                )
            return
        site = request.headers.get("sec-fetch-site", "none")
        if site in ("none", "same-origin") or request.is_navigation:
            return
        if any(self.keys.find(token) for token in request.shown):
            return  # whoever wrote that page was given a token
        if not self._may_connect(_origin_of(request.headers.get("referer", "")), request):
            raise AuthError(
                "pages of others may not use this: start the relay with"
                " --allowed-origins=scheme://host:port, or show a token"
            )

    def _may_connect(self, origin: str, request: Request) -> bool:
        """Whether a page may talk to us: it is ours, or one of those that were allowed."""
        if origin in self.origins:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        # A page that came in the clear is anybody's: it may not speak to us over TLS.
        schemes = ("https",) if request.over_tls else ("http", "https")
        return parts.scheme in schemes and request.host != "" and parts.netloc == request.host

    def _is_neighbour(self, origin: str, request: Request) -> bool:
        """Whether a page served by this machine asks for a door that was made for such pages.

        DreamStream's pages come from a server of their own, on another port.
        """
        return (
            request.websocket
            and _DREAMSTREAM.match(request.path) is not None
            and self.trust_local
            and self.is_local(request)
            and origin.startswith(("http://", "https://"))
            and is_loopback(host_name(origin))
        )


def _bare(address: str) -> str:
    """An address without the port and the brackets that some proxies write."""
    return address if _is_address(address) else host_name(f"//{address}") or address


def host_name(url: str) -> str:
    """The host in a URL without its port; empty if there is none that can be read."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _origin_of(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


def cookie_name(host: str) -> str:
    """The name of our cookie at this ``Host``."""
    try:
        port = urlsplit(f"//{host}").port
    except ValueError:
        port = None
    return f"{COOKIE}_{port}" if port else COOKIE
