"""Import strings."""

import os

import pytest

from dreamrelay.errors import MissingExtra
from dreamrelay.importer import Entry


def test_a_target_is_imported_and_statistics_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    assert Entry("dreamrelay.importer:Entry", "itself").load() is Entry
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_a_package_that_is_missing_is_named_by_its_extra() -> None:
    with pytest.raises(MissingExtra, match=r"dreamrelay\[toast\]"):
        Entry("no_such_package.at_all:Thing", "toast", "toast").load()


def test_what_is_broken_in_the_package_itself_is_no_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError):
        Entry("dreamrelay.no_such_module:Thing", "toast", "toast").load()
