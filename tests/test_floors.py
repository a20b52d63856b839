"""The floors of ``docs/architecture.md``: who may import whom, and what a program may not load."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGE = ROOT / "dreamrelay"

FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("packet", "mailbox", "importer", "clock", "child", "form"),
    ("bombs",),  # it knows packets
    ("config", "codec", "telemetry", "protocol", "schema", "trust", "downloads"),
    (
        "hub",
        "link",
        "osc",
        "jobs",
        "media",
        "engines",
        "viewer",
        "speech",
        "preprocess",
        "capacity",
    ),
    (
        "stage",
        "dreaming",
        "local_source",
        "engine_flags",
        "human_edit",
        "steering",
        "shown",
    ),  # the worker's, composed of floor 3
    ("projection",),  # its window, too
    ("returning",),
    ("lane",),  # one stream at the worker: all of these
    ("relay", "worker", "producer", "img2img"),
    ("bridge", "demo", "glass", "chaos"),  # floor 4 too, but they compose programs
    ("cli", "integrations"),
    ("__main__",),
)
FLOOR = {part: number for number, parts in enumerate(FLOORS) for part in parts}
STANDARD_LIBRARY_ONLY = (0, 1)


def part_of(module: str) -> str:
    """``dreamrelay.media.pattern`` is of the part ``media``."""
    return module.split(".")[1]


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.append((".".join(p for p in parts if p != "__init__"), path))
    return found


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of all that is imported, wherever it stands; catalogues' strings too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} is relative"
            # ``from dreamrelay import hub`` imports a module as well
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            target, colon, attribute = node.value.partition(":")
            if colon and attribute.isidentifier() and target.startswith("dreamrelay."):
                yield node.lineno, target


def test_every_module_has_a_floor() -> None:
    parts = {part_of(name) for name, _ in modules() if "." in name}
    assert parts <= set(FLOOR), f"say on which floor: {sorted(parts - set(FLOOR))}"


@pytest.mark.parametrize(("name", "path"), modules(), ids=[name for name, _ in modules()])
def test_imports_go_down(name: str, path: Path) -> None:
    wrong = []
    for line, imported in imports(path):
        steps = imported.split(".")
        if steps[0] != "dreamrelay" or len(steps) < 2 or steps[1] not in FLOOR:
            continue  # others' packages, and ``from dreamrelay import __version__``
        if name == "dreamrelay":
            wrong.append(
                f"{path.name}:{line} imports {imported}: the package itself imports nothing"
            )
        elif part_of(name) != steps[1] and FLOOR[steps[1]] >= FLOOR[part_of(name)]:
            wrong.append(f"{path.name}:{line} imports {imported}: that is not a lower floor")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "name", [name for number in STANDARD_LIBRARY_ONLY for name in FLOORS[number]]
)
def test_the_lowest_floors_need_the_standard_library_only(name: str) -> None:
    for line, imported in imports(PACKAGE / f"{name}.py"):
        root = imported.split(".")[0]
        assert root == "dreamrelay" or root in sys.stdlib_module_names, f"{name}.py:{line}"


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("dreamrelay", "pydantic numpy websockets"),
        ("dreamrelay.relay.app", "numpy torch PySide6 cv2 PIL diffusers mss nats"),
        ("dreamrelay.hub", "numpy uvicorn starlette websockets"),
        ("dreamrelay.protocol.native", "numpy uvicorn starlette websockets jsonschema"),
        ("dreamrelay.protocol.websocket_example", "numpy uvicorn starlette websockets"),
        ("dreamrelay.protocol.dreamstream", "numpy uvicorn starlette websockets"),
        ("dreamrelay.protocol.streamdiffusion_web", "numpy uvicorn starlette websockets"),
        ("dreamrelay.protocol.page_settings", "numpy uvicorn starlette websockets pydantic"),
        ("dreamrelay.link", "numpy torch uvicorn starlette fastapi jsonschema"),
        ("dreamrelay.engines", "torch diffusers transformers cv2 PySide6"),
        ("dreamrelay.media", "torch cv2 PySide6 mss SpoutGL"),
        ("dreamrelay.viewer", "torch cv2 PySide6 PIL"),
        ("dreamrelay.speech", "numpy av pocketsphinx faster_whisper"),
        ("dreamrelay.preprocess", "torch onnxruntime openvino"),
        ("dreamrelay.cli", "numpy torch cv2 PySide6 uvicorn"),
    ],
)
def test_what_is_not_needed_is_not_loaded(module: str, without: str) -> None:
    code = f"import sys, {module}; print(*sorted(set({without.split()}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_the_walk_sees_lazy_and_named_imports(tmp_path: Path) -> None:
    source = tmp_path / "x.py"
    source.write_text(
        "def f():\n    from dreamrelay.cli import main\n"
        "ENTRY = 'dreamrelay.worker:Worker'\nfrom dreamrelay import hub\n",
        encoding="utf-8",
    )
    assert {name for _, name in imports(source)} == {
        "dreamrelay.cli.main",
        "dreamrelay.worker",
        "dreamrelay.hub",
    }
