"""What a producer can be told."""

from typing import Any, Literal

from pydantic import Field, field_validator

from dreamrelay.config.settings import Settings
from dreamrelay.config.values import DEFAULT_PORT, Numbers, OptionalText, Seconds, StreamName

Mode = Literal["static", "directory", "screen", "webcam", "video", "pattern", "prompt-interactive"]


class ProducerSettings(Settings):
    """The producer: sends frames from a file, a folder, a video, a screen, a webcam or a test
    card.
    """

    section = "producer"
    usage = "python client.py"
    other_usage = "python client.py IMAGE [PROMPT] [ws://HOST:PORT] [--binary]"

    mode: Mode | None = Field(None, description="What to send; guessed from the source if empty.")
    source: OptionalText = Field(None, description="File, folder or source URL (pattern://bars).")
    websocket_uri: str = Field(f"ws://localhost:{DEFAULT_PORT}", description="Relay to send to.")
    stream: StreamName = Field("default", description="Stream to send to.")
    token: OptionalText = Field(None, description="What the relay asks peers from elsewhere for.")
    tls_fingerprint: OptionalText = Field(
        None, description="SHA-256 of the relay's certificate, as it prints it; for wss://."
    )
    tls_ca: OptionalText = Field(
        None,
        description="File of certificates that may vouch for the relay's; empty: the system's.",
    )
    fps: float = Field(10.0, gt=0, le=240, description="Pictures a second.")
    duration: Seconds = Field(
        60.0, description="Seconds; 0 or none: until Ctrl-C or the end of the source."
    )
    format: Literal["jpeg", "png", "webp"] = Field("jpeg", description="Coding of the pictures.")
    quality: int = Field(85, ge=1, le=95, description="Of JPEG and WebP.")
    loop: bool = Field(True, description="Begin a folder or video again at its end.")
    camera_index: int = Field(0, ge=0, description="Which webcam.")
    monitor_index: int = Field(0, ge=0, description="Which screen.")
    region: Numbers = Field(None, description="Part of the screen: [x, y, width, height].")
    width: int | None = Field(None, ge=1, le=8192, description="Shrink to this width.")
    height: int | None = Field(None, ge=1, le=8192, description="Shrink to this height.")
    wait: bool = Field(
        True, description="Wait for a camera, screen or sender that is not there yet."
    )
    prompt: OptionalText = Field(None, description="Prompt to set at the start.")
    verbose: int = Field(1, ge=0, le=3, description="0 quiet, 1 progress, 2 and 3 more.")

    @field_validator("format", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return "jpeg" if str(value).lower() == "jpg" else str(value).lower()

    @field_validator("region")
    @classmethod
    def _rectangle(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and (len(value) != 4 or value[2] < 1 or value[3] < 1):
            raise ValueError("expected [x, y, width, height] with a size of at least 1x1")
        return value
