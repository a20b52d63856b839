"""The capacity page in a browser: presets, what is typed, what is wrong, how it looks."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from dreamrelay import capacity
from dreamrelay.config import Show
from tests.studio.support import quiet_page
from tests.studio.test_looks import look
from tests.support import RunningRelay

pytestmark = pytest.mark.xdist_group("studio")

COSTS = capacity.Costs.load()


@pytest.fixture(params=[(1280, 900, "dark"), (360, 640, "light")], ids=["desk", "phone"])
def page(browser: Browser, relay: RunningRelay, request: pytest.FixtureRequest) -> Iterator[Page]:
    width, height, scheme = request.param
    context: Any = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
    with quiet_page(browser, **context) as made:
        made.goto(f"{relay.url}static/capacity.html")
        expect(made.locator("#rows tr")).to_have_count(len(capacity.ROWS))
        yield made


def shown(page: Page, name: str) -> str:
    return page.locator(f"#rows [data-name={name}]").inner_text()


def test_a_preset_what_is_typed_and_what_is_wrong(page: Page, relay: RunningRelay) -> None:
    expect(page.locator("#sources tbody tr")).to_have_count(len(COSTS.values) + len(COSTS.engines))
    look(page, "capacity")
    page.get_by_role("button", name="Festival").click()
    festival = capacity.plan(Show(preset="festival"), COSTS)
    assert shown(page, "relays") == str(festival.relays)
    expect(page.locator("#tier")).to_have_text(capacity.TIERS["several"])
    expect(page.get_by_role("button", name="Festival")).to_have_attribute("aria-pressed", "true")
    page.get_by_label("People who look").fill("100")
    fewer = capacity.plan(Show(preset="festival", viewers=100), COSTS)
    assert shown(page, "relays") == str(fewer.relays)
    expect(page.locator("#command")).to_contain_text("dreamrelay capacity --viewers=100")
    page.get_by_label("People who look").fill("0")
    expect(page.locator("#p-viewers")).to_have_text(
        "Expected a whole number from 1 to 100,000,000."
    )
    look(page, "capacity-wrong")
    assert shown(page, "relays") == str(fewer.relays)  # what was right is kept
    page.get_by_label("People who look").fill("200")
    # The address is the show: whoever opens it sees the same.
    other = page.evaluate("location.href")
    page.goto("about:blank")
    page.goto(other)
    expect(page.get_by_label("People who look")).to_have_value("200")
    expect(page.get_by_label("Network card of")).to_have_value("25")


def test_by_keys_alone(page: Page) -> None:
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#tier")).to_have_text(capacity.TIERS["video"])
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("People who look")).to_have_value("1000001")


@pytest.mark.parametrize(
    "junk", ["viewers=x&fps=", "constructor=1&__proto__=2", "engine=sd3", "tls=<b>", "viewers=-5"]
)
def test_an_address_that_is_no_show_breaks_nothing(
    browser: Browser, relay: RunningRelay, junk: str
) -> None:
    with quiet_page(browser) as page:
        page.goto(f"{relay.url}static/capacity.html#{junk}")
        expect(page.get_by_label("People who look")).to_be_visible()
        expect(page.locator("#sources tbody tr")).not_to_have_count(0)
