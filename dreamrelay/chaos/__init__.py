"""``dreamrelay demo --chaos``: one disaster after the other, with real processes, and what a viewer
saw of each.
"""

from dreamrelay.chaos.run import run_chaos

__all__ = ["run_chaos"]
