"""Settings of the programs: TOML file, environment, flags; the later wins. Checked once, then only
read.

The same names everywhere: ``[relay] port`` in ``dreamrelay.toml``, ``DREAMRELAY_RELAY_PORT`` in the
environment, ``--port`` on the command line. ``dreamrelay.example.toml`` holds every one with its
default.

``settings`` gathers them, ``values`` has the kinds of values; each program has a file for its own.
"""

from dreamrelay.config.bridge import BridgeSettings
from dreamrelay.config.commands import BenchSettings, DemoSettings, ListSettings, SelftestSettings
from dreamrelay.config.producer import ProducerSettings
from dreamrelay.config.relay import RelaySettings
from dreamrelay.config.settings import Settings
from dreamrelay.config.show import Show
from dreamrelay.config.values import LOG_LEVELS, spout_url
from dreamrelay.config.worker import TextToPicture, WorkerSettings

__all__ = [
    "LOG_LEVELS",
    "SECTIONS",
    "BenchSettings",
    "BridgeSettings",
    "DemoSettings",
    "ListSettings",
    "ProducerSettings",
    "RelaySettings",
    "SelftestSettings",
    "Settings",
    "Show",
    "TextToPicture",
    "WorkerSettings",
    "spout_url",
]

SECTIONS: tuple[type[Settings], ...] = (
    RelaySettings,
    WorkerSettings,
    ProducerSettings,
    BridgeSettings,
    DemoSettings,
)
Settings.family = SECTIONS
