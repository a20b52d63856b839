"""What names a source or a sink: ``scheme://target?key=value``, or a plain path.

Only ``://`` makes a URL, so that ``C:\\clips\\a.mp4``, ``./a b.png`` and ``what?.jpg`` stay paths
and are taken as they are. In a URL the target and the options are percent-decoded.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, unquote

from pydantic import BaseModel, ConfigDict, ValidationError

from dreamrelay.errors import ConfigError

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"})
VIDEO_SUFFIXES = frozenset(
    {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv"}
)

PATH = "path"
"""The scheme of an address that is a plain path."""

_SECRETIVE = frozenset({"http", "https", "rtsp", "ws", "wss"})
"""Schemes whose addresses people write passwords into."""

# One letter before the colon is a Windows drive.
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://(.*)", re.DOTALL)
# An unescaped slash in a password is none of a path, unless a port stands before it.
_PASSWORD = re.compile(r"(?<=://)([^/?#@:]*):(?:[^/?#]*|(?!\d+/)[^?#]*?)@")
# `%06d` and `%d` number the pictures of a sink; decoded, they would be a control character and a
# letter.
_COUNTER = re.compile(r"%(?=0[1-9]d|d(?![0-9a-fA-F]))")


class Options(BaseModel):
    """Base of the options that a scheme takes after its question mark."""

    model_config = ConfigDict(extra="forbid", frozen=True)


O = TypeVar("O", bound=Options)  # noqa: E741 - an options class, nothing else


@dataclass(frozen=True, slots=True)
class Address:
    """A source or sink by name, taken apart.

    Attributes:
        text: as it was given.
        scheme: in lower case; ``path`` for a plain path.
        target: what stands between ``://`` and ``?``, decoded; the whole of a plain path.
        query: what stands after ``?``, not decoded.
    """

    text: str
    scheme: str
    target: str
    query: str = ""

    def __str__(self) -> str:
        """The address for people and logs: what may be a password, or a token, is hidden."""
        if self.scheme in _SECRETIVE:
            return _without_secrets(self.text)
        if "://" in self.target:  # of a stream that stands in for a camera
            query = f"?{self.query}" if self.query else ""
            return f"{self.scheme}://{_without_secrets(self.target)}{query}"
        return self.text

    @property
    def path(self) -> Path:
        """The target as a path: ``~`` is the home folder, ``/C:/x`` a Windows drive."""
        target = self.target
        if self.scheme != PATH:
            if target.startswith("localhost/"):
                target = target.removeprefix("localhost")
            if re.match(r"/[a-zA-Z]:", target):
                target = target[1:]
        if not target or "\0" in target:
            raise ConfigError(f"{self}: expected a path, got {target!r}")
        if re.match(r"~(?=[/\\]|$)", target):
            return Path.home() / target[1:].lstrip("/\\")
        return Path(target)

    def options(self, model: type[O]) -> O:
        """Read the options by their table.

        Raises:
            ConfigError: an option is unknown, given twice or has a wrong value.
        """
        pairs = parse_qsl(self.query, keep_blank_values=True)
        values = dict(pairs)
        for name, _ in pairs:
            if name not in model.model_fields:
                known = sorted(model.model_fields)
                raise ConfigError(
                    f"{self}: unknown option {name!r}{suggestion(name, known)}; "
                    f"it takes {', '.join(known) or 'none'}"
                )
        if len(values) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"{self}: expected each option once, got {twice!r} twice")
        try:
            return model.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"][:1]) or "options"
            message = first["msg"].removeprefix("Value error, ")
            raise ConfigError(
                f"{self}: {name}: {message}, got {values.get(name, self.query)!r}"
            ) from None


def parse(text: str) -> Address:
    """Take an address apart; nothing is opened or looked up.

    Raises:
        ConfigError: it is empty.
    """
    if not text.strip():
        raise ConfigError("expected a path or a URL such as pattern://bars, got nothing")
    match = _URL.fullmatch(text)
    if match is None:
        return Address(text, PATH, text)
    target, _, query = match[2].partition("?")
    target = unquote(_COUNTER.sub("%25", target))
    return Address(text, match[1].lower(), target, query)


def _without_secrets(url: str) -> str:
    """A network address without its password, and without its query: cameras want theirs there."""
    place, asked, _ = _PASSWORD.sub(r"\1:***@", url).partition("?")
    return f"{place}?***" if asked else place


def suggestion(name: str, known: Iterable[str]) -> str:
    """`` (did you mean x?)`` where something known is close to ``name``, or nothing."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
