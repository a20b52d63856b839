"""Time that passes when a test says so, and what is due in it."""

from collections.abc import Callable

SECOND = 1_000_000_000


class Clock:
    """Every clock of a hub, or of several; time passes when the test says so."""

    def __init__(self) -> None:
        self.ns = 100 * SECOND
        self._calls: list[tuple[int, Callable[[], None]]] = []

    def __call__(self) -> int:
        return self.ns

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self._calls.append((self.ns + int(seconds * SECOND), call))

    def advance(self, seconds: float) -> None:
        end = self.ns + int(seconds * SECOND)
        while due := [entry for entry in self._calls if entry[0] <= end]:
            first = min(due, key=lambda entry: entry[0])
            self._calls.remove(first)
            self.ns = max(self.ns, first[0])
            first[1]()
        self.ns = end
