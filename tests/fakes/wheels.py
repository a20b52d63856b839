"""Signatures out of published wheels that cannot be installed here.

``python -m tests.fakes.wheels`` downloads the wheels for Windows and macOS and writes the contracts
that the fakes check every call against: ``spoutgl_contract.json`` and ``syphon_contract.json``.
"""

import ast
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PINNED = {"SpoutGL": ("0.1.1", "win_amd64"), "syphon-python": ("0.2.0", "macosx_14_0_universal2")}


def contract(package: str) -> dict[str, Any]:
    """The one that is checked in."""
    name = {"SpoutGL": "spoutgl", "syphon-python": "syphon"}[package]
    found: dict[str, Any] = json.loads((HERE / f"{name}_contract.json").read_text("utf-8"))
    return found


def download(package: str, folder: Path) -> Path:
    """The published wheel of the pinned version, for the system it is made for."""
    version, system = PINNED[package]
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "-q"]
    limits = ["--no-deps", "--only-binary=:all:", "--python-version=3.11", f"--platform={system}"]
    subprocess.run(
        [*command, *limits, f"--dest={folder}", f"{package}=={version}"],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return next(folder.glob("*.whl"))


# -- Spout: an extension module of pybind11 -------------------------------------------------------

_SIGNATURE = re.compile(rb"\(\{[^\x00]{0,300}\) -> [^\x00]{1,40}\x00")


def pybind_signatures(wheel: Path) -> set[str]:
    """The signatures pybind11 keeps as texts in the extension module.

    ``({%}, {str}) -> None``: its own notation, with ``%`` where it puts in a class's name.
    """
    with zipfile.ZipFile(wheel) as files:
        name = next(name for name in files.namelist() if name.endswith(".pyd"))
        binary = files.read(name)
    found = set()
    for match in _SIGNATURE.finditer(binary):
        found.add(match[0][:-1].decode("latin-1"))
    return found


def pybind_names(wheel: Path) -> set[str]:
    """All texts in the extension module that could be a method's name."""
    with zipfile.ZipFile(wheel) as files:
        name = next(name for name in files.namelist() if name.endswith(".pyd"))
        binary = files.read(name)
    return {text.decode() for text in re.findall(rb"(?<=\x00)[A-Za-z_]\w{2,40}(?=\x00)", binary)}


# -- Syphon: Python source ------------------------------------------------------------------------


def syphon_contract(wheel: Path) -> dict[str, Any]:
    """Names, parameters and defaults of what syphon-python's modules define in public."""
    classes: dict[str, Any] = {}
    functions: dict[str, str] = {}
    with zipfile.ZipFile(wheel) as files:
        for name in sorted(files.namelist()):
            if not re.fullmatch(r"syphon/(client|server|server_directory|utils/\w+)\.py", name):
                continue
            tree = ast.parse(files.read(name))
            module = name.removesuffix(".py").replace("/", ".")
            for node in tree.body:
                if isinstance(node, ast.ClassDef) and "OpenGL" not in node.name:
                    bases = [ast.unparse(base) for base in node.bases]
                    classes[node.name] = {"bases": bases, **dict(_members(node))}
                elif isinstance(node, ast.FunctionDef) and "opengl" not in name:
                    functions[f"{module}:{node.name}"] = _parameters(node)
    return {
        "package": "syphon-python",
        "version": wheel.name.split("-")[1],
        "classes": classes,
        "functions": functions,
    }


def _members(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for member in node.body:
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
            if member.name.startswith("_") and member.name != "__init__":
                continue
            marks = [ast.unparse(mark) for mark in member.decorator_list]
            if any(mark.endswith(".setter") for mark in marks):
                yield f"{member.name}=", _parameters(member)
            else:
                yield member.name, "property" if "property" in marks else _parameters(member)
        elif isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
            yield member.target.id, "field"


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    arguments = node.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        argument.annotation = None
    return f"({ast.unparse(arguments)})"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        wheel = download("syphon-python", Path(folder))
        text = json.dumps(syphon_contract(wheel), indent=1)
        (HERE / "syphon_contract.json").write_text(f"{text}\n", encoding="utf-8")


def flat(contract: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Method and signature of all parts of the Spout contract."""
    for part in ("both", "SpoutSender", "SpoutReceiver", "helpers"):
        for name, signatures in contract[part].items():
            for one in [signatures] if isinstance(signatures, str) else signatures:
                yield name, one


if __name__ == "__main__":
    main()
