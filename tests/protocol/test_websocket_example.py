"""The seed's dialect without sockets: its clients count replies, so every rule is about those."""

import base64
import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamrelay.errors import EngineError, ParameterError, ProtocolError
from dreamrelay.packet import Codec, Packet
from dreamrelay.protocol.messages import (
    Acknowledged,
    Answered,
    Delivery,
    Event,
    Fault,
    Joined,
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
from dreamrelay.protocol.websocket_example import (
    MAX_TICKETS,
    MAX_WAITING_REQUESTS,
    PICTURE_LIMIT,
    REPLY_LIMIT,
    WebSocketExampleDialect,
    split_message,
)
from tests.protocol.samples import PIXEL

CLIENT_LIMIT = 1_048_576
"""What python-websockets, the seeds' library, accepts at most."""

PICTURE = base64.b64encode(PIXEL).decode()
NOW = 1_700_000_000.5


def dialect(limits: Limits | None = None) -> WebSocketExampleDialect:
    return WebSocketExampleDialect(limits or Limits(), clock=lambda: NOW)


def receive(made: WebSocketExampleDialect, **message: Any) -> list[Event]:
    return made.receive(json.dumps(message))


def replies(events: list[Event]) -> list[dict[str, Any]]:
    return [json.loads(event.message) for event in events if isinstance(event, ReplyDue)]


def said(messages: list[str | bytes]) -> list[Any]:
    return [m if isinstance(m, bytes) else json.loads(m) for m in messages]


def request(made: WebSocketExampleDialect, **fields: Any) -> RequestReceived:
    (event,) = receive(made, type="img2img", image=PICTURE, **fields)
    assert isinstance(event, RequestReceived)
    return event


def result(size: int = len(PIXEL), codec: Codec = Codec.JPEG) -> Packet:
    return Packet(PIXEL.ljust(size, b"\0"), codec, 1, 1, seq=5)


class TestSmallTalk:
    def test_welcome(self) -> None:
        (text,) = said(dialect().render(Welcome("default", "producer", "p", 2, Limits())))
        assert text["type"] == "welcome"
        assert isinstance(text["message"], str)
        assert text["timestamp"] == NOW

    def test_ping(self) -> None:
        assert replies(receive(dialect(), type="ping")) == [{"type": "pong", "timestamp": NOW}]

    @pytest.mark.parametrize("data", [None, 1, "text", {"a": [1, None]}, ["ä"]])
    def test_test_echoes_any_json(self, data: Any) -> None:
        (reply,) = replies(receive(dialect(), type="test", data=data, timestamp=1))
        assert reply == {"type": "test_response", "original_data": data, "timestamp": NOW}

    def test_what_cannot_be_echoed_is_still_answered_once_and_small(self) -> None:
        nested = '{"type":"test","data":' + "[" * 400 + "]" * 400 + "}"
        (reply,) = replies(dialect().receive(nested))
        assert reply["type"] == "error"
        for kind, field in (("test", "data"), ("register", "client_type")):
            (event,) = receive(dialect(), type=kind, **{field: "\0" * 400_000})
            assert isinstance(event, ReplyDue)
            assert len(event.message) < CLIENT_LIMIT
            assert json.loads(event.message)["type"] == "error"

    @pytest.mark.parametrize(
        ("client_type", "joined"),
        [
            ("producer", Joined("producer", "websocket example producer")),
            ("consumer", Joined("worker", "websocket example consumer", tracks=("input",))),
            ("viewer", Joined("viewer", "websocket example viewer", tracks=("output",))),
        ],
    )
    def test_register(self, client_type: str, joined: Joined) -> None:
        made = dialect()
        reply, event = receive(made, type="register", client_type=client_type)
        assert replies([reply]) == [
            {"type": "registered", "client_type": client_type, "timestamp": NOW}
        ]
        assert event == joined
        again = receive(made, type="register", client_type=client_type)
        assert [type(e) for e in again] == [ReplyDue]

    def test_register_without_a_type_is_a_producer(self) -> None:
        reply, event = receive(dialect(), type="register")
        assert replies([reply])[0]["client_type"] == "producer"
        assert isinstance(event, Joined)

    @pytest.mark.parametrize("client_type", ["admin", "", 5, None, ["consumer"], {"a": 1}])
    def test_an_unknown_client_type_is_echoed_and_joins_nothing(self, client_type: Any) -> None:
        (event,) = receive(dialect(), type="register", client_type=client_type)
        assert replies([event])[0]["client_type"] == client_type


class TestSilence:
    @pytest.mark.parametrize(
        "message",
        [
            "",
            "{",
            "not json",
            "[]",
            "1",
            "null",
            '"image"',
            "{}",
            '{"type":null}',
            '{"type":"who knows"}',
            '{"type":["ping"]}',
            '{"type":"PING"}',
            "\ufeff{}",
            "[" * 5000,
        ],
    )
    def test_what_is_not_understood_is_not_answered(self, message: str) -> None:
        assert dialect().receive(message) == []

    def test_a_binary_frame_that_nobody_announced(self) -> None:
        assert dialect().receive(PIXEL) == []
        assert dialect().receive(b"") == []

    @pytest.mark.parametrize(
        "notice",
        [
            SchemaChanged({"type": "object"}),
            ParametersChanged({"prompt": "p"}, 1, ("prompt",), "studio"),
            ParametersChanged({"prompt": "p"}, 1, ("prompt",), "studio", 1),
            StatusChanged({"state": "live"}),
            Refused(ProtocolError("no")),
            Refused(ProtocolError("no"), 4),
            RequestOffered(result(), {}),
        ],
    )
    def test_nothing_unasked(self, notice: Notice) -> None:
        assert dialect().render(notice) == []


class TestImage:
    def test_an_image_is_published_and_its_one_reply_is_the_hubs(self) -> None:
        made = dialect()
        (event,) = receive(made, type="image", format="png", data=PICTURE, timestamp=4)
        assert isinstance(event, PacketReceived)
        assert event.track == "input"
        assert event.packet.codec is Codec.GIF  # sniffed: what "format" says is ignored
        assert event.packet.data == PIXEL
        assert event.packet.captured_ns == int(NOW * 1e9)
        assert said(made.render(Acknowledged(0))) == [
            {"type": "ack", "status": "received", "timestamp": NOW}
        ]

    @pytest.mark.parametrize("on_air", [True, False])
    def test_an_image_that_is_not_shown_is_acknowledged_like_any(self, on_air: bool) -> None:
        (reply,) = said(dialect().render(Acknowledged(0, on_air=on_air)))
        assert reply["type"] == "ack"

    @pytest.mark.parametrize("size", [len(PIXEL), 4000])
    def test_base64_may_be_written_in_lines(self, size: int) -> None:
        data = PIXEL.ljust(size, b"\x5a")
        (event,) = receive(dialect(), type="image", data=base64.encodebytes(data).decode())
        assert isinstance(event, PacketReceived)
        assert event.packet.data == data

    def test_a_data_url_is_read_too(self) -> None:
        (event,) = receive(dialect(), type="image", data=f"data:image/gif;base64,{PICTURE}")
        assert isinstance(event, PacketReceived)

    @pytest.mark.parametrize(
        "data",
        [
            None,
            "",
            5,
            [],
            {},
            True,
            "ä",
            "****",
            "AAA",
            "A\nAA",
            PICTURE + "=",
            PICTURE[:8],
            "data:",
            "data:image/png,x",
            base64.b64encode(b"no picture").decode(),
        ],
    )
    def test_a_bad_image_gets_one_reply_an_error(self, data: Any) -> None:
        (event,) = receive(dialect(), type="image", data=data)
        (reply,) = replies([event])
        assert reply["type"] == "error"
        assert reply["message"]

    def test_too_many_pixels(self) -> None:
        huge = PIXEL[:6] + b"\xff\xff\xff\xff" + PIXEL[10:]
        (event,) = receive(
            dialect(Limits(pixels=1000)), type="image", data=base64.b64encode(huge).decode()
        )
        assert "1000 pixels" in replies([event])[0]["message"]

    def test_a_consumers_image_is_the_result_of_what_it_got_last(self) -> None:
        made = dialect()
        receive(made, type="register", client_type="consumer")
        original = Packet(PIXEL, Codec.GIF, 1, 1, seq=41, captured_ns=77)
        (forwarded,) = said(made.render(Delivery(original, "input")))
        assert forwarded["type"] == "image"
        assert forwarded["format"] == "gif"
        assert base64.b64decode(forwarded["data"]) == PIXEL
        assert forwarded["timestamp"] == 0.0
        published, ack = receive(made, type="image", data=PICTURE)
        assert isinstance(published, PacketReceived)
        assert published.track == "output"
        assert (published.packet.seq, published.packet.captured_ns) == (41, 77)
        assert replies([ack])[0]["type"] == "ack"

    def test_forwarded_images_are_made_once_for_all(self) -> None:
        packet = result()
        assert dialect().render(Delivery(packet, "output")) == dialect().render(
            Delivery(packet, "output")
        )
        assert "websocket-example" in packet.wires

    def test_an_image_that_the_client_would_refuse_is_left_out(self) -> None:
        made = dialect()
        (text,) = made.render(Delivery(result(PICTURE_LIMIT), "output"))
        assert len(text) <= CLIENT_LIMIT
        assert made.render(Delivery(result(PICTURE_LIMIT + 1), "output")) == []


class TestPrompt:
    def test_the_answer_is_the_hubs(self) -> None:
        made = dialect()
        (event,) = receive(made, type="prompt_update", prompt="a fox", timestamp=1)
        assert isinstance(event, PatchReceived)
        assert event.patch == {"prompt": "a fox"}
        done = ParametersChanged({"prompt": "a fox"}, 2, ("prompt",), "x", event.id)
        assert said(made.render(done)) == [
            {"type": "prompt_updated", "status": "queued", "prompt": "a fox", "timestamp": NOW}
        ]
        refused = Refused(ParameterError({"prompt": "expected at most 2 characters"}), event.id)
        (reply,) = said(made.render(refused))
        assert reply["type"] == "error"

    @pytest.mark.parametrize("prompt", [None, "", 0, 5, ["a"], {"a": 1}])
    def test_no_prompt(self, prompt: Any) -> None:
        (event,) = receive(dialect(), type="prompt_update", prompt=prompt)
        assert replies([event]) == [
            {"type": "error", "message": "Missing 'prompt' field", "timestamp": NOW}
        ]
        (event,) = receive(dialect(), type="prompt_update")
        assert replies([event])[0]["message"] == "Missing 'prompt' field"

    def test_a_long_prompt(self) -> None:
        (event,) = receive(dialect(Limits(text=10)), type="prompt_update", prompt="x" * 11)
        assert "10 characters" in replies([event])[0]["message"]


class TestRequests:
    def test_in_base64(self) -> None:
        made = dialect()
        asked = request(made, prompt="a fox")
        assert asked.patch == {"prompt": "a fox"}
        assert asked.packet.data == PIXEL
        (reply,) = said(made.render(Answered(asked.ticket, result(), "a fox")))
        assert reply == {
            "type": "img2img_result",
            "image": base64.b64encode(result().data).decode(),
            "prompt": "a fox",
            "timestamp": NOW,
        }

    @pytest.mark.parametrize("fields", [{}, {"prompt": None}, {"prompt": ""}])
    def test_without_a_prompt_the_servers_own_is_used_and_echoed(
        self, fields: dict[str, Any]
    ) -> None:
        made = dialect()
        asked = request(made, **fields)
        assert asked.patch == {}
        (reply,) = said(made.render(Answered(asked.ticket, result(), "the default")))
        assert reply["prompt"] == "the default"

    def test_in_binary(self) -> None:
        made = dialect()
        assert receive(made, type="img2img_binary", prompt="p", format="jpeg") == []
        (asked,) = made.receive(PIXEL)
        assert isinstance(asked, RequestReceived)
        assert asked.patch == {"prompt": "p"}
        text, data = said(made.render(Answered(asked.ticket, result(), "p")))
        assert text == {
            "type": "img2img_result_binary",
            "prompt": "p",
            "format": "jpeg",
            "timestamp": NOW,
        }
        assert data == result().data

    def test_texts_between_announcement_and_picture_are_handled(self) -> None:
        made = dialect()
        receive(made, type="img2img_binary", prompt="p")
        assert replies(receive(made, type="ping"))[0]["type"] == "pong"
        assert isinstance(receive(made, type="image", data=PICTURE)[0], PacketReceived)
        (asked,) = made.receive(PIXEL)
        assert isinstance(asked, RequestReceived)

    def test_a_second_announcement_replaces_the_first(self) -> None:
        made = dialect()
        receive(made, type="img2img_binary", prompt="first")
        receive(made, type="img2img_binary", prompt="second")
        (asked,) = made.receive(PIXEL)
        assert isinstance(asked, RequestReceived)
        assert asked.patch == {"prompt": "second"}
        assert made.receive(PIXEL) == []

    def test_an_announcement_is_used_up_by_a_bad_picture(self) -> None:
        made = dialect()
        receive(made, type="img2img_binary", prompt="p")
        (event,) = made.receive(b"no picture")
        assert replies([event])[0]["type"] == "error"
        assert made.receive(PIXEL) == []

    @pytest.mark.parametrize(
        "fields",
        [
            {"image": None},
            {"image": "###"},
            {"image": 3},
            {"image": PICTURE, "prompt": 4},
            {"image": PICTURE, "prompt": ["a"]},
            {"image": PICTURE, "prompt": "x" * 2001},
        ],
    )
    def test_a_bad_request_gets_one_reply(self, fields: dict[str, Any]) -> None:
        (event,) = receive(dialect(), type="img2img", **fields)
        assert replies([event])[0]["type"] == "error"

    def test_failure(self) -> None:
        made = dialect()
        asked = request(made)
        (reply,) = said(made.render(Unanswered(asked.ticket, EngineError("no worker"))))
        assert reply == {"type": "error", "message": "no worker", "timestamp": NOW}

    def test_answers_keep_the_order_of_the_requests(self) -> None:
        made = dialect()
        first, second = request(made), request(made)
        (bad,) = [receive(made, type="img2img", image="###")]
        assert bad == []  # its turn comes after those
        assert made.render(Answered(second.ticket, result(), "second")) == []
        replies_ = said(made.render(Answered(first.ticket, result(), "first")))
        assert [r.get("prompt", r["type"]) for r in replies_] == ["first", "second", "error"]

    @given(st.permutations(range(6)), st.sets(st.integers(0, 5)))
    def test_any_order_of_answers(self, order: list[int], failing: set[int]) -> None:
        made = dialect()
        asked = [request(made, prompt=str(i)) for i in range(6)]
        heard: list[Any] = []
        for i in order:
            notice: Notice = Answered(asked[i].ticket, result(), str(i))
            if i in failing:
                notice = Unanswered(asked[i].ticket, EngineError(str(i)))
            heard += said(made.render(notice))
        assert [r.get("prompt", r.get("message")) for r in heard] == list("012345")

    def test_an_answer_nobody_asked_for_is_nothing(self) -> None:
        made = dialect()
        asked = request(made)
        assert made.render(Answered(99, result(), "p")) == []
        assert len(made.render(Answered(asked.ticket, result(), "p"))) == 1
        assert made.render(Answered(asked.ticket, result(), "p")) == []

    def test_too_many_requests_are_errors_then_the_end(self) -> None:
        made = dialect()
        for _ in range(MAX_WAITING_REQUESTS):
            request(made)
        for _ in range(MAX_TICKETS - MAX_WAITING_REQUESTS):
            assert receive(made, type="img2img", image=PICTURE) == []
        (event,) = receive(made, type="img2img", image=PICTURE)
        assert isinstance(event, Fault)
        assert event.close
        heard = []
        for ticket in range(1, MAX_WAITING_REQUESTS + 1):
            heard += said(made.render(Answered(ticket, result(), "")))
        assert len(heard) == MAX_TICKETS
        assert {r["type"] for r in heard[MAX_WAITING_REQUESTS:]} == {"error"}

    @pytest.mark.parametrize("prompt", ["p", "ä" * 9000, "\0" * 9000])
    @pytest.mark.parametrize("size", [PICTURE_LIMIT, REPLY_LIMIT, REPLY_LIMIT + 1, 3_000_000])
    @pytest.mark.parametrize("form", ["img2img", "img2img_binary"])
    def test_no_reply_is_more_than_the_clients_accept(
        self, form: str, size: int, prompt: str
    ) -> None:
        made = dialect()
        events = receive(made, type=form, image=PICTURE) or made.receive(PIXEL)
        (asked,) = events
        assert isinstance(asked, RequestReceived)
        messages = made.render(Answered(asked.ticket, result(size), prompt))
        assert messages
        for message in messages:
            assert len(message.encode() if isinstance(message, str) else message) <= CLIENT_LIMIT

    def test_the_worker_is_told_what_fits(self) -> None:
        limit = dialect().reply_limit
        assert limit is not None
        made = dialect()
        asked = request(made)
        (reply,) = said(made.render(Answered(asked.ticket, result(limit), "p")))
        assert reply["type"] == "img2img_result"


def _plain(message: str) -> Any:
    try:
        fields = json.loads(message)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
long_texts = st.integers(2000, 5000).map(lambda n: (alphabet * 80)[:n])
texts = st.text(st.characters(codec="utf-8"), max_size=12)
pictures = st.builds(
    lambda url, n: url + "QUJD" * n,
    st.sampled_from(["", "data:,", "data:image/jpeg;base64,", "data:"]),
    st.integers(200, 1500),
)
kinds = st.sampled_from(["image", "img2img", "test"])
numbers = st.none() | st.booleans() | st.integers(-(2**53), 2**53)
scalars = numbers | texts | long_texts | pictures | kinds
keys = st.sampled_from(["data", "image", "type", "prompt", "a", '"data"', "d\\u0061ta", ""])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=4,
)


@st.composite
def objects(draw: st.DrawFn) -> str:
    """JSON objects as nobody writes them: keys twice, escapes where none are needed, blanks."""
    blank = st.sampled_from(["", " ", "\n\t", "  "])

    def escaped(text: str) -> str:
        quoted = json.dumps(text, ensure_ascii=draw(st.booleans()))
        if draw(st.booleans()) and "a" in quoted[:40]:
            quoted = quoted.replace("a", "\\u0061", 1)
        return quoted

    pairs = [
        f"{draw(blank)}{escaped(draw(keys))}{draw(blank)}:{draw(blank)}"
        f"{json.dumps(draw(values), ensure_ascii=draw(st.booleans()))}{draw(blank)}"
        for _ in range(draw(st.integers(0, 4)))
    ]
    usual = f'"type":"{draw(kinds)}","{draw(st.sampled_from(["data", "image"]))}":'
    if draw(st.booleans()):
        pairs.insert(draw(st.integers(0, len(pairs))), usual + json.dumps(draw(pictures)))
    return f"{draw(blank)}{{{','.join(pairs)}}}{draw(blank)}"


def _agrees(message: bytes) -> bool:
    """Whether a message is read as by a plain parser, but for its picture, which is decoded."""
    fields, plain = split_message(message), _plain(message.decode())
    for key, kind in (("data", "image"), ("image", "img2img")):
        if fields is not None and isinstance(fields.get(key), bytes):
            written = plain[key]
            encoded = written.partition(",")[2] if written.startswith("data:") else written
            if base64.b64decode(encoded, validate=True) != fields[key] or plain["type"] != kind:
                return False
            fields[key] = written
    return bool(fields == plain)


class TestSplitMessage:
    @given(objects())
    def test_equals_a_plain_parser(self, message: str) -> None:
        assert _agrees(message.encode())

    @given(
        objects(), st.integers(0, 6000), st.sampled_from(['"', "\\", "{", "}", ",", ":", "", " "])
    )
    def test_equals_a_plain_parser_on_broken_text(self, message: str, at: int, new: str) -> None:
        assert _agrees((message[:at] + new + message[at + 1 :]).encode())

    @given(objects(), st.integers(0, 6000), st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80"]))
    def test_what_is_no_text_is_never_heard(self, message: str, at: int, new: bytes) -> None:
        whole = message.encode()
        broken = whole[:at] + new + whole[at:]
        with pytest.raises(UnicodeDecodeError):
            dialect().receive_text(broken)

    @pytest.mark.parametrize(("key", "kind"), [("data", "image"), ("image", "img2img")])
    @pytest.mark.parametrize("url", ["", "data:image/jpeg;base64,"])
    def test_the_usual_message(self, key: str, kind: str, url: str) -> None:
        fields = {"type": kind, key: url + "QUJD" * 20_000, "prompt": "ä", "timestamp": 1.5}
        read = split_message(json.dumps(fields, ensure_ascii=False).encode())
        assert read == {**fields, key: b"ABC" * 20_000}

    def test_slashes_that_are_escaped(self) -> None:
        message = json.dumps({"type": "image", "data": "/9j/" * 2000}).replace("/", "\\/")
        assert split_message(message.encode()) == {"type": "image", "data": "/9j/" * 2000}

    def test_only_pictures_are_decoded(self) -> None:
        fields = {"type": "test", "data": "QUJD" * 2000}
        assert split_message(json.dumps(fields).encode()) == fields

    def test_a_hidden_second_key(self) -> None:
        long = "A" * 5000
        message = f'{{"type":"image","x":{{"data":"{long}"}},"d\\u0061ta":""}}'
        assert split_message(message.encode()) == {"type": "image", "x": {"data": long}, "data": ""}

    def test_what_json_does_not_allow_in_a_string_is_no_json(self) -> None:
        message = f'{{"type":"image","data":"{"A" * 5000}\n"}}'
        assert dialect().receive(message) == []

    def test_halves_of_characters_are_not_heard(self) -> None:
        assert dialect().receive('{"type":"ping","x":"\ud800"}') == []

    @given(st.text(max_size=40) | st.binary(max_size=40))
    def test_anything_may_come(self, message: str | bytes) -> None:
        made = dialect()
        for event in made.receive(message):
            assert isinstance(cast(Any, event), ReplyDue | Fault | PacketReceived | RequestReceived)
