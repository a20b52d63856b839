"""What a show needs: the page, the command and the figures of the benchmarks say the same."""

import json
import math
import random
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright._impl._driver import compute_driver_executable

from benchmarks import costs as generator
from dreamrelay import capacity, cli
from dreamrelay.capacity import Costs, Plan, plan
from dreamrelay.config import RelaySettings
from dreamrelay.config.show import PRESETS, Engine, Show
from dreamrelay.errors import ConfigError
from dreamrelay.relay.federation import MAX_RELAYS
from tests.support import ROOT

COSTS = Costs.load()
STATIC = ROOT / "dreamrelay" / "relay" / "static"

SHOWS = st.builds(
    Show,
    viewers=st.integers(1, 3_000_000) | st.integers(1, 300),
    streams=st.integers(1, 200),
    fps=st.floats(0.1, 240),
    picture_kb=st.floats(0.5, 8000),
    engine=st.sampled_from(get_args(Engine)),
    engine_ms=st.none() | st.floats(0.1, 5000),
    share_cards=st.booleans(),
    nic_gbit=st.floats(0.01, 800),
    tls=st.booleans(),
    regions=st.integers(1, 12),
    region_ms=st.floats(0, 1000),
    hours=st.floats(0, 744),
    headroom=st.floats(0.1, 1),
)


def of(**values: Any) -> Plan:
    return plan(Show(**values), COSTS)


def test_the_file_is_what_the_benchmarks_say() -> None:
    written = (STATIC / "capacity.json").read_text(encoding="utf-8")
    assert written == generator.text(), "write it anew: python -m benchmarks.costs"


def test_so_does_the_page_of_the_documentation() -> None:
    written = generator.PAGE.read_text(encoding="utf-8")
    assert written == generator.page(written), "write it anew: python -m benchmarks.costs"
    assert written.count("| festival") == 2


def test_every_cost_has_a_source() -> None:
    content = json.loads((STATIC / "capacity.json").read_text(encoding="utf-8"))
    for name, cost in [*content["costs"].items(), *content["engines"].items()]:
        assert cost["value"] > 0, name
        assert cost["source"].startswith(
            ("benchmarks/results/", "arithmetic", "an assumption", "published, not measured")
        ), name


def test_a_figure_that_was_moved_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = {"x": (("baseline.json", "parts", "nowhere"), "", "")}
    monkeypatch.setattr(generator, "MEASURED", gone)
    with pytest.raises(KeyError, match="there is no 'nowhere'"):
        generator.content()


@given(SHOWS)
@settings(max_examples=100, deadline=None)
def test_any_show_can_be_computed(show: Show) -> None:
    found = plan(show, COSTS)
    values = asdict(found)
    assert all(math.isfinite(values[name]) for name, *_ in capacity.ROWS)
    assert found.relays >= show.regions
    assert found.relays % show.regions == 0
    assert found.relay_core <= show.headroom * (1 + 1e-9)
    assert found.relay_gbit <= show.nic_gbit * show.headroom * (1 + 1e-9)
    assert 0 < found.card_busy <= 1 + 1e-9
    assert found.binds in capacity.BINDS
    assert set(found.notes) <= set(capacity.NOTES)


@given(SHOWS)
@settings(max_examples=50, deadline=None)
def test_more_viewers_need_no_fewer_relays(show: Show) -> None:
    more = plan(show.model_copy(update={"viewers": show.viewers * 2}), COSTS)
    assert more.relays >= plan(show, COSTS).relays


def test_a_living_room_by_hand() -> None:
    values, fps, viewers = COSTS.values, 30.0, 3
    each = (16 * values["relay_us_16"] - values["relay_us_1"]) / 15
    once = values["relay_us_1"] - each
    core = fps * (once + each + viewers * each + once) / 1e6  # in, to the worker; back, to viewers
    found = of(viewers=viewers, fps=fps, tls=False, picture_kb=50, engine_ms=20, hours=10)
    assert found.relay_core == pytest.approx(core)
    assert found.viewers_gbit == pytest.approx(3 * 30 * 50e3 * 8 * 1538 / 1448 / 1e9, rel=1e-3)
    assert found.traffic_tb == pytest.approx(found.viewers_gbit / 8 * 36_000 / 1000)
    assert (found.relays, found.cards, found.tier, found.binds) == (1, 1, "one", "card")
    assert found.nats_messages == found.backplane_ms == found.region_ms == 0


def test_limits_are_those_of_the_relay() -> None:
    assert capacity.MOST_RELAYS == MAX_RELAYS
    assert RelaySettings().max_connections == capacity.DEFAULT_CONNECTIONS


def test_what_binds_is_named() -> None:
    quick = {"engine_ms": 1, "tls": False}
    assert of(viewers=2000, nic_gbit=1, **quick).binds == "nic"
    assert of(viewers=2000, nic_gbit=100, **quick).binds == "cpu"
    assert of(viewers=5, nic_gbit=100, engine_ms=300).binds == "card"


def test_workers_at_one_stream() -> None:
    found = of(engine_ms=100, fps=30, streams=2)
    assert found.cards_per_stream == math.ceil(
        3 / COSTS.values["worker_efficiency"] / COSTS.values["dispatch_efficiency"]
    )
    assert found.cards == 2 * found.cards_per_stream
    assert "stateless" in found.notes
    assert found.engine_ms > 100  # pictures in order wait for the slower one


def test_streams_that_share_a_card() -> None:
    shared = of(engine_ms=10, fps=30, streams=7, share_cards=True)
    assert (shared.cards, of(engine_ms=10, fps=30, streams=7).cards) == (3, 7)


def test_where_pictures_one_by_one_end() -> None:
    assert of(**PRESETS["festival"]).tier == "several"
    internet = of(**PRESETS["internet"])
    assert internet.tier == "video"
    assert internet.video_gbit < internet.viewers_gbit


class TestCommand:
    def run(self, *words: str) -> int | str | None:
        with pytest.raises(SystemExit) as ended:
            cli.run("capacity", words)
        return ended.value.code

    def test_a_table(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.run("--preset=festival") == 0
        printed = capsys.readouterr().out
        for _, words, _, _ in capacity.ROWS:
            assert words in printed
        assert "The first bottleneck: " in printed

    def test_flags_change_a_preset(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.run("--preset=festival", "--viewers=100", "--json") == 0
        found = json.loads(capsys.readouterr().out)
        wanted = {**PRESETS["festival"], "viewers": 100}
        assert found == json.loads(capacity.as_json(of(**wanted)))

    @pytest.mark.parametrize(
        ("word", "said"),
        [
            ("--viewers=0", "--viewers: Input should be greater"),
            ("--viewers=many", "--viewers: "),
            ("--preset=moon", "--preset: Input should be 'living-room'"),
            ("--engine=sd3", "--engine: "),
            ("--fps=nan", "--fps: "),
            ("--headroom=2", "--headroom: "),
            ("--engine_ms=-1", "--engine_ms: "),
            ("--veiwers=3", "did you mean viewers"),
        ],
    )
    def test_what_is_wrong_is_said(
        self, word: str, said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(word) == 2
        assert said in capsys.readouterr().err

    @pytest.mark.parametrize("preset", PRESETS)
    def test_every_preset_is_legal(self, preset: str) -> None:
        assert Show.load({"preset": preset}, environ={}).viewers
        with pytest.raises(ConfigError):
            Show.load({"preset": preset, "viewers": "-1"}, environ={})


NODE = """
import { readFileSync } from "node:fs";
import { plan } from "./capacity.js";
const data = JSON.parse(readFileSync("capacity.json", "utf8"));
const shows = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(shows.map((show) => plan(show, data))));
"""


def in_node(shows: list[Show]) -> list[dict[str, Any]]:
    """What the page's module makes of these shows."""
    own = compute_driver_executable()[0]  # playwright brings one
    done = subprocess.run(
        [own if Path(own).exists() else "node", "--input-type=module", "-e", NODE],
        cwd=STATIC,
        input=json.dumps([show.model_dump() for show in shows]),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def any_show(chance: random.Random) -> Show:
    def between(low: float, high: float) -> float:
        return math.exp(chance.uniform(math.log(low), math.log(high)))

    return Show(
        viewers=round(between(1, 3e6)),
        streams=round(between(1, 200)),
        fps=between(0.1, 240),
        picture_kb=between(0.5, 8000),
        engine=chance.choice(get_args(Engine)),
        engine_ms=chance.choice((None, between(0.1, 5000))),
        share_cards=chance.random() < 0.5,
        nic_gbit=between(0.01, 800),
        tls=chance.random() < 0.5,
        regions=chance.choice((1, 1, 2, 7)),
        region_ms=chance.uniform(0, 1000),
        hours=chance.uniform(0, 744),
        headroom=chance.uniform(0.1, 1),
    )


def test_the_page_computes_the_same() -> None:
    chance = random.Random(7)
    shows = [any_show(chance) for _ in range(500)]
    shows += [Show(**values) for values in PRESETS.values()]
    # All that can be said is said by one of them at least.
    assert {plan(show, COSTS).binds for show in shows} == set(capacity.BINDS)
    assert {plan(show, COSTS).tier for show in shows} == set(capacity.TIERS)
    assert {note for show in shows for note in plan(show, COSTS).notes} == set(capacity.NOTES)
    for show, theirs in zip(shows, in_node(shows), strict=True):
        ours = asdict(plan(show, COSTS))
        for words in ("binds", "tier", "notes"):
            assert list(theirs.pop(words)) == list(ours.pop(words)), show
        assert theirs == pytest.approx(ours, rel=1e-9), show
