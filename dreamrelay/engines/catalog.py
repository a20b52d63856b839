"""Names of engines to import strings, and which one ``auto`` is."""

from importlib.util import find_spec
from pathlib import Path

from dreamrelay.engines import pocket, runtimes
from dreamrelay.engines.control_parameters import wanted_controls
from dreamrelay.engines.ports import Engine, EngineSettings
from dreamrelay.engines.profiles import profiled
from dreamrelay.errors import ConfigError, MissingExtra
from dreamrelay.importer import Entry

ENGINES: dict[str, Entry] = {
    "stream-batch": Entry(
        "dreamrelay.engines.stream_batch:StreamBatchEngine", "the stream-batch engine", "worker"
    ),
    "streamdiffusion": Entry(
        "dreamrelay.engines.streamdiffusion_package:StreamDiffusionEngine",
        "the streamdiffusion engine",
        "worker",
    ),
    "standard": Entry(
        "dreamrelay.engines.processor_engine:StandardEngine", "the processors", "worker"
    ),
    "lightning": Entry(
        "dreamrelay.engines.processor_engine:LightningEngine", "the processors", "worker"
    ),
    "pocket": Entry("dreamrelay.engines.pocket_engine:PocketEngine", "the pocket engine", "pocket"),
}


def open_engine(settings: EngineSettings) -> Engine:
    """Construct the engine that ``settings`` ask for; nothing is loaded yet.

    Raises:
        ConfigError: no engine, or no profile, has that name.
        MissingExtra: its packages are not installed.
    """
    settings = profiled(settings)
    name = _chosen(settings) if settings.engine == "auto" else settings.engine
    entry = ENGINES.get(name)
    if entry is None:
        raise ConfigError(f"engine: expected one of {', '.join(ENGINES)} or auto, got {name!r}")
    engine: Engine = entry.load()(settings)
    return engine


def _chosen(settings: EngineSettings) -> str:
    """What ``auto`` stands for: the pocket engine for its models, if it can run here."""
    has = has_graph(settings.model)
    if settings.acceleration == "onnx" or (settings.acceleration in runtimes.RUNTIMES and has):
        return "pocket"
    # What only torch can do: other models, other devices, LoRAs, guides.
    guided = wanted_controls(settings.controlnets) or settings.ip_adapter
    over = settings.loras or settings.use_lcm_lora or guided
    if over or settings.device not in ("auto", "cpu") or not has:
        return "stream-batch"
    if runtimes.installed() and find_spec("tokenizers") is not None:
        return "pocket"
    if find_spec("torch") is None:
        raise MissingExtra("the pocket model", "pocket")
    return "stream-batch"


def has_graph(model: str) -> bool:
    """Whether a model's folder has what the pocket engine runs; asks no hub."""
    folder = pocket.model_folder() if model == "pocket" else Path(model).expanduser()
    return (folder / "unet" / pocket.GRAPH).is_file()
