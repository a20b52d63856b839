"""The native dialect: the bytes of the documentation, and whatever else may come."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamrelay.errors import ParameterError, ProtocolError
from dreamrelay.packet import TRACKS, Codec, Hop, Packet, Stamp, Track
from dreamrelay.protocol.messages import (
    PRODUCER_STATES,
    ROLES,
    WORKER_STATES,
    Acknowledged,
    Answered,
    AudienceChanged,
    ClockReported,
    CreditGiven,
    Delivery,
    FailureReceived,
    Fault,
    Joined,
    LatencyMeasured,
    Limits,
    Notice,
    PacketReceived,
    ParametersChanged,
    PatchReceived,
    PicturesShown,
    ProducerState,
    Promised,
    ReferenceChanged,
    Refused,
    ReplyDue,
    RequestOffered,
    Retired,
    Role,
    SchemaChanged,
    Seen,
    SourceReported,
    StatusChanged,
    StatusReceived,
    Unanswered,
    Welcome,
    WorkerState,
)
from dreamrelay.protocol.native import (
    MAX_STAMPS,
    MAX_TEXT,
    NativeDialect,
    decode_packet,
    decode_text,
    encode_packet,
    encode_text,
)
from tests.protocol.samples import PACKETS, PIXEL, TO_RELAY

GOLDEN = Path(__file__).parent / "golden"
HEADER = 36
BOTH: tuple[Track, ...] = ("input", "output")

FROM_RELAY: dict[str, Notice] = {
    "welcome": Welcome("default", "producer", "ws-1", 2, Limits()),
    "schema": SchemaChanged({"type": "object", "properties": {}}),
    "schema_none": SchemaChanged(None),
    "parameters": ParametersChanged({"prompt": "blue neon"}, 3, ("prompt",), "studio", 4),
    "status": StatusChanged({"stream": "default", "state": "live", "age_ms": None}),
    "audience": AudienceChanged(2, True, 1),
    "latency": LatencyMeasured(
        {
            "hops": {"encoded": (1.5, 2.0, 9.25), "infer": (0.1, 0.2, 0.3)},
            "age": {"returned": (80.0, 95.5, 120.0)},
            "error_ms": 0.125,
        }
    ),
    "reference": ReferenceChanged(PACKETS["input"][0]),
    "reference_none": ReferenceChanged(None),
    "retire": Retired("a newer model"),
    "ack": Acknowledged(5),
    "ack_off_air": Acknowledged(5, on_air=False),
    "ack_refused": Acknowledged(5, "expected at most 4 pixels, got 3x3"),
    "error": Refused(ParameterError({"strength": "expected at most 1, got 2"}), 4),
}


def dialect(role: Role = "producer", limits: Limits | None = None) -> NativeDialect:
    made = NativeDialect(role, limits or Limits(), clock_ns=lambda: 123)
    if role == "worker":
        made.receive(encode_text("hello", version=1))
    return made


def reply(events: list[Any]) -> dict[str, Any]:
    """The one reply among the events, read."""
    (event,) = events
    assert isinstance(event, ReplyDue)
    return cast(dict[str, Any], json.loads(event.message))


class TestGolden:
    @pytest.mark.parametrize("name", PACKETS)
    def test_packets_are_these_bytes(self, name: str) -> None:
        packet, track = PACKETS[name]
        stored = (GOLDEN / f"{name}.bin").read_bytes()
        assert encode_packet(packet, track) == stored
        assert decode_packet(stored) == (packet, track)

    @pytest.mark.parametrize("name", TO_RELAY)
    def test_the_relay_reads_these_messages(self, name: str) -> None:
        stored = (GOLDEN / f"to_relay_{name}.json").read_text(encoding="utf-8")
        assert json.loads(stored) == TO_RELAY[name]
        roles: dict[str, Role] = dict.fromkeys(("hello_worker", "status", "failed"), "worker")
        role = {**roles, "status_producer": "producer"}.get(name, "viewer")
        events = dialect(role).receive(stored)
        assert events
        assert not any(isinstance(event, Fault) for event in events)

    @pytest.mark.parametrize("name", FROM_RELAY)
    def test_the_relay_writes_these_messages(self, name: str) -> None:
        (written,) = dialect().render(FROM_RELAY[name])
        stored = json.loads((GOLDEN / f"from_relay_{name}.json").read_text(encoding="utf-8"))
        version = stored.pop("server", None)
        fields = json.loads(written)
        assert (fields.pop("server", None) is None) == (version is None)
        assert fields == stored

    def test_nothing_else_lies_there(self) -> None:
        expected = {f"{name}.bin" for name in PACKETS}
        expected |= {f"to_relay_{name}.json" for name in TO_RELAY}
        expected |= {f"from_relay_{name}.json" for name in FROM_RELAY}
        assert {path.name for path in GOLDEN.iterdir()} == expected


class TestClocksAndEyes:
    @pytest.mark.parametrize("role", ROLES)
    def test_everybody_may_say_how_the_clock_goes(self, role: Role) -> None:
        message = encode_text("clock", offset_ns=-5, error_ns=7)
        assert dialect(role).receive(message) == [ClockReported(-5, 7)]

    def test_what_was_shown(self) -> None:
        pictures = [[1, 2.5, 30], [None, 2.0, 40.0]]
        message = encode_text("shown", where="studio", pictures=pictures)
        seen = (Seen(1.0, 2.5, 30.0), Seen(None, 2.0, 40.0))
        assert dialect("viewer").receive(message) == [PicturesShown("studio", seen)]

    @pytest.mark.parametrize(
        "message",
        [
            '{"type": "clock"}',
            '{"type": "clock", "offset_ns": 1}',
            '{"type": "clock", "offset_ns": 1.5, "error_ns": 1}',
            '{"type": "clock", "offset_ns": 1, "error_ns": -1}',
            '{"type": "clock", "offset_ns": true, "error_ns": 1}',
            '{"type": "clock", "offset_ns": 1e300, "error_ns": 1}',
            '{"type": "shown"}',
            '{"type": "shown", "pictures": 1}',
            '{"type": "shown", "pictures": [1]}',
            '{"type": "shown", "pictures": [[1, 2]]}',
            '{"type": "shown", "pictures": [[1, null, 3]]}',
            '{"type": "shown", "pictures": [[null, null, 3]]}',
            '{"type": "shown", "pictures": [[1, 2, "3"]]}',
            '{"type": "shown", "pictures": [[1, 2, true]]}',
            '{"type": "shown", "pictures": [[1, 2, 1e300]]}',
            '{"type": "shown", "where": 5, "pictures": []}',
            encode_text("shown", pictures=[[1, 2, 3]] * 65),
        ],
    )
    def test_what_is_none_is_refused(self, message: str) -> None:
        (event,) = dialect("viewer").receive(message)
        assert isinstance(event, Fault)
        assert not event.close


stamps = st.builds(Stamp, st.sampled_from(Hop), st.integers(0, 2**64 - 1))
packets = st.builds(
    Packet,
    st.just(PIXEL),
    st.just(Codec.GIF),
    st.just(1),
    st.just(1),
    seq=st.integers(0, 2**64 - 1),
    captured_ns=st.integers(0, 2**64 - 1),
    revision=st.integers(0, 2**32 - 1),
    stamps=st.lists(stamps, max_size=MAX_STAMPS).map(tuple),
    private=st.booleans(),
    preview=st.booleans(),
)


class TestPackets:
    @given(packets, st.sampled_from(TRACKS))
    def test_round_trip(self, packet: Packet, track: Track) -> None:
        assert decode_packet(encode_packet(packet, track)) == (packet, track)

    @given(st.lists(stamps, min_size=MAX_STAMPS + 1, max_size=40))
    def test_the_newest_stamps_stay(self, many: list[Stamp]) -> None:
        packet, _ = decode_packet(
            encode_packet(Packet(PIXEL, Codec.GIF, 1, 1, stamps=tuple(many)), "input")
        )
        assert packet.stamps == tuple(many[-MAX_STAMPS:])

    @given(st.binary(max_size=200) | st.binary(max_size=80).map(lambda tail: b"DR\x01" + tail))
    def test_any_bytes_are_a_packet_or_a_protocol_error(self, data: bytes) -> None:
        try:
            packet, track = decode_packet(data)
        except ProtocolError:
            return
        assert track in TRACKS
        assert packet.data

    @given(packets, st.integers(0, HEADER - 1), st.integers(0, 255))
    def test_any_byte_of_the_header_may_be_another(
        self, packet: Packet, at: int, value: int
    ) -> None:
        data = bytearray(encode_packet(packet, "input"))
        data[at] = value
        try:
            decode_packet(bytes(data))
        except ProtocolError:
            return

    @given(packets, st.integers(0, 400))
    def test_any_cut_is_named(self, packet: Packet, at: int) -> None:
        data = encode_packet(packet, "output")[:at]
        if len(data) < HEADER:
            with pytest.raises(ProtocolError):
                decode_packet(data)

    def test_a_longer_header_of_a_later_version_is_skipped(self) -> None:
        packet, track = PACKETS["input_encoded"]
        data = bytearray(encode_packet(packet, track))
        begin = int.from_bytes(data[4:6], "little")
        data[4:6] = (begin + 7).to_bytes(2, "little")
        data[begin:begin] = b"\xaa" * 7
        assert decode_packet(bytes(data)) == (packet, track)

    def test_unknown_hops_are_skipped(self) -> None:
        packet, track = PACKETS["output_every_hop"]
        data = bytearray(encode_packet(packet, track))
        data[HEADER] = 200
        read, _ = decode_packet(bytes(data))
        assert read.stamps == packet.stamps[1:]

    def test_unknown_flags_and_reserved_bytes_are_ignored(self) -> None:
        packet, track = PACKETS["output_private"]
        data = bytearray(encode_packet(packet, track))
        data[7] |= 0b11000
        data[33:36] = b"\xff\xff\xff"
        assert decode_packet(bytes(data)) == (packet, track)

    def test_a_future_version_is_refused_and_named(self) -> None:
        data = bytearray(encode_packet(*PACKETS["input"]))
        data[2] = 2
        with pytest.raises(ProtocolError, match="version 1, got 2"):
            decode_packet(bytes(data))

    def test_the_picture_says_its_coding_and_size_not_the_header(self) -> None:
        lie = Packet(PIXEL, Codec.JPEG, 4000, 3000)
        packet, _ = decode_packet(encode_packet(lie, "input"))
        assert (packet.codec, packet.width, packet.height) == (Codec.GIF, 1, 1)

    @pytest.mark.parametrize("picture", [b"", b"no picture at all", b"\xff\xd8", b"GIF89a\0\0\0\0"])
    def test_no_picture_in_it(self, picture: bytes) -> None:
        header = encode_packet(PACKETS["input"][0], "input")[:HEADER]
        with pytest.raises(ProtocolError):
            decode_packet(header + picture)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)
FIELDS = (
    "version name credit engine model device width height schema parameters count track patch id"
    " origin state text fraction fps seq message"
).split()
KINDS = ("hello", "credit", "parameters", "status", "failed", "ping", "who knows")
odd_messages = st.builds(
    lambda kind, fields: {"type": kind, **fields},
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=6),
)


class TestReceiving:
    @given(
        st.sampled_from(ROLES),
        st.lists(
            st.binary(max_size=120)
            | st.text(max_size=60)
            | json_values.map(json.dumps)
            | odd_messages.map(json.dumps),
            max_size=5,
        ),
    )
    def test_anything_may_come(self, role: Role, messages: list[str | bytes]) -> None:
        """Events or faults, never an exception; what is to be sent can be sent."""
        made = NativeDialect(role, Limits())
        for message in messages:
            for event in made.receive(message):
                match event:
                    case ReplyDue(text):
                        json.loads(text)
                    case Fault(error):
                        (written,) = made.render(Refused(error))
                        assert json.loads(written)["type"] == "error"
                    case PatchReceived(patch, id_):
                        (written,) = made.render(ParametersChanged(patch, 1, (), "", id_))
                        json.loads(written)
                    case Joined(worker=worker) if worker is not None and worker.schema is not None:
                        made.render(SchemaChanged(worker.schema))

    @pytest.mark.parametrize("message", ["", "{", "[]", "1", '"ping"', "{}", '{"type": 1}', "null"])
    def test_what_is_no_message_costs_the_peer_its_message_only(self, message: str) -> None:
        (event,) = dialect("viewer").receive(message)
        assert isinstance(event, Fault)
        assert not event.close

    def test_unknown_types_and_fields_are_ignored(self) -> None:
        assert dialect().receive('{"type": "from the future"}') == []
        assert reply(dialect().receive('{"type":"ping","id":1,"more":[]}'))["type"] == "pong"

    def test_deeply_nested_json_cannot_be_passed_on_and_is_refused(self) -> None:
        nested = "[" * 300 + "]" * 300
        for text in (
            f'{{"type":"ping","id":{nested}}}',
            f'{{"type":"parameters","patch":{{"a":{nested}}}}}',
            '{"type":"ping","id":' + "[" * 5000 + "]" * 5000 + "}",
        ):
            (event,) = dialect("viewer").receive(text)
            assert isinstance(event, Fault)

    def test_long_texts_are_refused(self) -> None:
        message = json.dumps({"type": "parameters", "patch": {"prompt": "x" * MAX_TEXT}})
        (event,) = dialect("viewer").receive(message)
        assert isinstance(event, Fault)
        assert str(MAX_TEXT) in str(event.error)

    def test_an_id_is_small(self) -> None:
        assert reply(dialect().receive('{"type":"ping","id":1.5}'))["id"] == 1.5
        assert reply(dialect().receive('{"type":"ping"}'))["id"] is None
        for id_ in ("x" * 201, [1], {"a": 1}):
            (event,) = dialect().receive(json.dumps({"type": "ping", "id": id_}))
            assert isinstance(event, Fault)

    def test_ping(self) -> None:
        answer = reply(dialect().receive('{"type":"ping","id":"a"}'))
        assert answer == {"type": "pong", "id": "a", "received_ns": 123}

    def test_a_worker_says_hello_first(self) -> None:
        for first in ('{"type":"credit","count":1}', encode_packet(*PACKETS["output"])):
            (event,) = NativeDialect("worker", Limits()).receive(first)
            assert isinstance(event, Fault)
            assert event.close
            assert "hello" in str(event.error)

    def test_hello_of_a_worker(self) -> None:
        (event,) = NativeDialect("worker", Limits()).receive(json.dumps(TO_RELAY["hello_worker"]))
        assert isinstance(event, Joined)
        assert (event.role, event.credit, event.tracks) == ("worker", 2, ())
        assert event.worker is not None
        assert event.worker.model == "pocket"
        assert event.worker.schema == TO_RELAY["hello_worker"]["schema"]

    @pytest.mark.parametrize(
        ("licence", "why"),
        [
            ("MIT", "expected an object as licence"),
            ({"name": 1}, "expected text as name"),
            ({"name": "MIT", "link": "javascript:alert(1)"}, "expected an https:// address"),
            ({"name": "MIT", "link": "http://example.org"}, "expected an https:// address"),
        ],
    )
    def test_a_licence_that_is_none(self, licence: Any, why: str) -> None:
        hello = {**TO_RELAY["hello_worker"], "licence": licence}
        (event,) = NativeDialect("worker", Limits()).receive(json.dumps(hello))
        assert isinstance(event, Fault)
        assert why in str(event.error)

    def test_the_licence_of_a_workers_model(self) -> None:
        whole = {"name": "MIT", "terms": "", "link": "https://opensource.org/license/mit"}
        for licence in ({}, {"name": "unknown"}, whole):
            hello = {**TO_RELAY["hello_worker"], "licence": {**licence, "more": 1}}
            (event,) = NativeDialect("worker", Limits()).receive(json.dumps(hello))
            assert isinstance(event, Joined)
            assert event.worker is not None
            assert event.worker.licence == licence

    def test_hello_of_another_version_closes(self) -> None:
        (event,) = NativeDialect("worker", Limits()).receive('{"type":"hello","version":2}')
        assert isinstance(event, Fault)
        assert event.close
        assert "version 1, got 2" in str(event.error)

    @pytest.mark.parametrize(
        "fields",
        [
            {"schema": []},
            {"schema": "x"},
            {"parameters": []},
            {"width": -1},
            {"credit": 100_000},
            {"credit": True},
            {"model": 3},
            {"version": "1"},
        ],
    )
    def test_an_odd_hello_is_a_fault(self, fields: dict[str, Any]) -> None:
        made = NativeDialect("worker", Limits())
        (event,) = made.receive(json.dumps({"type": "hello", **fields}))
        assert isinstance(event, Fault)
        (again,) = made.receive('{"type":"credit"}')  # and it has not said hello
        assert isinstance(again, Fault)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ('{"type":"credit"}', CreditGiven(1, None)),
            ('{"type":"credit","count":3,"track":"input"}', CreditGiven(3, "input")),
            (
                '{"type":"parameters","patch":{"a":1},"id":7,"origin":"osc"}',
                PatchReceived({"a": 1}, 7, "osc"),
            ),
        ],
    )
    def test_control(self, text: str, expected: object) -> None:
        assert dialect("viewer").receive(text) == [expected]

    @pytest.mark.parametrize(
        "text",
        [
            '{"type":"credit","count":0}',
            '{"type":"credit","count":-1}',
            '{"type":"credit","count":1.5}',
            '{"type":"credit","count":true}',
            '{"type":"credit","count":1e300}',
            '{"type":"credit","track":"both"}',
            '{"type":"credit","track":["input"]}',
            '{"type":"status","state":"live"}',
            '{"type":"failed","seq":1,"message":""}',
        ],
    )
    def test_odd_control_of_a_viewer_is_a_fault(self, text: str) -> None:
        (event,) = dialect("viewer").receive(text)
        assert isinstance(event, Fault)
        assert not event.close

    @pytest.mark.parametrize("patch", ["null", "[]", '"blue"'])
    def test_a_patch_that_is_none_is_answered_with_its_id(self, patch: str) -> None:
        answer = reply(dialect().receive(f'{{"type":"parameters","patch":{patch},"id":8}}'))
        assert (answer["type"], answer["id"], answer["code"]) == ("error", 8, "protocol")

    @pytest.mark.parametrize("state", WORKER_STATES)
    def test_status_of_a_worker(self, state: WorkerState) -> None:
        text = json.dumps({"type": "status", "state": state, "fraction": 7, "text": "t" * 900})
        (event,) = dialect("worker").receive(text)
        assert event == StatusReceived(state, "t" * 500, 1.0, 0.0)

    @pytest.mark.parametrize("state", PRODUCER_STATES)
    def test_status_of_a_producer(self, state: ProducerState) -> None:
        text = json.dumps({"type": "status", "state": state, "text": "t" * 900})
        assert dialect().receive(text) == [SourceReported(state, "t" * 500)]
        assert dialect().receive(encode_text("status", state=state)) == [SourceReported(state)]

    @pytest.mark.parametrize(
        ("role", "fields"),
        [
            ("producer", {"state": "loading"}),
            ("producer", {"state": ["away"]}),
            ("producer", {}),
            ("producer", {"state": "away", "text": 7}),
            ("worker", {"state": "away"}),
            ("viewer", {"state": "away"}),
            ("viewer", {"state": "live"}),
        ],
    )
    def test_a_status_that_is_none_is_a_fault(self, role: Role, fields: dict[str, Any]) -> None:
        (event,) = dialect(role).receive(encode_text("status", **fields))
        assert isinstance(event, Fault)
        assert "status: " in str(event.error)
        assert not event.close

    @pytest.mark.parametrize(
        ("said", "heard"),
        [({}, None), ({"stateful": True}, True), ({"stateful": False}, False)]
        + [({"stateful": odd}, None) for odd in (None, 1, "true", [True])],
    )
    def test_a_worker_says_whether_it_remembers(
        self, said: dict[str, Any], heard: bool | None
    ) -> None:
        """What is no truth value counts as not said: an older or odd worker goes on."""
        worker = dialect("worker")
        (joined,) = worker.receive(encode_text("hello", version=1, **said))
        assert isinstance(joined, Joined)
        assert joined.worker is not None
        assert joined.worker.stateful is (heard is True)
        (status,) = worker.receive(encode_text("status", state="live", **said))
        assert isinstance(status, StatusReceived)
        assert status.stateful is heard

    def test_a_worker_says_that_another_model_is_at_work(self) -> None:
        worker = dialect("worker")
        about = {"model": "m", "engine": "e", "device": "d", "width": 8, "height": 9}
        licence = {"name": "MIT"}
        (joined,) = worker.receive(encode_text("hello", version=1, parameters={"a": 1}))
        said = encode_text("status", state="live", about={**about, "licence": licence})
        (status,) = worker.receive(said)
        assert isinstance(joined, Joined)
        assert isinstance(status, StatusReceived)
        assert joined.worker is not None
        now = joined.worker.after(status)
        assert now.about() == {**about, "licence": licence}
        assert now.parameters == {"a": 1}
        (plain,) = worker.receive(encode_text("status", state="live"))
        assert isinstance(plain, StatusReceived)
        assert now.after(plain) == now

    @pytest.mark.parametrize(
        "about", [[], "m", {"model": 3}, {"width": -1}, {"licence": {"link": "http://x"}}]
    )
    def test_what_a_worker_may_not_say_of_its_model(self, about: object) -> None:
        worker = dialect("worker")
        worker.receive(encode_text("hello", version=1))
        (fault,) = worker.receive(encode_text("status", state="live", about=about))
        assert isinstance(fault, Fault)
        assert not fault.close

    def test_failed_of_a_worker(self) -> None:
        (event,) = dialect("worker").receive('{"type":"failed","seq":4,"message":"no"}')
        assert event == FailureReceived(4, "no")

    @pytest.mark.parametrize(("role", "track"), [("producer", "input"), ("worker", "output")])
    def test_the_role_decides_the_track(self, role: Role, track: Track) -> None:
        for written in BOTH:
            (event,) = dialect(role).receive(encode_packet(PACKETS["input"][0], written))
            assert event == PacketReceived(PACKETS["input"][0], track)

    def test_a_worker_may_show_what_steers_it_and_a_producer_not(self) -> None:
        message = encode_packet(PACKETS["input"][0], "control")
        (event,) = dialect("worker").receive(message)
        assert event == PacketReceived(PACKETS["input"][0], "control")
        (event,) = dialect("producer").receive(message)
        assert event == PacketReceived(PACKETS["input"][0], "input")

    def test_a_viewer_sends_no_pictures(self) -> None:
        (event,) = dialect("viewer").receive(encode_packet(*PACKETS["input"]))
        assert isinstance(event, Fault)

    def test_a_producer_hears_of_each_refused_packet_by_its_number(self) -> None:
        """Its credit was spent: without the ack it would wait for ever."""
        future = bytearray(encode_packet(*PACKETS["input_encoded"]))
        future[2] = 9
        answer = reply(dialect().receive(bytes(future)))
        assert (answer["type"], answer["seq"], answer["accepted"]) == ("ack", 2, False)
        answer = reply(dialect().receive(b"garbage"))
        assert (answer["seq"], answer["accepted"]) == (0, False)

    def test_too_many_pixels(self) -> None:
        huge = PIXEL[:6] + b"\xff\xff\xff\xff" + PIXEL[10:]
        packet = Packet(huge, Codec.GIF, 0, 0, seq=3)
        answer = reply(dialect(limits=Limits(pixels=1000)).receive(encode_packet(packet, "input")))
        assert not answer["accepted"]
        assert "1000 pixels" in answer["message"]


class TestRendering:
    def test_a_delivery_is_written_once_for_all_receivers(self) -> None:
        packet, track = PACKETS["output"]
        (first,) = dialect("viewer").render(Delivery(packet, track))
        (second,) = dialect("viewer").render(Delivery(packet, track))
        assert first is second
        assert decode_packet(cast(bytes, first)) == (packet, track)

    def test_both_tracks_of_one_packet_are_told_apart(self) -> None:
        packet = PACKETS["output"][0]
        written = [dialect().render(Delivery(packet, track)) for track in TRACKS]
        assert [decode_packet(cast(bytes, w))[1] for (w,) in written] == list(TRACKS)

    def test_a_request_is_announced_and_private(self) -> None:
        packet = PACKETS["input"][0].but(private=True)
        announced, data = dialect("worker").render(RequestOffered(packet, {"prompt": "p"}, 700))
        assert json.loads(announced) == {
            "type": "request",
            "seq": 1,
            "patch": {"prompt": "p"},
            "max_bytes": 700,
        }
        assert decode_packet(cast(bytes, data))[0].private

    def test_answers_to_requests_have_no_word_here(self) -> None:
        packet = PACKETS["output"][0]
        assert dialect().render(Answered(1, packet, "")) == []
        assert dialect().render(Unanswered(1, ProtocolError("no"))) == []

    @given(json_values)
    def test_texts_round_trip(self, value: Any) -> None:
        try:
            text = encode_text("x", value=value)
        except TypeError:  # wider than 64 bits: does not come in either
            return
        kind, fields = decode_text(text)
        assert kind == "x"
        assert "value" in fields


class TestPromises:
    def test_a_ping_may_promise_to_come_again(self) -> None:
        events = dialect().receive(encode_text("ping", id=1, every=4))
        assert events[1:] == [Promised(4.0)]

    @pytest.mark.parametrize("every", [0, 0.2, -3, None])
    def test_what_nobody_could_keep_is_no_promise(self, every: float | None) -> None:
        fields = {} if every is None else {"every": every}
        (event,) = dialect().receive(encode_text("ping", id=1, **fields))
        assert isinstance(event, ReplyDue)

    @pytest.mark.parametrize("every", ["4", True, 1e300])
    def test_what_is_no_number_costs_the_message(self, every: Any) -> None:
        (event,) = dialect().receive(encode_text("ping", id=1, every=every))
        assert isinstance(event, Fault)
