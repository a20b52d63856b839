"""How the window looks: what a person set up with keys, and would have to set up again."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Literal

Fit = Literal["contain", "cover", "stretch"]
FITS: dict[Fit, str] = {
    "contain": "the whole picture, its aspect kept",
    "cover": "the window filled, edges cut",
    "stretch": "the window filled, stretched",
}


@dataclass(frozen=True, slots=True)
class Look:
    """One state of it; told at each change, so that a window that is opened anew looks the same.

    Attributes:
        fullscreen: None: on any screen but the main one.
        screen: its number, 0 for the main one.
        fit: how the picture fills the window.
        nearest: sharp pixels.
        mirror: left is right.
        hud: figures over the picture.
        black: nothing at all.
        testing: the test card.
    """

    fullscreen: bool | None = None
    screen: int = 0
    fit: Fit = "contain"
    nearest: bool = False
    mirror: bool = False
    hud: bool = False
    black: bool = False
    testing: bool = False

    def written(self) -> str:
        """As one argument of a command line."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def read(cls, text: str) -> "Look":
        """The look that ``written`` wrote.

        Raises:
            ValueError: it is none.
        """
        given = json.loads(text)
        known = {field.name for field in fields(cls)}
        if not isinstance(given, dict) or not known.issuperset(given):
            raise ValueError(f"expected the window's look, got {text[:80]!r}")
        look = cls(**given)
        if look.fit not in tuple(FITS):
            raise ValueError(f"expected {', '.join(FITS)} as fit, got {look.fit!r}")
        return look
