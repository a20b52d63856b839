"""The page, the maps and the tools' pages say what the programs do."""

import csv
import re
import zlib
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from dreamrelay.config import BridgeSettings, ProducerSettings, RelaySettings, WorkerSettings
from dreamrelay.media.catalog import SINKS, SOURCES
from dreamrelay.osc.table import ADDRESSES, BY_ADDRESS, FIGURE_NAMES, SUFFIXES
from examples.osc import make
from tests.support import ROOT

PAGES = sorted((ROOT / "docs" / "tools").glob("*.md"))


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


def test_the_layout_sends_and_follows_known_addresses() -> None:
    layout = Xml.fromstring(zlib.decompress(make.TOSC.read_bytes()))
    assert layout.tag == "lexml"
    paths = [path.text or "" for path in layout.findall(".//path/partial/value")]
    assert all(known(path) for path in paths), paths
    assert {"/strength", "/start", "/prompt", "/state", "/preset/8"} <= set(paths)
    ids = [node.get("ID") for node in layout.iter("node")]
    assert len(ids) == len(set(ids))
    (fader,) = [
        node
        for node in layout.iter("node")
        if node.get("type") == "FADER" and node.findtext(".//path/partial/value") == "/delta"
    ]
    assert fader.findtext(".//arguments/partial/scaleMax") == "2"


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
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
