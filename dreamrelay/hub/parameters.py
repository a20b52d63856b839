"""A stream's parameters: the values in force, the schema they obey, and what people asked for.

What was asked for is kept beside the values, with its time: it outlives the worker that it was said
to, and where two relays were apart and each was told something, the later word holds, parameter by
parameter.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dreamrelay.hub.upstream import Asked, Wishes
from dreamrelay.protocol.messages import Limits, WorkerHello
from dreamrelay.schema import ParameterSchema, checked

MAX_PARAMETERS = 64

_PARAMETER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class Published:
    """The schema and the values of a worker, as everybody was told."""

    schema: Mapping[str, Any] | None
    values: Mapping[str, Any]


class Parameters:
    """The parameters of one stream.

    Attributes:
        schema: JSON Schema that the last worker published, None before the first.
        values: in force.
        revision: how many patches were applied; it only grows.
    """

    def __init__(self, limits: Limits, unix_ns: Callable[[], int]) -> None:
        self._limits = limits
        self._unix_ns = unix_ns
        self.schema: Mapping[str, Any] | None = None
        self.values: dict[str, Any] = {}
        self.revision = 0
        self._asked: dict[str, Asked] = {}
        self._rules: ParameterSchema | None = None

    def problems(self, patch: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with a patch: name to reason. Without a schema, only its form is known."""
        problems: dict[str, str] = {}
        if len(patch) > MAX_PARAMETERS or len({*self._asked, *patch}) > 4 * MAX_PARAMETERS:
            return {"patch": f"expected at most {MAX_PARAMETERS} parameters, got {len(patch)}"}
        for name, value in patch.items():
            if len(repr(value)) > 4 * self._limits.text:
                problems[name[:64]] = f"expected at most {4 * self._limits.text} characters"
            elif self._rules is None and not _PARAMETER_NAME.match(name):
                problems[name[:64]] = "expected a parameter's name"
        if not problems and self._rules is not None:
            problems = self._rules.problems(patch)
        return problems

    def changed_by(self, patch: Mapping[str, Any]) -> tuple[str, ...]:
        """Names whose values a patch would change."""
        return tuple(n for n, v in patch.items() if n not in self.values or self.values[n] != v)

    def apply(self, patch: Mapping[str, Any]) -> tuple[str, ...]:
        """Take a patch that has no problems; the names whose values it changed."""
        changed = self.changed_by(patch)
        now = self._unix_ns()
        self.values.update(patch)
        self._asked.update({name: Asked(value, now) for name, value in patch.items()})
        if changed:
            self.revision += 1
        return changed

    def adopt(self, hello: WorkerHello, *, succeeds: bool = False) -> tuple[str, ...]:
        """A worker brings its schema and values; what people asked for holds as far as it can.

        Args:
            succeeds: it takes over from another one, and so has all of that one's values.

        Returns:
            the names of what was there before and holds.

        Raises:
            ProtocolError: that is no schema; nothing was changed.
        """
        self._obey(hello.schema)
        names = self._rules.names if self._rules is not None else ()
        asked = {name: asked.value for name, asked in self._asked.items()}
        before = {**self.values, **asked} if succeeds else asked
        kept = {n: value for n, value in before.items() if not self.problems({n: value})}
        own = {n: v for n, v in hello.parameters.items() if n in names}
        self.values = {**own, **kept}
        self.revision += 1
        return tuple(kept)

    def published(self) -> "Published":
        """What everybody was told, to go back to."""
        return Published(self.schema, dict(self.values))

    def go_back(self, before: "Published") -> None:
        """The worker before is the one again; what was changed since holds as far as it can."""
        newer = self.values
        self._obey(before.schema)
        now = {n: v for n, v in newer.items() if n in before.values and not self.problems({n: v})}
        self.values = {**before.values, **now}
        self.revision += 1

    def _obey(self, schema: Mapping[str, Any] | None) -> None:
        self._rules = None if schema is None else checked(schema)
        self.schema = schema

    # -- with other relays ------------------------------------------------------------------------

    def wishes(self, changed: tuple[str, ...] = (), origin: str = "") -> Wishes:
        """All of it, for another relay."""
        return Wishes(dict(self.values), self.revision, dict(self._asked), changed, origin)

    def follow(self, wishes: Wishes) -> None:
        """From now on they are as another relay says."""
        self.values, self.revision = dict(wishes.values), wishes.revision
        self._asked = dict(wishes.asked)

    def follow_schema(self, schema: Mapping[str, Any] | None) -> None:
        """The schema is now that of another relay.

        Raises:
            ProtocolError: that is no schema; nothing was changed.
        """
        if schema != self.schema:
            self._obey(schema)

    def merge(self, wishes: Wishes) -> tuple[str, ...]:
        """Another relay was told things as well: for each parameter the later word holds.

        Returns:
            the names whose values were changed by it.
        """
        later = {
            name: asked
            for name, asked in wishes.asked.items()
            if (name not in self._asked or asked.ns > self._asked[name].ns)
            and not self.problems({name: asked.value})
        }
        changed = self.changed_by({name: asked.value for name, asked in later.items()})
        self.values.update({name: asked.value for name, asked in later.items()})
        self._asked.update(later)
        # Whoever saw the other count shall not see it fall.
        self.revision = max(self.revision, wishes.revision) + bool(changed)
        return changed
