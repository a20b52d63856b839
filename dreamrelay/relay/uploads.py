"""Files that browsers upload as forms: bounded, and kept in memory for as long as the request."""

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from dreamrelay.relay.bodies import BodyError, read_body

ENVELOPE_BYTES = 16 * 1024
"""What a form may have besides the file."""

MOST_PARTS = 64
"""Each takes the parser as long as 100 KB of one, and nothing else goes on meanwhile."""

FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}
"""The same, for OpenAPI."""


async def read_upload(request: Request, most: int, field: str = "file") -> bytes:
    """The content of one field of a form.

    Args:
        most: bytes of the file.

    Raises:
        BodyError: no form (422), no such field (422), too large (413) or too slow (408).
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise BodyError(422, f"expected a form (multipart/form-data) with the file as {field!r}")
    body = await read_body(request, most + ENVELOPE_BYTES, "a form")
    form = _Form(field)
    try:
        form.read(boundary, body)
    except FormParserError as error:
        raise BodyError(422, f"expected a form: {error}") from None
    if form.content is None:
        raise BodyError(422, f"expected the file as {field!r}, got no such field")
    if len(form.content) > most:
        raise BodyError(413, f"expected a file of at most {most} bytes")
    return form.content


class _Form:
    """Takes one field out of a form, and only the first of that name."""

    def __init__(self, field: str) -> None:
        self.content: bytes | None = None
        self._field = field.encode()
        self._name = bytearray()
        self._value = bytearray()
        self._data: bytearray | None = None
        self._parts = 0

    def read(self, boundary: bytes, body: bytes) -> None:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._header,
                "on_part_data": self._take,
                "on_part_end": self._end,
            },
        )
        parser.write(body)
        parser.finalize()

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise FormParserError(f"at most {MOST_PARTS} parts")

    def _header(self) -> None:
        if self._name.lower() == b"content-disposition" and self.content is None:
            _, options = parse_options_header(bytes(self._value))
            if options.get(b"name") == self._field:
                self._data = bytearray()
        self._name.clear()
        self._value.clear()

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._data is not None:
            self._data += data[start:end]

    def _end(self) -> None:
        if self._data is not None:
            self.content, self._data = bytes(self._data), None
