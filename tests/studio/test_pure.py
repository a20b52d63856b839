"""The page's pure parts, run by a browser: weights, values, links, spans, voices, flicker."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from dreamrelay.config import RelaySettings
from dreamrelay.engines.parameters import StreamBatchParameters
from dreamrelay.engines.prompt_grammar import Part, parse
from tests.studio.support import SCHEMA, quiet_page
from tests.support import RunningRelay, start_relay

pytestmark = pytest.mark.xdist_group("studio")


@pytest.fixture(scope="module")
def relay() -> Iterator[RunningRelay]:
    with start_relay(RelaySettings(port=0)) as running:
        yield running


@pytest.fixture(scope="module")
def page(browser: Browser, relay: RunningRelay) -> Iterator[Page]:
    with quiet_page(browser) as made:
        made.goto(f"{relay.url}static/card.js")
        yield made


def call(page: Page, module: str, body: str, argument: Any = None) -> Any:
    """Run ``body`` with the module's names as ``m`` and the argument as ``a``."""
    return page.evaluate(
        f'async (a) => {{ const m = await import("/static/{module}.js"); {body} }}', argument
    )


# -- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "selected", "way", "after"),
    [
        ("a red fox", "red", 1, "a (red:1.1) fox"),
        ("a (red:1.1) fox", "red", 1, "a (red:1.2) fox"),
        ("a (red:1.1) fox", "red", -1, "a red fox"),
        ("a (red:1.1) fox", "(red:1.1)", 1, "a (red:1.2) fox"),
        ("a red fox", "red", -1, "a (red:0.9) fox"),
        ("a (red:0.9) fox", "red", 1, "a red fox"),
        ("a (red fox)", "red fox", 1, "a (red fox:1.2)"),
        ("a (red:4) fox", "red", 1, "a (red:4) fox"),
        ("a (red:0) fox", "red", -1, "a (red:0) fox"),
        ("a red fox", " red ", 1, "a (red:1.1) fox"),
        (r"a \(red) fox", "red", 1, r"a \((red:1.1)) fox"),
        ("   ", " ", 1, "   "),
    ],
)
def test_selected_words_get_more_weight_or_less(
    page: Page, text: str, selected: str, way: int, after: str
) -> None:
    start = text.index(selected)
    got = call(
        page,
        "weights",
        "return m.nudgeWeight(a.text, a.start, a.end, a.way);",
        {"text": text, "start": start, "end": start + len(selected), "way": way},
    )
    assert got["text"] == after
    # What is selected afterwards are the same words, so that the key can be pressed again.
    assert got["text"][got["start"] : got["end"]] == selected.strip("( )").split(":")[0]


def test_the_word_at_the_cursor_is_taken_without_a_selection(page: Page) -> None:
    got = call(page, "weights", 'return m.nudgeWeight("a red fox", 3, 3, 1);')
    assert got == {"text": "a (red:1.1) fox", "start": 3, "end": 6}


def test_weights_are_those_of_the_engines_grammar(page: Page) -> None:
    got = call(page, "weights", 'return m.nudgeWeight("a red fox", 2, 5, 1).text;')
    assert parse(got) == (Part("a ", 1.0), Part("red", 1.1), Part(" fox", 1.0))


# -- values that come from a file or a link ------------------------------------------------------

ENGINE = StreamBatchParameters.model_json_schema()


@pytest.mark.parametrize(
    ("values", "left"),
    [
        ({"prompt": "a fox", "strength": 0.4, "seed": 7}, []),
        ({"prompts": [{"text": "a", "weight": 0.5}, {"text": "b"}], "t_index_list": [1, 2]}, []),
        ({"prompts": None, "cfg_type": "full", "do_add_noise": False}, []),
        ({"strength": 2}, ["strength"]),
        ({"strength": "0.4"}, ["strength"]),
        ({"strength": True}, ["strength"]),
        ({"seed": 1.5}, ["seed"]),
        ({"cfg_type": "other"}, ["cfg_type"]),
        ({"prompt": "x" * 2001}, ["prompt"]),
        ({"prompts": [{"weight": 1}]}, ["prompts"]),
        ({"prompts": [{"text": "a", "evil": 1}]}, ["prompts"]),
        ({"prompts": [{"text": "a"}] * 9}, ["prompts"]),
        ({"t_index_list": []}, ["t_index_list"]),
        ({"t_index_list": [50]}, ["t_index_list"]),
        ({"model": "/etc/passwd", "constructor": 1}, ["model", "constructor"]),
    ],
)
def test_only_what_fits_the_schema_is_taken(
    page: Page, values: dict[str, Any], left: list[str]
) -> None:
    got = call(page, "schema", "return m.fitting(a[0], a[1]);", [values, ENGINE])
    assert got["left"] == left
    assert got["values"] == {name: v for name, v in values.items() if name not in left}


@pytest.mark.parametrize("junk", [None, [], "text", 3, [{"strength": 1}]])
def test_what_is_no_object_carries_nothing(page: Page, junk: Any) -> None:
    got = call(page, "schema", "return m.fitting(a[0], a[1]);", [junk, SCHEMA])
    assert got["values"] == {}


def test_a_link_carries_values_and_comes_back(page: Page) -> None:
    values = {"prompt": "a fox & an owl = 2 #1 100%", "strength": 0.4, "t_index_list": [1, 2]}
    link = call(page, "presets", "return m.toFragment(a);", values)
    assert "#" not in link
    assert call(page, "presets", "return m.fromFragment(a);", "#" + link) == values


@pytest.mark.parametrize("junk", ["", "#", "#x", "#=1", "#a=%E0%A4%A", "#a={", "#section-2"])
def test_a_fragment_that_is_no_link_of_ours_carries_nothing(page: Page, junk: str) -> None:
    assert call(page, "presets", "return m.fromFragment(a);", junk) == {}


def test_presets_of_a_strange_file_are_cleaned(page: Page) -> None:
    strange = [
        {"values": {"strength": 1}, "thumb": "data:image/jpeg;base64,AAAA"},
        {"values": {"strength": 1}, "thumb": "https://example.org/track.gif"},
        {"values": [1]},
        None,
        "text",
    ]
    got = call(page, "presets", "return m.readPresets(a);", strange)
    assert len(got) == 9
    assert got[0]["thumb"].startswith("data:")
    assert got[1]["thumb"] == ""
    assert got[2:] == [None] * 7
    assert call(page, "presets", "return m.readPresets(a);", {"x": 1}) == [None] * 9


# -- lists of objects ----------------------------------------------------------------------------


def test_lists_of_objects_have_a_column_for_each_part(page: Page) -> None:
    schema = {
        "properties": {
            "prompts": ENGINE["properties"]["prompts"],
            "loras": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"enum": ["ink", "lace"], "type": "string"},
                        "scale": {"type": "number", "minimum": 0, "maximum": 2, "default": 1},
                    },
                },
            },
            "nested": {
                "type": "array",
                "items": {"type": "object", "properties": {"deep": {"type": "object"}}},
            },
        }
    }
    fields = {f["name"]: f for f in call(page, "schema", "return m.readSchema(a);", schema)}
    assert [c["name"] for c in fields["prompts"]["columns"]] == ["text", "weight"]
    assert fields["prompts"]["widget"] == "objects"
    assert fields["prompts"]["maxItems"] == 8
    assert [c["widget"] for c in fields["loras"]["columns"]] == ["select", "slider"]
    assert fields["nested"]["widget"] == "json"


# -- where the time goes -------------------------------------------------------------------------

MS = 1_000_000


def spans(
    page: Page, stamps: Mapping[int, float], captured: int, **times: float
) -> dict[str, tuple[float, bool]]:
    """Times in ms, as of any moment."""
    argument = {
        "stamps": [[hop, str(int(at * MS))] for hop, at in stamps.items()],
        "captured": str(captured * MS),
        **times,
    }
    got = call(
        page,
        "latency",
        """const packet = { capturedNs: BigInt(a.captured), arrivedMs: a.arrived,
               stamps: a.stamps.map(([hop, ns]) => ({ hop, ns: BigInt(ns) })) };
           return m.spans(packet, { paintedMs: a.painted, offset: a.offset, seenMs: a.seen });""",
        argument,
    )
    return {span["name"]: (round(span["ms"], 3), span.get("rough", False)) for span in got}


def test_the_stamps_of_a_picture_add_up_to_its_age(page: Page) -> None:
    stamps = {1: 1010, 2: 1012, 9: 1012.25, 3: 1013, 4: 1016, 5: 1018, 6: 1038, 7: 1041, 8: 1042}
    got = spans(page, stamps, 1000, arrived=1043.5, painted=1050, offset=0, seen=1004)
    assert got == {
        "capture": (4, False),
        "encode": (6, False),
        "relay": (2, False),
        "queue": (0.25, False),
        "hand": (0.75, False),
        "decode": (3, False),
        "wait": (2, False),
        "infer": (20, False),
        "encode again": (3, False),
        "return": (1, False),
        "view": (1.5, False),
        "paint": (6.5, False),
    }
    assert sum(ms for ms, _ in got.values()) == 50


def test_clocks_that_differ_do_not_make_negative_spans(page: Page) -> None:
    # The worker's clock is 5 s behind, this page's 2 s: between the relay's stamps are 40 ms.
    stamps = {1: 1000, 2: 1002, 3: -3990, 4: -3988, 5: -3987, 6: -3970, 7: -3968, 8: 1042}
    got = spans(page, stamps, 990, arrived=-956, painted=-950, offset=2000)
    assert got["hand"] == got["return"] == (9, True)
    assert got["view"] == (2, False)
    assert got["paint"] == (6, False)
    assert sum(ms for ms, _ in got.values()) == 60
    assert "capture" not in got  # somebody else's camera: nobody knows when its page saw it


def test_a_picture_without_stamps_has_only_what_this_page_knows(page: Page) -> None:
    got = spans(page, {}, 1000, arrived=1040, painted=1046, offset=0)
    assert got == {"paint": (6, False)}


def test_the_relays_clock_is_as_exact_as_the_quickest_ping(page: Page) -> None:
    """And a clock that is set is noticed; as in ``tests/test_clock.py``."""
    got = call(
        page,
        "clock",
        """const clock = new m.ClockEstimate();
           const seen = [clock.at(0)];
           for (const ping of a) { clock.add(...ping); seen.push(clock.at(ping[2])); }
           return seen;""",
        [[0, 1050, 100], [200, 1201, 202], [300, 1370, 400], [500, 99_501, 502], [600, 0, 500]],
    )
    assert got[0] is None
    first, quick, slow, moved, odd = got[1:]
    assert (first["offset"], first["error"]) == (1000, pytest.approx(50, abs=0.1))
    assert (quick["offset"], quick["error"]) == (1000, pytest.approx(1, abs=0.1))
    assert (slow["offset"], slow["error"]) == (1000, pytest.approx(1, abs=0.1))
    assert (moved["offset"], moved["error"]) == (99_000, pytest.approx(1, abs=0.1))
    assert odd["offset"] == 99_000, "an answer from before its question is none"


def test_how_well_times_hold_is_said_in_words(page: Page) -> None:
    code = "return [m.certainty([]), m.certainty(a)];"
    doubts = [{"name": "this page", "ms": 0.42}, {"name": "worker", "ms": 12.3}]
    none, both = call(page, "latency", code, doubts)
    assert "yet" in none
    assert "this page ±0.4 ms, worker ±12 ms" in both


# -- voices --------------------------------------------------------------------------------------


def detect(page: Page, levels: list[tuple[float, int]]) -> list[tuple[str, int]]:
    """What is heard, and when, of levels that last so many pieces of 50 ms."""
    pieces = [level for level, many in levels for _ in range(many)]
    got = call(
        page,
        "vad",
        """const detector = new m.VoiceDetector();
           const heard = a.map((level, i) => [detector.hear(level, i * 50), i * 50]);
           return heard.filter(([what]) => what);""",
        pieces,
    )
    return [(heard, at) for heard, at in got]


def test_words_begin_and_end(page: Page) -> None:
    heard = detect(page, [(0.004, 20), (0.2, 20), (0.004, 40), (0.15, 10), (0.004, 40)])
    assert [what for what, _ in heard] == ["begin", "end", "begin", "end"]
    assert heard[0][1] == 1000
    assert 2500 <= heard[1][1] <= 2800  # a pause after the last loud piece, not in the middle


def test_a_click_is_no_word(page: Page) -> None:
    assert [what for what, _ in detect(page, [(0.004, 20), (0.5, 1), (0.004, 40)])] == [
        "begin",
        "nothing",
    ]


def test_a_loud_room_is_not_somebody_speaking(page: Page) -> None:
    assert detect(page, [(0.02, 200)]) == []
    steady = detect(page, [(0.02, 100), (0.03, 100)])
    assert steady == []
    assert [what for what, _ in detect(page, [(0.02, 100), (0.3, 20), (0.02, 40)])] == [
        "begin",
        "end",
    ]


def test_somebody_who_never_stops_is_cut_in_pieces(page: Page) -> None:
    assert [what for what, _ in detect(page, [(0.004, 10), (0.3, 700)])] == [
        "begin",
        "end",
        "begin",
        "end",
        "begin",
    ]


# -- flicker -------------------------------------------------------------------------------------

SHOWN = """
    const guard = new m.FlashGuard();
    let shown = new Float32Array(m.SIDE * m.SIDE);
    const levels = [];
    a.pictures.forEach((grey, i) => {
        // Mixed in sRGB, as a canvas does.
        const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        const next = new Float32Array(shown.length).fill(linear(grey));
        const share = guard.admit(next, i * a.every);
        levels.push((levels.at(-1) ?? 0) * (1 - share) + grey * share);
        shown = new Float32Array(shown.length).fill(linear(levels.at(-1)));
        guard.showed(shown);
    });
    const meter = new m.FlashMeter();
    const seen = levels.map((grey, i) => {
        const linear = grey <= 0.04045 ? grey / 12.92 : ((grey + 0.055) / 1.055) ** 2.4;
        return meter.see(new Float32Array(m.SIDE * m.SIDE).fill(linear), i * a.every);
    });
    return { levels, most: Math.max(...seen), active: guard.active };
"""


def guarded(page: Page, pictures: list[float], every: float) -> dict[str, Any]:
    got: dict[str, Any] = call(page, "flash", SHOWN, {"pictures": pictures, "every": every})
    return got


@pytest.mark.parametrize("hold", [1, 2, 3, 4, 5])
def test_flicker_is_held_below_three_flashes_a_second(page: Page, hold: int) -> None:
    """Black and white in turn, ``hold`` pictures each, at 30 a second: 3 to 15 flashes a second."""
    pictures = [float(i // hold % 2) for i in range(180)]
    got = guarded(page, pictures, 1000 / 30)
    assert got["most"] <= 6  # opposing changes: three flashes
    assert got["active"]
    light = [((grey + 0.055) / 1.055) ** 2.4 for grey in got["levels"][30:]]
    # Within half a period of 3 Hz, what is to be seen moves by less than what counts as a flash.
    assert max(abs(b - a) for i, a in enumerate(light) for b in light[i : i + 6]) < 0.1


def test_grey_flicker_between_small_steps_is_left_alone(page: Page) -> None:
    pictures = [0.5 + 0.02 * (i % 2) for i in range(90)]
    got = guarded(page, pictures, 1000 / 30)
    assert got["levels"] == pytest.approx(pictures)


def test_a_cut_and_a_slow_fade_pass_as_they_are(page: Page) -> None:
    fade = [i / 60 for i in range(61)] + [1 - i / 60 for i in range(61)]
    pictures = [0.0] * 30 + [1.0] * 30 + fade
    got = guarded(page, pictures, 1000 / 30)
    assert got["levels"] == pytest.approx(pictures)


def test_the_picture_comes_back_whole_when_the_flicker_ends(page: Page) -> None:
    pictures = [float(i % 2) for i in range(90)] + [0.6] * 240
    got = guarded(page, pictures, 1000 / 30)
    assert got["levels"][-1] == pytest.approx(0.6)
    assert not got["active"]


def test_a_small_part_may_blink(page: Page) -> None:
    got = call(
        page,
        "flash",
        """const guard = new m.FlashGuard();
           return Array.from({ length: 90 }, (_, i) => {
               const light = new Float32Array(m.SIDE * m.SIDE).fill(0.2);
               light.fill(i % 2, 0, 50); // of 256: less than a quarter
               const share = guard.admit(light, i * 33);
               guard.showed(light);
               return share;
           });""",
    )
    assert set(got) == {1}


def test_the_schema_of_the_engine_is_plain_json() -> None:
    """What these tests hand to the page is what a worker would send."""
    assert json.loads(json.dumps(ENGINE)) == ENGINE


# -- what is said when results stop ----------------------------------------------------------------

LOST = """
const facts = {
  link: "open", retryIn: 0, hasInput: true, hasOutput: true, sending: false, plain: false,
  refusal: null, secondsLeft: null, status: { state: "lost", text: "", ...a },
  commands: { server: "", worker: "python main.py", producer: "", speech: "" },
};
return m.describe(facts);
"""


@pytest.mark.parametrize(
    ("status", "chip", "dim", "words", "command"),
    [
        ({"stand_in": ""}, "held", True, "Its last picture is held", "python main.py"),
        ({"stand_in": "pass"}, "camera as it is", False, "camera is shown", "python main.py"),
        ({"stand_in": "slate"}, "slate", False, "slate is shown", "python main.py"),
        ({"engine": "pocket"}, "held", True, "start another one", "python main.py --replace"),
    ],
)
def test_what_stands_in_for_results_is_said(
    page: Page, status: Mapping[str, str], chip: str, dim: bool, words: str, command: str
) -> None:
    said = call(page, "states", LOST, dict(status))
    assert (said["chip"], said["dim"]) == (chip, dim)
    assert words in said["output"]["text"]
    assert said["output"]["command"] == command


@pytest.mark.parametrize(
    ("status", "chip", "dim"),
    [
        ({"state": "no-worker", "stand_in": "pass"}, "no worker · camera", False),
        ({"state": "loading", "stand_in": "slate"}, "loading · slate", False),
        ({"state": "error", "stand_in": "pass"}, "error · camera", False),
        ({"state": "error", "stand_in": ""}, "error", True),
    ],
)
def test_what_stands_in_is_said_beside_every_state(
    page: Page, status: Mapping[str, str], chip: str, dim: bool
) -> None:
    said = call(page, "states", LOST, dict(status))
    assert (said["chip"], said["dim"]) == (chip, dim)
