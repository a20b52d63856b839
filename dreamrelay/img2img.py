"""One picture there and back: what ``client.py image.png "a prompt"`` does.

It speaks the WebSocket example's request/response messages, so it works with that example's server
too.
"""

import base64
import binascii
import json
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from dreamrelay.errors import DeviceError, EngineError, ProtocolError
from dreamrelay.link import bearer, refusal, relay_uri, without_token
from dreamrelay.packet import inspect
from dreamrelay.trust import Trust, unknown_certificate

OPEN_SECONDS = 10.0
GREETING_SECONDS = 10.0
ANSWER_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Transformed:
    """The answer: an encoded picture and the prompt it was made under."""

    data: bytes
    prompt: str

    @property
    def suffix(self) -> str:
        """``jpg`` or ``png``, as the bytes say."""
        return {"JPEG": "jpg"}.get(name := inspect(self.data).codec.name, name.lower())


def transform(
    uri: str,
    picture: Path,
    prompt: str | None,
    *,
    binary: bool = False,
    token: str | None = None,
    trust: Trust | None = None,
) -> Transformed:
    """Send a picture file, wait for the picture made from it.

    Args:
        uri: ``ws://host:port`` of a relay with a worker.
        prompt: None leaves the stream's own in force.
        binary: bytes instead of base64.
        token: what the relay asks strangers for; it may also stand in the address.
        trust: what the relay's certificate must be.

    Raises:
        ConfigError: not an address, a token or a certificate.
        AuthError: the relay will not have us, or is not the one that it should be.
        DeviceError: the file cannot be read, or nobody listens there.
        ProtocolError: not a picture, or an answer that makes no sense.
        EngineError: the other side says why there is no picture.
    """
    uri, in_address = without_token(relay_uri(uri))
    trust = trust or Trust()
    tls, shown = trust.context(uri), bearer(token or in_address)
    try:
        data = picture.read_bytes()
    except OSError as error:
        raise DeviceError(f"{picture} cannot be read: {error.strerror}") from None
    inspect(data)
    try:
        with connect(
            uri,
            ssl=tls,
            additional_headers=shown,
            create_connection=_checked(trust),
            compression=None,
            max_size=None,
            proxy=None,
            open_timeout=OPEN_SECONDS,
        ) as websocket:
            with suppress(TimeoutError):  # one who does not greet may answer all the same
                websocket.recv(GREETING_SECONDS)
            return _ask(websocket, data, {"prompt": prompt} if prompt else {}, binary)
    except ssl.SSLCertVerificationError as error:
        raise unknown_certificate(error, uri) from None
    except InvalidStatus as error:
        reason = refusal(error, uri)
        raise (DeviceError(str(reason)) if isinstance(reason, OSError) else reason) from None
    except TimeoutError:
        raise DeviceError(f"{uri} cannot be reached: it does not answer") from None
    except (OSError, WebSocketException) as error:
        raise DeviceError(
            f"{uri} cannot be reached ({error}): start the relay with `python server.py`"
        ) from None


def _ask(
    websocket: ClientConnection, data: bytes, fields: dict[str, Any], binary: bool
) -> Transformed:
    if binary:
        websocket.send(json.dumps({"type": "img2img_binary", "format": "jpeg", **fields}))
        websocket.send(data)
    else:
        image = base64.b64encode(data).decode()
        websocket.send(json.dumps({"type": "img2img", "image": image, **fields}))
    try:
        answer = json.loads(_answer(websocket))
        kind = answer["type"]
        if kind == "error":
            raise EngineError(str(answer.get("message", "it failed")))
        if kind == "img2img_result_binary":
            picture = _answer(websocket)
            if not isinstance(picture, bytes):
                raise ProtocolError("expected a picture in bytes, got text")
        elif kind == "img2img_result":
            picture = base64.b64decode(answer["image"], validate=True)
        else:
            raise ProtocolError(f"expected a picture, got {kind!r}")
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise ProtocolError(f"the answer cannot be understood: {error}") from None
    inspect(picture)
    return Transformed(picture, str(answer.get("prompt", "")))


def _answer(websocket: ClientConnection) -> str | bytes:
    try:
        return websocket.recv(ANSWER_SECONDS)
    except TimeoutError:
        raise EngineError(f"no answer came within {ANSWER_SECONDS:.0f} s") from None


def _checked(trust: Trust) -> type[ClientConnection]:
    """A connection that looks at the certificate before it says a word."""

    class Checked(ClientConnection):
        def __init__(self, socket: Any, *arguments: Any, **options: Any) -> None:
            # Before the thread is started that reads from it, and closes it at its end.
            if isinstance(socket, ssl.SSLSocket):
                trust.check(socket.getpeercert(binary_form=True))
            super().__init__(socket, *arguments, **options)

    return Checked
