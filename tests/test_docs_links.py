"""The pages of the documentation lead somewhere, and the commands on them are understood."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamrelay.cli import COMMANDS
from dreamrelay.config import Settings
from dreamrelay.errors import ConfigError
from tests.support import ROOT

PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "dreamrelay").rglob("*.md")]
)
IDS = [path.relative_to(ROOT).as_posix() for path in PAGES]

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?: \"[^\"]*\")?\)|(?:src|href)=\"([^\"]+)\"")
COMMAND = re.compile(
    r"(?:python3? (?:-m )?)?\b(server\.py|main\.py|client\.py|spout_bridge\.py"
    r"|dreamrelay (?:relay|worker|producer|bridge|demo|list|selftest|capacity))((?: +[^\s`]+)*)"
)
SCRIPTS = {
    "server.py": "relay",
    "main.py": "worker",
    "client.py": "producer",
    "spout_bridge.py": "bridge",
}


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def anchors(text: str) -> set[str]:
    """The names that a page's headings have, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.+?)\s*$", prose(text), flags=re.M)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", prose(page.read_text(encoding="utf-8")))
    for found in LINK.finditer(text):
        link = found[1] or found[2]
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        to = (page.parent / name).resolve() if name else page
        assert to.exists(), f"{page.name}: {link} leads nowhere"
        assert to.is_relative_to(ROOT), f"{page.name}: {link} leads out of the repository"
        if anchor and to.suffix == ".md":
            there = anchors(to.read_text(encoding="utf-8"))
            assert anchor in there, f"{page.name}: {link}: the headings there are {sorted(there)}"


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """What a page says to type, as command and arguments; ``\\`` goes on in the next line."""
    code = [*re.findall(r"^```\w*\n(.*?)^```", text, flags=re.M | re.S)]
    code += re.findall(r"`([^`\n]+)`", prose(text))
    for block in code:
        for line in re.sub(r"[\\^]\n\s*", "", block).splitlines():
            for found in COMMAND.finditer(line):
                name = SCRIPTS.get(found[1], found[1].removeprefix("dreamrelay "))
                words = found[2].split("  ")[0].split(" #")[0].split(" & ")[0]
                yield name, shlex.split(words)


def trouble(name: str, word: str) -> str:
    """What a program says to a flag; "" where all is well, or where only the value is to be
    filled in.
    """
    flag, _, value = word.removeprefix("--").partition("=")
    if not word.startswith("--") or flag in ("binary", "quiet", "help"):
        return ""
    settings: type[Settings] = COMMANDS[name][0]
    try:
        settings.load({flag: value or "True"}, environ={})
    except ConfigError as error:
        to_fill_in = not value or "..." in value or "NAME" in value
        unknown = settings.flag_name(flag) not in settings.model_fields
        return str(error) if unknown or not to_fill_in else ""
    return ""


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_flag_on_it_is_known(page: Path) -> None:
    for name, words in commands(page.read_text(encoding="utf-8")):
        wrong = [text for text in (trouble(name, word) for word in words) if text]
        assert not wrong, f"{name} {' '.join(words)}"


def test_commands_are_found_and_read() -> None:
    text = """
```
python main.py --width=64 \\
    --modle=x
```
`python server.py --port=http` and `python client.py --token=...`
"""
    found = list(commands(text))
    assert [name for name, _ in found] == ["worker", "relay", "producer"]
    says = [[trouble(name, word) for word in words] for name, words in found]
    assert "did you mean model" in says[0][1]
    assert says[1][0].startswith("--port: ")
    assert (says[0][0], says[2][0]) == ("", "")
