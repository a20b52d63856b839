"""Texts with too many values in them cost nothing, at every dialect."""

import tracemalloc
from collections.abc import Callable

import orjson
import pytest

from dreamrelay.errors import ProtocolError
from dreamrelay.protocol.dreamstream import Broadcast, BroadcasterDialect, read_opening
from dreamrelay.protocol.messages import Dialect, Fault, Limits, ReplyDue
from dreamrelay.protocol.native import NativeDialect, decode_text
from dreamrelay.protocol.streamdiffusion_web import StreamDiffusionWebDialect
from dreamrelay.protocol.texts import MOST_VALUES, read_json
from dreamrelay.protocol.websocket_example import WebSocketExampleDialect
from dreamrelay.schema import MAX_SCHEMA_BYTES

LISTS = '{"type":"test","data":[' + "[]," * 80_000 + "0]}"
KEYS = '{"type":"ping",' + ",".join(f'"{n}":1' for n in range(MOST_VALUES + 1)) + "}"

DIALECTS: dict[str, Callable[[], Dialect]] = {
    "native": lambda: NativeDialect("producer", Limits()),
    "websocket example": lambda: WebSocketExampleDialect(Limits()),
    "dreamstream": lambda: BroadcasterDialect(Broadcast("a"), _Nobody(), Limits()),
    "streamdiffusion-web": lambda: StreamDiffusionWebDialect(Limits()),
}


class _Nobody:
    def active(self) -> list[str]:
        return []

    def standing(self, stream: str) -> None:
        return None


@pytest.mark.parametrize("text", [LISTS, KEYS], ids=["lists", "keys"])
@pytest.mark.parametrize("name", DIALECTS)
def test_a_text_of_too_many_values_is_not_even_read(name: str, text: str) -> None:
    dialect = DIALECTS[name]()
    tracemalloc.start()
    try:
        events = dialect.receive(text)
        events += dialect.receive_text(text.encode())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Refused in the words of the dialect, or met with its silence.
    assert all(isinstance(event, Fault | ReplyDue) for event in events)
    assert peak < 4 * len(text)


def test_nor_by_a_program_of_ours_nor_as_an_opening() -> None:
    with pytest.raises(ProtocolError, match=f"at most {MOST_VALUES} values"):
        decode_text(LISTS)
    assert read_opening(LISTS.replace("test", "start_stream")) is None


@pytest.mark.parametrize("kind", [str, bytes])
def test_a_large_picture_is_no_such_text(kind: type) -> None:
    text = '{"type":"image","a":[' + "1," * (MOST_VALUES - 3) + '1],"data":"' + "A" * 10**6 + '"}'
    given = text if kind is str else text.encode()
    assert len(read_json(given)["data"]) == 10**6


def test_a_hello_with_a_schema_of_the_largest_size_is_none() -> None:
    schema = {"type": "object", "x-vocabulary": {"nouns": ["ab"] * (MAX_SCHEMA_BYTES // 5)}}
    assert read_json(orjson.dumps({"type": "hello", "schema": schema}))["schema"] == schema
