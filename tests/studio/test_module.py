"""``dreamrelay.js`` and the page's pure parts, run by a browser."""

import base64
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from dreamrelay.config import RelaySettings
from dreamrelay.packet import Hop, Packet, Stamp, Track
from dreamrelay.protocol.native import decode_packet, encode_packet
from tests.studio.support import SCHEMA, quiet_page
from tests.support import ROOT, RunningRelay, picture, start_relay


@pytest.fixture(scope="module")
def relay() -> Iterator[RunningRelay]:
    """One for all of these: it only hands out files."""
    with start_relay(RelaySettings(port=0)) as running:
        yield running


pytestmark = pytest.mark.xdist_group("studio")


@pytest.fixture
def page(browser: Browser, relay: RunningRelay) -> Iterator[Page]:
    """A page of the relay that runs none of our code yet."""
    with quiet_page(browser) as made:
        made.goto(f"{relay.url}static/card.js")
        yield made


@pytest.fixture(scope="module")
def pure(browser: Browser, relay: RunningRelay) -> Iterator[Page]:
    """One page for all calls that leave nothing behind."""
    with quiet_page(browser) as made:
        made.goto(f"{relay.url}static/card.js")
        yield made


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def packets() -> list[tuple[Packet, Track]]:
    stamps = (Stamp(Hop.ENCODED, 1_763_632_800_123_456_789), Stamp(Hop.RETURNED, 2**63 + 5))
    jpeg, png = picture("red", (64, 48)), picture("blue", (5, 7), "PNG")
    plain = Packet.of(jpeg, seq=1, captured_ns=1_763_632_800_123_456_789)
    stamped = Packet.of(png, seq=2**40 + 3, captured_ns=7).but(stamps=stamps, revision=2**32 - 1)
    private = Packet.of(picture(form="WEBP"), captured_ns=0).but(private=True)
    return [(plain, "input"), (stamped, "output"), (private, "output")]


DECODE = """async (text) => {
    const { decodePacket } = await import("/static/dreamrelay.js");
    const packet = decodePacket(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
    const plain = (_, value) => (typeof value === "bigint" ? String(value) : value);
    return JSON.stringify({ ...packet, data: btoa(String.fromCharCode(...packet.data)) }, plain);
}"""

ENCODE = """async ({ data, capturedNs, stamps, ...rest }) => {
    const { encodePacket } = await import("/static/dreamrelay.js");
    const bytes = encodePacket({
        ...rest,
        data: Uint8Array.from(atob(data), (c) => c.charCodeAt(0)),
        capturedNs: BigInt(capturedNs),
        stamps: stamps.map(({ hop, ns }) => ({ hop, ns: BigInt(ns) })),
    });
    return btoa(String.fromCharCode(...bytes));
}"""


def as_fields(packet: Packet, track: Track) -> dict[str, Any]:
    return {
        "data": text(packet.data),
        "type": packet.codec.mime,
        "track": track,
        "private": packet.private,
        "preview": packet.preview,
        "standIn": packet.stand_in,
        "seq": packet.seq,
        "capturedNs": str(packet.captured_ns),
        "revision": packet.revision,
        "width": packet.width,
        "height": packet.height,
        "stamps": [{"hop": int(s.hop), "ns": str(s.ns)} for s in packet.stamps],
    }


@pytest.mark.parametrize(("packet", "track"), packets())
def test_packets_are_read_and_written_as_python_does(
    pure: Page, packet: Packet, track: Track
) -> None:
    wire = encode_packet(packet, track)
    assert json.loads(pure.evaluate(DECODE, text(wire))) == as_fields(packet, track)
    assert base64.b64decode(pure.evaluate(ENCODE, as_fields(packet, track))) == wire


def test_golden_packets_come_back_byte_for_byte(pure: Page) -> None:
    golden = sorted((ROOT / "tests/protocol/golden").glob("*.bin"))
    assert golden
    for path in golden:
        wire = path.read_bytes()
        packet, track = decode_packet(wire)
        fields = json.loads(pure.evaluate(DECODE, text(wire)))
        assert fields == as_fields(packet, track), path.name
        assert base64.b64decode(pure.evaluate(ENCODE, fields)) == wire, path.name


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda wire: b"", "do not begin with DR"),
        (lambda wire: wire[:20], "do not begin with DR"),
        (lambda wire: b"XX" + wire[2:], "do not begin with DR"),
        (lambda wire: wire[:2] + b"\x02" + wire[3:], "got version 2"),
        (lambda wire: wire[:32] + b"\x11" + wire[33:], "header is broken"),
        (lambda wire: wire[:4] + b"\xff\xff" + wire[6:], "header is broken"),
        (lambda wire: wire[:6] + b"\x07" + wire[7:], "expected track"),
    ],
)
def test_what_is_no_packet_is_refused(pure: Page, change: Any, complaint: str) -> None:
    wire = change(encode_packet(*packets()[0]))
    said = pure.evaluate(f"(text) => ({DECODE})(text).then(() => '', String)", text(wire))
    assert complaint in said


FAKE_SOCKET = """
    class FakeSocket {
        readyState = WebSocket.OPEN;
        static made = [];
        sent = [];
        at = Date.now();
        constructor() { FakeSocket.made.push(this); }
        send(data) { this.sent.push(typeof data === "string" ? JSON.parse(data) : data); }
        close() {}
        hear(message) { this.onmessage({ data: JSON.stringify(message) }); }
        patches() { return this.sent.filter((m) => m.type === "parameters"); }
    }
    const { Connection, Parameters } = await import("/static/dreamrelay.js");
"""


def test_every_golden_message_of_the_relay_is_understood(page: Page) -> None:
    golden = sorted((ROOT / "tests/protocol/golden").glob("from_relay_*.json"))
    messages = [json.loads(path.read_text(encoding="utf-8")) for path in golden]
    assert messages
    heard = page.evaluate(
        f"""async (messages) => {{ {FAKE_SOCKET}
            const heard = [];
            for (const message of messages) {{
                const connection = new Connection({{ WebSocket: FakeSocket }});
                new Parameters(connection);
                connection.addEventListener(message.type, ({{ detail }}) => heard.push(detail));
                FakeSocket.made.at(-1).hear(message);
            }}
            return heard;
        }}""",
        messages,
    )
    assert heard == messages


def test_pauses_between_attempts_grow_and_stay_short(page: Page) -> None:
    page.clock.install()
    page.evaluate(
        f"""async () => {{ {FAKE_SOCKET}
            window.FakeSocket = FakeSocket;
            const connection = new Connection({{ WebSocket: FakeSocket }});
            const refuse = () => FakeSocket.made.at(-1).onclose({{ code: 1006, reason: "" }});
            connection.addEventListener("state", ({{ detail }}) => {{
                if (detail.state === "connecting") setTimeout(refuse, 0);
            }});
            refuse();
        }}"""
    )
    page.clock.run_for(60_000)
    at = page.evaluate("FakeSocket.made.map((socket) => socket.at)")
    pauses = [after - before for before, after in itertools.pairwise(at)]
    assert len(pauses) > 8
    assert 240 <= pauses[0] <= 520
    assert all(3990 <= pause <= 8020 for pause in pauses[6:])
    assert len(set(pauses[6:])) > 1  # no two pages knock at the same time


def test_a_silent_line_is_given_up(page: Page) -> None:
    page.clock.install()
    page.evaluate(
        f"""async () => {{ {FAKE_SOCKET}
            window.connection = new Connection({{ WebSocket: FakeSocket }});
            FakeSocket.made[0].hear({{ type: "welcome", version: 1 }});
        }}"""
    )
    assert page.evaluate("connection.state") == "open"
    page.clock.run_for(10_000)
    assert page.evaluate("connection.state") == "open"
    page.clock.run_for(7_000)
    assert page.evaluate("connection.state") != "open"


def test_the_relays_clock_is_found_from_pings(page: Page) -> None:
    offset = page.evaluate(
        f"""async () => {{ {FAKE_SOCKET}
            const connection = new Connection({{ WebSocket: FakeSocket }});
            const [socket] = FakeSocket.made;
            socket.hear({{ type: "welcome", version: 1 }});
            const ping = socket.sent.find((m) => m.type === "ping");
            socket.hear({{ type: "pong", id: ping.id, received_ns: (Date.now() + 5000) * 1e6 }});
            return connection.clockOffset;
        }}"""
    )
    assert 4900 < offset < 5100


def test_changes_of_one_frame_go_out_as_one_patch(page: Page) -> None:
    patches = page.evaluate(
        f"""async () => {{ {FAKE_SOCKET}
            const connection = new Connection({{ WebSocket: FakeSocket }});
            const parameters = new Parameters(connection);
            const [socket] = FakeSocket.made;
            socket.hear({{ type: "welcome", version: 1 }});
            for (let i = 1; i <= 100; i++) parameters.set({{ strength: i / 100 }});
            parameters.set({{ prompt: "x" }});
            while (socket.patches().length === 0) await new Promise(requestAnimationFrame);
            return socket.patches().map((m) => m.patch);
        }}"""
    )
    assert patches == [{"strength": 1, "prompt": "x"}]


def test_what_is_not_to_blame_for_a_refusal_is_sent_again(page: Page) -> None:
    outcome = page.evaluate(
        f"""async () => {{ {FAKE_SOCKET}
            const connection = new Connection({{ WebSocket: FakeSocket }});
            const parameters = new Parameters(connection);
            const [socket] = FakeSocket.made;
            const patch = async (n) => {{
                while (socket.patches().length < n) await new Promise(requestAnimationFrame);
                return socket.patches()[n - 1];
            }};
            socket.hear({{ type: "welcome", version: 1 }});
            parameters.set({{ strength: 7, prompt: "x" }});
            const {{ id }} = await patch(1);
            const problems = {{ strength: "at most 1" }};
            socket.hear({{ type: "error", id, code: "parameter", message: "no", problems }});
            const second = await patch(2);
            const values = {{ prompt: "x", strength: 0.5 }};
            socket.hear({{ type: "parameters", id: second.id, values, revision: 4 }});
            await new Promise(requestAnimationFrame);
            const stage = parameters.pending.get("prompt").stage;
            parameters.seen(3);
            const early = parameters.pending.has("prompt");
            parameters.seen(4);
            const late = parameters.pending.has("prompt");
            return [second.patch, Object.fromEntries(parameters.problems), stage, early, late];
        }}"""
    )
    assert outcome == [{"prompt": "x"}, {"strength": "at most 1"}, "accepted", True, False]


def test_a_lost_patch_is_sent_on_the_next_connection(page: Page) -> None:
    patches = page.evaluate(
        f"""async () => {{ {FAKE_SOCKET}
            const connection = new Connection({{ WebSocket: FakeSocket }});
            const parameters = new Parameters(connection);
            const asked = async (socket) => {{
                socket.hear({{ type: "welcome", version: 1 }});
                while (socket.patches().length === 0) await new Promise(requestAnimationFrame);
                return socket.patches().map((m) => m.patch);
            }};
            parameters.set({{ prompt: "x" }});
            await asked(FakeSocket.made[0]);
            FakeSocket.made[0].onclose({{ code: 1006, reason: "" }});
            connection.retryNow();
            const patches = await asked(FakeSocket.made[1]);
            connection.close();
            return patches;
        }}"""
    )
    assert patches == [{"prompt": "x"}]


def test_a_producer_sends_no_more_than_its_credit(page: Page) -> None:
    outcome = page.evaluate(
        f"""async () => {{ {FAKE_SOCKET}
            const connection = new Connection({{ role: "producer", WebSocket: FakeSocket }});
            const packet = {{ data: new Uint8Array(3), width: 1, height: 1 }};
            const results = [connection.send(packet)];
            const [socket] = FakeSocket.made;
            socket.hear({{ type: "welcome", version: 1, credit: 2 }});
            results.push(connection.send(packet), connection.send(packet), connection.send(packet));
            socket.hear({{ type: "ack", seq: 0, accepted: true }});
            results.push(connection.send(packet));
            return results;
        }}"""
    )
    assert outcome == [False, True, True, False, True]


def test_the_address_is_that_of_the_module(page: Page, relay: RunningRelay) -> None:
    addresses = page.evaluate(
        f"""async () => {{ {FAKE_SOCKET}
            const options = [
                {{}},
                {{ stream: "a.b", track: "both", credit: 2, token: "t&t" }},
                {{ role: "producer", relay: "https://example.org/deep/" }},
            ];
            const made = options.map((o) => new Connection({{ WebSocket: FakeSocket, ...o }}));
            return made.map((connection) => connection.address.href);
        }}"""
    )
    assert addresses == [
        f"{relay.websocket}/streams/default/viewer",
        f"{relay.websocket}/streams/a.b/viewer?track=both&credit=2&auth=first",
        "wss://example.org/deep/streams/default/producer",
    ]


# -- the form and the words ----------------------------------------------------------------------


def read_schema(page: Page, schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    fields = page.evaluate(
        'async (schema) => (await import("/static/schema.js")).readSchema(schema)', schema
    )
    return {field["name"]: field for field in fields}


def test_widgets_follow_the_schema(pure: Page) -> None:
    fields = read_schema(pure, SCHEMA)
    widgets = {name: field["widget"] for name, field in fields.items()}
    assert widgets == {
        "prompt": "text",
        "strength": "slider",
        "negative_prompt": "text",
        "seed": "seed",
        "steps": "slider",
        "skip_similar": "toggle",
        "cfg_type": "select",
        "delta": "number",
        "t_index_list": "list",
    }
    assert fields["delta"]["nullable"]
    assert fields["delta"]["maximum"] == 2
    assert fields["t_index_list"]["integer"]


def test_a_schema_without_hints_makes_a_form_too(pure: Page) -> None:
    schema = {
        "$defs": {"Mode": {"enum": ["fast", "good"], "type": "string"}},
        "properties": {
            "noise_scale": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            "count": {"type": ["integer", "null"]},
            "mode": {"$ref": "#/$defs/Mode", "default": "fast"},
            "maybe": {"anyOf": [{"$ref": "#/$defs/Mode"}, {"type": "null"}]},
            "odd": {"type": "object"},
            "wrong_hint": {"type": "boolean", "ui": {"widget": "slider"}},
        },
    }
    fields = read_schema(pure, schema)
    assert [(f["widget"], f["nullable"], f["label"]) for f in fields.values()] == [
        ("slider", False, "Noise scale"),
        ("number", True, "Count"),
        ("select", False, "Mode"),
        ("select", True, "Maybe"),
        ("json", False, "Odd"),
        ("toggle", False, "Wrong hint"),
    ]
    assert fields["maybe"]["options"] == ["fast", "good"]


@pytest.mark.parametrize(
    ("before", "word", "after"),
    [
        ("", "neon", "neon"),
        ("neon", "neon", ""),
        ("a fox", "neon", "a fox neon"),
        ("a fox neon", "watercolor", "a fox watercolor"),
        ("a fox neon", "blue", "a fox blue neon"),
        ("a fox blue neon", "red", "a fox red neon"),
        ("a fox, blue, neon", "blue", "a fox, neon"),
        ("oil painting", "oil", "oil"),
        ("bluebird", "blue", "bluebird blue"),
        ("Blue neon", "blue", "neon"),
    ],
)
def test_words_are_put_in_and_taken_out(pure: Page, before: str, word: str, after: str) -> None:
    styles = ["watercolor", "oil painting", "oil", "neon"]
    group = None if word in styles else ["red", "blue"]
    got = pure.evaluate(
        """async ([text, word, group, styles]) =>
            (await import("/static/words.js")).toggleWord(text, word, group ?? styles, styles)""",
        [before, word, group, styles],
    )
    assert got == after
