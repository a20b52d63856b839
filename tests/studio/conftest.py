"""One browser for all tests of the studio; each test has a context of its own in it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--use-fake-device-for-media-stream=device-count=2",
    "--use-fake-ui-for-media-stream",
    # A name that is no localhost: pages from it are not secure.
    "--host-resolver-rules=MAP studio.test 127.0.0.1",
]


# As long as every other wait here: on a busy machine a camera alone may take five seconds to open.
expect.set_options(timeout=15_000)


# Not longer than this folder: while playwright runs, no other event loop can in this thread.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        installed = shutil.which("chromium") or shutil.which("google-chrome")
        own = playwright.chromium.executable_path
        if installed is None and not Path(own).exists():
            pytest.skip("no Chromium here: apt install chromium, or python -m playwright install")
        chromium = playwright.chromium.launch(executable_path=installed, args=FLAGS)
        yield chromium
        chromium.close()
