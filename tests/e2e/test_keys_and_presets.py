"""Presets and recordings as a performer has them: keys of the real window, OSC, a relay between."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av
import pytest

from dreamrelay.osc.wire import encode
from tests.fakes.desktop import MISSING, Desktop
from tests.fakes.peers import People
from tests.osc.support import Wire
from tests.support import ROOT, Program, RunningRelay, picture, until

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.xdist_group("e2e"),
    pytest.mark.timeout(300),
]

FIRST = {"prompt": "blue neon", "strength": 0.25}
SECOND = {"prompt": "gold", "strength": 0.75}
THIRD = {"prompt": "red night", "strength": 0.5}


class Show:
    """A worker with its window, a relay, people at the stream."""

    def __init__(self, people: People, presets: Path) -> None:
        self.people = people
        self.viewer = people.viewer
        self._presets = presets

    def holds(self, values: dict[str, Any], origin: str) -> None:
        """Wait until the relay has told these values, by that door."""

        def told() -> bool:
            last = (self.viewer.has("parameters") or [{}])[-1]
            mine = {name: last.get("values", {}).get(name) for name in values}
            return mine == values and last.get("origin") == origin

        until(told, 60, f"{values} by {origin}")

    def type(self, values: dict[str, Any]) -> None:
        """Change parameters as the studio does."""
        self.viewer.link.patch(values, "studio")
        self.holds(values, "studio")

    def kept(self, name: str, values: dict[str, Any]) -> None:
        """Wait until a preset is in the file."""

        def there() -> bool:
            if not self._presets.exists():
                return False
            kept = json.loads(self._presets.read_text(encoding="utf-8"))
            found = json.dumps(kept, sort_keys=True)
            return f'"{name}"' in found and json.dumps(values["prompt"]) in found

        until(there, 60, f"preset {name} in {self._presets}")


def test_presets_and_a_recording_by_keys_and_by_osc(
    relay: RunningRelay, programs: Callable[..., Program], tmp_path: Path
) -> None:
    presets = tmp_path / "presets.json"
    with ExitStack() as stack:
        desktop = Desktop()
        stack.callback(desktop.close)
        program = programs(
            str(ROOT / "main.py"),
            f"--websocket_uri={relay.websocket}",
            "--viewer=on",
            "--osc-port=0",
            f"--osc-presets={presets}",
            "--width=64",
            "--height=64",
            "--verbose=2",
            cwd=tmp_path,
            DISPLAY=desktop.name,
            WAYLAND_DISPLAY="",
            QT_QPA_PLATFORM="xcb",
        )
        show = Show(stack.enter_context(People(relay.websocket)), presets)
        wire = Wire(int(program.line(r"OSC: /prompt at 127.0.0.1:(\d+)", 120)[1]))
        stack.callback(wire.socket.close)
        until(lambda: show.viewer.status.get("state") == "live", 120)
        until(lambda: desktop.window("dreamrelay"), 60, "the window to have the keyboard")

        # A key keeps, a key recalls: the parameters of the stream change for everybody.
        show.type(FIRST)
        program.line("applied .*blue neon")
        desktop.press("ctrl+1")
        show.kept("1", FIRST)
        show.type(SECOND)
        program.line("applied .*gold")
        desktop.press("1")
        show.holds(FIRST, "viewer")

        # OSC keeps into the same file; its preset is a key too, and the other way round.
        show.type(THIRD)
        program.line("applied .*red night")
        wire.send(encode("/preset/save", 2))
        show.kept("2", THIRD)
        wire.send(encode("/preset", 1))
        show.holds(FIRST, "osc")
        desktop.press("2")
        show.holds(THIRD, "viewer")
        wire.send(encode("/preset/1", 1.0))
        show.holds(FIRST, "osc")

        desktop.press("7")
        program.line("no such preset: 7")

        # What is shown while R is on is in a file of the worker's folder.
        desktop.press("r")
        program.line("recording to dreamrelay-")
        for seq in range(1, 9):
            before = len(show.viewer.results)
            show.people.producer.send(picture("orange", (64, 64), "PNG"), seq)
            until(lambda: len(show.viewer.results) > before)  # noqa: B023 - at once
        desktop.press("r")
        program.line("recorded to dreamrelay-")
        (path,) = tmp_path.glob("dreamrelay-*.mp4")
        with av.open(str(path)) as file:
            shapes = [frame.to_ndarray(format="rgb24").shape for frame in file.decode(video=0)]
        assert shapes
        assert set(shapes) == {(64, 64, 3)}

        program.interrupt()
        assert program.wait(60) == 0
    assert "Traceback" not in program.output
