"""The studio in a real browser, against a real relay and a worker that speaks the real protocol."""

import io
import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from dreamrelay.config import RelaySettings
from dreamrelay.packet import Hop
from tests.fakes.peers import Person
from tests.studio.support import (
    SCHEMA,
    WORKER_SIZE,
    FakeWorker,
    is_blue,
    pixel,
    quiet_page,
    shows,
)
from tests.support import ROOT, RunningRelay, mean_colour, picture, start_relay, until

# One process runs these one after another, so that one browser is enough.
pytestmark = pytest.mark.xdist_group("studio")

NO_RELAY = "WebSocket connection to"
"""What Chromium logs while there is no relay; no page can help it."""


@pytest.fixture
def page(browser: Browser, relay: RunningRelay) -> Iterator[Page]:
    size: Any = {"width": 1440, "height": 900}
    with quiet_page(browser, viewport=size, permissions=["camera"]) as made:
        made.goto(relay.url)
        yield made


@pytest.fixture
def worker(relay: RunningRelay) -> Iterator[FakeWorker]:
    with FakeWorker(relay.websocket) as made:
        made.status("live")
        yield made


def says(page: Page, chip: str | re.Pattern[str]) -> None:
    expect(page.locator("#chip-text")).to_have_text(chip)


def send(page: Page, kind: str) -> None:
    page.click("#source-button")
    page.click(f"#source-menu [data-source={kind}]")


def open_drawer(page: Page) -> None:
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("p")
    expect(page.locator("#drawer")).to_be_visible()


def patch_by_rest(relay: RunningRelay, patch: dict[str, Any]) -> None:
    request = urllib.request.Request(
        f"{relay.url}streams/default/parameters", json.dumps(patch).encode(), method="PATCH"
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        assert reply.status == 200


# -- pictures ------------------------------------------------------------------------------------


def test_the_camera_goes_in_and_the_workers_picture_comes_out(
    page: Page, worker: FakeWorker
) -> None:
    page.click(".invite >> text=Camera")
    shows(page, "input", lambda r, g, b: g > r + 60 and g > b + 60, "green as the fake camera")
    shows(page, "output", is_blue, "blue as the worker makes it")
    says(page, "live")
    expect(page.get_by_role("button", name="Source: Camera, sending")).to_be_visible()
    expect(page.locator("#people")).to_have_text("1 producer · 1 worker · 1 viewer")
    expect(page.locator("#age")).to_have_text(re.compile(r"^\d{1,3} ms old$"))
    packet = worker.inputs[-1]
    assert (packet.width, packet.height) == (WORKER_SIZE, WORKER_SIZE)  # the engine's own size
    assert abs(time.time() - packet.captured_ns / 1e9) < 10
    assert packet.stamps[0].hop == Hop.ENCODED


def test_another_camera_can_be_picked(page: Page, worker: FakeWorker) -> None:
    send(page, "camera")
    button = page.locator("#source-button")
    expect(button).to_have_attribute("title", "Sending: fake_device_0")
    button.click()
    page.select_option("#cameras", label="fake_device_1")
    expect(button).to_have_attribute("title", "Sending: fake_device_1")
    page.reload()
    send(page, "camera")  # it is remembered
    expect(button).to_have_attribute("title", "Sending: fake_device_1")


AWAKE = """() => {
    const ask = WakeLock.prototype.request;
    window.locks = 0;
    WakeLock.prototype.request = async function (kind) {
        const lock = await ask.call(this, kind);
        window.locks += 1;
        lock.addEventListener("release", () => { window.locks -= 1; });
        return lock;
    };
}"""


def test_stopping_the_source_frees_the_camera_and_lets_the_screen_go_dark(
    page: Page, worker: FakeWorker
) -> None:
    page.context.grant_permissions(["camera", "screen-wake-lock"])
    page.evaluate(AWAKE)
    send(page, "camera")
    shows(page, "output", is_blue, "blue")
    until(lambda: page.evaluate("locks") == 1, what="the screen to be kept on")
    send(page, "stop")
    says(page, "no source")
    until(lambda: page.evaluate("locks") == 0, what="the screen to be let")
    expect(page.locator("#sending")).to_be_hidden()
    expect(page.locator("#people")).to_have_text("1 worker · 1 viewer")


def test_the_test_card_moves(page: Page, worker: FakeWorker) -> None:
    send(page, "card")
    until(lambda: len({packet.data for packet in worker.inputs}) > 5, 15, "different pictures")
    red, green, blue = mean_colour(worker.inputs[-1].data)
    assert min(red, green, blue) > 40  # three bars


def test_a_picture_from_a_file_is_sent_again_and_again(page: Page, worker: FakeWorker) -> None:
    file: Any = {"name": "red.png", "mimeType": "image/png", "buffer": picture("red", form="PNG")}
    page.set_input_files("#file", file)
    until(lambda: len(worker.inputs) > 3, 15, "pictures of the file")
    red, green, blue = mean_colour(worker.inputs[-1].data)
    assert red > 240
    assert green + blue < 30


def test_a_video_file_plays_round_and_round(page: Page, worker: FakeWorker, tmp_path: Path) -> None:
    path = tmp_path / "green.webm"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP80"), 20, (64, 64))
    for _ in range(6):
        writer.write(np.full((64, 64, 3), (0, 200, 0), np.uint8))
    writer.release()
    page.set_input_files("#file", path)
    until(lambda: len(worker.inputs) > 10, 15, "more pictures than the video has")
    red, green, blue = mean_colour(worker.inputs[-1].data)
    assert green > 150
    assert red + blue < 60


def test_a_file_that_is_no_picture_is_named(page: Page) -> None:
    file: Any = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"}
    page.set_input_files("#file", file)
    expect(page.locator("#note-source")).to_contain_text("notes.txt")


def test_a_shared_screen_goes_in_until_it_is_ended(page: Page, worker: FakeWorker) -> None:
    page.evaluate(
        """() => {
            const canvas = document.createElement("canvas");
            const context = canvas.getContext("2d");
            setInterval(() => { context.fillStyle = "red"; context.fillRect(0, 0, 999, 999); }, 20);
            window.shared = canvas.captureStream(30);
            navigator.mediaDevices.getDisplayMedia = async () => window.shared;
        }"""
    )
    send(page, "screen")
    shows(page, "input", lambda r, g, b: r > 200 and g + b < 80, "red as the screen")
    page.evaluate("() => window.shared.getTracks()[0].dispatchEvent(new Event('ended'))")
    says(page, "no source")
    expect(page.locator("#note-source")).to_be_hidden()


def test_two_sources_take_turns(
    browser: Browser, page: Page, worker: FakeWorker, relay: RunningRelay
) -> None:
    send(page, "card")
    shows(page, "output", is_blue, "blue")
    with quiet_page(browser) as other:
        other.goto(relay.url)
        file: Any = {"name": "red.png", "mimeType": "image/png", "buffer": picture("red")}
        other.set_input_files("#file", file)
        expect(page.locator("#note-source strong")).to_have_text("Another source has the stream")
        shows(page, "input", lambda r, g, b: r > 200 and g + b < 80, "red as the other's file")
        page.click("#note-source >> text=Take over")
        expect(page.locator("#note-source")).to_be_hidden()
        expect(other.locator("#note-source strong")).to_have_text("Another source has the stream")
        send(page, "stop")
        expect(other.locator("#note-source")).to_be_hidden()  # its turn again, without a click
        shows(page, "input", lambda r, g, b: r > 200 and g + b < 80, "red again")


def test_a_hidden_input_asks_for_no_pictures(
    page: Page, worker: FakeWorker, relay: RunningRelay
) -> None:
    send(page, "card")
    shows(page, "output", is_blue, "blue")
    page.evaluate("document.activeElement.blur()")
    for _ in range(3):
        page.keyboard.press("l")  # side by side, wipe, output only
    expect(page.locator("#input-pane")).to_be_hidden()
    stream = relay.hub.streams["default"]

    def owing() -> bool:
        return any(s.credit == 0 for s in stream.tracks["input"].subscriptions)

    until(owing, 15, "the studio to keep its credit for the input")
    before = len(worker.inputs)
    until(lambda: len(worker.inputs) > before + 10, 15, "the stream to go on")
    assert owing()
    page.keyboard.press("l")  # the inset again
    until(lambda: not owing(), 15, "the input to go on")


# -- the prompt ----------------------------------------------------------------------------------


def test_a_prompt_reaches_the_worker_and_comes_back(page: Page, worker: FakeWorker) -> None:
    send(page, "card")
    shows(page, "output", is_blue, "blue")
    page.keyboard.press("/")
    expect(page.locator("#prompt")).to_be_focused()
    page.keyboard.type("a gold fox")
    expect(page.locator("#apply")).to_be_visible()
    assert worker.patches == []  # typing changes nothing
    page.keyboard.press("Enter")
    until(lambda: worker.patches, 15, "the patch")
    assert worker.patches == [{"prompt": "a gold fox"}]
    expect(page.locator("#meter")).to_have_attribute("data-stage", "")  # a picture shows it
    expect(page.locator("#apply")).to_be_hidden()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("another fox")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#prompt")).to_have_value("a gold fox")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#prompt")).to_have_value("another fox")
    page.keyboard.type(" and more")
    page.keyboard.press("Escape")
    expect(page.locator("#prompt")).to_have_value("another fox")
    page.focus("#prompt")
    page.keyboard.press("ArrowUp")  # what was put aside is not lost
    expect(page.locator("#prompt")).to_have_value("another fox and more")


def test_a_word_of_the_model_is_one_touch(page: Page, worker: FakeWorker) -> None:
    expect(page.locator("#words")).to_be_hidden()
    page.click("#prompt")
    page.click("#words >> text=neon")
    expect(page.locator("#prompt")).to_have_value("neon")  # in place of the default's watercolor
    page.click("#words >> text=blue")
    expect(page.locator("#prompt")).to_have_value("blue neon")
    expect(page.locator("#prompt")).to_be_focused()
    until(lambda: worker.patches[-1:] == [{"prompt": "blue neon"}], 15, "the last patch")
    expect(page.locator("#words [aria-pressed=true]")).to_have_text(["neon", "blue"])


def test_all_that_the_model_knows_is_in_reach_of_the_keys(page: Page, worker: FakeWorker) -> None:
    words = page.locator("#words .word")
    button = page.get_by_role("button", name="What the model knows")
    expect(button).to_have_attribute("aria-expanded", "false")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("w")
    expect(button).to_have_attribute("aria-expanded", "true")
    known = [word for kind in SCHEMA["x-vocabulary"].values() for word in kind]
    expect(words).to_have_text(known)
    for number in range(len(known)):
        expect(words.nth(number)).to_be_in_viewport()
    for kind in SCHEMA["x-vocabulary"]:
        expect(page.get_by_role("group", name=kind.capitalize())).to_be_visible()
    expect(page.locator("#words .word:focus")).to_have_text("watercolor")  # what holds now
    for _ in known[1:]:
        page.keyboard.press("ArrowRight")
    expect(page.locator("#words .word:focus")).to_have_text(known[-1])
    page.keyboard.press("ArrowUp")
    expect(page.locator("#words .word:focus")).to_have_text(re.compile("red|blue|gold"))
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    until(lambda: worker.patches[-1:] == [{"prompt": "stormy watercolor"}], 15, "the word")
    page.keyboard.press("Escape")
    expect(page.locator("#prompt")).to_be_focused()
    expect(button).to_have_attribute("aria-expanded", "false")
    button.click()
    page.click("#words >> text=gold")
    expect(page.locator("#prompt")).to_have_value("stormy gold watercolor")
    expect(words.first).to_be_visible()  # one may go on
    button.click()
    expect(page.locator("#words")).to_be_hidden()


def test_a_model_that_knows_other_kinds_of_words_lists_those(
    page: Page, relay: RunningRelay, worker: FakeWorker
) -> None:
    vocabulary = {"materials": ["wool"], "broken": "no list", "none": []}
    worker.introduce({**SCHEMA, "x-vocabulary": vocabulary})
    page.click("#all-words")
    expect(page.get_by_role("group", name="Materials")).to_have_text("Materialswool")
    expect(page.locator("#words [role=group]")).to_have_count(1)


def test_without_words_there_is_nothing_to_open(page: Page, worker: FakeWorker) -> None:
    expect(page.locator("#all-words")).to_be_visible()
    worker.introduce({name: value for name, value in SCHEMA.items() if name != "x-vocabulary"})
    expect(page.locator("#all-words")).to_be_hidden()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("w")
    expect(page.locator("#words")).to_be_hidden()


def test_a_prompt_from_elsewhere_is_shown_unless_one_is_being_typed(
    page: Page, worker: FakeWorker, relay: RunningRelay
) -> None:
    patch_by_rest(relay, {"prompt": "from osc"})
    expect(page.locator("#prompt")).to_have_value("from osc")
    page.fill("#prompt", "half a senten")
    patch_by_rest(relay, {"prompt": "from osc again"})
    until(lambda: len(worker.patches) == 2, 15, "the other door's patch")
    expect(page.locator("#prompt")).to_have_value("half a senten")
    page.press("#prompt", "Escape")
    expect(page.locator("#prompt")).to_have_value("from osc again")


def test_a_draft_outlives_a_reload(page: Page, worker: FakeWorker) -> None:
    expect(page.locator("#prompt")).to_have_value("watercolor")
    page.fill("#prompt", "not applied yet")
    page.reload()
    says(page, "no source")
    expect(page.locator("#prompt")).to_have_value("not applied yet")


# -- the drawer ----------------------------------------------------------------------------------


def test_the_form_is_built_from_the_schema(page: Page, worker: FakeWorker) -> None:
    open_drawer(page)
    summaries = page.locator("#fields summary")
    expect(summaries).to_have_text(["Look", "Motion", "Guidance", "Advanced"])
    expect(page.locator("#fields [data-name=prompt]")).to_have_count(0)  # it is at the bottom
    expect(page.get_by_label("Strength", exact=True).first).to_have_attribute("type", "number")
    expect(page.get_by_role("switch", name="Skip similar")).not_to_be_checked()
    expect(page.get_by_label("Guidance type")).to_have_value("2")  # the third of the list
    expect(page.locator("#p-delta")).to_have_attribute("placeholder", "auto")
    expect(page.locator("#p-t_index_list")).to_be_hidden()  # advanced is folded


def test_each_widget_sends_its_kind_of_value(page: Page, worker: FakeWorker) -> None:
    open_drawer(page)
    page.click("summary >> text=Advanced")
    page.fill("#p-strength", "0.8")
    page.press("#p-strength", "Enter")
    page.get_by_role("switch", name="Skip similar").click()
    page.select_option("#p-cfg_type", label="full")
    page.fill("#p-t_index_list", "20 30, 40")
    page.press("#p-t_index_list", "Enter")
    page.fill("#p-delta", "1.5")
    page.press("#p-delta", "Enter")
    page.fill("#p-negative_prompt", "blurry")
    page.press("#p-negative_prompt", "Enter")
    wanted = {
        "strength": 0.8,
        "skip_similar": True,
        "cfg_type": "full",
        "t_index_list": [20, 30, 40],
        "delta": 1.5,
        "negative_prompt": "blurry",
    }

    def told() -> dict[str, Any]:
        return {name: value for patch in worker.patches for name, value in patch.items()}

    until(lambda: told() == wanted, 15, "all patches")
    assert sum(map(len, worker.patches)) == len(wanted)  # each was sent once
    page.fill("#p-delta", "")
    page.press("#p-delta", "Enter")
    until(lambda: told()["delta"] is None, 15, "auto again")
    page.press("#p-strength", "ArrowUp")
    until(lambda: told()["strength"] == 0.81, 15, "a step, and not a whole one")
    page.click("#reset-all")
    until(lambda: told()["t_index_list"] is None and told()["strength"] == 0.5, 15, "defaults")
    expect(page.locator(".field.changed")).to_have_count(0)


def test_a_slider_sends_while_it_moves_and_a_double_click_resets_it(
    page: Page, worker: FakeWorker
) -> None:
    open_drawer(page)
    slider = page.locator("[data-name=strength] input[type=range]")
    box = slider.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] / 2, steps=8)
    until(lambda: worker.patches, 15, "a patch while the button is down")
    page.mouse.up()
    last = page.evaluate("Number(document.getElementById('p-strength').value)")
    assert last > 0.8
    until(lambda: worker.patches[-1]["strength"] == last, 15, "the last value")
    row = page.locator("[data-name=strength]")
    expect(row).to_have_class(re.compile("changed"))
    expect(row).not_to_have_class(re.compile("pending"))
    slider.dblclick()
    until(lambda: worker.patches[-1]["strength"] == 0.5, 15, "the default")
    expect(row).not_to_have_class(re.compile("changed"))


def test_a_change_from_elsewhere_moves_the_control(
    page: Page, worker: FakeWorker, relay: RunningRelay
) -> None:
    open_drawer(page)
    patch_by_rest(relay, {"strength": 0.25, "cfg_type": "none"})
    expect(page.locator("#p-strength")).to_have_value("0.25")
    expect(page.locator("#p-cfg_type")).to_have_value("0")


def test_a_refused_value_is_shown_at_its_control(page: Page, worker: FakeWorker) -> None:
    open_drawer(page)
    page.fill("#p-strength", "7")
    page.press("#p-strength", "Enter")
    problem = page.locator("[data-name=strength] .problem")
    expect(problem).to_contain_text("at most 1")
    expect(page.locator("#p-strength")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#p-strength")).to_have_value("7")  # to be corrected, not typed anew
    page.fill("#p-strength", "0.7")
    page.press("#p-strength", "Enter")
    expect(problem).to_be_empty()
    until(lambda: worker.patches, 15, "the patch")
    assert worker.patches == [{"strength": 0.7}]


def test_a_list_that_is_none_is_refused_by_the_page_itself(page: Page, worker: FakeWorker) -> None:
    open_drawer(page)
    page.click("summary >> text=Advanced")
    page.fill("#p-t_index_list", "20, many")
    page.press("#p-t_index_list", "Enter")
    expect(page.locator("[data-name=t_index_list] .problem")).to_contain_text("got many")
    assert worker.patches == []


# -- states --------------------------------------------------------------------------------------


def test_without_a_worker_the_page_says_what_to_type(
    page: Page, relay: RunningRelay, worker_command: str
) -> None:
    says(page, "no worker")
    expect(page.locator("#output-notice code")).to_have_text(worker_command)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#output-notice button")
    expect(page.locator("#output-notice .done")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == worker_command


@pytest.fixture
def worker_command(relay: RunningRelay) -> str:
    return f"python main.py --websocket_uri={relay.websocket}"


def painted_until(worker: FakeWorker, done: Callable[[], object], what: str) -> None:
    """Have the worker paint from the prompt alone, as it may, until something is so."""

    def look() -> object:
        if worker.idle:
            worker.paint()
        return done()

    until(look, 15, what)


def test_before_a_source_is_connected_the_prompt_alone_is_painted(
    page: Page, worker: FakeWorker
) -> None:
    chip, line = page.locator("#chip-text"), page.locator("#output-notice")
    painted_until(worker, lambda: chip.inner_text() == "from the prompt", "a living stream")
    assert is_blue(*pixel(page, "output")[:3])
    expect(line).to_have_text(re.compile("No source yet.*painted from the prompt alone"))
    expect(page.locator("#stage")).not_to_have_class("dim")
    expect(page.locator("#age")).to_be_hidden()  # no camera took it
    expect(page.locator("#rates")).to_have_text(re.compile(r"^[\d.]+ fps$"))
    page.keyboard.press("/")
    page.keyboard.type("a gold fox")
    page.keyboard.press("Enter")
    until(lambda: worker.patches, 15, "the patch")
    meter = page.locator("#meter")
    painted_until(worker, lambda: meter.get_attribute("data-stage") == "", "the prompt to show")
    # A source has the stream at once, and what is painted comes back when it goes.
    page.click(".invite >> text=Test card")
    says(page, "live")
    expect(line).to_be_hidden()
    expect(page.locator("#age")).to_have_text(re.compile("ms old"))
    until(lambda: not worker.idle, 15, "the worker to be told")
    send(page, "stop")
    painted_until(worker, lambda: chip.inner_text() == "from the prompt", "it to come back")
    expect(page.locator("#input-pane")).to_have_class(re.compile("empty"))
    expect(page.locator(".invite")).to_be_visible()


def test_a_producer_whose_source_is_away_says_why(
    page: Page, worker: FakeWorker, relay: RunningRelay
) -> None:
    why, over = "camera 0 gives no more pictures (unplugged?)", page.locator("#chip-text")
    page.keyboard.press("l")  # side by side
    with Person(relay.websocket, "producer") as producer:
        producer.link.tell("status", state="away", text=why)
        says(page, "source away")
        expect(page.locator("#chip")).to_have_attribute("data-tone", "wrong")
        expect(page.locator("#input-notice")).to_contain_text(why)  # nothing was seen yet
        expect(page.locator("#output-notice")).to_be_hidden()
        expect(page.locator("#say")).to_contain_text("source away")
        producer.link.tell("status", state="live")
        producer.send(picture("lime"), 1)
        shows(page, "output", is_blue, "blue")
        says(page, "live")
        producer.link.tell("status", state="away", text=why)
        says(page, "source away")
        line = page.locator("#output-notice")
        expect(line).to_have_text(re.compile(f"The source gives no picture.*{re.escape(why)}"))
        expect(line).to_have_class(re.compile("whisper"))
        painted_until(worker, lambda: over.inner_text() == "from the prompt", "the worker to paint")
        expect(page.locator("#input-notice")).to_contain_text(why)  # no old picture beside it
        expect(page.locator("#stage")).not_to_have_class("dim")
    says(page, re.compile("no source|from the prompt"))
    expect(page.locator("body")).not_to_contain_text(why)


def test_loading_warming_paused_and_errors_have_words(page: Page, worker: FakeWorker) -> None:
    worker.status("loading", "unet, 340 MB", 0.25)
    says(page, "loading 25 %")
    notice = page.locator("#output-notice")
    expect(notice).to_contain_text("unet, 340 MB")
    expect(notice.locator("progress")).to_have_attribute("value", "0.25")
    worker.status("warming")
    says(page, "warming up")
    worker.status("paused")
    says(page, "paused")
    worker.status("error", "out of memory\nTraceback: 3 lines")
    says(page, "error")
    expect(notice).to_contain_text("out of memory")
    expect(notice.locator("pre")).to_be_hidden()
    notice.locator("summary").click()
    expect(notice.locator("pre")).to_have_text("Traceback: 3 lines")
    worker.status("live")
    says(page, "no source")
    expect(page.locator("#say")).to_contain_text("no source")  # readers hear it


def test_the_last_picture_is_held_when_the_worker_goes(page: Page, worker: FakeWorker) -> None:
    send(page, "card")
    shows(page, "output", is_blue, "blue")
    worker.close()
    says(page, "held")
    expect(page.locator("#stage")).to_have_class("dim")
    expect(page.locator("#output-notice")).to_contain_text("The worker is gone")
    assert is_blue(*pixel(page, "output")[:3])
    expect(page.locator("#age")).to_have_text(re.compile(r"^\d+ s old$"))


def test_the_page_comes_back_with_what_was_typed(browser: Browser) -> None:
    with quiet_page(browser, allowed=(NO_RELAY,)) as page:
        with start_relay(RelaySettings(port=0)) as relay, FakeWorker(relay.websocket) as worker:
            worker.status("live")
            page.goto(relay.url)
            send(page, "card")
            shows(page, "output", is_blue, "blue")
            page.fill("#prompt", "applied while nobody listened")
        says(page, re.compile("^relay gone"))
        assert is_blue(*pixel(page, "output")[:3])
        page.press("#prompt", "Enter")
        expect(page.locator("#meter")).to_have_attribute("data-stage", "waiting")
        page.locator("#prompt").press_sequentially(" and more")
        port = int(relay.url.rstrip("/").rpartition(":")[2])
        with (
            start_relay(RelaySettings(port=port)) as again,
            FakeWorker(again.websocket, colour="red") as worker,
        ):
            worker.status("live")
            shows(page, "output", lambda r, g, b: r > 200 and b < 60, "red as the new worker's")
            says(page, "live")  # the source has come back by itself, too
            values = again.hub.streams["default"].values
            until(lambda: values["prompt"] == "applied while nobody listened", 15, "the prompt")
            expect(page.locator("#prompt")).to_have_value("applied while nobody listened and more")


@pytest.mark.parametrize(
    ("error", "title"),
    [
        ("NotAllowedError", "The camera is not allowed here"),
        ("NotFoundError", "No camera found"),
        ("NotReadableError", "The camera does not start"),
    ],
)
def test_a_camera_that_does_not_come_is_explained(
    page: Page, worker: FakeWorker, error: str, title: str
) -> None:
    page.evaluate(
        """(name) => {
            const real = navigator.mediaDevices.getUserMedia;
            navigator.mediaDevices.getUserMedia = async () => {
                navigator.mediaDevices.getUserMedia = real;
                throw new DOMException("no", name);
            };
        }""",
        error,
    )
    send(page, "camera")
    expect(page.locator("#note-source strong")).to_have_text(title)
    page.click("#note-source >> text=Try again")
    shows(page, "output", is_blue, "blue")
    expect(page.locator("#note-source")).to_be_hidden()


def test_a_failing_camera_leaves_the_present_source_alone(page: Page, worker: FakeWorker) -> None:
    send(page, "card")
    shows(page, "output", is_blue, "blue")
    page.evaluate(
        """() => { navigator.mediaDevices.getUserMedia = async () => {
            throw new DOMException("no", "NotReadableError"); }; }"""
    )
    send(page, "camera")
    expect(page.locator("#note-source strong")).to_be_visible()
    before = len(worker.inputs)
    until(lambda: len(worker.inputs) > before + 5, 15, "the test card to go on")


def test_an_insecure_page_says_the_two_ways_out(browser: Browser) -> None:
    token = "sesame-open-the-gate"
    settings = RelaySettings(port=0, token=token, allowed_origins=["http://studio.test"])
    with (
        start_relay(settings) as relay,
        quiet_page(browser) as page,
    ):
        port = relay.url.rstrip("/").rpartition(":")[2]
        page.goto(f"http://studio.test:{port}/?token={token}&stream=default")
        send(page, "camera")
        links = page.locator("#note-source a")
        expect(links).to_have_text(
            [
                f"http://localhost:{port}/?stream=default",
                f"https://studio.test:{port}/?stream=default",
            ]
        )
        page.click("#voice")
        expect(page.locator("#note-voice strong")).to_contain_text(
            "microphone only to secure pages"
        )
        page.click("#note-source >> text=Test card")  # what needs no permission works here, too
        until(lambda: relay.hub.streams["default"].tracks["input"].last, 15, "the test card")


# -- surroundings --------------------------------------------------------------------------------

TOO_SMALL = """() => [...document.querySelectorAll("button, summary, select, a, #prompt")]
    .filter((e) => e.checkVisibility() && !e.closest("p, .sr"))
    .map((e) => [e.id || e.textContent.trim(), e.getBoundingClientRect()])
    .filter(([, box]) => box.width < 44 || box.height < 44)
    .map(([name, box]) => `${name} ${box.width}x${box.height}`)"""

SPILLED = """() => [...document.querySelectorAll("body *")]
    .filter((e) => e.checkVisibility() && !e.closest(".sr, #words, svg"))
    .map((e) => [e.id || e.className || e.tagName, e.getBoundingClientRect()])
    .filter(([, box]) => box.right > innerWidth + 1 || box.left < -1)
    .map(([name]) => name)"""


KEYBOARD = """(height) => {
    Object.defineProperty(visualViewport, "height", { value: height });
    visualViewport.dispatchEvent(new Event("resize"));
}"""
"""A keyboard that lies over the page and leaves so much of it, as Safari's does."""


def test_a_phone_shows_everything_in_reach(
    browser: Browser, relay: RunningRelay, worker: FakeWorker
) -> None:
    size: Any = {"width": 360, "height": 640}
    with quiet_page(browser, viewport=size, has_touch=True, is_mobile=True) as page:
        page.goto(relay.url)
        says(page, "no source")
        assert page.evaluate(TOO_SMALL) == []
        assert page.evaluate(SPILLED) == []
        send(page, "card")
        shows(page, "output", is_blue, "blue")
        page.tap("#prompt")
        expect(page.locator("#words")).to_be_visible()
        page.tap("#drawer-button")
        expect(page.locator("#drawer")).to_be_visible()
        assert page.evaluate(TOO_SMALL) == []
        assert page.evaluate(SPILLED) == []
        for part in ("#prompt", "#output"):  # the sheet covers neither
            box = page.locator(part).bounding_box()
            assert box is not None
            assert box["height"] > 40
            assert box["y"] + box["height"] <= 640
        page.fill("#prompt", "a fox in the snow, " * 8)
        page.press("#prompt", "Enter")
        worker.close()
        says(page, "held")
        assert page.evaluate(SPILLED) == []
        page.locator("#drawer-close").click(trial=True)  # what is said of the worker lies not on it
        page.focus("#prompt")
        lines = "document.getElementById('prompt').clientHeight / 24"
        until(lambda: page.evaluate(lines) == 4, what="four whole lines to be seen")
        page.evaluate(KEYBOARD, 340)
        box = page.locator("#prompt-form").bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 340
        overflow = "document.documentElement.scrollWidth"
        assert page.evaluate(overflow) <= 360


def test_full_screen_fades_everything_but_the_pictures(page: Page, worker: FakeWorker) -> None:
    send(page, "card")
    shows(page, "output", is_blue, "blue")
    page.evaluate("document.activeElement.blur()")
    page.clock.install()
    page.keyboard.press("f")
    expect(page.locator("body")).to_have_class("full")
    page.clock.run_for(3100)
    expect(page.locator("body")).to_have_class("full idle")
    page.mouse.move(300, 300)
    expect(page.locator("body")).to_have_class("full")
    page.keyboard.press("f")
    expect(page.locator("body")).to_have_class("")
    page.evaluate("Object.defineProperty(document, 'fullscreenEnabled', { value: false })")
    page.keyboard.press("f")  # an iPhone has none: the picture fills the page
    expect(page.locator("body")).to_have_class("full")
    page.keyboard.press("Escape")
    expect(page.locator("body")).to_have_class("")


def test_the_inset_swaps_and_moves(page: Page, worker: FakeWorker) -> None:
    send(page, "card")
    shows(page, "output", is_blue, "blue")
    inset = page.locator(".pane.small")
    expect(inset).to_have_attribute("id", "input-pane")
    box = inset.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(200, 700, steps=4)
    page.mouse.up()
    expect(page.locator("#stage")).to_have_attribute("data-corner", "bottom-left")
    inset.click()
    expect(inset).to_have_attribute("id", "output-pane")
    inset.press("ArrowUp")
    expect(page.locator("#stage")).to_have_attribute("data-corner", "top-left")
    page.reload()
    expect(page.locator("#stage")).to_have_attribute("data-corner", "top-left")


def test_a_small_model_is_called_what_it_is(page: Page, worker: FakeWorker) -> None:
    words = "pocket model: for wiring and play, not Stable Diffusion"
    expect(page.locator("#honest")).to_have_text(words)
    page.keyboard.press("?")
    expect(page.locator("#about")).to_contain_text(words)


def test_what_the_model_may_be_used_for_is_said(page: Page, worker: FakeWorker) -> None:
    page.keyboard.press("?")
    expect(page.locator("#about")).to_contain_text("pocket")
    licence = page.locator("#licence")
    expect(licence).to_be_hidden()
    worker.introduce(SCHEMA, licence={"name": "Its <i>own</i>", "terms": "no sale", "link": ""})
    expect(licence).to_have_text("Licence of the model: Its <i>own</i>, no sale")
    expect(licence.locator("a")).to_have_count(0)
    where = "https://example.org/terms"
    worker.introduce(SCHEMA, licence={"name": "CC BY-NC 4.0", "terms": "", "link": where})
    expect(licence).to_have_text("Licence of the model: CC BY-NC 4.0")
    expect(licence.locator("a")).to_have_attribute("href", where)


def test_a_ready_link_opens_the_page_and_its_sockets(browser: Browser) -> None:
    settings = RelaySettings(port=0, token="sesame-open-the-gate")
    with start_relay(settings) as relay, quiet_page(browser) as page:
        addresses: list[str] = []
        page.on("websocket", lambda socket: addresses.append(socket.url))
        page.goto(f"{relay.url}?token=sesame-open-the-gate&stream=other")
        says(page, "no worker")
        assert "/streams/other/viewer?" in addresses[0]
        assert "sesame" not in page.url + addresses[0]  # it is in a cookie now
        expect(page.locator("#stream")).to_have_text("other")


# -- the view ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["contain", "cover"])
def test_the_view_is_the_picture_and_nothing_else(
    browser: Browser, relay: RunningRelay, worker: FakeWorker, page: Page, fit: str
) -> None:
    send(page, "card")
    shows(page, "output", is_blue, "blue")
    size: Any = {"width": 640, "height": 320}
    with quiet_page(browser, viewport=size) as view:
        view.goto(f"{relay.url}streams/default/view?fit={fit}")
        shows(view, "output", is_blue, "blue")
        shot = Image.open(io.BytesIO(view.screenshot(omit_background=True))).convert("RGBA")
        assert shot.size == (640, 320)
        assert shot.getpixel((320, 160)) == (0, 0, 254, 255)
        # A square in a window twice as wide leaves its sides to what lies below.
        assert shot.getchannel("A").getpixel((10, 160)) == (0 if fit == "contain" else 255)
        assert view.evaluate("document.documentElement.scrollHeight") == 320


def test_the_view_of_the_input(
    browser: Browser, relay: RunningRelay, worker: FakeWorker, page: Page
) -> None:
    file: Any = {"name": "red.png", "mimeType": "image/png", "buffer": picture("red", form="PNG")}
    page.set_input_files("#file", file)
    with quiet_page(browser) as view:
        view.goto(f"{relay.url}streams/default/view?track=input")
        shows(view, "output", lambda r, g, b: r > 200 and g + b < 80, "red as the file")


# -- house rules ---------------------------------------------------------------------------------


def test_nothing_comes_from_elsewhere() -> None:
    """No inline code, no address of anybody else: the page works offline and under its policy."""
    for path in (ROOT / "dreamrelay/relay/static").iterdir():
        if path.suffix == ".jpg":
            continue
        text = path.read_text(encoding="utf-8")
        addresses = set(re.findall(r"https?://[a-z0-9.-]+", text))
        assert addresses <= {"http://www.w3.org", "http://localhost", "http://127.0.0.1"}, path.name
        if path.suffix == ".html":
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", text)
        assert "innerHTML" not in text
        assert "eval(" not in text
