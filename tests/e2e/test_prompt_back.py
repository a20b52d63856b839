"""Back to a prompt that was used before: it costs no encoding, and the picture is what it was."""

import io
import urllib.request
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dreamrelay.osc.wire import encode
from tests.fakes.peers import People
from tests.osc.support import Wire
from tests.support import Program, picture, until


def total(url: str, what: str) -> float:
    """One of the engine's totals, off the metrics page."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as reply:
        page = reply.read().decode()
    rows = [row for row in page.splitlines() if f'what="{what}"' in row]
    return float(rows[0].rpartition(" ")[2]) if rows else 0.0


@pytest.mark.timeout(400)
def test_back_to_a_prompt(programs: Callable[..., Program]) -> None:
    program = programs(
        "main.py", "--websocket_port=0", "--osc-port=0", "--width=64", "--height=64",
        "--prompt=blue neon", "--viewer=off", "--verbose=2",
    )  # fmt: skip
    url = program.line(r"studio at (http://[^/]+)", 150)[1]
    wire = Wire(int(program.line(r"OSC: /prompt at 127.0.0.1:(\d+)", 150)[1]))
    program.line("is ready")
    with People("ws" + url[4:]) as people:
        until(lambda: people.viewer.status.get("state") == "live")
        seq = 0

        def shown() -> NDArray[np.float64]:
            """The picture once the stream batch has forgotten what came before."""
            nonlocal seq
            for _ in range(6):
                seq += 1
                before = len(people.viewer.results)
                people.producer.send(picture("orange", (64, 64), "PNG"), seq)
                until(lambda: len(people.viewer.results) > before)  # noqa: B023 - at once
            data = people.viewer.results[-1].data
            return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float64)

        def prompt(text: str) -> None:
            wire.send(encode("/prompt", text))
            program.line(f"applied prompt='{text}'")

        first = shown()
        for text in ("gold", "green forest", "watercolor", "red", "night"):
            prompt(text)
            shown()
        until(lambda: total(url, "prompts_encoded") >= 6)
        encoded, hits = total(url, "prompts_encoded"), total(url, "prompt_cache_hits")
        prompt("blue neon")
        again = shown()
        until(lambda: total(url, "prompt_cache_hits") > hits)
        assert total(url, "prompts_encoded") == encoded
        assert np.abs(first - again).mean() < 2, "no noise is lost on the way"
    wire.socket.close()
    program.interrupt()
    assert program.wait() == 0
