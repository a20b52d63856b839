"""The app for Modal: built offline, its functions run here, its ASGI app answered."""

import asyncio
import base64
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from dreamrelay.config import RelaySettings, WorkerSettings
from dreamrelay.errors import ConfigError, EngineError, ProtocolError
from dreamrelay.integrations import modal_app
from dreamrelay.integrations.hosted import Hosted
from tests.fakes.engines import ScriptedEngine
from tests.support import ROOT, mean_colour, picture

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*will not have access to the mounted Volume:UserWarning"
)

TOKEN = "a-token-for-tests"
ENVIRONMENT = {
    "DREAMRELAY_RELAY_TOKEN": TOKEN,
    "DREAMRELAY_WORKER_MODEL": "pocket",
    "DREAMRELAY_WORKER_OFFLINE": "1",
}


@pytest.fixture(scope="module")
def hosted() -> Iterator[Hosted]:
    """With an engine that inverts, or paints the colour that the prompt names."""
    hosted = Hosted(RelaySettings(token=TOKEN), WorkerSettings(), engine=ScriptedEngine())
    hosted.start()
    yield hosted
    hosted.stop()


async def get(hosted: Hosted, path: str, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(hosted.app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="https://x.modal.run") as client:
        return await client.get(path, headers=headers)


# The definition ----------------------------------------------------------------------------------


def test_what_is_deployed() -> None:
    assert modal_app.app.name == "dreamrelay"
    assert modal_app.health.local() == {"status": "ok", "service": "livestream-processor"}


def test_what_it_needs_is_said_once() -> None:
    needed = modal_app.requirements(ROOT / "pyproject.toml", "relay", "worker")
    names = {entry.split("[")[0].split(">")[0] for entry in needed}
    assert {"websockets", "uvicorn", "numpy", "torch", "diffusers", "python-osc"} <= names
    assert "dreamrelay" not in names
    assert len(needed) == len(set(needed))
    with pytest.raises(ConfigError, match="checkout"):
        modal_app.requirements(ROOT / "none" / "pyproject.toml", "relay")


def test_no_token_goes_into_an_image() -> None:
    environ = {**ENVIRONMENT, "DREAMRELAY_WORKER_TOKEN": "x", "PATH": "y", "HF_TOKEN": "z"}
    taken = modal_app.carried({**environ, "DREAMRELAY_MODAL_OPEN": "1"})
    assert taken == {
        "DREAMRELAY_WORKER_MODEL": "pocket",
        "DREAMRELAY_WORKER_OFFLINE": "1",
        "DREAMRELAY_MODAL_OPEN": "1",
    }
    # Modal refuses to start a container that finds another number of them than was deployed.
    for asked, count in (({"DREAMRELAY_MODAL_SECRET": ""}, 0), ({}, 1)):
        assert len(modal_app.make_secrets(asked)) == count
        assert len(modal_app.make_secrets(modal_app.carried(asked))) == count


def test_dreamstreams_app_is_found(tmp_path: Path) -> None:
    code = (
        "import os, runpy\n"
        "found = runpy.run_path('app.py')['app']\n"
        "from dreamrelay.config import WorkerSettings\n"
        "worker = WorkerSettings.load(environ=os.environ)\n"
        "print(type(found).__name__, found.name, worker.engine, *worker.processors)\n"
        "print(worker.lightning_steps, worker.strength)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "compat" / "dreamstream",
        env={"PATH": "", "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["App", "dreamrelay", "lightning", "standard", "[4]", "0.9"]


def test_it_can_be_read_again_in_the_container(tmp_path: Path) -> None:
    """Where there is the package alone, and no checkout around it."""
    package = Path(shutil.copytree(ROOT / "dreamrelay", tmp_path / "dreamrelay", ignore=_data))
    code = (
        "import modal; modal.is_local = lambda: False\n"  # it looks for its own machinery
        "from dreamrelay.integrations import modal_app as m; print(m.__file__, m.app.name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={
            "PATH": "",
            "HOME": str(tmp_path),
            "USERPROFILE": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(package / "integrations" / "modal_app.py"), "dreamrelay"]


def _data(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_file() and not name.endswith(".py")]


# Its functions, here -----------------------------------------------------------------------------


async def test_a_frame_through_the_pocket_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    studio = modal_app.Studio()
    sent = picture("red", (128, 128))
    made = await asyncio.to_thread(studio.picture.local, sent, "ice, blue")
    with Image.open(io.BytesIO(made)) as image:
        assert image.format == "JPEG"
    red, _, blue = mean_colour(made)
    assert (red, blue) != mean_colour(sent)[::2]
    app: Any = studio.web.local()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://x.modal.run") as client:
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        values = (await client.get("/streams/default/parameters")).json()["values"]
    assert {"prompt", "strength", "seed"} <= values.keys()
    studio.hosted.stop()


def test_modal_itself_is_not_needed_to_host() -> None:
    code = "import sys, dreamrelay.integrations.hosted; print('modal' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["False"], done.stderr


# The relay behind somebody else's server ---------------------------------------------------------


async def test_pages_come_through(hosted: Hosted) -> None:
    assert (await get(hosted, "/healthz")).json()["status"] == "ok"
    ready = await get(hosted, f"/?token={TOKEN}", accept="text/html")
    cookie = ready.headers["set-cookie"].partition(";")[0]
    page = await get(hosted, ready.headers["location"], accept="text/html", cookie=cookie)
    assert page.status_code == 200
    assert "<html" in page.text
    assert (await get(hosted, "/streams", cookie=cookie)).status_code == 200


async def test_everybody_is_from_elsewhere(hosted: Hosted) -> None:
    for host in ("127.0.0.1", "x.modal.run"):
        assert (await get(hosted, "/streams", host=host)).status_code == 401
    assert (await get(hosted, "/streams", authorization=f"Bearer {TOKEN}")).status_code == 200
    assert (await get(hosted, "/streams", authorization="Bearer x")).status_code == 401
    origin = await get(hosted, f"/streams?token={TOKEN}", origin="https://elsewhere.org")
    assert origin.status_code == 403


def test_pictures_over_a_websocket(hosted: Hosted) -> None:
    client = TestClient(hosted.app)
    with client.websocket_connect(f"/?token={TOKEN}") as websocket:
        assert websocket.receive_json()["type"] == "welcome"
        websocket.send_json({"type": "img2img_binary", "format": "jpeg", "prompt": "green"})
        websocket.send_bytes(picture("red"))
        assert websocket.receive_json()["type"] == "img2img_result_binary"
        _, green, _ = mean_colour(websocket.receive_bytes())
        assert green > 200
    for path in ("/", f"/nowhere?token={TOKEN}"):
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
            pass


async def test_a_host_that_cannot_answer_a_websocket_with_a_page(hosted: Hosted) -> None:
    sent: list[Any] = []
    asked = [{"type": "websocket.connect"}]

    async def receive() -> Any:
        return asked.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "scheme": "wss", "path": "/", "query_string": b"", "headers": []}
    await hosted.app(scope, receive, send)
    assert [(m["type"], m.get("code")) for m in sent] == [("websocket.close", 1008)]


def _connect(hosted: Hosted, path: str) -> None:
    with TestClient(hosted.app).websocket_connect(path) as websocket:
        websocket.receive_json()


def test_dreamstreams_clients_need_no_token_where_it_is_open() -> None:
    """As in its README: nothing but the address."""
    hosted = Hosted(RelaySettings(), WorkerSettings(), open_to_all=True, engine=ScriptedEngine())
    hosted.start()
    client = TestClient(hosted.app)
    with (
        client.websocket_connect("/ws/broadcaster/stream123") as broadcaster,
        client.websocket_connect("/ws/viewer/stream123") as viewer,
    ):
        frame = base64.b64encode(picture("red")).decode()
        broadcaster.send_json({"type": "frame", "frame": frame})
        messages = (viewer.receive_json() for _ in range(9))
        shown = next(message for message in messages if message["type"] == "frame")
    hosted.stop()
    assert shown["frame"].startswith("data:image/jpeg;base64,")
    red, green, _ = mean_colour(base64.b64decode(shown["frame"].partition(",")[2]))
    assert green > red  # the engine inverts


def test_one_picture(hosted: Hosted) -> None:
    _, _, blue = mean_colour(hosted.picture(picture("red"), "blue").data)
    assert blue > 200
    with pytest.raises(ProtocolError):
        hosted.picture(b"no picture")


async def test_open_to_all() -> None:
    hosted = Hosted(RelaySettings(), WorkerSettings(), open_to_all=True, engine=ScriptedEngine())
    with pytest.raises(ConfigError, match="start"):
        await get(hosted, "/streams")
    await asyncio.to_thread(hosted.start)
    assert (await get(hosted, "/streams")).status_code == 200
    assert (await get(hosted, "/streams", authorization="Bearer x")).status_code == 401
    assert (await get(hosted, "/streams", origin="https://elsewhere.org")).status_code == 403
    with pytest.raises(WebSocketDisconnect):  # but nobody may take the worker's place
        await asyncio.to_thread(_connect, hosted, "/streams/default/worker")
    await asyncio.to_thread(_connect, hosted, "/streams/default/viewer")
    await asyncio.to_thread(hosted.stop)
    hosted.stop()
    with pytest.raises(ConfigError, match="start"):
        await get(hosted, "/streams")


def test_without_a_token_nobody_could_come(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="DREAMRELAY_RELAY_TOKEN"):
        modal_app.hosted({})
    with pytest.raises(ConfigError):
        modal_app.hosted({**ENVIRONMENT, "DREAMRELAY_WORKER_STRENGTH": "7"})


def test_a_model_that_cannot_be_loaded_is_said_at_the_start() -> None:
    def refuse(_: object) -> None:
        raise EngineError("the disk is full")

    hosted = modal_app.hosted(ENVIRONMENT, engine=ScriptedEngine(on_load=refuse))
    with pytest.raises(EngineError, match="disk is full"):
        hosted.start()


def test_dreamstreams_processors_have_models_of_their_own() -> None:
    plain = {"DREAMRELAY_RELAY_TOKEN": TOKEN}
    assert modal_app.hosted(plain).worker.model_id_or_path == modal_app.MODEL
    assert modal_app.hosted(ENVIRONMENT).worker.model_id_or_path == "pocket"
    own = modal_app.hosted({**plain, "DREAMRELAY_WORKER_ENGINE": "lightning"}).worker
    assert (own.engine, own.model_id_or_path) == ("lightning", "pocket")  # nothing was named
