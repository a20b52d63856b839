"""What ``dreamrelay``'s own commands can be told: demo, list, selftest, bench."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from dreamrelay.config.settings import Settings
from dreamrelay.config.values import DEFAULT_PORT, OptionalText, Port, Seconds, Texts


class DemoSettings(Settings):
    """The demo: relay, worker and a moving picture, and where to look at it."""

    section = "demo"
    usage = "dreamrelay demo"
    aliases: ClassVar[Mapping[str, str]] = {"json": "as_json"}

    duration: Seconds = Field(None, description="Seconds; empty: until Ctrl-C.")
    port: Port = Field(DEFAULT_PORT, description="Of the relay; the next free one if it is taken.")
    source: str = Field("pattern://clip", description="What is shown until you send a camera.")
    prompt: str = Field("neon glow, blue and pink", description="First prompt.")
    model: str = Field(
        "pocket", min_length=1, description="pocket, a hub id, or a folder in diffusers format."
    )
    fps: float = Field(30.0, gt=0, le=240, description="Pictures a second of the source.")
    browser: Literal["auto", "on", "off"] = Field("auto", description="Open the studio.")
    chaos: bool = Field(False, description="Let one disaster after the other happen, and measure.")
    only: Texts = Field(
        default_factory=list, description="Of the disasters of --chaos these, as kill,relay."
    )
    as_json: bool = Field(False, description="The table of --chaos for programs (also --json).")
    viewer: Literal["auto", "on", "off"] = Field("auto", description="Open the window.")
    verbose: int = Field(1, ge=0, le=3, description="0 quiet, 1 progress, 2 and 3 more.")


class ListSettings(Settings):
    """What is there now: cameras, screens, Spout and NDI senders, Syphon servers."""

    section = "list"
    usage = "dreamrelay list"
    aliases: ClassVar[Mapping[str, str]] = {"json": "as_json"}

    as_json: bool = Field(False, description="For programs.")
    seconds: float = Field(1.5, gt=0, le=60, description="For senders on the network to answer.")
    verbose: int = Field(1, ge=0, le=3, description="0 quiet, 1 progress, 2 and 3 more.")


class SelftestSettings(Settings):
    """Try a technology that we have no machine for, and print a report to send us."""

    section = "selftest"
    usage = "dreamrelay selftest spout|syphon"

    what: Literal["spout", "syphon"] = Field(
        "spout", description="What to try; also as the first word."
    )
    seconds: float = Field(3.0, gt=0, le=60, description="To measure rate and delay.")
    verbose: int = Field(1, ge=0, le=3, description="0 quiet, 1 progress, 2 and 3 more.")


class BenchSettings(Settings):
    """Measure how old pictures are when they are seen: a clock is sent through all of it, and read.

    It flickers: the fields of the clock change with every picture.
    """

    section = "bench"
    usage = "dreamrelay bench glass"

    what: Literal["glass"] = Field("glass", description="What to measure; also as the first word.")
    seconds: float = Field(10.0, ge=1, le=600, description="For each way of seeing.")
    model: str = Field(
        "pocket", min_length=1, description="pocket, a hub id, or a folder in diffusers format."
    )
    strength: float = Field(
        0.2, ge=0, le=1, description="Of the engine; more, and it paints over the clock."
    )
    fps: float = Field(30.0, gt=0, le=240, description="Pictures a second that are sent.")
    window: Literal["auto", "on", "off"] = Field(
        "auto", description="Read it off the worker's window as well, on the screen."
    )
    browser: Literal["auto", "on", "off"] = Field(
        "auto", description="Read it off a page in Chromium as well, on the screen."
    )
    save: OptionalText = Field(None, description="Write the figures to this JSON file.")
    verbose: int = Field(1, ge=0, le=3, description="0 quiet, 1 progress, 2 and 3 more.")
