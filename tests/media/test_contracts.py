"""The contracts of the fakes against the wheels that are published for Windows and macOS."""

import subprocess
from pathlib import Path

import pytest

from tests.fakes import wheels
from tests.fakes.wheels import contract, download, flat, syphon_contract

pytestmark = pytest.mark.network

NOT_OURS = {
    *("({%}) -> str", "({object}) -> None"),
    "({object}, {bytes}, {capsule}, {bytes}) -> object",
}
"""Signatures that pybind11 brings with it."""

ATTRIBUTES = {("width", "({%}) -> int"), ("height", "({%}) -> int")}
"""Of a SenderInfo; a property is registered as a method is."""

ARGUMENT_NAMES = {"self"}


def wheel(package: str, folder: Path) -> Path:
    try:
        return download(package, folder)
    except (subprocess.SubprocessError, OSError):
        pytest.skip(f"offline, or the wheel of {package} for another system cannot be had")


def test_syphon_is_as_published(tmp_path: Path) -> None:
    assert syphon_contract(wheel("syphon-python", tmp_path)) == contract("syphon-python")


def test_spout_is_as_published(tmp_path: Path) -> None:
    """Every method of the extension module with its signature, and no others."""
    if not wheels.CAN_TAKE_APART:
        pytest.skip("needs capstone and pefile to take the extension module apart")
    published = wheels.Extension(wheel("SpoutGL", tmp_path))
    ours = set(flat(contract("SpoutGL")))
    assert published.signatures() == {signature for _, signature in ours} | NOT_OURS
    theirs = {
        (name, signature)
        for name, signature in published.registered() - ATTRIBUTES
        if not name.startswith("_") and name not in ARGUMENT_NAMES and signature not in NOT_OURS
    }
    assert theirs <= ours
    assert set(contract("SpoutGL")["enums"]) <= published.texts()
    receiver = contract("SpoutGL")["SpoutReceiver"]
    overloaded = {name for name, given in receiver.items() if isinstance(given, list)}
    unpaired = {name for name, _ in ours - theirs if not name.startswith("__")}
    assert unpaired <= overloaded
