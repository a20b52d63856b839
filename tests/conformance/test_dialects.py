"""What every dialect must do. A new one is done when this is green with it."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamrelay.errors import (
    DreamRelayError,
    EngineError,
    MissingExtra,
    ParameterError,
    ProtocolError,
)
from dreamrelay.hub import Stream
from dreamrelay.packet import TRACKS, Codec, Packet, Track
from dreamrelay.protocol.dreamstream import (
    Broadcast,
    BroadcasterDialect,
    Directory,
    Standing,
    ViewerDialect,
)
from dreamrelay.protocol.messages import (
    Acknowledged,
    Answered,
    Delivery,
    Dialect,
    Event,
    Fault,
    Limits,
    Notice,
    PacketReceived,
    ParametersChanged,
    PatchReceived,
    Refused,
    ReplyDue,
    RequestOffered,
    RequestReceived,
    SchemaChanged,
    StatusChanged,
    Unanswered,
    Welcome,
)
from dreamrelay.protocol.native import NativeDialect, decode_packet, encode_packet
from dreamrelay.protocol.streamdiffusion_web import StreamDiffusionWebDialect
from dreamrelay.protocol.websocket_example import WebSocketExampleDialect
from tests.support import picture

LIMITS = Limits(pixels=10_000)
STATUS = Stream("default", LIMITS).status()


@dataclass(frozen=True)
class Case:
    """A dialect and how one speaks it."""

    make: Callable[[], Dialect]
    send: Callable[[bytes], list[str | bytes]]
    """The messages that bring an encoded picture."""
    patch: list[str]
    """The messages that ask for the prompt "a fox"."""
    watch: Callable[[], Dialect]
    """One that is sent pictures."""
    shows: tuple[Track, ...] = ()
    """Of these tracks."""
    sees: Callable[[str | bytes], bytes] | None = None
    """The picture in a message."""
    word: str = "type"
    """The field that says what a message is."""
    confirms: bool = True
    """Whether a patch that holds is answered."""


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def watching_dreamstream() -> Dialect:
    dialect = ViewerDialect(Broadcast("default"), NoStreams(), LIMITS)
    dialect.render(StatusChanged({**STATUS, "producers": 1}))
    return dialect


class NoStreams(Directory):
    def active(self) -> list[str]:
        return []

    def standing(self, stream: str) -> Standing | None:
        return None


CASES = {
    "native": Case(
        lambda: NativeDialect("producer", LIMITS),
        lambda data: [encode_packet(Packet(data, Codec.JPEG, 0, 0), "input")],
        ['{"type":"parameters","patch":{"prompt":"a fox"},"id":1}'],
        lambda: NativeDialect("viewer", LIMITS),
        TRACKS,
        lambda message: decode_packet(message if isinstance(message, bytes) else b"")[0].data,
    ),
    "websocket-example": Case(
        lambda: WebSocketExampleDialect(LIMITS),
        lambda data: [json.dumps({"type": "image", "data": base64_of(data)})],
        ['{"type":"prompt_update","prompt":"a fox"}'],
        lambda: WebSocketExampleDialect(LIMITS),
        TRACKS,
        lambda message: base64.b64decode(json.loads(message)["data"]),
    ),
    "dreamstream": Case(
        lambda: BroadcasterDialect(Broadcast("default"), NoStreams(), LIMITS),
        lambda data: [json.dumps({"type": "frame", "frame": base64_of(data)})],
        ['{"type":"update_prompt","prompt":"a fox"}'],
        watching_dreamstream,
        ("output",),
        lambda message: base64.b64decode(json.loads(message)["frame"].partition(",")[2]),
    ),
    "streamdiffusion-web": Case(
        lambda: StreamDiffusionWebDialect(LIMITS),
        lambda data: ['{"status":"next_frame"}', "{}", data],
        ['{"status":"next_frame"}', '{"prompt":"a fox"}'],
        lambda: StreamDiffusionWebDialect(LIMITS),
        word="status",
        confirms=False,
    ),
}


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    made = request.param
    assert isinstance(made, Case)
    return made


def receive(dialect: Dialect, messages: list[str | bytes]) -> list[Event]:
    return [event for message in messages for event in dialect.receive(message)]


errors: list[DreamRelayError] = [
    ProtocolError("no"),
    ParameterError({"strength": "expected at most 1, got 2"}),
    EngineError("ä\n\0"),
    MissingExtra("x", "y"),
]
A_PACKET = Packet.of(picture(), seq=3, captured_ns=10**18)
NOTICES: list[Notice] = [
    Welcome("default", "producer", "p", 2, LIMITS),
    SchemaChanged(None),
    SchemaChanged({"properties": {"a": {}}}),
    ParametersChanged({"prompt": "ä\0"}, 3, ("prompt",), "x", "id"),
    StatusChanged({**STATUS, "state": "live", "age_ms": None, "fps_in": 1.5}),
    *(Delivery(A_PACKET, track) for track in TRACKS),
    Acknowledged(2**64 - 1),
    Acknowledged(1, "too large"),
    Acknowledged(1, on_air=False),
    RequestOffered(A_PACKET.but(private=True), {"prompt": "p"}, 5),
    Answered(1, A_PACKET, "p"),
    *(Unanswered(1, error) for error in errors),
    *(Refused(error, 4) for error in errors),
]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_a_picture_comes_through_unchanged_and_is_known_by_its_bytes(case: Case, form: str) -> None:
    data = picture(size=(7, 5), form=form)
    (event,) = receive(case.make(), case.send(data))
    assert isinstance(event, PacketReceived)
    packet = event.packet
    assert (packet.data, packet.codec, packet.width, packet.height) == (data, Codec[form], 7, 5)


@pytest.mark.parametrize(
    ("name", "track"), [(name, track) for name, case in CASES.items() for track in case.shows]
)
def test_a_picture_goes_out_unchanged_and_is_written_once(name: str, track: Track) -> None:
    case = CASES[name]
    packet = A_PACKET.but()
    (first,) = case.watch().render(Delivery(packet, track))
    (second,) = case.watch().render(Delivery(packet, track))
    assert case.sees is not None
    assert case.sees(first) == packet.data
    assert len(packet.wires) == 1
    assert first == second


@pytest.mark.parametrize("data", [b"", b"no picture", picture(size=(200, 200))])
def test_a_bad_picture_gets_exactly_one_reply(case: Case, data: bytes) -> None:
    (event,) = receive(case.make(), case.send(data))
    assert isinstance(event, ReplyDue)


def test_a_patch_is_asked_for_and_its_answer_is_known_by_its_id(case: Case) -> None:
    dialect = case.make()
    (event,) = receive(dialect, [*case.patch])
    assert isinstance(event, PatchReceived)
    assert event.patch == {"prompt": "a fox"}
    done = ParametersChanged({"prompt": "a fox"}, 1, ("prompt",), "x", event.id)
    assert len(dialect.render(done)) == case.confirms
    assert len(dialect.render(Refused(ParameterError({"prompt": "no"}), event.id))) == 1


@pytest.mark.parametrize("notice", NOTICES, ids=lambda n: type(n).__name__)
def test_every_notice_has_a_word_or_none(case: Case, notice: Notice) -> None:
    for message in case.make().render(notice):
        if isinstance(message, str):
            assert isinstance(json.loads(message)[case.word], str)
            assert "\n" not in message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=80) | st.binary(max_size=80), max_size=6))
def test_whatever_came_before_a_good_message_is_understood(
    case: Case, before: list[str | bytes]
) -> None:
    dialect = case.make()
    for message in before:
        for event in dialect.receive(message):
            assert isinstance(event, ReplyDue | Fault | RequestReceived)
            assert not (isinstance(event, Fault) and event.close)
    (event,) = receive(dialect, case.send(picture()))
    assert isinstance(event, PacketReceived)


KINDS = """image img2img test register hello parameters credit ping frame update_prompt
    update_strength update_processor check_stream_status end_stream get_latest_frame""".split()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        "type data image frame status mode prompt client_type patch id count track strength".split()
    ), inner, max_size=4)
), max_leaves=8))  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_may_come(case: Case, value: object) -> None:
    dialect = case.make()
    for kind in KINDS:
        fields = {**value, "type": kind} if isinstance(value, dict) else value
        for event in dialect.receive(json.dumps(fields)):
            if isinstance(event, ReplyDue):
                told = json.loads(event.message)
                assert told.get(case.word) or told["error"]
            if isinstance(event, Fault):
                dialect.render(Refused(event.error))
