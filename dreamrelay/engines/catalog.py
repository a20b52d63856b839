"""Names of engines to import strings."""

from dreamrelay.engines.ports import Engine, EngineSettings
from dreamrelay.errors import ConfigError
from dreamrelay.importer import Entry

ENGINES: dict[str, Entry] = {
    "stream-batch": Entry(
        "dreamrelay.engines.stream_batch:StreamBatchEngine", "the stream-batch engine", "worker"
    ),
}


def open_engine(settings: EngineSettings) -> Engine:
    """Construct the engine that ``settings`` ask for; nothing is loaded yet.

    Raises:
        ConfigError: no engine has that name.
        MissingExtra: its packages are not installed.
    """
    name = "stream-batch" if settings.engine == "auto" else settings.engine
    entry = ENGINES.get(name)
    if entry is None:
        raise ConfigError(f"engine: expected one of {', '.join(ENGINES)} or auto, got {name!r}")
    engine: Engine = entry.load()(settings)
    return engine
