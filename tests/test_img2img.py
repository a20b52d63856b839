"""One picture there and back: ``client.py image.png "a prompt" [ws://...] [--binary]``."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dreamrelay import img2img
from dreamrelay.cli import run
from dreamrelay.config import WorkerSettings
from dreamrelay.errors import ConfigError, DeviceError, DreamRelayError, EngineError, ProtocolError
from dreamrelay.img2img import transform
from dreamrelay.worker import Worker
from tests.fakes.engines import ScriptedEngine
from tests.fakes.peers import Person
from tests.fakes.relays import Peer, closed_port, hung_server, scripted_relay
from tests.fakes.running import Running
from tests.support import RunningRelay, mean_colour, picture, until

pytestmark = pytest.mark.usefixtures("restored_logging")


@pytest.fixture
def worker(relay: RunningRelay) -> Iterator[ScriptedEngine]:
    engine = ScriptedEngine()
    settings = WorkerSettings(websocket_uri=relay.websocket, osc_port=None, viewer="off")
    running = Running(Worker(settings, engine=engine))
    with Person(relay.websocket) as viewer:
        until(lambda: viewer.status.get("state") == "live")
    yield engine
    running.stop()


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A red picture, in a folder of its own that is the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "image.jpg"  # as the seed's sample: a PNG that is called jpg
    path.write_bytes(picture("red", (617, 485), "PNG"))
    return path


def client(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        run("producer", arguments)
    return ended.value.code


def blue(path: str) -> bool:
    red, _, blue = mean_colour(Path(path).read_bytes())
    return red < 20 and blue > 235


@pytest.mark.parametrize(
    ("words", "file"),
    [
        ("{image} blue {uri}", "output_client_base64.jpg"),
        ("{image} blue {uri} --binary", "output_client_binary.jpg"),
        ("--binary {image} blue {uri}", "output_client_binary.jpg"),
        ("{image} --binary blue {uri}", "output_client_binary.jpg"),
        ("{image} blue --binary {uri}", "output_client_binary.jpg"),
        ("{image} {uri} blue", "output_client_base64.jpg"),
        ("{image} blue --websocket_uri={uri}", "output_client_base64.jpg"),
        ("{image} --prompt=blue --websocket_uri {uri} --binary", "output_client_binary.jpg"),
    ],
)
def test_the_forms_of_the_seed(
    relay: RunningRelay,
    worker: ScriptedEngine,
    image: Path,
    capsys: pytest.CaptureFixture[str],
    words: str,
    file: str,
) -> None:
    arguments = [word.format(image=image.name, uri=relay.websocket) for word in words.split()]
    assert client(*arguments) == 0
    assert blue(file)
    assert file in capsys.readouterr().out
    assert len(list(Path.cwd().iterdir())) == 2, "the picture and the answer"
    assert worker.parameters["prompt"] == "invert"


def test_without_a_prompt_the_stream_s_own_holds(
    relay: RunningRelay, worker: ScriptedEngine, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert client(image.name, relay.websocket) == 0
    assert mean_colour(Path("output_client_base64.jpg").read_bytes())[1] > 235
    assert "'invert'" in capsys.readouterr().out


def test_a_prompt_of_several_words_may_hold_anything(
    relay: RunningRelay, worker: ScriptedEngine, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for prompt in ("[a, list]", "123", "help", "None", "x=1, y:2", "Füchse 狐"):
        assert client(image.name, prompt, relay.websocket) == 0
        assert repr(prompt) in capsys.readouterr().out


def test_another_stream_has_no_worker(
    relay: RunningRelay, worker: ScriptedEngine, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert client(image.name, "blue", relay.websocket, "--stream=other") == 1
    assert "no worker" in capsys.readouterr().err


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dreamrelay: ")
    return str(line)


def test_without_a_worker(
    relay: RunningRelay, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert client(image.name, "blue", relay.websocket) == 1
    assert "python main.py" in one_line(capsys)
    assert not Path("output_client_base64.jpg").exists()


def test_without_a_relay(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert client(image.name, "blue", f"ws://localhost:{closed_port()}") == 1
    assert "start the relay with `python server.py`" in one_line(capsys)


def test_without_the_file(relay: RunningRelay, capsys: pytest.CaptureFixture[str]) -> None:
    assert client("no/such.png", "blue", relay.websocket) == 1
    assert re.search(r"no/such.png cannot be read", one_line(capsys))


def test_with_a_file_that_is_no_picture(
    relay: RunningRelay, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image.write_text("hello")
    assert client(image.name, "blue", relay.websocket) == 1
    assert "expected a JPEG, PNG, WebP, GIF or BMP" in one_line(capsys)


def test_a_prompt_that_the_engine_refuses(
    relay: RunningRelay, worker: ScriptedEngine, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert client(image.name, "fail", relay.websocket, "--binary") == 1
    assert "dreamrelay: this prompt fails" in capsys.readouterr().err


def test_binary_without_a_picture_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert client("--binary") == 2
    assert "client.py image.png" in one_line(capsys)


# -- other servers --------------------------------------------------------------------------------


def result(data: bytes = b"") -> dict[str, Any]:
    image = base64.b64encode(data or picture("blue")).decode()
    return {"image": image, "prompt": "x"}


def test_a_server_that_greets_nobody(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(img2img, "GREETING_SECONDS", 0.2)

    def talk(peer: Peer) -> None:
        assert json.loads(peer.hear())["type"] == "img2img"
        peer.tell("img2img_result", **result())
        peer.stay()

    with scripted_relay(talk) as uri:
        assert mean_colour(transform(uri, image, None).data)[2] > 235


Answer = Callable[[Peer], None]


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (lambda p: p.tell("error", message="too busy"), EngineError, "too busy"),
        (lambda p: p.tell("pong"), ProtocolError, "got 'pong'"),
        (lambda p: p.websocket.send("no JSON"), ProtocolError, "cannot be understood"),
        (lambda p: p.websocket.send("[]"), ProtocolError, "cannot be understood"),
        (lambda p: p.tell("img2img_result"), ProtocolError, "cannot be understood"),
        (lambda p: p.tell("img2img_result", image="%%"), ProtocolError, "cannot be understood"),
        (lambda p: p.tell("img2img_result", **result(b"xx")), ProtocolError, "expected a JPEG"),
        (lambda p: None, EngineError, "no answer came"),
        (lambda p: p.cut(), DeviceError, "cannot be reached"),
    ],
)
def test_an_answer_that_makes_no_sense_is_told(
    image: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer,
    error: type[DreamRelayError],
    text: str,
) -> None:
    monkeypatch.setattr(img2img, "ANSWER_SECONDS", 0.5)

    def talk(peer: Peer) -> None:
        peer.tell("welcome", message="hello")
        peer.hear()
        answer(peer)
        peer.stay()

    with scripted_relay(talk) as uri, pytest.raises(error, match=text):
        transform(uri, image, "blue")


@pytest.mark.parametrize("uri", ["ws://", "ws://host:port", "ftp://x"])
def test_an_address_that_is_none(image: Path, uri: str) -> None:
    with pytest.raises(ConfigError, match="ws://localhost:8765"):
        transform(uri, image, "blue")


def test_a_server_that_never_answers_the_handshake(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(img2img, "OPEN_SECONDS", 0.3)
    with hung_server() as uri, pytest.raises(DeviceError, match="does not answer"):
        transform(uri, image, "blue")
