"""From a microphone in a real browser to a prompt that the worker hears of: the whole way."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from dreamrelay.config import RelaySettings
from dreamrelay.speech.audio import RATE, decode
from tests.speech.make_spoken import spoken
from tests.speech.sounds import wav
from tests.studio.conftest import FLAGS
from tests.studio.support import FakeWorker, quiet_page
from tests.support import start_relay, until

SECONDS = 120_000
"""The engine loads and listens on a machine that does other things, too; in milliseconds."""


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """What the microphone hears: a pause, two words, a pause."""
    pause = np.zeros(RATE * 7 // 10, np.float32)
    words = decode(spoken("slt", "oil painting"))
    path = tmp_path / "said.wav"
    path.write_bytes(wav(np.concatenate([pause, words, pause]), RATE))
    return path


def test_what_is_said_becomes_the_prompt(said: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    microphone = f"--use-file-for-fake-audio-capture={said}%noloop"
    with (
        start_relay(RelaySettings(port=0, speech="offline")) as relay,
        FakeWorker(relay.websocket) as worker,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=[*FLAGS, microphone]) as browser,
        quiet_page(browser, permissions=["microphone"]) as page,
    ):
        page.goto(relay.url)
        expect(page.locator("#prompt")).to_have_value("watercolor", timeout=SECONDS)
        page.request.post(relay.url.rstrip("/") + "/speech/load")
        until(lambda: b'"ready"' in relay.get("/speech"), 120, "the engine")
        # A machine that is busy chops up what its fake microphone plays, and is spoken to again.
        assert any(heard(page, "oil painting") for _ in range(4))
        until(lambda: {"prompt": "oil painting"} in worker.patches, what="the worker to hear of it")


def heard(page: Page, words: str) -> bool:
    """Hold the button while the words are said; whether they become the prompt."""
    page.hover("#voice")
    page.mouse.down()
    page.wait_for_timeout(3500)  # the words are as long as they are
    page.mouse.up()
    try:
        expect(page.locator("#prompt")).to_have_value(words, timeout=20_000)
    except AssertionError:
        return False
    return True
