"""The addresses, as data: the dialect acts by this table, the documentation is made from it."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["prompt", "button", "verbosity", "preset", "everything", "figure"]


@dataclass(frozen=True, slots=True)
class Address:
    """An address with its aliases: what it takes and what it does, for programs and for people."""

    name: str
    aliases: tuple[str, ...]
    kind: Kind
    takes: str
    does: str

    @property
    def word(self) -> str:
        return self.name[1:]


ADDRESSES: tuple[Address, ...] = (
    Address(
        "/prompt",
        (),
        "prompt",
        "text [negative], or text weight text weight ...",
        "Sets the prompt; a second text is the negative prompt, which stays until it is changed. "
        "With numbers behind the texts they are blended by weight, where the engine can. "
        "Numbers as text are written out. Nothing: the prompt in force stays. "
        "A prompt that was used before costs no text encoding.",
    ),
    Address(
        "/start", ("/s",), "button", "", "Generates continuously, until stopped. Twice is as once."
    ),
    Address(
        "/stop",
        ("/S",),
        "button",
        "",
        "Stops; the last picture stays. Stopped, then started, ends started, however fast.",
    ),
    Address(
        "/trigger",
        ("/t",),
        "button",
        "",
        "Makes one picture, of the newest frame or, if there is none yet, of the next one. "
        "While it generates continuously: nothing.",
    ),
    Address("/p", (), "button", "", "Output on: sinks and relay get pictures. So it starts."),
    Address("/P", (), "button", "", "Output off; nothing is generated meanwhile."),
    Address(
        "/x",
        (),
        "button",
        "",
        "Closes the live source and the texture outputs and opens them again. Files stay.",
    ),
    Address(
        "/verbose",
        (),
        "verbosity",
        "0..3",
        "How much the worker's log says: 0 errors, 1 warnings, 2 what happens, 3 everything. "
        "Nothing: answers the level.",
    ),
    Address("/v", (), "button", "", "The next level: 0, 1, 2, 3, 0."),
    Address("/von", (), "button", "", "Level 2."),
    Address("/voff", (), "button", "", "Level 0."),
    Address(
        "/preset",
        (),
        "preset",
        "number or name",
        "Recalls a preset. `/preset/4` does the same with a button's 1 or no argument. "
        "`?` answers the names.",
    ),
    Address(
        "/preset/save",
        (),
        "preset",
        "number or name",
        "Keeps all values under that number or name; `/preset/save/4` for buttons.",
    ),
    Address(
        "/query",
        ("/?",),
        "everything",
        "",
        "Answers all figures and parameters to the sender, one message each.",
    ),
)

LATENCY = "/latency/"
"""Before the name of a part of a picture's way."""

_SPANS = {
    "encoded": "Median, 95th and 99th of 100, in ms, once a second: from the camera to a JPEG.",
    "relayed": "The same from there to the relay.",
    "handed": "The same until a worker is given it.",
    "received": "The same from there to the worker.",
    "decoded": "The same from JPEG to pixels.",
    "infer": "The same until the engine is free.",
    "inferred": "The same of the engine.",
    "reencoded": "The same from pixels to JPEG.",
    "returned": "The same from there back to the relay.",
    "age": "The same of all this: from the camera back to the relay.",
    "shown": "The same from the camera to the eye, at the slowest of window, studio and bridge.",
}

FIGURES: tuple[Address, ...] = (
    Address("/fps", (), "figure", "f", "Pictures a second, once a second."),
    Address("/age", (), "figure", "f", "Age of the last picture in ms, once a second."),
    *(Address(f"{LATENCY}{name}", (), "figure", "f f f", does) for name, does in _SPANS.items()),
    Address(
        f"{LATENCY}error", (), "figure", "f", "How far the clocks of the machines may differ, ms."
    ),
    Address(
        "/state",
        (),
        "figure",
        "s s",
        "`loading`, `warming`, `live`, `paused` or `error`, and a text; at each change.",
    ),
    Address(
        "/prompt_cache",
        (),
        "figure",
        "i i",
        "Texts encoded so far, and texts that were found encoded already; at each change.",
    ),
    Address("/error", (), "figure", "s s", "An address (or nothing) and what is wrong."),
    Address("/heartbeat", (), "figure", "i", "Counts up once a second for as long as we live."),
)

SUFFIXES = {
    "add": "adds to a number, within its bounds (`/strength/add 0.05`, for encoders); of a choice: "
    "so many further in its row",
    "unit": "sets a number from 0..1, its least to its greatest value (`/delta/unit 0.5`); of a "
    "choice: as far along its row",
    "toggle": "turns a switch over",
}
"""What may stand behind a parameter's address."""

STREAM = "/stream/"
"""Before a stream's name, and that before any address: what is meant there."""

BY_ADDRESS = {spelling: a for a in ADDRESSES for spelling in (a.name, *a.aliases)}
FIGURE_NAMES = frozenset(figure.name for figure in FIGURES)

LONG = "/parameters/"
"""Before a parameter's name; needed where the short address means something else."""


def address_of(parameter: str) -> str:
    """The address that sets a parameter, and tells it."""
    short = f"/{parameter}"
    taken = short in FIGURE_NAMES or (short in BY_ADDRESS and BY_ADDRESS[short].kind != "prompt")
    return f"{LONG}{parameter}" if taken else short
