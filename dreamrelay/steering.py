"""What changes between two frames: patches of parameters, and a picture to imitate.

Asked for in any thread, brought into force in the engine's. What waits is merged: of a thousand
values of a fader the engine hears the last.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dreamrelay.engines import Engine
from dreamrelay.errors import ClosedError, EngineError, ParameterError, ProtocolError
from dreamrelay.jobs import Patch, Reference
from dreamrelay.link import Link
from dreamrelay.mailbox import Mailbox

logger = logging.getLogger(__name__)

REFUSED = "refused: "
"""How the text begins that the stream shows when the engine does not take a value."""


class Steering:
    """Steers one engine.

    Args:
        link: is told what the engine did not take; None where there is no relay.
        wake: has the engine's thread look, though no frame comes.
        complain: has the stream show what is wrong; "" when it is over.
        trouble: what it shows now.
    """

    def __init__(
        self,
        engine: Engine,
        link: Link | None,
        *,
        wake: Callable[[], None],
        complain: Callable[[str], None],
        trouble: Callable[[], str],
    ) -> None:
        self.engine = engine
        """May be replaced by one that is loaded."""
        self._link = link
        self._wake = wake
        self._complain = complain
        self._trouble = trouble
        self._patches: Mailbox[Patch] = Mailbox(Patch.merge)
        self._references: Mailbox[Reference] = Mailbox()
        self.revision = 0
        """Of the parameters in force."""

    # -- from any thread --------------------------------------------------------------------------

    def put(self, patch: Patch) -> None:
        """Have values brought into force before the next frame."""
        self._leave(self._patches, patch)

    def refer(self, reference: Reference) -> None:
        """Have another picture imitated, or none any more."""
        self._leave(self._references, reference)

    def _leave(self, mailbox: Mailbox[Any], item: Patch | Reference) -> None:
        try:
            mailbox.put(item)
        except ClosedError:
            return  # stopping
        self._wake()

    def close(self) -> None:
        self._patches.close()
        self._references.close()

    # -- in the engine's thread -------------------------------------------------------------------

    def take_over(self, values: Mapping[str, Any]) -> None:
        """Bring into force what the engine takes of the values of a worker before it.

        What it does not take is left out without a word: the relay says so when it hears what this
        engine can do, and until then the values are another one's.
        """
        current = self.engine.parameters
        wanted = {n: v for n, v in values.items() if n in current and current[n] != v}
        while wanted:
            try:
                self.engine.apply(wanted)
                logger.info("taken over %s", _listed(wanted))
                return
            except ParameterError as error:
                taken = {n: v for n, v in wanted.items() if n not in error.problems}
                wanted = taken if len(taken) < len(wanted) else {}
            except EngineError as error:
                logger.warning("the values in force wait for the first frame: %s", error)
                return

    def apply(self) -> None:
        """Bring into force what waits."""
        patch = self._patches.try_take()
        if patch is not None:
            self._apply(patch)
        reference = self._references.try_take()
        if reference is not None:
            try:
                self.engine.refer(reference.picture())
            except (ProtocolError, EngineError) as error:
                self._complain(f"{REFUSED}{error}")

    def put_back(self, error: ParameterError) -> None:
        """Values that were in force turned out not to work: the engine has gone back to others."""
        self._refuse(error.problems, error)

    def _refuse(self, wrong: Iterable[str], error: ParameterError) -> None:
        # The relay lets pass what its schema cannot tell. It is told the values that hold, or
        # these would be in the way of every later patch.
        self._complain(f"{REFUSED}{error}")
        current = self.engine.parameters
        if self._link is not None:
            self._link.patch({n: current[n] for n in wrong if n in current}, "worker")

    def settled(self) -> None:
        """A frame went well: what was wrong is over, unless a value was refused."""
        trouble = self._trouble()
        if trouble and not trouble.startswith(REFUSED):
            self._complain("")

    def _apply(self, patch: Patch) -> None:
        # Values that hold already are left out: applying them again might start something anew.
        current = self.engine.parameters
        changed = {n: v for n, v in patch.values.items() if current.get(n, self) != v}
        if changed and self._taken(changed) and self._trouble().startswith(REFUSED):
            self._complain("")
        if patch.revision is not None:
            self.revision = patch.revision
        if self._link is not None:
            # A reconnect shall find the values that hold now.
            engine = self.engine
            found = {
                "parameters": engine.parameters,
                "width": engine.width,
                "height": engine.height,
            }
            self._link.hello = {**(self._link.hello or {}), **found}

    def _taken(self, changed: Mapping[str, Any]) -> bool:
        """Bring values into force, as many as the engine takes; True if it took all."""
        try:
            self.engine.apply(changed)
        except ParameterError as error:
            wrong = [name for name in changed if name in error.problems] or list(changed)
            self._refuse(wrong, error)
            rest = {name: value for name, value in changed.items() if name not in wrong}
            if rest:
                self._taken(rest)
            return False
        except EngineError as error:
            self._complain(str(error))
            return False
        logger.info("applied %s", _listed(changed))
        return True


def _listed(values: Mapping[str, Any]) -> str:
    """Values for the log, in one line."""
    return ", ".join(f"{name}={value!r:.60}" for name, value in values.items())
