"""The studio's further rooms: layouts, blend, presets, time, image prompt, voice, files."""

import base64
import io
import json
import re
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from dreamrelay.config import RelaySettings
from dreamrelay.engines.parameters import StreamBatchParameters
from tests.studio.support import WORKER_SIZE, FakeWorker, is_blue, quiet_page, shows
from tests.support import RunningRelay, mean_colour, picture, start_relay, until

pytestmark = pytest.mark.xdist_group("studio")

PROMPTS = StreamBatchParameters.model_json_schema()["properties"]["prompts"]
SHARE = {"type": "number", "minimum": 0, "maximum": 2, "default": 1, "ui": {"group": "control"}}
ALLOWED = ("WebSocket connection to", "Failed to load resource", "Permissions-Policy")


@pytest.fixture
def page(browser: Browser, relay: RunningRelay) -> Iterator[Page]:
    size: Any = {"width": 1440, "height": 900}
    with quiet_page(browser, viewport=size, permissions=["camera", "microphone"]) as made:
        made.goto(relay.url)
        yield made


@pytest.fixture
def worker(relay: RunningRelay) -> Iterator[FakeWorker]:
    with FakeWorker(relay.websocket) as made:
        made.status("live")
        yield made


@pytest.fixture
def live(page: Page, worker: FakeWorker) -> Page:
    """A page that sends the test card and shows what comes back."""
    page.click("#source-button")
    page.click("#source-menu [data-source=card]")
    shows(page, "output", is_blue, "blue")
    page.evaluate("document.activeElement.blur()")
    return page


def told(worker: FakeWorker) -> dict[str, Any]:
    return {name: value for patch in worker.patches for name, value in patch.items()}


def teach(page: Page, worker: FakeWorker, **properties: dict[str, Any]) -> None:
    """Give the worker further parameters, and wait until the page has heard of them."""
    worker.teach(**properties)
    for name in properties:
        expect(page.locator(f"#fields [data-name={name}]")).to_have_count(1)


def press(page: Page, *keys: str) -> None:
    page.evaluate("document.activeElement.blur()")
    for key in keys:
        page.keyboard.press(key)


def saved(page: Page, act: Callable[[], Any], tmp_path: Path) -> Path:
    """The file that the page hands over."""
    with page.expect_download() as waiting:
        act()
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


# -- layouts -------------------------------------------------------------------------------------


def test_the_wipe_follows_the_pointer_and_the_keys(live: Page) -> None:
    press(live, "l", "l")
    expect(live.locator("#stage")).to_have_attribute("data-layout", "wipe")
    handle = live.get_by_role("slider", name="Wipe between input and output")
    box, pane = handle.bounding_box(), live.locator("#output-pane").bounding_box()
    assert box is not None
    assert pane is not None
    # Both panes have the picture's own shape, so that input and output lie on each other.
    assert live.locator("#input-pane").bounding_box() == pane
    assert pane["width"] == pytest.approx(pane["height"], abs=1)
    live.mouse.move(box["x"] + 22, box["y"] + 100)
    live.mouse.down()
    live.mouse.move(pane["x"] + pane["width"] / 4, box["y"] + 100, steps=3)
    live.mouse.up()
    expect(handle).to_have_attribute("aria-valuenow", "25")
    handle.press("ArrowRight")
    expect(handle).to_have_attribute("aria-valuenow", "27")
    handle.press("Home")
    expect(handle).to_have_attribute("aria-valuetext", "0 % input")
    shown = live.evaluate(
        "getComputedStyle(document.getElementById('input-pane')).clipPath.includes('100%')"
    )
    assert shown


def test_input_and_output_change_places(live: Page) -> None:
    press(live, "l")

    def left(pane: str) -> float:
        box = live.locator(pane).bounding_box()
        assert box is not None
        return box["x"]

    assert left("#input-pane") < left("#output-pane")
    press(live, "x")
    assert left("#input-pane") > left("#output-pane")
    press(live, "l", "l", "x")  # output only, and swapped: the input only
    expect(live.locator("#output-pane")).to_be_hidden()
    expect(live.locator("#input-pane")).to_be_visible()


# -- prompt: weights and blends ------------------------------------------------------------------


def test_words_are_weighted_by_keys(page: Page, worker: FakeWorker) -> None:
    expect(page.locator("#prompt")).to_have_value("watercolor")
    page.fill("#prompt", "a red fox")
    page.evaluate("document.getElementById('prompt').setSelectionRange(2, 5)")
    for _ in range(3):
        page.keyboard.press("ControlOrMeta+ArrowUp")
    expect(page.locator("#prompt")).to_have_value("a (red:1.3) fox")
    page.keyboard.press("ControlOrMeta+ArrowDown")
    page.keyboard.press("Enter")
    until(lambda: worker.patches, 15, "the patch")
    assert worker.patches == [{"prompt": "a (red:1.2) fox"}]


def test_the_old_prompt_stays_as_b_and_is_faded_out_by_hand(page: Page, worker: FakeWorker) -> None:
    teach(page, worker, prompts=PROMPTS)
    expect(page.locator("#prompt")).to_have_value("watercolor")
    page.fill("#prompt", "a gold fox")
    page.press("#prompt", "Shift+Enter")
    blend = page.get_by_role("group", name="Blend of two prompts")
    expect(blend).to_be_visible()
    slider = blend.get_by_role("slider")
    expect(slider).to_have_attribute("aria-valuetext", "0 % A, 100 % B")  # nothing jumps
    a, b = {"text": "a gold fox", "weight": 0}, {"text": "watercolor", "weight": 1}
    until(lambda: told(worker).get("prompts") == [a, b], 15, "the blend")
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    until(lambda: told(worker)["prompts"][1]["weight"] == 0.9, 15, "a tenth of A")
    assert told(worker)["prompts"][0]["weight"] == 0.1
    slider.fill("0.2")
    page.get_by_role("button", name="Keep the nearer prompt").click()
    until(lambda: told(worker)["prompts"] is None, 15, "the end of the blend")
    assert told(worker)["prompt"] == "a gold fox"
    expect(blend).to_be_hidden()
    page.fill("#prompt", "another")
    page.press("#prompt", "Shift+Enter")
    page.get_by_role("button", name="Keep the nearer prompt").click()
    until(lambda: told(worker)["prompt"] == "a gold fox", 15, "the old prompt again")
    expect(page.locator("#prompt")).to_have_value("a gold fox")


def test_a_blend_fades_by_itself(page: Page, worker: FakeWorker) -> None:
    teach(page, worker, prompts=PROMPTS)
    expect(page.locator("#prompt")).to_have_value("watercolor")
    page.fill("#prompt", "a gold fox")
    page.press("#prompt", "Shift+Enter")
    page.get_by_role("button", name="Fade to the other prompt").click()
    until(
        lambda: (told(worker).get("prompts") or [{"weight": 0}])[0]["weight"] == 1, 15, "all of A"
    )
    weights = [p["prompts"][0]["weight"] for p in worker.patches if p.get("prompts")]
    assert weights == sorted(weights)
    assert len(weights) > 5  # on the way


def test_a_blend_from_elsewhere_is_shown_and_a_new_prompt_ends_it(
    page: Page, worker: FakeWorker, relay: RunningRelay
) -> None:
    teach(page, worker, prompts=PROMPTS)
    three = [{"text": name, "weight": 1} for name in ("one", "two", "three")]
    expect(page.locator("#prompt")).to_have_value("watercolor")
    relay.hub.streams["default"].update_parameters({"prompts": three}, "osc")
    expect(page.locator("#blend")).to_contain_text("3 prompts are blended")
    page.fill("#prompt", "one again")
    page.press("#prompt", "Enter")
    until(lambda: told(worker).get("prompts") is None, 15, "the blend to end")
    assert told(worker)["prompt"] == "one again"


def test_without_a_blending_engine_shift_enter_applies(page: Page, worker: FakeWorker) -> None:
    expect(page.locator("#prompt")).to_have_value("watercolor")
    page.fill("#prompt", "a gold fox")
    page.press("#prompt", "Shift+Enter")
    until(lambda: worker.patches, 15, "the patch")
    assert worker.patches == [{"prompt": "a gold fox"}]
    expect(page.locator("#say")).to_have_text("This model takes one prompt at a time")


# -- the drawer ----------------------------------------------------------------------------------


def test_lists_of_objects_have_rows(page: Page, worker: FakeWorker) -> None:
    teach(page, worker, prompts=PROMPTS)
    press(page, "p")
    page.click("summary >> text=Advanced")
    row = page.locator("[data-name=prompts]")
    row.get_by_role("button", name="Add to Prompt blend").click()
    page.keyboard.type("a fox")
    assert worker.patches == []  # not while it is typed
    page.keyboard.press("Enter")
    until(lambda: told(worker).get("prompts") == [{"text": "a fox", "weight": 1}], 15, "the first")
    row.get_by_role("button", name="Add to Prompt blend").click()
    page.keyboard.type("an owl")
    page.keyboard.press("Enter")
    weight = page.get_by_label("Prompt blend 2, weight")
    weight.fill("0.5")
    weight.press("Enter")
    both = [{"text": "a fox", "weight": 1}, {"text": "an owl", "weight": 0.5}]
    until(lambda: told(worker)["prompts"] == both, 15, f"both, {both}, in {worker.patches}")
    page.get_by_role("button", name="Remove Prompt blend 1").click()
    until(lambda: told(worker)["prompts"] == both[1:], 15, "one less")
    page.get_by_role("button", name="Remove Prompt blend 1").click()
    until(lambda: told(worker)["prompts"] is None, 15, "none")


def test_a_control_says_and_copies_its_osc_address(page: Page, worker: FakeWorker) -> None:
    press(page, "p")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.hover("[data-name=strength] label")
    address = page.get_by_role("button", name="/strength")
    expect(address).to_have_css("opacity", "1")
    address.click()
    until(lambda: page.evaluate("navigator.clipboard.readText()") == "/strength", 15, "the copy")


def test_changed_ones_are_counted_by_their_group(page: Page, worker: FakeWorker) -> None:
    press(page, "p")
    page.get_by_role("switch", name="Skip similar").click()
    expect(page.locator("summary", has_text="Motion")).to_contain_text("1 changed")


# -- presets -------------------------------------------------------------------------------------


def test_presets_are_saved_and_recalled_by_keys_and_outlive_a_reload(
    live: Page, worker: FakeWorker
) -> None:
    press(live, "p", "b")
    live.fill("#p-strength", "0.9")
    live.press("#p-strength", "Enter")
    until(lambda: told(worker).get("strength") == 0.9, 15, "the change")
    press(live, "Shift+Digit3")
    third = live.get_by_role("button", name="Preset 3: watercolor")
    expect(third).to_have_attribute("aria-pressed", "true")
    thumb = third.locator("img").get_attribute("src")
    assert thumb is not None
    red, green, blue = mean_colour(base64.b64decode(thumb.partition(",")[2]))
    assert is_blue(int(red), int(green), int(blue))  # of what was to be seen
    live.click("[data-name=strength] .reset")
    until(lambda: told(worker)["strength"] == 0.5, 15, "the default")
    expect(third).to_have_attribute("aria-pressed", "false")
    live.reload()
    expect(live.locator("#p-strength")).to_have_value("0.5")
    press(live, "3")
    until(lambda: told(worker)["strength"] == 0.9, 15, "the preset")
    press(live, "4")
    expect(live.locator("#say")).to_contain_text("Preset 4 is empty")


def test_a_touch_saves_in_an_empty_place_and_recalls_from_a_full_one(
    page: Page, worker: FakeWorker
) -> None:
    press(page, "b")
    expect(page.locator("#prompt")).to_have_value("watercolor")
    page.get_by_role("button", name="Preset 1, empty").click()
    page.fill("#prompt", "a gold fox")
    page.press("#prompt", "Enter")
    page.get_by_role("button", name="Preset 1: watercolor").click()
    until(lambda: told(worker).get("prompt") == "watercolor", 15, "the first look")
    page.fill("#prompt", "a blue owl")
    page.press("#prompt", "Enter")
    page.get_by_role("button", name="Save").click()
    page.locator(".slot").first.click()
    expect(page.locator(".slot").first).to_have_attribute("aria-label", "Preset 1: a blue owl")


def test_presets_go_to_a_file_and_come_back(
    page: Page, worker: FakeWorker, tmp_path: Path, browser: Browser, relay: RunningRelay
) -> None:
    expect(page.locator("#prompt")).to_have_value("watercolor")
    press(page, "b", "Shift+Digit2")
    path = saved(page, page.get_by_role("button", name="Export to a file").click, tmp_path)
    assert json.loads(path.read_text())["presets"][1]["values"]["prompt"] == "watercolor"
    with quiet_page(browser) as other:
        other.goto(relay.url)
        press(other, "b")
        other.set_input_files("#presets input[type=file]", path)
        expect(other.get_by_role("button", name="Preset 2: watercolor")).to_be_visible()
        wrong: Any = {"name": "x.json", "mimeType": "application/json", "buffer": b"[1]"}
        other.set_input_files("#presets input[type=file]", wrong)
        expect(other.locator("#note-presets")).to_contain_text("These are no presets")
        expect(other.get_by_role("button", name="Preset 2: watercolor")).to_be_visible()


def test_a_link_carries_what_was_changed_and_asks_before_it_acts(
    page: Page, worker: FakeWorker, browser: Browser, relay: RunningRelay
) -> None:
    expect(page.locator("#prompt")).to_have_value("watercolor")
    page.fill("#prompt", "a fox & an owl")
    page.press("#prompt", "Enter")
    until(lambda: worker.patches, 15, "the prompt")
    press(page, "b")
    page.get_by_role("button", name="Copy a link").click()
    link = page.locator("#note-presets code").inner_text()
    page.fill("#prompt", "something else")
    page.press("#prompt", "Enter")
    until(lambda: told(worker)["prompt"] == "something else", 15, "the other prompt")
    before = len(worker.patches)
    with quiet_page(browser) as other:
        other.goto(link + "&strength=7&nonsense=1")
        note = other.locator("#note-presets")
        expect(note).to_contain_text("This link carries 1 parameter")
        expect(note).to_contain_text("Not for this model: strength, nonsense")
        assert len(worker.patches) == before  # a link alone changes nobody's picture
        assert other.url == relay.url
        note.get_by_role("button", name="Use").click()
        until(lambda: told(worker)["prompt"] == "a fox & an owl", 15, "the link's prompt")
        # In the address of a page that is open already; a list of prompts would hold in its place.
        teach(other, worker, prompts=PROMPTS)
        worker.say("parameters", patch={"prompts": [{"text": "a"}, {"text": "b"}]})
        expect(other.locator("#blend")).to_be_visible()
        other.evaluate("location.hash = 'prompt=%22an owl%22'")
        note.get_by_role("button", name="Use").click()
        expect(other.locator("#prompt")).to_have_value("an owl")
        expect(other.locator("#blend")).to_be_hidden()
        until(lambda: told(worker)["prompts"] is None, 15, "the one prompt to hold")


# -- where the time goes -------------------------------------------------------------------------


def test_the_age_opens_where_the_time_goes(live: Page, relay: RunningRelay) -> None:
    live.get_by_role("button", name=re.compile(r"\d+ ms")).click()
    panel = live.get_by_role("region", name="Where the time goes")
    names = panel.locator("dt")
    hops = ["capture", "encode", "relay", "queue", "hand", "decode", "wait", "infer"]
    expect(names).to_have_count(12)
    got = names.evaluate_all("(all) => all.map((name) => name.childNodes[1].data)")
    assert got == [*hops, "encode again", "return", "view", "paint"]
    expect(panel.locator("strong")).to_have_text(re.compile(r"^\d+ ms$"))
    expect(panel.get_by_role("img")).to_have_attribute("aria-label", re.compile("Last ten seconds"))
    panel.get_by_role("combobox", name="Which pictures").select_option("slowest 1 %")
    expect(names).to_have_count(12)
    expect(panel).to_contain_text(re.compile(r"this page ±[\d.]+ ms, camera ±[\d.]+ ms"))
    timing = relay.hub.streams["default"].timing
    seen = until(lambda: timing.shown().get("studio"), 15, "what it saw")
    assert set(seen) == {"delivered", "painted", "age"}
    live.keyboard.press("Escape")
    expect(panel).to_be_hidden()


# -- streams -------------------------------------------------------------------------------------


def test_streams_are_listed_and_opened(page: Page, relay: RunningRelay, worker: FakeWorker) -> None:
    relay.hub.stream("second")
    page.click("#stream-button")
    panel = page.get_by_role("region", name="Streams")
    expect(panel.get_by_role("button", name=re.compile("^default"))).to_contain_text("live")
    expect(panel.get_by_role("button", name=re.compile("^default"))).to_have_attribute(
        "aria-current", "true"
    )
    rows = panel.get_by_role("listitem")
    expect(rows).to_have_count(2)
    page.fill("#other-stream", "SEC")
    expect(rows).to_have_text(re.compile("^second"))
    page.fill("#other-stream", "no such name!")
    expect(panel).to_contain_text("None is called so")
    panel.get_by_role("button", name="Open").click()
    expect(page.locator("#stream")).to_have_text("default")  # the browser says what is wrong
    page.fill("#other-stream", "third")
    panel.get_by_role("button", name="Open").click()
    expect(page.locator("#stream")).to_have_text("third")
    expect(page.locator("#chip-text")).to_have_text("no worker")


# -- the image prompt ----------------------------------------------------------------------------

DROP = """async ([zone, bytes]) => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(bytes)], "look.png", { type: "image/png" }));
    const fire = (target, type) => target.dispatchEvent(
        new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
    fire(document.body, "dragenter");
    const visible = [...document.querySelectorAll("#drop > *")].map((z) => z.checkVisibility());
    fire(document.querySelectorAll("#drop > *")[zone], "drop");
    return visible;
}"""


def test_a_dropped_picture_becomes_the_image_prompt(browser: Browser, relay: RunningRelay) -> None:
    red = list(picture("red", (3000, 40), form="PNG"))
    with (
        FakeWorker(relay.websocket, reference=True) as worker,
        quiet_page(browser, viewport={"width": 1440, "height": 900}) as page,
    ):
        worker.status("live")
        page.goto(relay.url)
        press(page, "p")
        expect(page.locator("#fields details")).to_have_count(4)
        expect(page.locator("#reference")).to_be_hidden()  # this engine imitates nothing
        teach(page, worker, ip_adapter_scale=SHARE)
        expect(page.locator("#reference")).to_be_visible()
        expect(page.locator("#reference")).to_contain_text("none")
        assert page.evaluate(DROP, [1, red]) == [True, True]
        until(lambda: any(worker.references), 15, "the picture")
        sent = next(image for image in worker.references if image)
        assert mean_colour(sent)[0] > 240
        assert Image.open(io.BytesIO(sent)).width == 1024  # made smaller before it was sent
        expect(page.locator("#reference")).to_contain_text("in force")
        expect(page.locator("#reference img")).to_be_visible()
        with quiet_page(browser) as other:  # everybody sees it
            other.goto(relay.url)
            press(other, "p")
            expect(other.locator("#reference img")).to_have_count(1)
        page.get_by_role("button", name="Remove the image prompt").click()
        until(lambda: worker.references[-1] is None, 15, "its removal")
        expect(page.locator("#reference")).to_contain_text("none")
        page.evaluate(DROP, [0, red])  # the other half of the page: a source
        until(lambda: worker.inputs, 15, "the picture as a source")


def test_a_refused_image_prompt_is_explained(
    browser: Browser, relay: RunningRelay, worker: FakeWorker
) -> None:
    with quiet_page(browser, allowed=ALLOWED) as page:
        page.goto(relay.url)
        expect(page.locator("#chip-text")).to_have_text("no source")
        teach(page, worker, ip_adapter_scale=SHARE)
        press(page, "p")
        expect(page.locator("#reference")).to_be_visible()
        page.evaluate(DROP, [1, list(picture("red", form="PNG"))])
        expect(page.locator("#note-reference")).to_contain_text("imitates no pictures")


# -- the control map -----------------------------------------------------------------------------


def test_the_map_that_steers_the_picture_takes_the_inputs_place(
    live: Page, worker: FakeWorker
) -> None:
    expect(live.locator("#map-button")).to_be_hidden()
    teach(live, worker, controlnet_scale=SHARE)
    live.get_by_role("button", name="Control map").click()
    until(lambda: worker.map_watchers, 15, "the worker to be told that somebody looks")
    worker.steer("red")
    shows(live, "input", lambda r, g, b: r > 200 and g + b < 80, "red as the map")
    expect(live.locator("#map-chip")).to_be_visible()
    press(live, "m")
    until(lambda: not worker.map_watchers, 15, "nobody to look any more")
    shows(live, "input", lambda r, g, b: g + b > 80, "the test card again")


# -- voice ---------------------------------------------------------------------------------------


def talk(page: Page, seconds: float) -> None:
    page.hover("#voice")
    page.mouse.down()
    expect(page.locator("#voice")).to_have_attribute("data-stage", "talk")
    page.wait_for_timeout(seconds * 1000)
    page.mouse.up()


def listener(page: Page, answer: dict[str, Any], status: int = 200) -> list[bytes]:
    """Answer for the relay's ears, and keep what was said to them."""
    said: list[bytes] = []

    def reply(route: Route) -> None:
        if route.request.method == "GET":
            route.fulfill(json={"state": "off", "text": "", "fraction": None})
            return
        said.append(route.request.post_data_buffer or b"")
        route.fulfill(status=status, json=answer)

    page.route("**/speech", reply)
    page.route("**/speech/load", lambda route: route.fulfill(status=202, json={}))
    return said


def test_holding_the_microphone_speaks_a_prompt(page: Page, worker: FakeWorker) -> None:
    said = listener(page, {"text": "a gold fox", "confidence": 0.9})
    talk(page, 1)
    expect(page.locator("#prompt")).to_have_value("a gold fox")
    until(lambda: told(worker).get("prompt") == "a gold fox", 15, "the spoken prompt")
    with av.open(io.BytesIO(said[0])) as recording:
        assert recording.streams.audio[0].codec_context.name == "opus"
        assert sum(frame.samples for frame in recording.decode(audio=0)) > 24_000
    expect(page.locator("#voice")).to_have_attribute("data-stage", "off")
    expect(page.locator("#voice-caption")).to_have_text("Heard: a gold fox")
    expect(page.locator("#say")).to_have_text("Heard: a gold fox")


def test_who_goes_elsewhere_while_talking_has_let_go(page: Page, worker: FakeWorker) -> None:
    listener(page, {"text": "", "confidence": 0.1, "spoken": 0.8})
    page.hover("#voice")
    page.mouse.down()
    expect(page.locator("#voice")).to_have_attribute("data-stage", "talk")
    expect(page.locator("#voice-caption")).to_have_text("Talk, let go to send")
    page.evaluate("dispatchEvent(new Event('blur'))")
    expect(page.locator("#voice-caption")).to_contain_text("Not understood")
    expect(page.locator("#voice")).to_have_attribute("data-stage", "off")
    page.mouse.up()
    expect(page.locator("#voice")).to_have_attribute("data-stage", "off")


def test_black_can_be_said_and_typed(page: Page, worker: FakeWorker) -> None:
    shown = page.locator("#output-notice h2")
    expect(shown).to_be_visible()
    listener(page, {"text": "black", "confidence": 0.9, "action": {"name": "black", "text": ""}})
    talk(page, 0.6)
    expect(shown).to_be_hidden()
    press(page, "k")
    expect(shown).to_be_visible()
    press(page, "k")
    expect(shown).to_be_hidden()
    expect(page.locator("#voice-caption")).to_contain_text("K brings the picture back")


def test_a_spoken_command_is_no_prompt(page: Page, worker: FakeWorker) -> None:
    expect(page.locator("#prompt")).to_have_value("watercolor")
    press(page, "Shift+Digit2")
    action = {"name": "preset", "text": "", "number": 2}
    page.fill("#prompt", "a gold fox")
    page.press("#prompt", "Enter")
    listener(page, {"text": "preset two", "confidence": 0.9, "action": action})
    talk(page, 0.6)
    expect(page.locator("#prompt")).to_have_value("watercolor")
    until(lambda: told(worker)["prompt"] == "watercolor", 15, "the preset")


def test_while_the_ears_load_the_page_says_how_far_they_are(
    browser: Browser, relay: RunningRelay, worker: FakeWorker
) -> None:
    with quiet_page(browser, permissions=["microphone"], allowed=ALLOWED) as page:
        said: list[bytes | None] = []
        ready = threading.Event()

        def reply(route: Route) -> None:
            if route.request.method == "GET":
                state = "ready" if ready.is_set() else "loading"
                route.fulfill(json={"state": state, "text": "model, 75 MB", "fraction": 0.5})
                return
            said.append(route.request.post_data_buffer)
            if ready.is_set():
                route.fulfill(json={"text": "a gold fox", "confidence": 0.9})
            else:
                route.fulfill(status=503, json={"error": {"code": "engine", "message": "wait"}})

        page.goto(relay.url)
        page.route("**/speech", reply)
        page.route("**/speech/load", lambda route: route.fulfill(status=202, json={}))
        talk(page, 0.6)
        expect(page.locator("#note-voice")).to_contain_text("model, 75 MB, 50 %")
        ready.set()
        expect(page.locator("#prompt")).to_have_value("a gold fox")  # it was kept until then
        expect(page.locator("#note-voice")).to_be_hidden()
        assert len(said) > 1
        assert set(said) == {said[0]}


def test_words_that_are_not_sure_wait_for_enter(page: Page, worker: FakeWorker) -> None:
    listener(page, {"text": "a cold fox", "confidence": 0.2})
    talk(page, 0.6)
    expect(page.locator("#prompt")).to_have_value("a cold fox")
    expect(page.locator("#apply")).to_be_visible()
    assert worker.patches == []


def test_a_short_press_listens_until_the_next_one(page: Page, worker: FakeWorker) -> None:
    said = listener(page, {"text": "a gold fox", "confidence": 0.9})
    button = page.locator("#voice")
    button.click()
    # The fake microphone beeps once a second.
    expect(button).to_have_attribute("aria-pressed", "true")
    until(lambda: page.locator("#voice[data-stage=hear]").count(), 15, "the beep to be heard")
    button.click()
    expect(button).to_have_attribute("data-stage", "off")
    assert said == []


def test_what_came_just_before_the_first_word_is_recorded_too(page: Page) -> None:
    page.evaluate(
        """() => {
            const quiet = new AudioContext().createMediaStreamDestination().stream;
            navigator.mediaDevices.getUserMedia = async () => quiet;
            globalThis.MediaRecorder = class extends MediaRecorder {
            static alive = 0;
            start() { super.start(); MediaRecorder.alive += 1; }
            stop() { super.stop(); MediaRecorder.alive -= 1; } }; }"""
    )
    page.locator("#voice").click()
    # The older one has at least the time between the starts of both.
    until(lambda: page.evaluate("MediaRecorder.alive") == 2, 30, "two side by side")
    page.locator("#voice").click()
    until(lambda: page.evaluate("MediaRecorder.alive") == 0, 30, "none")


def test_ears_that_are_not_installed_can_be_had_by_a_copied_line(
    browser: Browser, relay: RunningRelay, worker: FakeWorker
) -> None:
    with quiet_page(browser, permissions=["microphone"], allowed=ALLOWED) as page:
        page.goto(relay.url)
        message = 'understanding speech needs more packages: pip install "dreamrelay[voice]"'
        listener(page, {"error": {"code": "missing-extra", "message": message}}, 503)
        talk(page, 0.6)
        note = page.locator("#note-voice")
        expect(note.locator("code")).to_have_text('pip install "dreamrelay[voice]"')


@pytest.mark.parametrize("status", [404, 503])
def test_a_relay_without_ears_says_how_to_start_one(
    browser: Browser, relay: RunningRelay, worker: FakeWorker, status: int
) -> None:
    with quiet_page(browser, permissions=["microphone"], allowed=ALLOWED) as page:
        page.goto(relay.url)
        listener(page, {"error": {"code": "speech", "message": "no model is loaded"}}, status)
        talk(page, 0.6)
        note = page.locator("#note-voice")
        expect(note).to_contain_text("This relay does not listen")
        expect(note.locator("code")).to_contain_text("python server.py")


def test_a_microphone_that_is_denied_is_explained(page: Page) -> None:
    page.evaluate(
        """() => { navigator.mediaDevices.getUserMedia = async () => {
            throw new DOMException("no", "NotAllowedError"); }; }"""
    )
    page.click("#voice")
    expect(page.locator("#note-voice")).to_contain_text("The microphone is not allowed here")
    expect(page.locator("#voice")).to_have_attribute("data-stage", "off")


# -- files ---------------------------------------------------------------------------------------


def test_a_snapshot_is_the_picture_itself(live: Page, tmp_path: Path) -> None:
    path = saved(live, lambda: press(live, "g"), tmp_path)
    assert re.fullmatch(r"default-\d{8}-\d{6}\.png", path.name)
    with Image.open(path) as shot:
        assert shot.size == (WORKER_SIZE, WORKER_SIZE)
        assert is_blue(*shot.convert("RGB").getpixel((32, 32)))  # type: ignore[misc]


def test_a_recording_is_a_film_of_the_output(live: Page, tmp_path: Path) -> None:
    press(live, "r")
    expect(live.get_by_role("button", name="Record")).to_have_attribute("aria-pressed", "true")
    expect(live.locator("#record-time")).to_have_text(re.compile("[2-9] s"))
    path = saved(live, lambda: press(live, "r"), tmp_path)
    with av.open(path) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) > 5
    red, green, blue = frames[-1].reshape(-1, 3).mean(axis=0)
    assert is_blue(red, green, blue)


# -- doors that stay shut ------------------------------------------------------------------------


def test_without_websockets_there_is_mjpeg(browser: Browser, relay: RunningRelay) -> None:
    with (
        FakeWorker(relay.websocket) as worker,
        quiet_page(browser, allowed=ALLOWED) as sender,
        quiet_page(browser, allowed=ALLOWED) as page,
    ):
        worker.status("live")
        sender.goto(relay.url)
        sender.click("#source-button")
        sender.click("#source-menu [data-source=card]")
        page.add_init_script(
            """window.WebSocket = class extends EventTarget {
                constructor() {
                    super();
                    setTimeout(() => this.onclose({ code: 1006, reason: "" }), 10);
                }
                close() {}
            };"""
        )
        page.goto(relay.url)
        expect(page.locator("#chip-text")).to_have_text("MJPEG")
        expect(page.locator("img.fallback")).to_be_visible()
        expect(page.locator("#output-notice")).to_contain_text("Pictures only")


def test_a_page_without_a_token_asks_for_one(browser: Browser) -> None:
    settings = RelaySettings(
        port=0, token="sesame-open-the-gate", allowed_origins=["http://studio.test"]
    )
    with start_relay(settings) as relay, quiet_page(browser, allowed=ALLOWED) as page:
        port = relay.url.rstrip("/").rpartition(":")[2]
        page.goto(f"http://studio.test:{port}/")
        expect(page.locator("#chip-text")).to_have_text("not allowed")
        page.fill("#token", "sesame-open-the-gate")
        page.press("#token", "Enter")
        expect(page.locator("#chip-text")).to_have_text("no worker")
        assert "sesame" not in page.url


def test_who_may_only_look_is_told_what_is_missing(browser: Browser) -> None:
    settings = RelaySettings(
        port=0, view_token="sesame-for-the-eyes", allowed_origins=["http://studio.test"]
    )
    with (
        start_relay(settings) as relay,
        FakeWorker(relay.websocket) as worker,
        quiet_page(browser, allowed=ALLOWED) as page,
    ):
        worker.status("live")
        port = relay.url.rstrip("/").rpartition(":")[2]
        page.goto(f"http://studio.test:{port}/?token=sesame-for-the-eyes")
        expect(page.locator("#chip-text")).to_have_text("no source")
        expect(page.locator("#prompt")).to_have_value("watercolor")
        page.fill("#prompt", "a gold fox")
        page.press("#prompt", "Enter")
        expect(page.locator("#prompt-problem")).to_contain_text("permission 'control'")
        page.click("#source-button")
        page.click("#source-menu [data-source=card]")
        expect(page.locator("#note-source")).to_contain_text("may not send pictures")
        expect(page.locator("#chip-text")).to_have_text("no source")  # and not: live
        assert worker.patches == []


# -- what is shown while no results come -----------------------------------------------------------


def choice(relay: RunningRelay) -> str:
    word: str = json.loads(relay.get("/streams/default"))["when_lost"]
    return word


def test_what_is_shown_without_results_is_chosen_for_everybody(
    live: Page, relay: RunningRelay, worker: FakeWorker
) -> None:
    press(live, "p")
    select = live.get_by_label("When results stop")
    expect(select).to_have_value("hold")
    select.select_option("pass")
    until(lambda: choice(relay) == "pass", what="the choice")
    seconds = live.get_by_label("after so many seconds")
    seconds.fill("4000")
    seconds.press("Enter")
    expect(live.locator("#when-lost-problem")).to_contain_text("expected 0 to 3600")
    expect(seconds).to_have_value("3")
    seconds.fill("0.5")
    seconds.press("Enter")
    until(lambda: relay.hub.streams["default"].fall_back().hold_seconds == 0.5, what="the time")
    expect(live.locator("#when-lost-problem")).to_be_empty()
    worker.close()
    expect(live.locator("#chip-text")).to_have_text("camera as it is")
    expect(live.locator("#output-notice")).to_contain_text("The camera is shown as it is")
    expect(live.locator("#stage")).not_to_have_class("dim")
    request = urllib.request.Request(
        f"{relay.url}streams/default/when-lost", b'{"when_lost": "slate"}', method="PATCH"
    )
    with urllib.request.urlopen(request, timeout=30) as reply:  # somebody else, elsewhere
        assert reply.status == 200
    expect(select).to_have_value("slate")
    expect(seconds).to_have_value("0.5")
    select.select_option("hold")
    expect(seconds).to_be_hidden()  # what stays needs no time to go
    live.click("#stream-button")
    expect(live.locator("#streams li")).to_contain_text("lost")


def test_who_may_not_choose_is_told_so(browser: Browser) -> None:
    settings = RelaySettings(
        port=0, view_token="sesame-for-the-eyes", allowed_origins=["http://studio.test"]
    )
    with start_relay(settings) as relay, quiet_page(browser, allowed=ALLOWED) as page:
        port = relay.url.rstrip("/").rpartition(":")[2]
        page.goto(f"http://studio.test:{port}/?token=sesame-for-the-eyes")
        expect(page.locator("#chip-text")).to_have_text("no worker")
        press(page, "p")
        select = page.get_by_label("When results stop")
        select.select_option("slate")
        expect(page.locator("#when-lost-problem")).to_contain_text("permission 'control'")
        expect(select).to_have_value("hold")
        assert choice(relay) == "hold"
