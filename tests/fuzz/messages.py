"""Good messages of every door, and ways to spoil them."""

import base64
import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dreamrelay.packet import Packet
from dreamrelay.protocol.native import encode_packet
from tests.relay.clients import HELLO
from tests.support import picture

Message = str | bytes

JPEG, PNG = picture(), picture("blue", (9, 7), "PNG")
URL = "data:image/jpeg;base64," + base64.b64encode(JPEG).decode()
UUID = "3f2b8c1e-5d47-4b1a-9f0e-7a6c5d4e3f21"


def said(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields})


NATIVE: tuple[Message, ...] = (
    encode_packet(Packet.of(JPEG, seq=1), "input"),
    encode_packet(Packet.of(PNG, seq=2), "output"),
    said("hello", version=1, name="fuzz", credit=3),
    said("hello", version=1, credit=2, **HELLO),
    said("credit", count=1),
    said("credit", count=3, track="input"),
    said("parameters", patch={"prompt": "a fox", "strength": 0.3}, id=7, origin="fuzz"),
    said("status", state="live", fps=3.5, counters={"prompts": 3}),
    said("status", state="loading", text="x", fraction=0.5),
    said("failed", seq=3, message="no"),
    said("ping", id="a"),
    said("auth", token="0123456789abcdef"),
)

EXAMPLE: tuple[Message, ...] = (
    said("register", client_type="producer"),
    said("register", client_type="consumer"),
    said("register", client_type="viewer"),
    said("image", format="jpeg", data=base64.b64encode(JPEG).decode(), timestamp=1.5),
    said("prompt_update", prompt="a fox", timestamp=1.5),
    said("img2img", image=base64.b64encode(PNG).decode(), prompt="a fox"),
    said("img2img_binary", prompt="a fox", format="jpeg"),
    JPEG,
    said("ping"),
    said("test", data={"a": [1, 2, None]}),
)

DREAMSTREAM: tuple[Message, ...] = (
    said("frame", frame=URL, streamId="fuzz", frameNumber=3),
    said("frame", frame=URL.partition(",")[2]),
    said("update_prompt", prompt="a fox"),
    said("update_negative_prompt", negative_prompt=""),
    said("update_strength", strength=0.4),
    said("update_processor", processor_type="lightning"),
    said("get_latest_frame"),
    said("subscribe_to_processed_frames"),
    said("unsubscribe_from_processed_frames"),
    said("get_style_prompt"),
    said("get_processor_info"),
    said("check_stream_status", streamId="fuzz"),
    said("list_streams"),
    said("get_server_info"),
    said("end_stream"),
    said("ping"),
)

WEB: tuple[Message, ...] = (
    json.dumps({"status": "next_frame"}),
    json.dumps({"prompt": "a fox", "ip_adapter_scale": 1, "mode": "human"}),
    json.dumps({"mode": "full"}),
    JPEG,
    b"",
)


@dataclass(frozen=True)
class Door:
    """A path to connect to, and what is said there."""

    name: str
    path: str
    corpus: tuple[Message, ...]


DOORS = (
    *(Door(f"native {role}", f"/streams/fuzz/{role}", NATIVE) for role in ("producer", "worker")),
    Door("native viewer", "/streams/fuzz/viewer?track=both&credit=3", NATIVE),
    Door("websocket example", "/?stream=fuzz", EXAMPLE),
    Door("dreamstream broadcaster", "/ws/broadcaster/fuzz", DREAMSTREAM),
    Door("dreamstream viewer", "/ws/viewer/fuzz", DREAMSTREAM),
    Door("dreamstream listing", "/ws/viewer/listing_fuzz", DREAMSTREAM),
    Door("streamdiffusion-web", f"/api/ws/{UUID}", WEB),
)

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, 2**31, 2**63, 2**64, -(2**63), 10**30, "", " ",
    "\0", "ä", "\ud800", "x" * 3000, "a\n", "null", "NaN", "../../etc/passwd", "data:", "data:,",
    "data:image/png;base64,AAAA", "=" * 9, [], [[]], {}, {"type": "x"}, [None] * 50, {"": ""},
    {"__proto__": 1}, {"$ref": "#/"}, {"type": "object", "properties": {"a": {"$ref": "#"}}},
)  # fmt: skip


def spoil(message: Message, chance: random.Random) -> Message:
    """The message with something wrong; now and then as it is, so that states are reached."""
    if chance.random() < 0.25:
        return message
    if isinstance(message, str) and chance.random() < 0.7:
        return _spoil_fields(message, chance)
    data = message.encode("utf-8", "surrogatepass") if isinstance(message, str) else message
    for _ in range(chance.randint(1, 4)):
        data = chance.choice(_SPOILERS)(data, chance)
    text = isinstance(message, str) != (chance.random() < 0.1)
    return data.decode("utf-8", "replace") if text else data


def odd(chance: random.Random) -> Any:
    """A value that nobody expects."""
    return copy.deepcopy(chance.choice(ODD))


def _spoil_fields(message: str, chance: random.Random) -> str:
    fields = json.loads(message)
    for _ in range(chance.randint(1, 3)):
        place = _somewhere(fields, chance)
        if isinstance(place, dict) and place:
            name = chance.choice(list(place))
            if chance.random() < 0.3:
                del place[name]
            else:
                place[name] = odd(chance)
        elif isinstance(place, dict):
            place[chance.choice(("type", "data", "id", "patch", "x"))] = odd(chance)
        elif isinstance(place, list):
            place.append(odd(chance))
    if chance.random() < 0.05:
        fields = [fields]
    if chance.random() < 0.02:
        return "[" * 2000 + "]" * 2000
    return json.dumps(fields, ensure_ascii=True).replace("\\ud800", "\\uD800")


def _somewhere(node: Any, chance: random.Random) -> Any:
    """The object, or one inside of it."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    deeper = [value for value in inner if isinstance(value, dict | list)]
    if deeper and chance.random() < 0.5:
        return _somewhere(chance.choice(deeper), chance)
    return node


def _flip(data: bytes, chance: random.Random) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    changed[chance.randrange(min(len(changed), 80))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _insert(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.randbytes(chance.choice((1, 4, 100))) + data[at:]


def _extreme(data: bytes, chance: random.Random) -> bytes:
    """A field of the header at an end of its range."""
    size = chance.choice((1, 2, 4, 8))
    at = chance.randrange(min(len(data), 64) + 1)
    return data[:at] + chance.choice((b"\0", b"\xff", b"\x80")) * size + data[at + size :]


def _grow(data: bytes, chance: random.Random) -> bytes:
    return data + data[: chance.randrange(len(data) + 1)] * chance.choice((1, 3))


_SPOILERS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip,
    _cut,
    _insert,
    _extreme,
    _grow,
)
