"""Names to import strings: load a part when it is asked for, and tell absent from broken."""

import importlib
import os
from dataclasses import dataclass
from typing import Any

from dreamrelay.errors import MissingExtra


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of a catalogue: ``module:attribute`` and the extra that brings what it imports."""

    target: str
    feature: str
    extra: str | None = None

    def load(self) -> Any:
        """Import and return the target.

        Raises:
            MissingExtra: a package it imports is not installed. A broken one raises its own error.
        """
        # From 1.29 on onnxruntime keeps a device id and sends statistics home, unless it is told
        # not to before it is imported; and several of our parts import it.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        module_name, _, attribute = self.target.partition(":")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            own = error.name is not None and error.name.split(".")[0] == "dreamrelay"
            if own or self.extra is None:
                raise
            raise MissingExtra(self.feature, self.extra) from error
        return getattr(module, attribute)
