"""Human-only edit through the real programs: a page each of mode full and human, and OSC."""

import json
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dreamrelay.codec import decode, encode_bytes
from dreamrelay.hub import Hub
from dreamrelay.osc.wire import encode as osc
from tests.osc.support import Wire
from tests.preprocess.photographs import photograph
from tests.relay.pages import CameraPage
from tests.support import Program, RunningRelay, until

SIDE = 128


@pytest.mark.timeout(400)
def test_each_page_has_a_mode_of_its_own(programs: Callable[..., Program]) -> None:
    url = programs("server.py", "--port=0").line(r"studio at (http://[^/]+/)", 60)[1]
    relay = RunningRelay(url, Hub())
    worker = programs(
        "main.py", f"--websocket_uri={relay.websocket}", "--osc-port=0", "--viewer=off",
        f"--width={SIDE}", f"--height={SIDE}", "--matting=person", "--prompt=blue neon",
        "--verbose=2",
    )  # fmt: skip
    osc_port = int(worker.line(r"OSC: /prompt at 127.0.0.1:(\d+)", 150)[1])
    worker.line("is ready", 150)
    # A page shows its camera and its parameters; the mode it switches by itself.
    properties = until(
        lambda: (
            (found := json.loads(relay.get("/api/settings"))["input_params"]["properties"])
            and ("keep" in found and found)
        ),
        what="the worker's parameters",
    )
    assert properties["keep"]["values"] == ["background", "person"]
    assert "mode" not in properties
    shot = photograph("astronaut")
    frame = np.asarray(Image.fromarray(shot.frame).resize((SIDE, SIDE)))
    person = np.asarray(Image.fromarray(shot.person).resize((SIDE, SIDE)))

    def changed(page: CameraPage) -> tuple[float, float]:
        """How far the last picture is from the camera's, on the person and beside it."""
        moved: NDArray[np.int16] = np.abs(decode(page.shown[-1]).astype(np.int16) - frame)
        return float(moved[person].mean()), float(moved[~person].mean())

    with ExitStack() as stack:
        wire = Wire(osc_port)
        stack.callback(wire.socket.close)
        pages = [CameraPage(relay, "neon glow, red", mode, empty=0) for mode in ("full", "human")]
        for page in pages:
            page.camera = encode_bytes(frame, quality=95)
            stack.enter_context(page)
        full, human = pages
        until(lambda: min(len(page.shown) for page in pages) > 4, 120, "pictures for each")
        assert all(status["status"] != "error" for page in pages for status in page.statuses)
        (_, beside_full), (on_human, beside_human) = changed(full), changed(human)
        assert beside_human < beside_full / 3
        assert on_human > beside_human * 3
        # The page of somebody else does not change what the stream itself is in.
        values = json.loads(relay.get("/streams/default/parameters"))["values"]
        assert values["mode"] == "full"
        wire.send(osc("/mode", "human"))
        until(
            lambda: (
                json.loads(relay.get("/streams/default/parameters"))["values"]["mode"] == "human"
            )
        )
        seen = len(full.shown)
        until(lambda: len(full.shown) > seen + 4, 60, "more pictures")
        assert changed(full)[1] > beside_human * 2, "a page in mode full stays so"
