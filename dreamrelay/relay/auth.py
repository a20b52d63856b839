"""Who may talk to the relay.

Peers on the machine itself are trusted, as long as no web page of somebody else's speaks through
them: an ``Origin`` must be the relay's own, and a ``Host`` must not be a name that somebody else's
DNS may point at us. Peers from elsewhere show a token.
"""

import hmac
import ipaddress
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from dreamrelay.errors import AuthError
from dreamrelay.protocol.native import error_fields
from dreamrelay.relay.connections import deny

COOKIE = "dreamrelay_token"
OPEN_PATHS = ("/healthz", "/static/")
"""What anybody may read: that we live, and the code of the page."""


def make_token() -> str:
    """A token that nobody guesses and that fits in a link."""
    return secrets.token_urlsafe(16)


def is_loopback(host: str) -> bool:
    """Whether an address or name can only mean this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Gate:
    """The rules, as data.

    Attributes:
        token: what peers from elsewhere show; None lets nobody in from elsewhere.
        origins: web pages besides our own that may connect.
    """

    token: str | None = None
    origins: frozenset[str] = frozenset()

    def check(self, headers: Headers, query: Mapping[str, list[str]], client: str) -> None:
        """Let a request pass, or say why not.

        Args:
            query: the parsed query string.
            client: the peer's address.

        Raises:
            AuthError: 401 where a token would help, 403 where it would not.
        """
        host = headers.get("host", "").lower()
        origin = headers.get("origin")
        if origin is not None and not self._may_connect(origin, host):
            raise AuthError(
                f"pages of {origin[:100]} may not connect: add it to the relay's allowed_origins"
            )
        if self._shown(headers, query):
            return
        if not (_is_address(client) and is_loopback(client)):
            raise AuthError("a token is needed from another machine: ?token=...", status=401)
        name = _host_name(f"//{host}")
        known = {_host_name(origin) for origin in self.origins}
        if host and not (is_loopback(name) or _is_address(name) or name in known):
            raise AuthError(f"expected localhost or an address as Host, got {host[:100]}")

    def _may_connect(self, origin: str, host: str) -> bool:
        """Whether a page may talk to us: it is ours, or one of those that were allowed."""
        try:
            return origin in self.origins or (host != "" and urlsplit(origin).netloc == host)
        except ValueError:
            return False

    def is_token(self, shown: str) -> bool:
        return self.token is not None and hmac.compare_digest(shown.encode(), self.token.encode())

    def _shown(self, headers: Headers, query: Mapping[str, list[str]]) -> bool:
        return any(
            self.is_token(shown)
            for shown in (
                *query.get("token", []),
                headers.get("authorization", "").removeprefix("Bearer "),
                *_cookie(headers.get("cookie", "")),
            )
        )


def _host_name(url: str) -> str:
    """The host in a URL without its port; empty if there is none that can be read."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _cookie(header: str) -> Iterable[str]:
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ()
    return (morsel.value,) if morsel else ()


class GateMiddleware:
    """Ask the gate before anything else; once per connection, never per message."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"].startswith(OPEN_PATHS):
            await self._app(scope, receive, send)
            return
        query = parse_qs(scope["query_string"].decode("latin-1"))
        client = (scope.get("client") or ("127.0.0.1", 0))[0]
        try:
            self._gate.check(Headers(scope=scope), query, client)
        except AuthError as error:
            fields: dict[str, Any] = {"error": error_fields(error)}
            refusal = JSONResponse(fields, status_code=error.status)
            if scope["type"] == "http":
                await refusal(scope, receive, send)
            else:
                websocket = WebSocket(scope, receive, send)
                await websocket.receive()  # the connect
                await deny(websocket, refusal)
            return
        await self._app(scope, receive, send)
