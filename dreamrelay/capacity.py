"""What a show needs: relays, network, NATS, cards, traffic and delay, from measured costs.

``plan`` is the whole computation; ``docs/capacity.md`` writes its formulas out, and
``relay/static/capacity.js`` is the same in the browser: a test compares the two on random shows.
The costs lie in ``relay/static/capacity.json``, which ``python -m benchmarks.costs`` writes from
the figures of the benchmarks, each with its source.
"""

import importlib.resources
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dreamrelay.config import Show

MEASURED_KB = 60.0
"""Size of the pictures that the costs were measured with; larger ones cost in proportion."""

MEASURED_VIEWERS = 16

DEFAULT_CONNECTIONS = 256
"""What a relay takes unless ``--max_connections`` says more."""

MOST_RELAYS = 256
"""So many share their streams (``relay/federation.py``)."""

VIDEO_GBIT = 200.0
"""A judgement, not a measurement: beyond this, one encoded video for all is the right tool."""

PHONE_MBIT = 10.0
"""Another one: what a phone in a crowd cannot be counted on to receive."""

NOT_OF_A_SHOW = ("preset", "as_json", "verbose")
"""Settings of the command, not of the computation."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The outcome; ``ROWS`` has the words and units.

    Attributes:
        binds: which of ``BINDS`` is the first bottleneck.
        tier: which of ``TIERS`` fits.
        notes: which of ``NOTES`` hold.
    """

    viewer_mbit: float
    viewers_gbit: float
    relays: int
    relays_by_cpu: float
    relays_by_nic: float
    relay_core: float
    relay_gbit: float
    connections: int
    nats_messages: float
    nats_gbit: float
    nats_cores: float
    nats_servers: int
    cards_per_stream: int
    cards: int
    card_busy: float
    engine_ms: float
    fanout_ms: float
    backplane_ms: float
    region_ms: float
    added_ms: float
    traffic_tb: float
    video_gbit: float
    binds: str
    tier: str
    notes: tuple[str, ...]


ROWS: tuple[tuple[str, str, str, int], ...] = (
    ("viewer_mbit", "Each viewer receives", "Mbit/s", 1),
    ("viewers_gbit", "All viewers together", "Gbit/s", 2),
    ("relays", "Relays", "", 0),
    ("relays_by_cpu", "by their processors", "relays", 2),
    ("relays_by_nic", "by their network cards", "relays", 2),
    ("relay_core", "Each uses of its core", "", 2),
    ("relay_gbit", "Each sends", "Gbit/s", 2),
    ("connections", "Each needs --max_connections", "", 0),
    ("nats_messages", "NATS delivers", "messages/s", 0),
    ("nats_gbit", "NATS sends", "Gbit/s", 2),
    ("nats_cores", "NATS computes", "cores", 2),
    ("nats_servers", "NATS servers", "", 0),
    ("cards_per_stream", "Workers for each stream", "", 0),
    ("cards", "Cards", "", 0),
    ("card_busy", "Each is busy", "", 2),
    ("engine_ms", "Delay: engine", "ms", 1),
    ("fanout_ms", "Delay: to the last viewer of a relay", "ms", 1),
    ("backplane_ms", "Delay: backplane", "ms", 1),
    ("region_ms", "Delay: to another region", "ms", 1),
    ("added_ms", "Delay that we add", "ms", 1),
    ("traffic_tb", "Traffic in a month", "TB", 2),
    ("video_gbit", "The same viewers with one encoded video", "Gbit/s", 2),
)
"""Field, words, unit and decimals, in the order in which they are shown."""

BINDS: Mapping[str, str] = {
    "cpu": "the relays' processors: each relay is one process on one core.",
    "nic": "the relays' network cards: they are full before a core is.",
    "card": "the engine: pictures a second want cards, long before relays.",
    "nats": "NATS: so many relays want so many streams that one server's network card is full."
    " Make it a cluster, which deploy/ does not, or keep each stream's viewers on fewer relays.",
}

TIERS: Mapping[str, str] = {
    "one": "One relay is enough: deploy/compose.yaml.",
    "several": "Several relays that share their streams over NATS, behind a proxy:"
    " deploy/compose.scale.yaml or deploy/kubernetes.yaml.",
    "video": "Too much for pictures one by one. Keep a relay for the stage, the operators and those"
    " who act; encode its output once as video, and let WebRTC servers (below half a second) or HLS"
    " from a CDN (some seconds) carry it to the audience. dreamrelay has neither of the two.",
}

NOTES: Mapping[str, str] = {
    "stateless": "Several workers at one stream need an engine without memory: one denoising step,"
    " no coherence. Others have one keeper, and its pace.",
    "connections": "The default of --max_connections, 256, is too small for this.",
    "processes": "Relays are processes: several fit on one machine, as many as it has cores and its"
    " network card has room for.",
    "too-many": "At most 256 relays share streams.",
    "extrapolated": "The relay was measured with 16 viewers; what is beyond is a straight line.",
    "line": "Each viewer receives more than 10 Mbit/s: phones in a crowd will get fewer pictures"
    " (the newest, the others are left out). Smaller pictures, or fewer a second, help most.",
    "published": "The engine's time is published by others, not measured by us.",
    "processor": "This engine runs on processors: a card is two cores.",
}


@dataclass(frozen=True, slots=True)
class Costs:
    """The measured figures, and those of others: value, unit, source, in the words of the file."""

    values: Mapping[str, float]
    engines: Mapping[str, Mapping[str, Any]]

    @classmethod
    def load(cls) -> "Costs":
        """Those in the package."""
        file = importlib.resources.files("dreamrelay") / "relay" / "static" / "capacity.json"
        content = json.loads(file.read_text(encoding="utf-8"))
        return cls.of(content)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Costs":
        values = {name: float(cost["value"]) for name, cost in content["costs"].items()}
        return cls(values, content["engines"])


def _relays(fixed: float, copy: float, most: float, room: float) -> float:
    """How many relays with so much room each: the smallest n for which
    ``fixed + copy * min(n, most) <= n * room``.
    """
    all_copies = (fixed + copy * most) / room
    return min(fixed / (room - copy), all_copies) if room > copy else all_copies


def plan(show: Show, costs: Costs) -> Plan:
    """Compute what a show needs. ``docs/capacity.md`` has each line in words."""
    c = costs.values
    viewers, streams, fps = show.viewers, show.streams, show.fps
    per_stream = viewers / streams

    # A relay's seconds for a picture that comes, and for each viewer that it goes to.
    each = (16 * c["relay_us_16"] - c["relay_us_1"]) / 15
    once = c["relay_us_1"] - each
    size = max(1.0, show.picture_kb / MEASURED_KB)
    factor = (c["tls_factor"] if show.tls else 1.0) * size / 1e6
    each, once = each * factor, once * factor

    # What all of it takes at one relay; and, of several, what each copy of each stream adds: one
    # letter out of its home, one into another relay. (The home needs none; one more input does.)
    cpu = fps * (streams * (2 * once + each) + viewers * each)
    cpu_copy = fps * streams * (once + each)
    picture_bits = show.picture_kb * 8000 * c["wire_factor"]
    bits = picture_bits * fps * (viewers + streams)
    bits_copy = picture_bits * fps * streams
    usable = show.nic_gbit * 1e9 * show.headroom
    by_cpu, by_nic = cpu / show.headroom, bits / usable
    if max(by_cpu, by_nic) > 1 or show.regions > 1:
        by_cpu = _relays(cpu, cpu_copy, per_stream, show.headroom)
        by_nic = _relays(bits, bits_copy, per_stream, usable)
    relays = show.regions * max(1, math.ceil(max(by_cpu, by_nic) / show.regions))
    copies = min(relays, per_stream)
    if relays > 1:
        cpu += cpu_copy * copies
        bits += bits_copy * copies

    messages = fps * streams * copies if relays > 1 else 0.0
    nats_gbit = messages * picture_bits / 1e9
    nats_cores = messages * c["nats_us"] * size / 1e6
    nats_load = nats_gbit * 1e9 / usable

    engine = costs.engines[show.engine]
    engine_ms = show.engine_ms if show.engine_ms is not None else float(engine["value"])
    load = fps * engine_ms / 1000 / c["worker_efficiency"]
    workers = 1 if load <= 1 else math.ceil(load / c["dispatch_efficiency"])
    cards = streams * workers
    if show.share_cards and load <= 1:
        cards = math.ceil(streams / math.floor(1 / load))

    at_relay = per_stream / copies
    fanout = max(once + each * at_relay, picture_bits * at_relay / (show.nic_gbit * 1e9))
    delays = (
        engine_ms * (c["age_p95"] if workers > 1 else 1.0),
        fanout * 1000,
        2 * c["nats_hop_ms"] if relays > 1 else 0.0,
        show.region_ms if show.regions > 1 else 0.0,
    )
    viewers_gbit = viewers * fps * picture_bits / 1e9
    needs = {"cpu": by_cpu, "nic": by_nic, "card": load}
    tier = "video" if viewers_gbit > VIDEO_GBIT else "one" if relays == 1 else "several"
    at_each = viewers / relays
    notes = {
        "stateless": workers > 1,
        "connections": at_each + 16 > DEFAULT_CONNECTIONS,
        "processes": relays > 1 and by_cpu > by_nic,
        "too-many": relays > MOST_RELAYS,
        "extrapolated": at_each > MEASURED_VIEWERS,
        "line": fps * picture_bits / 1e6 > PHONE_MBIT,
        "published": show.engine_ms is None and not engine["measured"],
        "processor": show.engine_ms is None and engine["processor"],
    }
    return Plan(
        viewer_mbit=fps * picture_bits / 1e6,
        viewers_gbit=viewers_gbit,
        relays=relays,
        relays_by_cpu=by_cpu,
        relays_by_nic=by_nic,
        relay_core=cpu / relays,
        relay_gbit=bits / relays / 1e9,
        connections=math.ceil(1.25 * at_each) + 16,
        nats_messages=messages,
        nats_gbit=nats_gbit,
        nats_cores=nats_cores,
        nats_servers=math.ceil(nats_load),
        cards_per_stream=workers,
        cards=cards,
        card_busy=streams * load / cards,
        engine_ms=delays[0],
        fanout_ms=delays[1],
        backplane_ms=delays[2],
        region_ms=delays[3],
        added_ms=delays[0] + delays[1] + delays[2] + delays[3],
        traffic_tb=viewers_gbit * show.hours * 3600 / 8 / 1000,
        video_gbit=viewers * c["video_mbit"] / 1000,
        # Relays and cards one adds; NATS is one server until it is made a cluster.
        binds="nats" if nats_load > 1 else max(needs, key=lambda name: needs[name]),
        tier=tier,
        notes=tuple(name for name, holds in notes.items() if holds),
    )


def as_text(found: Plan) -> str:
    """The plan for people."""
    values = asdict(found)
    lines = [
        f"{words:<42}{values[name]:>16,.{digits}f} {unit}".rstrip()
        for name, words, unit, digits in ROWS
    ]
    lines += ["", TIERS[found.tier], f"The first bottleneck: {BINDS[found.binds]}"]
    lines += [f"- {NOTES[name]}" for name in found.notes]
    return "\n".join(lines)


def as_json(found: Plan) -> str:
    """The plan for programs."""
    return json.dumps(asdict(found))
