"""``dreamrelay.js`` outside a browser: view, publish, set parameters, with Node's own WebSocket."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from playwright._impl._driver import compute_driver_executable

from tests.studio.support import FakeWorker
from tests.support import ROOT, RunningRelay, picture

STATIC = ROOT / "dreamrelay/relay/static"
MODULE = STATIC / "dreamrelay.js"


@pytest.fixture(scope="session")
def node() -> str:
    """A Node of 22 or newer: playwright brings one."""
    own = compute_driver_executable()[0]
    found = own if Path(own).exists() else shutil.which("node")
    assert found, "playwright brings a node with it: python -m pip install -r requirements-dev.txt"
    return str(found)


def run(node: str, *arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [node, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_program_views_publishes_and_sets_parameters(
    node: str, relay: RunningRelay, tmp_path: Path
) -> None:
    path = tmp_path / "red.jpg"
    path.write_bytes(picture("red", (64, 64)))
    with FakeWorker(relay.websocket) as worker:
        worker.status("live")
        script = str(ROOT / "tests/studio/module_in_node.mjs")
        lines = run(node, script, MODULE.as_uri(), relay.url, str(path))
        said = {line.pop("what"): line for line in lines}
        assert "expected the option `relay`" in said["needs-relay"]["message"]
        assert said["needs-address"]["message"].endswith("as relay, got localhost:8765")
        assert "Node has one from 22 on" in said["needs-websocket"]["message"]
        assert said["welcome"] == {"stream": "default", "state": "open"}
        assert said["set"]["values"]["prompt"] == "a fox from node"
        assert worker.patches == [{"strength": 0.75, "prompt": "a fox from node"}]  # one patch
        assert said["refused"]["code"] == "parameter"
        assert "at most 1" in said["refused"]["problems"]["strength"]
        assert said["picture"] == {
            "accepted": True,
            "track": "output",
            "type": "image/jpeg",
            "bytes": len(picture("blue", (64, 64))),
            "same": True,
            "revision": relay.hub.streams["default"].revision,
            "hops": [1, 2, 9, 3, 4, 5, 6, 7, 8],
            "arrived": True,
            "round": True,
        }
        assert worker.inputs[0].data == path.read_bytes()
        assert said["http"] == {"streams": ["default"], "snapshot": "image/jpeg"}
        assert said["not-there"] == {"status": 404, "name": "RelayError"}
        assert "end" in said


def test_the_types_name_what_the_module_exports(node: str) -> None:
    """Names, and the members of classes and tables: what is added to one is added to the other."""
    script = """
        const module = await import(process.argv[1]);
        const relay = "http://127.0.0.1:9/";
        class WebSocket { close() {} }
        const viewer = new module.Connection({ relay, WebSocket });
        const painter = new module.Painter({ getContext() {} });
        const { Fallback, FlashGuard, Parameters, Publisher, Relay, RelayError } = module;
        const made = [viewer, painter, new Fallback(painter, viewer, "output", { relay })];
        made.push(new FlashGuard(), new Parameters(viewer), new Publisher(), new Relay({ relay }));
        made.push(new RelayError("closed", "gone"));
        viewer.close();
        for (const [name, value] of Object.entries(module)) {
            const own = made.filter((one) => one.constructor === value).flatMap(Object.keys);
            const methods = value.prototype ? Object.getOwnPropertyNames(value.prototype) : [];
            const table = name === "HOPS" ? Object.keys(value) : [];
            const members = [...own, ...methods, ...table].filter((m) => m !== "constructor");
            console.log(JSON.stringify({ name, members }));
        }
    """
    exported = {
        line["name"]: line["members"]
        for line in run(node, "--input-type=module", "-e", script, MODULE.as_uri())
    }
    types = (STATIC / "dreamrelay.d.ts").read_text(encoding="utf-8")
    pattern = r"^export (?:declare )?(?:class|function|const) (\w+)"
    assert set(re.findall(pattern, types, re.MULTILINE)) == set(exported)
    assert {"HANDED", "RETURNED"} <= set(exported["HOPS"])
    assert {"state", "credits", "patch"} <= set(exported["Connection"])
    for name, members in exported.items():
        body = re.search(rf"(?:class|const) {name}\b.*?^}}", types, re.MULTILINE | re.DOTALL)
        for member in members:
            assert body is not None, name
            assert re.search(rf"\b{member}\b", body[0]), f"{name}.{member} has no type"
