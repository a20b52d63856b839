"""The middleware before everything else: asks the gate, counts, bounds uploads, says what browsers
may do with our answers.

A route need not think of it: what none of the lists below names needs a permission by its method.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from dreamrelay.errors import AuthError, LimitError
from dreamrelay.protocol.native import error_fields
from dreamrelay.relay.auth import Gate, Grant, Request, cookie_name, host_name
from dreamrelay.relay.connections import deny, keep_open, limit_messages
from dreamrelay.relay.limits import Bucket, Slots, is_loopback

OPEN_PATHS = ("/healthz", "/static/", "/favicon.ico")
"""What anybody may read: that we live, and the code of the pages."""

PAGES = re.compile(r"/(?:streams/[A-Za-z0-9_.-]{1,64}/view)?\Z")
"""Pages are code too; what they show needs permissions, and they say which are missing."""

EMBEDDABLE = re.compile(r"/streams/[^/]+/view\Z")

UPLOAD_SECONDS = 30.0
"""For a request's body to arrive."""

AUTH_SECONDS = 5.0
"""For the first message of one who said that its token is in it."""

STRANGER_BYTES = 4096

WARNINGS_PER_SECOND, MOST_WARNINGS = 0.2, 5.0
"""Of the libraries: that a request is none at all any stranger can have them say."""

_HOST = re.compile(r"[a-z0-9.:\[\]-]{1,255}\Z")
_NOWHERE = "default-src 'none'; frame-ancestors 'none'; sandbox"
_CODE = "default-src 'self'; frame-ancestors 'none'"
_FEATURES = (
    "camera=(self), microphone=(self), display-capture=(self), fullscreen=(self),"
    " screen-wake-lock=(self), clipboard-write=(self), geolocation=(), payment=(), usb=(),"
    " serial=(), midi=(), publickey-credentials-get=()"
)


def content_security_policy(host: str, ancestors: Iterable[str]) -> str:
    """What a page of ours may load, and who may frame it.

    Args:
        host: under which the browser knows us; its WebSockets are named, because older browsers do
            not count them as ``'self'``.
    """
    sockets = f" ws://{host} wss://{host}" if _HOST.match(host) else ""
    return (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        f"connect-src 'self'{sockets}; worker-src 'self' blob:; object-src 'none'; "
        "base-uri 'none'; form-action 'none'; "
        f"frame-ancestors {' '.join(ancestors) or chr(39) + 'none' + chr(39)}"
    )


class Guard:
    """ASGI middleware.

    Args:
        upload_bytes: the largest body of a request.
    """

    def __init__(self, app: ASGIApp, gate: Gate, slots: Slots, upload_bytes: int) -> None:
        self._app = app
        self._gate = gate
        self._slots = slots
        self._upload_bytes = upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request = Request.of(scope)
        send = self._dressed(request, send)
        try:
            answer = self._admit(request, scope)
        except (AuthError, LimitError) as error:
            answer = _refusal(error)
        if answer is None:
            bounded = receive if request.websocket else self._bounded(receive)
            await self._app(scope, bounded, send)
        elif request.websocket:
            websocket = WebSocket(scope, receive, send)
            await websocket.receive()  # the connect
            await deny(websocket, answer)
        else:
            await answer(scope, receive, send)

    def _admit(self, request: Request, scope: Scope) -> Response | None:
        """Note in the scope who it is; or return what to answer instead of going on.

        Raises:
            AuthError: it may not.
            LimitError: it asks too often, or wants to send too much.
        """
        gate = self._gate
        address = "" if gate.is_local(request) else gate.address(request)
        self._slots.check_request(address)
        state = scope.setdefault("state", {})
        state["grant"] = stranger = Grant(address=address)
        if not request.websocket:
            self._check_length(request)
            if request.path.startswith(OPEN_PATHS):
                return None
        page = request.is_navigation and PAGES.match(request.path) is not None
        try:
            # Who is yet to say its token is a stranger until then (``RelayPeer``).
            state["grant"] = gate.admit(request) or stranger
            state["unnamed"] = state["grant"] is stranger
        except AuthError as error:
            if not (page and error.status == 401):
                raise
        if state["grant"].permissions:
            keep_open(scope)
        if page and request.in_link and not request.is_framed:
            return self._link_opened(request, scope)
        if not page and not request.websocket:
            state["grant"].check(request.needs, request.stream)
        return None

    def _check_length(self, request: Request) -> None:
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._upload_bytes:
            raise LimitError(f"expected at most {self._upload_bytes} bytes", status=413)

    def _link_opened(self, request: Request, scope: Scope) -> Response:
        """Move the token of a ready link from the address to a cookie."""
        rest = scope["query_string"].decode("ascii")
        # Relative, so that it holds behind a proxy that puts us under another path.
        place = request.path.rpartition("/")[2] or "./"
        answer = RedirectResponse(f"{place}?{rest}" if rest else place, 303)
        answer.headers["Cache-Control"] = "no-store"
        token = next((t for t in request.shown if self._gate.keys.find(t)), None)
        if token is not None:
            name, secure = cookie_name(request.host), request.over_tls
            answer.set_cookie(name, token, httponly=True, samesite="strict", secure=secure)
        return answer

    def _bounded(self, receive: Receive) -> Receive:
        """A request's body, refused when it becomes too large or takes too long."""
        left = self._upload_bytes
        deadline = asyncio.get_running_loop().time() + UPLOAD_SECONDS
        whole = False

        async def bounded() -> Message:
            nonlocal left, whole
            if whole:  # what is waited for now is the end of the connection
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                text = f"expected the whole body within {UPLOAD_SECONDS:.0f} s"
                raise HTTPException(408, text, {"Connection": "close"}) from None
            left -= len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if left < 0:
                text = f"expected a body of at most {self._upload_bytes} bytes"
                raise HTTPException(413, text, {"Connection": "close"})
            return message

        return bounded

    def _dressed(self, request: Request, send: Send) -> Callable[[Message], Awaitable[None]]:
        """Add to each answer what browsers should know of it."""

        # Not a coroutine of its own: each picture to each viewer goes through here.
        def dressed(message: Message) -> Awaitable[None]:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                for name, value in self._headers(request, headers.get("content-type", "")):
                    headers.setdefault(name, value)
                message["headers"] = headers.raw
            return send(message)

        return dressed

    def _headers(self, request: Request, kind: str) -> Iterable[tuple[str, str]]:
        yield "X-Content-Type-Options", "nosniff"
        yield "Referrer-Policy", "no-referrer"
        # Where others may not, they have been refused before; this is for those that may.
        shown_elsewhere = request.shown or self._gate.origins
        code = request.path.startswith("/static/")  # dreamrelay.js is for everybody's pages
        elsewhere = "cross-origin" if code or shown_elsewhere else "same-origin"
        yield "Cross-Origin-Resource-Policy", elsewhere
        if kind.startswith("text/html"):
            embeddable = EMBEDDABLE.match(request.path) is not None
            ancestors = ["'self'", *sorted(self._gate.origins)] if embeddable else []
            yield "Content-Security-Policy", content_security_policy(request.host, ancestors)
            yield "Permissions-Policy", _FEATURES
            # Elsewhere browsers take no notice of it, but complain.
            if request.over_tls or is_loopback(host_name(f"//{request.host}")):
                yield "Cross-Origin-Opener-Policy", "same-origin"
        elif code:  # a worker's script brings its own policy
            yield "Content-Security-Policy", _CODE
            yield "Access-Control-Allow-Origin", "*"
        else:
            yield "Content-Security-Policy", _NOWHERE


def grant_of(scope: Scope) -> Grant:
    """Who asks, as the guard found. A stranger that is yet to say its token has none."""
    grant = scope["state"]["grant"]
    assert isinstance(grant, Grant)
    return grant


async def first_token(websocket: WebSocket, message_bytes: int) -> str | None:
    """Accept the WebSocket of a stranger and wait for ``{"type": "auth", "token": ...}``.

    Args:
        message_bytes: what messages may have later; a stranger's may not be so large.
    """
    limit_messages(websocket, STRANGER_BYTES)
    await websocket.accept()
    try:
        async with asyncio.timeout(AUTH_SECONDS):
            said = orjson.loads(await websocket.receive_text())
    except (TimeoutError, orjson.JSONDecodeError, KeyError, WebSocketDisconnect):
        return None
    limit_messages(websocket, message_bytes)
    token = said.get("token") if isinstance(said, dict) and said.get("type") == "auth" else None
    return token if isinstance(token, str) else None


def _refusal(error: AuthError | LimitError) -> Response:
    fields: dict[str, Any] = {"error": error_fields(error)}
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}}
    return JSONResponse(fields, status_code=error.status, headers=headers.get(error.status))


class BlackOut(logging.Filter):
    """Keeps tokens out of the log lines of the libraries below us, whatever they log, also as they
    are written in addresses, and what somebody took for one; and has what any stranger can make
    them say said now and then only.
    """

    def __init__(self, secrets: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        written = {form for secret in secrets for form in (secret, quote(secret, safe=""))}
        words = sorted(map(re.escape, written), key=len, reverse=True)
        self._secret = re.compile("|".join([*words, r"(?<=[?&]token=)[^&\s\"']+"]), re.IGNORECASE)
        self._warnings = Bucket(WARNINGS_PER_SECOND, clock, burst=MOST_WARNINGS)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno == logging.WARNING and not self._warnings.try_take():
            return False
        text, count = self._secret.subn("***", record.getMessage())
        if count:
            record.msg, record.args = text, None
        return True


def is_origin(text: str) -> bool:
    """Whether this is what browsers send as ``Origin``: a scheme, a host and perhaps a port."""
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - raises where it is none
    except ValueError:
        return False
    return bool(parts.scheme and parts.hostname) and text == f"{parts.scheme}://{parts.netloc}"
