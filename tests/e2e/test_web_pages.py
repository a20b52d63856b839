"""The web seeds' pages against the real programs: one worker, each page its own prompt."""

import json
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from dreamrelay.hub import Hub
from tests.relay.pages import BroadcastPage, CameraPage, WatchPage
from tests.support import Program, RunningRelay, mean_colour, until


@pytest.mark.timeout(400)
def test_pages_of_both_seeds(programs: Callable[..., Program]) -> None:
    server = programs("server.py", "--port=0", "--max-queue-size", "2", "--timeout=300")
    url = server.line(r"studio at (http://[^/]+/)", 60)[1]
    relay = RunningRelay(url, Hub())
    programs(
        "main.py", f"--websocket_uri={relay.websocket}", "--osc-port=0", "--viewer=off",
        "--width=64", "--height=64", "--verbose=2",
    ).line("is ready", 150)  # fmt: skip
    with ExitStack() as pages:
        red, blue = (
            pages.enter_context(CameraPage(relay, prompt)) for prompt in ("all red", "all blue")
        )
        camera = pages.enter_context(BroadcastPage(relay, "alice", every=0.2))
        watcher = pages.enter_context(WatchPage(relay, "alice"))
        until(lambda: min(len(p.shown) for p in (red, blue, watcher)) > 4, 120, "pictures for each")
        settings = json.loads(relay.get("/api/settings"))
        assert settings["max_queue_size"] == 2
        properties = settings["input_params"]["properties"]
        assert {"prompt", "strength", "seed", "width"} <= set(properties)
        assert (properties["width"]["default"], properties["height"]["default"]) == (64, 64)
        third = pages.enter_context(CameraPage(relay))
        until(lambda: third.statuses)
        assert third.statuses == [{"status": "error", "message": "Server is full"}]
        for page, other in ((red, blue), (blue, red)):
            assert all(status["status"] != "error" for status in page.statuses)
            assert page.shown[-1] != other.shown[-1]
        more_red = [mean_colour(page.shown[-1]) for page in (red, blue)]
        assert more_red[0][0] - more_red[0][2] > more_red[1][0] - more_red[1][2] + 20
        assert camera.shown
        assert "error" not in camera.types()
