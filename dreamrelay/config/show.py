"""The show that ``dreamrelay capacity`` computes for: its size, and what it may be made of."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from dreamrelay.config.settings import Settings

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "living-room": {
        "viewers": 3,
        "engine": "pocket-256",
        "picture_kb": 16,
        "nic_gbit": 1,
        "tls": False,
        "hours": 20,
    },
    "club-night": {"viewers": 60, "streams": 2, "nic_gbit": 1, "hours": 24},
    "festival": {"viewers": 5000, "streams": 4, "fps": 25, "nic_gbit": 25, "hours": 30},
    "internet": {
        "viewers": 1_000_000,
        "fps": 25,
        "nic_gbit": 25,
        "regions": 5,
        "hours": 3,
        "engine": "sd-turbo-4090-trt",
    },
}

Engine = Literal["pocket-256", "pocket-512", "sd-turbo-4090", "sd-turbo-4090-trt", "lcm-4-4090"]


class Show(Settings):
    """What a show needs: relays, network, NATS, cards, traffic and delay, from measured costs."""

    section: ClassVar[str] = "capacity"
    usage: ClassVar[str] = "dreamrelay capacity"
    aliases: ClassVar[Mapping[str, str]] = {"json": "as_json"}

    preset: Literal["living-room", "club-night", "festival", "internet"] | None = Field(
        None, description="A show to start from; other flags change it."
    )
    viewers: int = Field(60, ge=1, le=100_000_000, description="People who look at the same time.")
    streams: int = Field(
        1, ge=1, le=10_000, description="Pictures that run at once; viewers are spread over them."
    )
    fps: float = Field(30.0, ge=0.1, le=240, description="Pictures a second, of each stream.")
    picture_kb: float = Field(
        54.0, ge=0.5, le=8000, description="Size of a picture in kB; 54: 512 x 512, JPEG 85."
    )
    engine: Engine = Field("sd-turbo-4090", description="Engine and card whose time is known.")
    engine_ms: float | None = Field(
        None, gt=0, le=60_000, description="Your own card's ms for a picture; empty: the engine's."
    )
    share_cards: bool = Field(
        False, description="One card serves several streams, as far as its time reaches."
    )
    nic_gbit: float = Field(
        10.0, ge=0.01, le=800, description="Network card of a relay's machine, in Gbit/s."
    )
    tls: bool = Field(True, description="The relay does TLS itself; off: a proxy does, or nobody.")
    regions: int = Field(1, ge=1, le=50, description="Places in the world that have relays.")
    region_ms: float = Field(40.0, ge=0, le=1000, description="One way between two regions, in ms.")
    hours: float = Field(4.0, ge=0, le=744, description="Hours on air in a month.")
    headroom: float = Field(
        0.7, ge=0.1, le=1, description="Part of a core and of a network card that is planned with."
    )
    as_json: bool = Field(False, description="For programs.")
    verbose: int = Field(1, ge=0, le=3, description="0 quiet, 1 progress, 2 and 3 more.")

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, data: Any) -> Any:
        """What a preset says, where nothing else was said; a wrong name is refused as a field."""
        preset = data.get("preset") if isinstance(data, dict) else None
        if isinstance(preset, str) and preset in PRESETS:
            return {**PRESETS[preset], **data}
        return data
