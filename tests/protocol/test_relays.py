"""Letters between relays: what is written is read again, and nothing else is taken for one."""

from dataclasses import fields, replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamrelay.errors import (
    AuthError,
    DreamRelayError,
    EngineError,
    LimitError,
    ParameterError,
    ProtocolError,
)
from dreamrelay.packet import Hop, Packet, Stamp, Track
from dreamrelay.protocol.messages import (
    Acknowledged,
    Answered,
    AudienceChanged,
    ClockReported,
    CreditGiven,
    Delivery,
    Event,
    FailureReceived,
    Fault,
    Joined,
    LatencyMeasured,
    Left,
    Notice,
    PacketReceived,
    ParametersChanged,
    PatchReceived,
    PicturesShown,
    Promised,
    ReferenceChanged,
    Refused,
    ReplyDue,
    RequestOffered,
    RequestReceived,
    Retired,
    SchemaChanged,
    SourceReported,
    StatusChanged,
    StatusReceived,
    Unanswered,
    Welcome,
    WorkerHello,
)
from dreamrelay.protocol.relays import (
    Letter,
    body_of,
    error_of,
    hello_of,
    read,
    said_in,
    status_of,
    write,
)
from tests.fakes.federations import picture

PICTURE = replace(picture(7, note=b"x"), stamps=(Stamp(Hop.RELAYED, 5),), revision=3, private=True)
SAID: list[Event | Notice] = [
    Acknowledged(3, "no", False),
    Answered(4, PICTURE, "a prompt"),
    AudienceChanged(2, True, 1),
    CreditGiven(2, "output"),
    Delivery(PICTURE, "input"),
    FailureReceived(9, "why"),
    LatencyMeasured({"hops": {"infer": [1.5, 2.0, 3.0]}, "age": {}, "error_ms": 0.5}),
    PacketReceived(PICTURE, "control"),
    ParametersChanged({"a": [1, None]}, 4, ("a",), "studio", 9),
    PatchReceived({"a": 1.5}, 3, "osc"),
    ReferenceChanged(PICTURE),
    ReferenceChanged(None),
    RequestOffered(PICTURE, {"prompt": "x"}, 1000),
    RequestReceived(PICTURE, {}, 5),
    Retired("another model"),
    SchemaChanged({"type": "object"}),
    SourceReported("away", "unplugged"),
    StatusReceived("live", "", 0.5, 12.5, {"frames": 3}, True),
]
AT_HOME_ALONE: dict[type[Any], str] = {
    ClockReported: "written among the times, with what the relay adds",
    Fault: "the relay where it is answers",
    Joined: "written as a seat",
    Left: "written as part",
    PicturesShown: "written among the times, once a second",
    Promised: "kept by the relay where it is",
    ReplyDue: "sent by the relay where it is",
    StatusChanged: "written as a standing",
    Welcome: "said by the relay where it is",
}
"""What no letter carries, and why."""
ERRORS: list[DreamRelayError] = [
    AuthError("no"),
    EngineError("broken"),
    LimitError("too much"),
    ParameterError({"strength": "too high"}),
    ProtocolError("what?"),
]


def there_and_back(said: Event | Notice) -> object:
    kind, body, packet = body_of(said)
    track: Track = getattr(said, "track", None) or "input"
    letter = Letter("a", kind, "default", 1, 2, "ws-1", body, packet, track)
    came = read(write(letter))
    assert (came.sender, came.stream, came.session, came.number) == ("a", "default", 1, 2)
    return said_in(came)


@pytest.mark.parametrize("said", SAID, ids=lambda said: type(said).__name__)
def test_what_peers_and_streams_say(said: Event | Notice) -> None:
    assert there_and_back(said) == said


def test_nothing_that_is_said_was_forgotten() -> None:
    """Whoever adds an event or a notice says here what becomes of it between relays."""
    everything = {*get_args(Event), *get_args(Notice)}
    carried = {type(said) for said in SAID} | {Refused, Unanswered}
    assert carried | AT_HOME_ALONE.keys() == everything
    assert not carried & AT_HOME_ALONE.keys()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_come_with_the_same_words(error: DreamRelayError) -> None:
    for said in (Refused(error, 4), Unanswered(4, error)):
        came = there_and_back(said)
        assert isinstance(came, Refused | Unanswered)
        assert (type(came.error), str(came.error)) == (type(error), str(error))
    assert isinstance(error_of({"code": "of a later version", "message": "m"}), EngineError)


def test_what_a_worker_says_of_itself() -> None:
    hello = WorkerHello("e", "m", "d", 8, 9, {"type": "object"}, {"a": 1}, True, True)
    status = StatusReceived("error", "no memory")
    body = {"hello": hello, "status": status, "later": 1}
    came = read(write(Letter("a", "seat", body=body)))
    assert hello_of({**came.body["hello"], "of a later version": 1}) == hello
    assert status_of(came.body["status"]) == status
    assert hello_of(None) is None
    assert status_of(None) is None
    wrongs: tuple[object, ...] = ("text", [1], {})
    for wrong in wrongs:
        with pytest.raises(ProtocolError):
            status_of(wrong)


@pytest.mark.parametrize(
    ("letter", "expected"),
    [
        (Letter("a", "Nothing"), "expected what a peer"),
        (Letter("a", "Delivery", body={"track": "input"}), "expected a picture"),
        (Letter("a", "CreditGiven"), "something is missing"),
        (Letter("a", "Refused", body={"error": 3}), "expected an error"),
    ],
)
def test_a_letter_that_lacks_something(letter: Letter, expected: str) -> None:
    with pytest.raises(ProtocolError, match=expected):
        said_in(read(write(letter)))


def test_another_version_is_told_what_to_do() -> None:
    data = bytearray(write(Letter("a", "here")))
    data[3] = 9
    with pytest.raises(ProtocolError, match="version 1, got 9"):
        read(bytes(data))


WHOLE = write(Letter("a", "shown", "default", 1, 1, packet=PICTURE))


@given(st.binary(max_size=200), st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)))
def test_anything_else_is_refused_or_read_and_never_worse(
    junk: bytes, begin: int, end: int
) -> None:
    for data in (junk, WHOLE[:begin], WHOLE[:begin] + junk + WHOLE[end:], WHOLE[:8] + junk):
        try:
            letter = read(data)
        except ProtocolError:
            continue
        assert isinstance(letter.kind, str)
        assert isinstance(letter.packet, Packet | None)
        assert {item.name for item in fields(letter)} >= {"body", "track"}
