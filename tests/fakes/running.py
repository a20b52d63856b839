"""A worker, producer or bridge in a thread of the test's own process."""

import threading
from typing import Generic, Protocol, TypeVar


class Runs(Protocol):
    """What all programs can."""

    def run(self) -> None: ...
    def stop(self) -> None: ...


P = TypeVar("P", bound=Runs)


class Running(Generic[P]):
    """Run a program in a thread, and see how it ended."""

    def __init__(self, program: P) -> None:
        self.program = program
        self.failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.program.run()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.failures.append(error)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def ends(self, seconds: float = 30.0) -> BaseException | None:
        """Wait for its end by itself; what it raised."""
        self._thread.join(seconds)
        assert not self.alive, f"{self.program} does not end"
        return self.failures[0] if self.failures else None

    def stop(self) -> BaseException | None:
        """Stop it and wait for its end; what it raised."""
        self.program.stop()
        return self.ends()
