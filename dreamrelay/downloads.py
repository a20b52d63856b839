"""Downloads from the Hugging Face hub, told to whoever waits."""

from collections.abc import Callable
from typing import Any

from huggingface_hub.utils import tqdm


def told_to(tell: Callable[[str, float | None], None]) -> type[Any]:
    """A progress bar class for the hub's client that tells instead of drawing.

    Args:
        tell: given how much has come ("120 of 340 MB") and which fraction, 0..1 or None where
            the size is not known; what it raises ends the download.
    """

    class Told(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})
            self._total = options.get("total") or 0
            self._done = options.get("initial") or 0

        def update(self, count: float | None = 1) -> bool | None:
            self._done += count or 0
            fraction = min(1.0, self._done / self._total) if self._total else None
            tell(f"{self._done / 1e6:.0f} of {self._total / 1e6:.0f} MB", fraction)
            return None

    return Told
