"""One picture there and back: what ``client.py image.png "a prompt"`` does.

It speaks the WebSocket example's request/response messages, so it works with that example's server
too.
"""

import asyncio
import base64
import json
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from dreamrelay.errors import DeviceError, EngineError, ProtocolError
from dreamrelay.link import MAX_MESSAGE, bearer, refusal, relay_uri, without_token
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

    Not for a thread whose event loop runs: there it belongs into ``asyncio.to_thread``.

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
    fields = {"prompt": prompt} if prompt else {}

    async def ask() -> Transformed:
        # websockets' client for threads reads and writes in two of them, and below Python 3.14 one
        # TLS connection does not bear that: now and then a message is lost.
        async with connect(
            uri,
            ssl=tls,
            additional_headers=shown,
            create_connection=trust.connection(),
            compression=None,
            max_size=MAX_MESSAGE,
            proxy=None,
            open_timeout=OPEN_SECONDS,
        ) as websocket:
            with suppress(TimeoutError):  # one who does not greet may answer all the same
                async with asyncio.timeout(GREETING_SECONDS):
                    await websocket.recv()
            return await _ask(websocket, data, fields, binary)

    try:
        return asyncio.run(ask())
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


async def _ask(
    websocket: ClientConnection, data: bytes, fields: dict[str, Any], binary: bool
) -> Transformed:
    if binary:
        await websocket.send(json.dumps({"type": "img2img_binary", "format": "jpeg", **fields}))
        await websocket.send(data)
    else:
        image = base64.b64encode(data).decode()
        await websocket.send(json.dumps({"type": "img2img", "image": image, **fields}))
    try:
        answer = json.loads(await _answer(websocket))
        kind = answer["type"]
        if kind == "error":
            raise EngineError(str(answer.get("message", "it failed")))
        if kind == "img2img_result_binary":
            picture = await _answer(websocket)
            if not isinstance(picture, bytes):
                raise ProtocolError("expected a picture in bytes, got text")
        elif kind == "img2img_result":
            picture = base64.b64decode(answer["image"], validate=True)
        else:
            raise ProtocolError(f"expected a picture, got {kind!r}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ProtocolError(f"the answer cannot be understood: {error}") from None
    inspect(picture)
    return Transformed(picture, str(answer.get("prompt", "")))


async def _answer(websocket: ClientConnection) -> str | bytes:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await websocket.recv()
    except TimeoutError:
        raise EngineError(f"no answer came within {ANSWER_SECONDS:.0f} s") from None
