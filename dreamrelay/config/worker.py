"""What a worker can be told."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from dreamrelay.config.settings import Settings
from dreamrelay.config.values import (
    DEFAULT_PORT,
    Loras,
    Numbers,
    OptionalText,
    Port,
    StreamNames,
    Texts,
)

TextToPicture = Literal["auto", "on", "off"]


class WorkerSettings(Settings):
    """The worker: takes frames from a relay, runs an engine, returns the pictures."""

    section = "worker"
    usage = "python main.py"
    aliases: ClassVar[Mapping[str, str]] = {
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
