"""``modal deploy app.py``, as DreamStream's README has it: its processors behind our relay."""

import os
import sys
from pathlib import Path

os.environ.setdefault("DREAMRELAY_WORKER_ENGINE", "lightning")
os.environ.setdefault("DREAMRELAY_WORKER_LIGHTNING_STEPS", "4")
os.environ.setdefault("DREAMRELAY_WORKER_STRENGTH", "0.9")
os.environ.setdefault("DREAMRELAY_WORKER_PROCESSORS", "standard")  # loaded when it is chosen
sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # where dreamrelay lies

from dreamrelay.integrations.modal_app import app

__all__ = ["app"]
