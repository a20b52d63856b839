"""``modal deploy app.py``, as DreamStream's README has it: its processors behind our relay."""

import os
import sys
from pathlib import Path

BEGINS = {
    "ENGINE": "lightning",
    "LIGHTNING_STEPS": "4",
    "STRENGTH": "0.9",
    "PROCESSORS": "standard",  # loaded when somebody chooses it
}
for name, value in BEGINS.items():
    os.environ.setdefault(f"DREAMRELAY_WORKER_{name}", value)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # where dreamrelay lies

from dreamrelay.integrations.modal_app import app

__all__ = ["app"]
