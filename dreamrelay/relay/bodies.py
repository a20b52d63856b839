"""The bodies of requests, bounded in bytes and in time."""

import asyncio

from fastapi import Request
from starlette.requests import ClientDisconnect

from dreamrelay.errors import ProtocolError

BODY_SECONDS = 10.0


class BodyError(ProtocolError):
    """A body that was not taken; ``status`` is that of the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def read_body(request: Request, most: int, what: str) -> bytes:
    """The whole body.

    Args:
        most: bytes; more are not read.
        what: is expected ("a patch"), for the text of the error.

    Raises:
        BodyError: it is larger (413), or did not come in time (408).
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise BodyError(413, f"expected {what} of at most {most} bytes")
    except (TimeoutError, ClientDisconnect):
        raise BodyError(408, f"expected the whole of {what} within {BODY_SECONDS:.0f} s") from None
    return bytes(body)
