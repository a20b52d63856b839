"""The studio in a real browser, against a real relay and a worker that speaks the real protocol."""

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from dreamrelay.config import RelaySettings
from dreamrelay.packet import Hop
from tests.studio.support import (
    WORKER_SIZE,
    FakeWorker,
    is_blue,
    pixel,
    quiet_page,
    shows,
)
from tests.support import ROOT, RunningRelay, mean_colour, picture, start_relay, until

REFUSED_CONNECTION = "WebSocket connection to"
"""What Chromium logs, and no page can help, while there is no relay."""


@pytest.fixture
def page(browser: Browser, relay: RunningRelay) -> Iterator[Page]:
    with quiet_page(
        browser, viewport={"width": 1440, "height": 900}, permissions=["camera"]
    ) as made:
        made.goto(relay.url)
        yield made


@pytest.fixture
def worker(relay: RunningRelay) -> Iterator[FakeWorker]:
    with FakeWorker(relay.websocket) as made:
        made.status("live")
        yield made


def says(page: Page, chip: str) -> None:
    expect(page.locator("#chip-text")).to_have_text(chip)


def send(page: Page, kind: str) -> None:
    page.click("#source-button")
    page.click(f"#source-menu [data-source={kind}]")


def open_drawer(page: Page) -> None:
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("p")
    expect(page.locator("#drawer")).to_be_visible()


# -- pictures -----------------------------------------------------------------------------------


def test_the_camera_goes_in_and_the_workers_picture_comes_out(
    page: Page, worker: FakeWorker
) -> None:
    page.click(".invite >> text=Camera")
    shows(page, "input", lambda r, g, b: g > r + 60 and g > b + 60, "green as the fake camera")
    shows(page, "output", is_blue, "blue as the worker makes it")
    says(page, "live")
    packet = worker.inputs[-1]
    assert (packet.width, packet.height) == (WORKER_SIZE, WORKER_SIZE)  # the engine's own size
    assert abs(time.time() - packet.captured_ns / 1e9) < 10
    assert packet.stamps[0].hop == Hop.ENCODED
    expect(page.locator("#age")).to_have_text(r := __import__("re").compile(r"^\d{1,3} ms old$"))
    assert r
    expect(page.locator("#people")).to_have_text("1 producer · 1 worker · 1 viewer")
