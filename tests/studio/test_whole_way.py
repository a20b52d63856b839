"""A person at the page, with real processes and the real pocket model behind it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.studio.support import quiet_page
from tests.support import Program, until

pytestmark = [pytest.mark.xdist_group("studio"), pytest.mark.timeout(300)]


@pytest.fixture
def page(browser: Browser, programs: Callable[..., Program]) -> Iterator[Page]:
    relay = programs("server.py", "--port=0")
    url = relay.line(r"studio at (http://\S+)")[1]
    worker = programs(
        "main.py",
        f"--websocket_uri=ws{url[4:]}",
        "--osc_port=none",
        "--viewer=off",
        "--verbose=2",
    )
    worker.line("is ready", 180)
    size: Any = {"width": 1024, "height": 768}
    with quiet_page(browser, viewport=size, permissions=["camera"]) as made:
        made.goto(url)
        yield made


AVERAGE = """(id) => {
    const small = new OffscreenCanvas(16, 16).getContext("2d", { willReadFrequently: true });
    small.imageSmoothingQuality = "high";
    small.drawImage(document.getElementById(id), 0, 0, 16, 16);
    const sums = [0, 0, 0];
    small.getImageData(0, 0, 16, 16).data.forEach((v, i) => { if (i % 4 < 3) sums[i % 4] += v; });
    return sums.map((sum) => sum / 256);
}"""


def becomes(page: Page, like: Callable[[float, float, float], bool], what: str) -> None:
    """Wait until the whole output is of that kind on average."""
    until(lambda: like(*page.evaluate(AVERAGE, "output")), 60, f"an output that is {what}")


def test_the_prompt_and_then_the_camera_turn_blue_and_red_as_the_prompt_says(page: Page) -> None:
    expect(page.locator("#chip-text")).to_have_text("from the prompt", timeout=60_000)
    page.keyboard.press("/")
    page.keyboard.type("blue neon")
    page.keyboard.press("Enter")
    becomes(page, lambda r, g, b: b > 1.2 * max(r, g) and b > 60, "blue")
    page.screenshot(path="artefacts/studio/whole-way-no-source.png")
    page.click(".invite >> text=Camera")
    expect(page.locator("#chip-text")).to_have_text("live")
    becomes(page, lambda r, g, b: b > 1.2 * max(r, g) and b > 60, "blue still")
    page.keyboard.press("/")
    page.keyboard.press("Control+a")
    page.keyboard.type("a red oil painting")
    page.keyboard.press("Enter")
    becomes(page, lambda r, g, b: r > 1.2 * max(g, b) and r > 60, "red")
    page.screenshot(path="artefacts/studio/whole-way.png")
