"""``docs/security.md`` names a test for each of its lines, and says each limit as it is."""

import re
from pathlib import Path

import pytest

from dreamrelay.config import RelaySettings
from tests.support import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
TABLE = PAGE[PAGE.index("| line |") : PAGE.index("## Limits")]


def named() -> list[tuple[Path, str]]:
    """The file and the classes and functions in it, of each test that the table names."""
    found: list[tuple[Path, str]] = []
    file = Path()
    for text in re.findall(r"`([^`]+)`", TABLE):
        parts = text.split("::")
        if parts[0].endswith((".py", "/")):
            file = Path(__file__).parent / parts.pop(0)
            found.append((file, ""))
        found += [(file, part) for part in parts if re.match(r"[Tt]est", part)]
    return found


@pytest.mark.parametrize(("file", "name"), named(), ids=lambda value: str(value)[-40:])
def test_a_test_that_is_named_is_there(file: Path, name: str) -> None:
    assert file.exists()
    if name:
        text = file.read_text(encoding="utf-8")
        assert re.search(rf"^\s*(class|def) {name}\b", text, re.MULTILINE)


def test_every_line_has_one() -> None:
    lines = [line for line in TABLE.splitlines() if line.startswith("| ")][1:]
    assert len(lines) > 35
    assert all("`" in line for line in lines)


def test_the_limits_are_those_of_the_settings() -> None:
    rows = re.findall(r"^\| (`.+?) \| ([\d, ]+) \|", PAGE[PAGE.index("## Limits") :], re.MULTILINE)
    assert len(rows) == 12
    for names, values in rows:
        fields = re.findall(r"`(\w+)`", names)
        for field, value in zip(fields, values.split(","), strict=True):
            assert RelaySettings.model_fields[field].default == float(value), field
