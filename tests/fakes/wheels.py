"""Signatures out of published wheels that cannot be installed here.

The fakes check every call against ``spoutgl_contract.json`` and ``syphon_contract.json``; a test
takes the published wheels apart and compares. ``python -m tests.fakes.wheels`` writes Syphon's
anew, out of its source; Spout's is kept by hand, because a machine's code does not say to which
class a method belongs.
"""

import ast
import bisect
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

try:
    import capstone
    import pefile
except ModuleNotFoundError:  # then the tests that need them say so
    capstone = pefile = None
CAN_TAKE_APART = pefile is not None

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

_TEXT = re.compile(rb"[\x20-\x7e]{3,}")
_NAME = re.compile(r"[A-Za-z_]\w+")
_NEAR = 12
"""Texts and calls to look at after a name for the signature it is registered with."""


class Extension:
    """An extension module for Windows, taken apart: which signature is registered with which name.

    pybind11 passes a method's name to a function that has its signature's text in it, or holds both
    itself. The texts are in its own notation: ``({%}, {str}) -> None``, with ``%`` where it puts in
    a class's name.
    """

    def __init__(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as files:
            name = next(name for name in files.namelist() if name.endswith(".pyd"))
            parsed = pefile.PE(data=files.read(name))
        self._image: bytes = parsed.get_memory_mapped_image()
        code = next(part for part in parsed.sections if part.Name.startswith(b".text"))
        self._events = list(self._read(code.get_data(), code.VirtualAddress))
        self._at = [at for at, _ in self._events]
        self._starts = sorted({what for _, what in self._events if isinstance(what, int)})
        self._known: dict[int, str | None] = {}

    def registered(self) -> set[tuple[str, str]]:
        """Names with their signatures; of overloads only the first."""
        found = set()
        for number, (_, what) in enumerate(self._events):
            if not isinstance(what, str) or not _NAME.fullmatch(what):
                continue
            for _, after in self._events[number + 1 : number + _NEAR]:
                if isinstance(after, str) and _NAME.fullmatch(after):
                    break
                signature = self._signature_of(after)
                if signature:
                    found.add((what, signature))
                    break
        return found

    def signatures(self) -> set[str]:
        return {text for text in self.texts() if text.startswith("({")}

    def texts(self) -> set[str]:
        """All that the code loads: names and signatures among them."""
        return {what for _, what in self._events if isinstance(what, str)}

    def _read(self, code: bytes, start: int) -> Iterator[tuple[int, str | int]]:
        """Addresses of texts that are loaded (the text) and of calls (the function's address)."""
        engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        engine.skipdata = True
        for at, size, word, operands in engine.disasm_lite(code, start):
            if word == "lea":
                where = re.search(r"\[rip ([+-]) (0x[0-9a-f]+|\d+)\]", operands)
                if where is not None:
                    offset = int(where[2], 0) * (1 if where[1] == "+" else -1)
                    target = at + size + offset
                    text = self._image[target : self._image.find(b"\0", target, target + 400)]
                    if _TEXT.fullmatch(text):
                        yield at, text.decode()
            elif word == "call" and operands.startswith("0x"):
                yield at, int(operands, 16)

    def _signature_of(self, what: str | int, depth: int = 3) -> str | None:
        """The signature that is this, or is in this function or in one that it calls."""
        if isinstance(what, str):
            return what if what.startswith("({") else None
        if what not in self._known:
            self._known[what] = None
            follower = bisect.bisect_right(self._starts, what)
            end = self._starts[follower] if follower < len(self._starts) else sys.maxsize
            body = slice(bisect.bisect_left(self._at, what), bisect.bisect_left(self._at, end))
            for _, part in self._events[body]:
                if isinstance(part, str) or depth:
                    found = self._signature_of(part, depth - 1)
                    if found:
                        self._known[what] = found
                        break
        return self._known[what]


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
