"""The contracts of the fakes against the wheels that are published for Windows and macOS."""

import subprocess
from pathlib import Path

import pytest

from tests.fakes.wheels import (
    contract,
    download,
    flat,
    pybind_names,
    pybind_signatures,
    syphon_contract,
)

pytestmark = pytest.mark.network

PYBIND11S_OWN = {
    "({%}) -> str",
    "({object}) -> None",
    "({object}, {bytes}, {capsule}, {bytes}) -> object",
}


def wheel(package: str, folder: Path) -> Path:
    try:
        return download(package, folder)
    except (subprocess.SubprocessError, OSError):
        pytest.skip(f"offline, or the wheel of {package} for another system cannot be had")


def test_syphon_is_as_published(tmp_path: Path) -> None:
    assert syphon_contract(wheel("syphon-python", tmp_path)) == contract("syphon-python")


def test_spout_has_the_methods_and_signatures_that_are_published(tmp_path: Path) -> None:
    """All signatures of the wheel are in the contract, and no others; and so are the names."""
    published = wheel("SpoutGL", tmp_path)
    ours = list(flat(contract("SpoutGL")))
    assert pybind_signatures(published) == {signature for _, signature in ours} | PYBIND11S_OWN
    names = {name for name, _ in ours if not name.startswith("__")}
    assert names <= pybind_names(published)
