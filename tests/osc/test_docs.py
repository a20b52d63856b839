"""The page, the maps and the tools' pages say what the programs do."""

import csv
import json
import re
import shlex
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import Request, urlopen
from xml.etree import ElementTree as Xml

import pytest

from dreamrelay.config import (
    BridgeSettings,
    ProducerSettings,
    RelaySettings,
    Settings,
    WorkerSettings,
    spout_url,
)
from dreamrelay.engines.parameters import StreamBatchParameters
from dreamrelay.engines.processor_parameters import ProcessorParameters
from dreamrelay.media import keep_apart
from dreamrelay.media.address import parse
from dreamrelay.media.catalog import SINKS, SOURCES
from dreamrelay.osc import Presets, Steered
from dreamrelay.osc.dialect import Dialect, Standing
from dreamrelay.osc.feedback import Target
from dreamrelay.osc.table import ADDRESSES, BY_ADDRESS, FIGURE_NAMES, SUFFIXES
from dreamrelay.osc.wire import Message
from dreamrelay.packet import Packet
from examples.osc import make, tosc
from tests.fakes.engines import ScriptedEngine
from tests.fakes.peers import Person
from tests.support import ROOT, RunningRelay, picture, until

PAGES = sorted((ROOT / "docs" / "tools").glob("*.md"))
BY_PAGE = pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
PROGRAMS: dict[str, type[Settings]] = {
    "main.py": WorkerSettings,
    "client.py": ProducerSettings,
    "spout_bridge.py": BridgeSettings,
    "server.py": RelaySettings,
}


def known(address: str) -> bool:
    if address in BY_ADDRESS or address in FIGURE_NAMES:
        return True
    name, _, rest = address[1:].partition("/")
    if name == "preset":
        return bool(re.fullmatch(r"(save/)?\w+", rest))
    return name in make.rules() and (not rest or rest in SUFFIXES)


def test_they_are_what_the_table_and_the_schema_say() -> None:
    assert make.main(["--check"]) == 0, "run: python -m examples.osc.make"


def test_what_is_stale_is_named_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("PAGE", "CSV", "TOSC"):
        monkeypatch.setattr(make, name, tmp_path / name)
    monkeypatch.setattr(make, "ROOT", tmp_path)
    assert make.main(["--check"]) == 1
    assert make.main([]) == 0
    assert make.main(["--check"]) == 0
    assert "PAGE is not" in capsys.readouterr().out


def test_the_page_has_every_address() -> None:
    page = make.PAGE.read_text(encoding="utf-8")
    for one in ADDRESSES:
        for spelling in (one.name, *one.aliases):
            assert f"`{spelling}`" in page
    for name in make.rules():
        assert f"| `/{name}` |" in page
    assert "<<" not in page


def test_the_list_has_every_address_with_its_range() -> None:
    lines = make.CSV.read_text(encoding="utf-8").splitlines()
    rows = {row["address"]: row for row in csv.DictReader(lines)}
    assert {*BY_ADDRESS, *FIGURE_NAMES} <= set(rows)
    assert (rows["/delta"]["least"], rows["/delta"]["greatest"]) == ("0", "2")
    assert all(known(address) for address in rows)


@pytest.fixture(scope="module")
def layout() -> Xml.Element:
    return Xml.fromstring(zlib.decompress(make.TOSC.read_bytes()))


def test_the_layout_is_one_as_touchosc_stores_it(layout: Xml.Element) -> None:
    assert (layout.tag, layout.get("version")) == ("lexml", "3")
    (canvas,) = layout
    assert canvas.get("type") == "GROUP"
    ids = [node.get("ID") for node in layout.iter("node")]
    assert len(ids) == len(set(ids))
    (pager,) = [node for node in layout.iter("node") if node.get("type") == "PAGER"]
    labels = [prop(page, "tabLabel") for page in pager.findall("children/node")]
    assert labels == ["show", *tosc.PAGES]
    for node in layout.iter("node"):
        inside = frame(node)
        for child in node.findall("children/node"):
            x, y, wide, tall = frame(child)
            assert 0 <= x < x + wide <= inside[2] + 1, prop(child, "name")
            assert 0 <= y < y + tall <= inside[3] + 1, prop(child, "name")


def test_the_layout_shows_every_parameter_with_its_caption(layout: Xml.Element) -> None:
    followed = {m.findtext("path/partial/value") for m in messages(layout, "receive")}
    told = {"/state", "/fps", "/age", "/error"}
    assert {f"/{name}" for name in make.rules()} | told <= followed
    captions = [prop(n, "name") for n in layout.iter("node") if n.get("type") == "LABEL"]
    assert {rule["ui"]["label"] for rule in make.rules().values()} <= set(captions)


def test_whatever_the_layout_sends_is_taken(layout: Xml.Element, tmp_path: Path) -> None:
    defaults = {name: rule.get("default") for name, rule in make.rules().items()}
    heard: list[object] = []
    steered = Steered(heard.append, heard.append, lambda: defaults)
    dialect = Dialect(steered, Presets(tmp_path / "presets.json"))
    dialect.introduce({"properties": dict(make.rules())})
    for number in range(1, tosc.PRESETS + 1):
        dialect.receive(Message(f"/preset/save/{number}"), ("127.0.0.1", 1))
    sent = messages(layout, "send")
    addresses = {message.findtext("path/partial/value") for message in sent}
    wanted = {"/start", "/preset/8", "/preset/save/1", "/strength", "/seed/add", "/cfg_type"}
    assert wanted <= addresses
    for sender, message in enumerate(sent):
        address = message.findtext("path/partial/value") or ""
        for argument in arguments(message):
            dialect.receive(Message(address, (argument,)), ("127.0.0.1", sender))
            dialect.flush()
            assert heard or "/save/" in address, f"{address} {argument}"
            heard.clear()


def test_a_layout_for_another_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema, target = tmp_path / "schema.json", tmp_path / "mine.tosc"
    schema.write_text(json.dumps(ProcessorParameters.model_json_schema()))
    assert tosc.main([str(schema), str(target)]) == 0
    made = Xml.fromstring(zlib.decompress(target.read_bytes()))
    followed = {m.findtext("path/partial/value") for m in messages(made, "receive")}
    assert {f"/{name}" for name in ProcessorParameters.model_fields} <= followed
    schema.write_text("{")
    assert tosc.main([str(schema), str(target)]) == 1
    assert tosc.main([str(schema), "mine.txt"]) == 2
    assert tosc.main(["http://127.0.0.1:9/schema", str(target)]) == 1
    assert str(schema) in capsys.readouterr().out


def arguments(message: Xml.Element) -> list[str | float]:
    """What is sent at both ends of a control, or at each press."""
    (partial,) = message.findall("arguments/partial")
    if partial.findtext("type") == "VALUE":
        return [float(partial.findtext(end) or "") for end in ("scaleMin", "scaleMax")]
    text = partial.findtext("value") or ""
    return [text if partial.findtext("conversion") == "STRING" else float(text)]


def messages(layout: Xml.Element, way: str) -> list[Xml.Element]:
    return [osc for osc in layout.iter("osc") if osc.findtext(way) == "1"]


def prop(node: Xml.Element, key: str) -> str:
    (value,) = [p for p in node.findall("properties/property") if p.findtext("key") == key]
    return value.findtext("value") or ""


def frame(node: Xml.Element) -> tuple[float, ...]:
    (found,) = [p for p in node.findall("properties/property") if p.findtext("key") == "frame"]
    return tuple(float(found.findtext(f"value/{part}") or "") for part in "xywh")


@BY_PAGE
def test_a_tools_page_names_what_there_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.search(r"[Nn]ot (run|compiled)|not run", text), "say what was not run"
    settings = (WorkerSettings, RelaySettings, ProducerSettings, BridgeSettings)
    for flag in re.findall(r"(?<!\w)--([a-z][a-z_-]+)", text):
        assert any(kind.flag_name(flag) in kind.model_fields for kind in settings), flag
    for scheme in re.findall(r"(?:source|sink)=\"?(\w+)://", text):
        assert scheme in SOURCES or scheme in SINKS, scheme
    spoken = re.findall(r"`(/[a-z_/0-9]+)(?=[` ])", text) + re.findall(r"['\"(](/\w+)['\"]", text)
    for address in spoken:
        assert known(address) or address.startswith("/streams/default/"), address
    for target in re.findall(r"\]\(((?!http)[^)#]+)", text):
        assert (page.parent / target).exists(), target


@pytest.fixture
def say(tmp_path: Path) -> Callable[..., None]:
    """Send a message to what a worker makes of OSC: it raises what would be an ``/error``."""
    values = StreamBatchParameters().model_dump(mode="json")
    steered = Steered(
        change=values.update,
        command=lambda _: None,
        values=lambda: values,
        standing=lambda: Standing("live"),
        set_verbosity=lambda _: None,
        verbosity=lambda: 1,
    )
    dialect = Dialect(steered, Presets(tmp_path / "presets.json"))
    dialect.introduce(StreamBatchParameters.model_json_schema())
    for number in (1, 2):
        dialect.receive(Message("/preset/save", (number,)), ("127.0.0.1", 9))

    def say(address: str, *arguments: Any) -> None:
        dialect.receive(Message(address, arguments), ("127.0.0.1", 9))
        dialect.flush()

    return say


def commands(text: str, program: str) -> Iterator[dict[str, str]]:
    """The flags of each line that starts a program."""
    lines = re.findall(rf"python {re.escape(program)}((?: +--(?:\"[^\"]*\"|[^\s`\"])+)*)", text)
    for line in lines:
        words = [word.removeprefix("--").partition("=") for word in shlex.split(line)]
        yield {name: value for name, _, value in words}


@BY_PAGE
def test_a_tools_page_says_the_same_five_things(page: Path) -> None:
    heads = " ".join(re.findall(r"^## (.*)$", page.read_text("utf-8"), re.MULTILINE)).lower()
    for thing in ("picture in", "picture out", "prompt", "feedback", "what goes wrong"):
        assert thing in heads


@BY_PAGE
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_command_lines_of_a_tools_page_are_taken(page: Path, program: str) -> None:
    text = page.read_text("utf-8")
    for flags in commands(text, program):
        token = {"token": "0123456789abcdef"} if flags.get("token") == "..." else {}
        settings = PROGRAMS[program].load({**flags, **token}, environ={})
        if isinstance(settings, WorkerSettings):
            source = settings.source or (settings.spout_in and spout_url(settings.spout_in))
            sinks = [*settings.sink]
            sinks += [spout_url(settings.spout_out)] if settings.spout_out else []
            assert all(parse(url).scheme in SINKS for url in sinks)
            for target in settings.osc_out:
                Target(target).close()
            if source:
                assert parse(source).scheme in SOURCES
                keep_apart(source, sinks)
    if page.stem == "touchdesigner":
        assert len(list(commands(text, "main.py"))) >= 2


def test_the_messages_of_a_tools_page_are_understood(say: Callable[..., None]) -> None:
    said = 0
    for page in PAGES:
        text = page.read_text("utf-8")
        for line in re.findall(r"^ *oscsend localhost \d+ (.*)$", text, re.MULTILINE):
            address, *words = shlex.split(line)
            kinds: list[Callable[[str], Any]] = [
                {"s": str, "i": int, "f": float}[k] for k in (words or [""])[0]
            ]
            say(address, *[kind(word) for kind, word in zip(kinds, words[1:], strict=True)])
            said += 1
        for block in re.findall(r"^```\n(/.*?)^```", text, re.MULTILINE | re.DOTALL):
            for line in block.splitlines():  # message boxes of Max
                address, *words = shlex.split(line)
                say(address, *[json.loads(w) if re.fullmatch(r"[\d.]+", w) else w for w in words])
                said += 1
    assert said >= 15


def test_the_scripts_for_touchdesigner_run(
    say: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "tools" / "touchdesigner.md").read_text("utf-8")
    sends, callbacks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    sent: list[str] = []

    def send(address: str, values: list[Any]) -> None:
        say(address, *values)
        sent.append(address)

    texts = {name: SimpleNamespace(text="") for name in ("state", "prompt")}
    exec(sends, {"op": {"oscout1": SimpleNamespace(sendOSC=send)}.__getitem__})
    assert {"/prompt", "/start", "/seed", "/trigger"} <= set(sent)
    names: dict[str, Any] = {"op": texts.__getitem__}
    exec(callbacks, names)
    for address, arguments in (
        ("/state", ["live", ""]),
        ("/prompt", ["gold"]),
        ("/error", ["/seed", "too low"]),
        ("/fps", [20.0]),
    ):
        names["onReceiveOSC"](None, 0, "", b"", 0.0, address, arguments, None)
    assert (texts["state"].text, texts["prompt"].text) == ("live", "gold")
    assert "/seed too low" in capsys.readouterr().out


def test_the_addresses_in_a_browser_answer(relay: RunningRelay) -> None:
    found = {
        address
        for page in PAGES
        for address in re.findall(r"http://127\.0\.0\.1:8765(/[^\s`\")]*)", page.read_text("utf-8"))
    }
    assert {"/", "/streams/default/view", "/streams/default/mjpeg"} <= found
    patch = re.search(
        r"curl -X PATCH http://127.0.0.1:8765(\S+) -d '(.*)'",
        (ROOT / "docs" / "tools" / "obs.md").read_text("utf-8"),
    )
    assert patch is not None
    engine = ScriptedEngine()
    with (
        Person(relay.websocket) as viewer,
        Person(relay.websocket, "producer") as producer,
        Person(relay.websocket, "worker") as worker,
    ):
        worker.link.introduce(
            {"credit": 1, "schema": engine.schema(), "parameters": engine.parameters}
        )
        producer.send(picture(), 1)
        until(lambda: worker.status.get("viewers") == 1 and worker.status.get("seq_in"))
        worker.link.send_picture(Packet.of(picture(), seq=1), "output")
        until(lambda: viewer.packets)
        for address in sorted(found):
            with urlopen(relay.url.rstrip("/") + address, timeout=60) as answer:
                assert answer.status == 200, address
        request = Request(relay.url.rstrip("/") + patch[1], patch[2].encode(), method="PATCH")
        with urlopen(request, timeout=60) as answer:
            assert answer.status == 200
        until(lambda: viewer.values.get("prompt") == "gold")


def test_the_batch_file_starts_the_spout_service() -> None:
    (line,) = [row for row in (ROOT / "start.bat").read_text().splitlines() if "python" in row]
    flags = dict(re.findall(r"--([a-z-]+)=(\S+)", line))
    settings = WorkerSettings.load(flags, environ={})
    assert (settings.spout_in, settings.spout_out) == ("SourceImage", "StreamDiffusion")


def test_every_tool_has_its_page() -> None:
    names = {page.stem for page in PAGES}
    assert names == {"touchdesigner", "resolume", "obs", "processing", "openframeworks", "max"}
    page = make.PAGE.read_text(encoding="utf-8")
    assert all(f"(tools/{name}.md)" in page for name in names)
