"""Settings of the programs: TOML file, environment, flags; the later wins. Checked once, then only
read.

The same names everywhere: ``[relay] port`` in ``dreamrelay.toml``, ``DREAMRELAY_RELAY_PORT`` in the
environment, ``--port`` on the command line. ``dreamrelay.example.toml`` holds every one with its
default.
"""

import ast
import difflib
import logging
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dreamrelay.errors import ConfigError

FILE_NAME = "dreamrelay.toml"
DEFAULT_PORT = 8765
LOG_LEVELS = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
"""What ``verbose`` 0 to 3 lets through."""


def _literal(value: Any) -> Any:
    """Read lists and dictionaries as people type them on a command line; leave anything else
    alone.
    """
    if isinstance(value, str) and value.strip()[:1] in ("[", "{", "("):
        try:
            return ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            raise ValueError("not a list or dictionary that Python can read") from None
    return value


def _numbers(value: Any) -> Any:
    value = _literal(value)
    if isinstance(value, str) and value:
        return [part for part in value.replace(",", " ").split() if part]
    return value


def _loras(value: Any) -> Any:
    """``{"a": 0.5}`` or ``a:0.5,b:0.7``; a name without a scale counts as 1."""
    value = _literal(value)
    if not isinstance(value, str):
        return value
    pairs = [part.strip() for part in value.split(",") if part.strip()]
    # The last colon only: Windows paths have one of their own.
    split = [pair.rpartition(":") if not _is_drive(pair) else ("", "", pair) for pair in pairs]
    return {name or scale: scale if name else 1.0 for name, _, scale in split}


def _is_drive(pair: str) -> bool:
    return pair.rfind(":") == 1 and pair[2:3] in ("\\", "/")


def _texts(value: Any) -> Any:
    """``a, b``: names may have spaces, but no commas."""
    value = _literal(value)
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _endless(value: Any) -> Any:
    """No end is written as nothing, ``none`` or 0."""
    text = str(value).strip().lower()
    return None if text in ("", "none", "0", "0.0") else value


def spout_url(name: str) -> str:
    """The source or sink that a Spout sender's name means; it may hold any character."""
    return f"spout://{quote(name, safe='/')}"


def _stream_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", value):
        raise ValueError("expected a stream's name of 1-64 letters, digits, _ . -")
    return value


def _names(value: Any) -> Any:
    """``a,b``; a name may be a number."""
    parts = value if isinstance(value, list) else str(value).split(",")
    return [str(part).strip() for part in parts]


def _each_once(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("expected each stream once")
    return names


def _origin(value: str) -> str:
    """An origin as browsers send it: lower case, no path, no slash at its end."""
    text = value.rstrip("/").lower()
    if not re.fullmatch(
        r"[a-z][a-z0-9+.-]*://[a-z0-9_.-]+(:\d{1,5})?|[a-z]+://\[[0-9a-f:]+\](:\d+)?", text
    ):
        raise ValueError("expected pages' origins as scheme://host:port")
    return text


def _token(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[A-Za-z0-9._~+/=-]{16,512}", value):
        raise ValueError("expected 16-512 letters, digits, . _ ~ + / = -")
    return value


def _backplane(value: str | None) -> str | None:
    """Addresses with commas; they may hold a password, so what came is not repeated."""
    for address in (value or "").split(",") if value else ():
        if not re.fullmatch(r"(nats|tls)://([^@/\s]+@)?[^@/\s:]+(:\d{1,5})?/?", address.strip()):
            raise ValueError("expected nats://HOST:PORT or tls://HOST:PORT, several with commas")
    return value


def _word(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise ValueError("expected 1-64 letters, digits, _ -")
    return value


Numbers = Annotated[list[int] | None, BeforeValidator(_numbers)]
Loras = Annotated[dict[str, float], BeforeValidator(_loras)]
Texts = Annotated[list[str], BeforeValidator(_texts)]
OptionalText = str | None
Origins = Annotated[list[Annotated[str, AfterValidator(_origin)]], BeforeValidator(_texts)]
Token = Annotated[OptionalText, AfterValidator(_token)]
Backplane = Annotated[OptionalText, AfterValidator(_backplane)]
Word = Annotated[OptionalText, AfterValidator(_word)]
Port = Annotated[int, Field(ge=0, le=65535)]
StreamName = Annotated[str, AfterValidator(_stream_name)]
StreamNames = Annotated[
    list[StreamName],
    Field(min_length=1, max_length=32),
    AfterValidator(_each_once),
    BeforeValidator(_names),
]
Ports = Annotated[list[Port], Field(max_length=8), BeforeValidator(_numbers)]
Seconds = Annotated[float | None, Field(ge=0), BeforeValidator(_endless)]


NOT_HERE: Mapping[str, str] = {
    "mode": "full or human is a parameter here: the studio, OSC /mode, REST and pages change it",
    "safety_checker": "there is none: nothing here looks at what a picture shows",
    "lcm_lora_id": "name the LoRA with the others: python main.py --lora=ID",
    "engine_dir": "engines are kept in the user's cache; DREAMRELAY_CACHE names another folder",
    "reload": "there is no reload: stop the program and start it again",
    "debug": "write --verbose=3",
}
"""Flags of programs that ours replace, and what to do instead."""


class Settings(BaseModel):
    """Base of the programs' settings; ``load`` is the door."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        allow_inf_nan=False,
        coerce_numbers_to_str=True,  # --stream=7
    )

    section: ClassVar[str]
    """Table of the TOML file and middle part of the variables' names."""

    usage: ClassVar[str]
    """How it is started on a command line."""

    aliases: ClassVar[Mapping[str, str]] = {}
    """Other spellings of flags: those of the seeds."""

    secrets: ClassVar[frozenset[str]] = frozenset()
    """Settings beside tokens whose values no error shows."""

    @field_validator("*", mode="before")
    @classmethod
    def _odd(cls, value: Any, info: ValidationInfo) -> Any:
        """Nothing means "not set" where that can be; a flag without its value is no number."""
        kind = cls.model_fields[info.field_name or ""].annotation
        kinds = {*get_args(kind), *(word for part in get_args(kind) for word in get_args(part))}
        empty = value == "" or (value in ("none", "None") and value not in kinds)
        if empty and type(None) in kinds:
            return None
        if isinstance(value, bool) and bool not in (kind, *kinds):
            raise ValueError("expected a value")
        return value

    @classmethod
    def load(
        cls,
        flags: Mapping[str, Any] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        path: Path | None = None,
    ) -> Self:
        """Read all sources and check the outcome.

        Args:
            flags: what the command line said; names may use ``-`` for ``_``.
            environ: the environment, ``os.environ`` if not given.
            path: the TOML file; else ``DREAMRELAY_CONFIG``, else ``dreamrelay.toml`` if it is
                there.

        Raises:
            ConfigError: naming where the value came from and what was expected.
        """
        environ = os.environ if environ is None else environ
        given = dict(cls._flag(name, value) for name, value in (flags or {}).items())
        for name in given:
            cls._known(name, f"--{name}")
        table, file = cls._table(environ, path)
        table = {cls.aliases.get(name, name): value for name, value in table.items()}
        for name in table:
            cls._known(name, f"{file}: [{cls.section}] {name}")
        prefix = f"DREAMRELAY_{cls.section.upper()}_"
        variables = {
            cls.aliases.get(short := name.removeprefix(prefix).lower(), short): value
            for name, value in environ.items()
            if name.startswith(prefix)
        }
        for name in variables:
            cls._known(name, prefix + name.upper())
        try:
            return cls(**{**table, **variables, **given})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"][:1])) or cls.section
            origin = (
                f"--{name}"
                if name in given
                else prefix + name.upper()
                if name in variables
                else f"{file}: [{cls.section}] {name}"
            )
            reason = first["msg"].removeprefix("Value error, ")
            # What came is a secret, wrong or not, or has one in it.
            if name.endswith("token") or name in cls.secrets:
                raise ConfigError(f"{origin}: {reason}") from None
            raise ConfigError(f"{origin}: {reason}, got {first.get('input')!r:.80}") from None

    @classmethod
    def flag_name(cls, flag: str) -> str:
        """The setting that a flag means: ``websocket-uri`` is ``websocket_uri``, aliases looked
        up.
        """
        name = flag.replace("-", "_")
        if len(name) == 1 and name not in cls.aliases:
            begins = [known for known in cls.model_fields if known.startswith(name)]
            name = begins[0] if len(begins) == 1 else name
        return cls.aliases.get(name, name)

    @classmethod
    def _flag(cls, flag: str, value: Any) -> tuple[str, Any]:
        """A flag as setting and value; ``--noloop`` is ``--loop=False``."""
        name = cls.flag_name(flag)
        if name not in cls.model_fields and name.startswith("no") and str(value) == "True":
            opposite = cls.flag_name(name.removeprefix("no").lstrip("_"))
            field = cls.model_fields.get(opposite)
            if field is not None and field.annotation in (bool, bool | None):
                return opposite, "False"
        return name, value

    @classmethod
    def _known(cls, name: str, origin: str) -> None:
        if name not in cls.model_fields:
            plain = name.removeprefix("no_")
            if plain in NOT_HERE:
                raise ConfigError(f"{origin}: {NOT_HERE[plain]}")
            others = (other for other in SECTIONS if plain in {*other.model_fields, *other.aliases})
            theirs = next(others, None)
            if theirs is not None:
                raise ConfigError(
                    f"{origin}: no such setting in {cls.usage}; {theirs.usage} has it"
                )
            near = difflib.get_close_matches(name, [*cls.model_fields, *cls.aliases], 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ConfigError(f"{origin}: no such setting{hint}")

    @classmethod
    def _table(cls, environ: Mapping[str, str], path: Path | None) -> tuple[dict[str, Any], str]:
        named = path or (
            Path(environ["DREAMRELAY_CONFIG"]) if "DREAMRELAY_CONFIG" in environ else None
        )
        file = named or Path(FILE_NAME)
        if named is None and not file.is_file():
            return {}, str(file)
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{file}: cannot be read: {error}") from None
        sections = {settings.section for settings in SECTIONS}
        for name in content:
            if name not in sections:
                near = difflib.get_close_matches(name, sections, 1)
                hint = f" (did you mean [{near[0]}]?)" if near else ""
                raise ConfigError(f"{file}: [{name}]: no such section{hint}")
        table = content.get(cls.section, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{file}: expected a table [{cls.section}]")
        return table, str(file)


class RelaySettings(Settings):
    """The relay: one port for WebSocket clients, the browser studio and HTTP."""

    section = "relay"
    usage = "python server.py"
    aliases = {
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


TextToPicture = Literal["auto", "on", "off"]


class WorkerSettings(Settings):
    """The worker: takes frames from a relay, runs an engine, returns the pictures."""

    section = "worker"
    usage = "python main.py"
    aliases = {
        # What the seed's own flags begin with; here others begin so, too.
        "m": "model_id_or_path",
        "l": "lora_dict",
        "p": "prompt",
        "n": "negative_prompt",
        "f": "frame_buffer_size",
        "a": "acceleration",
        "u": "use_denoising_batch",
        "c": "cfg_type",
        "g": "guidance_scale",
        "e": "enable_similar_image_filter",
        "base_model": "model_id_or_path",
        "model": "model_id_or_path",
        "lora": "lora_dict",
        "lcm_lora": "use_lcm_lora",
        "taesd": "use_tiny_vae",
        "controlnets": "controlnet",
        "similar_image_filter": "enable_similar_image_filter",
    }

    websocket_uri: str = Field(f"ws://localhost:{DEFAULT_PORT}", description="Relay to work for.")
    websocket_port: Port | None = Field(
        None, description="Start a relay inside this process on that port and work for it."
    )
    stream: StreamNames = Field(
        ["default"], description="Stream to work on, or several: a,b,c. Sinks show the first."
    )
    replace: bool = Field(
        False, description="Take over from the stream's workers once warmed up; they end."
    )
    token: OptionalText = Field(None, description="What the relay asks peers from elsewhere for.")
    tls_fingerprint: OptionalText = Field(
        None, description="SHA-256 of the relay's certificate, as it prints it; for wss://."
    )
    tls_ca: OptionalText = Field(
        None,
        description="File of certificates that may vouch for the relay's; empty: the system's.",
    )
    profile: OptionalText = Field(
        None,
        description="Start like a program that people know: websocket-example, spout-service, "
        "dreamstream-standard, dreamstream-lightning, speakdraw or scope.",
    )
    engine: str = Field("auto", description="Engine; auto picks by the model.")
    model_id_or_path: str = Field(
        "pocket", description="pocket, a hub id, or a folder in diffusers format."
    )
    processors: Texts = Field(
        default_factory=list,
        description="For the engines standard and lightning: which others may be chosen while they "
        "run, perhaps with a model (lightning=some/model).",
    )
    lightning_weights: OptionalText = Field(
        None, description="Hub id or folder with the U-Nets of SDXL-Lightning."
    )
    lightning_steps: Numbers = Field(
        None, description="For which numbers of steps to load one: some of 1, 2, 4, 8."
    )
    lora_dict: Loras = Field(default_factory=dict, description="LoRAs and their scales.")
    controlnet: Texts = Field(
        default_factory=list,
        description="What holds pictures to the forms of the frame: depth, scribble, canny, each "
        "perhaps with a model (depth=some/model).",
    )
    depth_model: OptionalText = Field(
        None, description="Hub id or folder of the depth estimation; empty: the usual one."
    )
    ip_adapter: OptionalText = Field(
        None, description="For image prompts: base, plus, or a hub id, folder or file."
    )
    prompt_pictures: OptionalText = Field(
        None, description="Folder of pictures that may be chosen by name as image prompt."
    )
    prompt: OptionalText = Field(None, description="First prompt.")
    negative_prompt: OptionalText = Field(None, description="What to keep out of the picture.")
    width: int | None = Field(None, ge=64, le=2048, description="Pixels; empty: the model's own.")
    height: int | None = Field(None, ge=64, le=2048, description="Pixels; empty: the model's own.")
    frame_buffer_size: int = Field(1, ge=1, le=16, description="Frames in one denoising batch.")
    acceleration: str = Field(
        "auto",
        description="auto, none, sdpa, xformers, compile, graphs, tensorrt, openvino; "
        "onnx for pocket.",
    )
    compile_warmup: Literal["auto", "background", "start"] = Field(
        "auto",
        description="When compile compiles: before the first frame, or in a second process while "
        "the plain form serves.",
    )
    precision: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="What torch computes in; auto: what is fastest there."
    )
    use_lcm_lora: bool | None = Field(
        None, description="The LoRA that lets a plain model do with few steps; empty: if it fits."
    )
    use_tiny_vae: bool | None = Field(
        None, description="The small, fast autoencoder; empty: if it can be had."
    )
    batch: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Pictures of several streams or pages in one call of the model, at most; "
        "empty: as many as pay.",
    )
    use_denoising_batch: bool = Field(True, description="All steps of several frames in one batch.")
    seed: int | None = Field(None, ge=0, lt=2**31, description="Of the noise.")
    cfg_type: Literal["none", "full", "self", "initialize"] | None = Field(
        None, description="How the negative prompt is weighed in."
    )
    guidance_scale: float | None = Field(None, ge=0, le=20, description="How strongly.")
    delta: float | None = Field(None, ge=0, le=2, description="Virtual residual noise multiplier.")
    do_add_noise: bool | None = Field(None, description="Fresh noise between the steps.")
    strength: float | None = Field(None, ge=0, le=1, description="0: the input, 1: all new.")
    num_inference_steps: int | None = Field(None, ge=1, le=50, description="Denoising steps.")
    t_index_list: Numbers = Field(None, description="Steps of the 50-step schedule to run.")
    enable_similar_image_filter: bool | None = Field(
        None, description="Skip frames that hardly changed."
    )
    similar_image_filter_threshold: float | None = Field(None, ge=0, le=1, description="How alike.")
    similar_image_filter_max_skip_frame: float | None = Field(
        None, ge=0, description="Compute one at the latest after so many skipped."
    )
    device: Literal["auto", "cuda", "mps", "cpu"] = Field("auto", description="Where to compute.")
    offline: bool = Field(False, description="Never ask a model hub.")
    matting: str = Field(
        "person",
        description="What finds people for the mode human: person, rvm:FILE, rvm:hub, or off.",
    )
    fit: Literal["stretch", "cover", "contain"] = Field(
        "cover", description="How inputs of another shape are made to fit."
    )
    text_to_picture: TextToPicture = Field(
        "auto",
        description="Paint from the prompt alone while no frame comes. auto: if somebody looks.",
    )
    quality: int = Field(85, ge=1, le=95, description="JPEG quality of results.")
    viewer: Literal["auto", "on", "off"] = Field("auto", description="Window with the result.")
    viewer_screen: int = Field(0, ge=0, description="Screen of the window; above 0 full screen.")
    sink: Texts = Field(default_factory=list, description="Where results also go, as URLs.")
    source: OptionalText = Field(
        None, description="Take frames from this source URL, without a relay."
    )
    spout_in: OptionalText = Field(None, description="Take frames from this Spout sender.")
    spout_out: OptionalText = Field(None, description="Also send results as this Spout sender.")
    osc_ip: str = Field("127.0.0.1", description="Address for OSC messages.")
    osc_port: Port | None = Field(7000, description="UDP port for OSC; 0 for any, empty for none.")
    osc_out: Texts = Field(
        default_factory=list, description="Who is told each change by OSC: host:port,host:port."
    )
    osc_presets: OptionalText = Field(
        None, description="File that OSC presets are kept in; empty: in the user's state folder."
    )
    start: Literal["auto", "on", "off"] = Field(
        "auto", description="Generate at once. auto: not with --spout-in, which waits for /start."
    )
    streamdiffusion_path: OptionalText = Field(
        None, description="Not needed: the engines are in the package. For old start scripts."
    )
    verbose: int = Field(1, ge=0, le=3, description="0 quiet, 1 starts and stops, 2 and 3 more.")


Mode = Literal["static", "directory", "screen", "webcam", "video", "pattern", "prompt-interactive"]


class ProducerSettings(Settings):
    """The producer: sends frames from a file, a folder, a video, a screen, a webcam or a test
    card.
    """

    section = "producer"
    usage = "python client.py"

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


class BridgeSettings(Settings):
    """The bridge: a local source to the relay, and its results to a local sink."""

    section = "bridge"
    usage = "python spout_bridge.py"
    aliases = {"from": "source", "to": "sink"}

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


class DemoSettings(Settings):
    """The demo: relay, worker and a moving picture, and where to look at it."""

    section = "demo"
    usage = "dreamrelay demo"
    aliases = {"json": "as_json"}

    duration: Seconds = Field(None, description="Seconds; empty: until Ctrl-C.")
    port: Port = Field(DEFAULT_PORT, description="Of the relay; the next free one if it is taken.")
    source: str = Field("pattern://clip", description="What is shown until you send a camera.")
    prompt: str = Field("neon glow, blue and pink", description="First prompt.")
    model: str = Field("pocket", description="pocket, a hub id, or a folder in diffusers format.")
    fps: float = Field(30.0, gt=0, le=240, description="Pictures a second of the source.")
    browser: Literal["auto", "on", "off"] = Field("auto", description="Open the studio.")
    chaos: bool = Field(False, description="Let one disaster after the other happen, and measure.")
    as_json: bool = Field(False, description="The table of --chaos for programs (also --json).")
    viewer: Literal["auto", "on", "off"] = Field("auto", description="Open the window.")
    verbose: int = Field(1, ge=0, le=3, description="0 quiet, 1 progress, 2 and 3 more.")


class ListSettings(Settings):
    """What is there now: cameras, screens, Spout and NDI senders, Syphon servers."""

    section = "list"
    usage = "dreamrelay list"
    aliases = {"json": "as_json"}

    as_json: bool = Field(False, description="For programs.")
    seconds: float = Field(1.5, gt=0, le=60, description="For senders on the network to answer.")
    verbose: int = Field(1, ge=0, le=3, description="0 quiet, 1 progress, 2 and 3 more.")


class SelftestSettings(Settings):
    """Try a technology that we have no machine for, and print a report to send us."""

    section = "selftest"
    usage = "dreamrelay selftest spout"

    what: Literal["spout"] = Field("spout", description="What to try; also as the first word.")
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
    model: str = Field("pocket", description="pocket, a hub id, or a folder in diffusers format.")
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


SECTIONS: tuple[type[Settings], ...] = (
    RelaySettings,
    WorkerSettings,
    ProducerSettings,
    BridgeSettings,
    DemoSettings,
)
