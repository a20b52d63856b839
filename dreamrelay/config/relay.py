"""What the relay can be told."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from dreamrelay.config.settings import Settings
from dreamrelay.config.values import (
    DEFAULT_PORT,
    Backplane,
    OptionalText,
    Origins,
    Port,
    Ports,
    Seconds,
    Texts,
    Token,
    Word,
)


class RelaySettings(Settings):
    """The relay: one port for WebSocket clients, the browser studio and HTTP."""

    section = "relay"
    usage = "python server.py"
    aliases: ClassVar[Mapping[str, str]] = {
        "p": "port",
        "t": "token",
        "v": "verbose",
        "max_queue_size": "max_users",
        "timeout": "session_seconds",
        "ssl_certfile": "tls_cert",
        "ssl_keyfile": "tls_key",
    }
    secrets = frozenset({"backplane"})

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all of them.")
    port: Port = Field(
        DEFAULT_PORT, description="Port to listen on; 0 for any free one. Several: 8765,7860."
    )
    more_ports: Ports = Field(
        default_factory=list, description="Ports besides, for clients that expect another."
    )
    token: Token = Field(
        None, description="Whoever shows this may do all; made up if needed and none is given."
    )
    publish_token: Token = Field(None, description="With this one may send pictures.")
    work_token: Token = Field(None, description="With this one may be a worker.")
    view_token: Token = Field(None, description="With this one may look.")
    control_token: Token = Field(None, description="With this one may look and change parameters.")
    tokens_file: OptionalText = Field(
        None, description="File of more tokens, each with what it may and where: docs/security.md."
    )
    trust_local: bool = Field(True, description="Peers on this machine need no token.")
    behind_proxy: bool = Field(
        False, description="All peers come through a proxy: none is local, it says who they are."
    )
    allow_host: Texts = Field(
        default_factory=list,
        description="Names under which the relay is reached; * behind a proxy that knows them.",
    )
    allowed_origins: Origins = Field(
        default_factory=list, description="Other web pages (scheme://host:port) that may connect."
    )
    tls: Literal["off", "auto"] = Field(
        "off", description="HTTPS; auto: with a certificate that is made and kept."
    )
    tls_cert: OptionalText = Field(None, description="HTTPS with this certificate (a PEM file).")
    tls_key: OptionalText = Field(None, description="Its key; empty: in the same file.")
    tls_keep: str = Field(
        "state", description="File for the made one; state: in the user's state folder, none: none."
    )
    qr: Literal["auto", "on", "off"] = Field(
        "auto", description="Show a made-up token's link as a QR code; auto: on a terminal."
    )
    max_message_mb: float = Field(32.0, gt=0, le=512, description="Largest message, in MB.")
    max_upload_mb: float = Field(16.0, gt=0, le=512, description="Largest upload by HTTP, in MB.")
    max_header_kb: int = Field(32, ge=4, le=1024, description="Largest head of a request, in KB.")
    max_megapixels: float = Field(64.0, gt=0, le=1000, description="Largest picture.")
    max_text: int = Field(2000, ge=1, le=50_000, description="Characters of a prompt.")
    max_connections: int = Field(256, ge=1, description="WebSockets and MJPEG clients at once.")
    max_connections_per_address: int = Field(
        32, ge=0, description="Of one address; 0: no limit. This machine has none."
    )
    max_messages_per_second: float = Field(
        240.0, ge=0, description="Of one peer from elsewhere; it is read no faster. 0: no limit."
    )
    max_streams: int = Field(64, ge=1, description="Streams at once.")
    max_streams_per_address: int = Field(16, ge=0, description="Made by one address; 0: no limit.")
    request_seconds: float = Field(
        15.0, gt=0, description="To say what one wants, once connected; for TLS to be agreed, too."
    )
    ping_seconds: float = Field(
        20.0, gt=0, description="Between pings, and from a ping to the end of who does not answer."
    )
    max_users: int = Field(
        0, ge=0, description="StreamDiffusion-Web pages at once (--max-queue-size); 0: any number."
    )
    session_seconds: Seconds = Field(
        None, description="So long may one of these pages go on (--timeout); 0: for ever."
    )
    greeting: Literal["patient", "always"] = Field(
        "patient",
        description="On path /, patient: a client that speaks first is not greeted; always: it is.",
    )
    speech: str = Field(
        "auto",
        pattern=r"^(off|auto|offline|whisper(:.+)?)$",
        description="Who listens: off, auto, offline (commands and the model's words, no download),"
        " whisper:NAME_OR_FOLDER (whole sentences).",
    )
    fanout: Literal["auto", "direct", "stock"] = Field(
        "auto", description="direct: pictures go past the ASGI server; stock: through; auto."
    )
    stall_seconds: float = Field(
        10.0, gt=0, description="A peer that reads nothing for so long is dropped."
    )
    when_lost: Literal["hold", "pass", "slate"] = Field(
        "hold", description="While no results come: the last one, the camera's pictures, a slate."
    )
    hold_seconds: float = Field(
        3.0, ge=0, le=3600, description="Before that, the last result is held for so long."
    )
    slate: OptionalText = Field(None, description="Picture of the slate; empty: our own.")
    backplane: Backplane = Field(
        None,
        description="Share all streams with other relays over NATS: nats://HOST:4222; several "
        "servers with commas: docs/backplane.md.",
    )
    cluster: Word = Field(
        "dreamrelay", description="Relays that share streams have this in common on their NATS."
    )
    relay_name: Word = Field(
        None, description="What other relays call this one; empty: its machine's name and a number."
    )
    backplane_token: OptionalText = Field(None, description="Token that the NATS server asks for.")
    backplane_credentials: OptionalText = Field(
        None, description="File for the NATS server: credentials (.creds), or a seed (.nk)."
    )
    backplane_ca: OptionalText = Field(
        None, description="Certificates (a PEM file) that the NATS server's must come from."
    )
    verbose: int = Field(1, ge=0, le=3, description="0 quiet, 1 starts and stops, 2 and 3 more.")

    @model_validator(mode="before")
    @classmethod
    def _several_ports(cls, data: Any) -> Any:
        """``--port=8765,7860``: the first is the port, the others are besides."""
        port = data.get("port") if isinstance(data, dict) else None
        parts = port.split(",") if isinstance(port, str) else port
        if not isinstance(parts, list | tuple) or len(parts) < 2 or data.get("more_ports"):
            return data
        if not all(str(part).strip().isdecimal() and int(part) <= 65535 for part in parts):
            return data  # refused as a port, in its own words
        return {**data, "port": int(parts[0]), "more_ports": [int(part) for part in parts[1:]]}
