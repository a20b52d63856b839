"""What a bridge can be told."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from dreamrelay.config.settings import Settings
from dreamrelay.config.values import DEFAULT_PORT, OptionalText, StreamName


class BridgeSettings(Settings):
    """The bridge: a local source to the relay, and its results to a local sink."""

    section = "bridge"
    usage = "python spout_bridge.py"
    aliases: ClassVar[Mapping[str, str]] = {"from": "source", "to": "sink"}

    source: OptionalText = Field(None, description="Send frames from this source URL.")
    sink: OptionalText = Field(None, description="Write results to this sink URL.")
    spout_in: OptionalText = Field(None, description="Short for --from=spout://NAME.")
    spout_out: OptionalText = Field(None, description="Short for --to=spout://NAME.")
    websocket_uri: str = Field(f"ws://localhost:{DEFAULT_PORT}", description="Relay.")
    stream: StreamName = Field("default", description="Stream.")
    token: OptionalText = Field(None, description="What the relay asks peers from elsewhere for.")
    tls_fingerprint: OptionalText = Field(
        None, description="SHA-256 of the relay's certificate, as it prints it; for wss://."
    )
    tls_ca: OptionalText = Field(
        None,
        description="File of certificates that may vouch for the relay's; empty: the system's.",
    )
    fps: float = Field(30.0, gt=0, le=240, description="Frames a second to send at most.")
    quality: int = Field(90, ge=1, le=95, description="JPEG quality of what is sent.")
    width: int | None = Field(None, ge=1, le=8192, description="Of what is sent; empty: its own.")
    height: int | None = Field(None, ge=1, le=8192, description="Of what is sent; empty: its own.")
    out_width: int | None = Field(None, ge=1, le=8192, description="Of results; empty: their own.")
    out_height: int | None = Field(None, ge=1, le=8192, description="Of results; empty: their own.")
    fit: Literal["cover", "contain", "stretch"] = Field(
        "cover", description="How another shape is made to fit a width and height."
    )
    flip: Literal["none", "in", "out", "both"] = Field(
        "none", description="Turn upside down what is sent (in), the results (out) or both."
    )
    wait: bool = Field(
        True, description="Wait for a camera, screen or sender that is not there yet."
    )
    notice: bool = Field(
        False, description="While the source gives nothing, send a card that says why."
    )
    verbose: int = Field(1, ge=0, le=3, description="0 quiet, 1 progress, 2 and 3 more.")
