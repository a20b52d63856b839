"""What an OSC message means for whoever is steered. No sockets; clocks are arguments.

Values are gathered until :meth:`Dialect.flush`: of a flood the newest value of each parameter goes
on. What must happen in order (a prompt, then a trigger) does.
"""

import difflib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dreamrelay.errors import ProtocolError
from dreamrelay.osc.fitting import (
    LONGEST_TEXT,
    Unfit,
    bounds,
    choices,
    fit,
    flat,
    kind_of,
    number,
    shown,
    text,
    truth,
)
from dreamrelay.osc.presets import Presets, all_but
from dreamrelay.osc.table import (
    BY_ADDRESS,
    FIGURE_NAMES,
    LATENCY,
    LONG,
    SUFFIXES,
    Address,
    address_of,
)
from dreamrelay.osc.wire import Message
from dreamrelay.schema import ParameterSchema

HELD_SECONDS = 0.25
"""A button that says 1 again within so long is still held down: patch cables repeat their value."""

ASKED_SECONDS = 1.0
"""A value that was asked for counts as the one in force for so long, if it is not yet."""

MAX_BUTTONS = 512

Sender = tuple[str, int]
Reply = tuple[str, list[Any]]
Word = Literal["start", "stop", "trigger", "p", "P", "x"]

# Before an engine has said what it takes, these two are known.
_UNKNOWN_YET: Mapping[str, Any] = {
    name: {"type": "string", "maxLength": LONGEST_TEXT} for name in ("prompt", "negative_prompt")
}


@dataclass(frozen=True, slots=True)
class Standing:
    """How the steered one is: what ``/state``, ``/fps``, ``/age``, ... and ``/error`` tell.

    ``prompts``: texts that were encoded, and that needed not be; what ``/prompt_cache`` tells.
    ``latency``: by the name of a part of the way, the numbers that ``/latency/NAME`` tells.
    """

    state: str
    text: str = ""
    fps: float = 0.0
    age_ms: float = 0.0
    trouble: str = ""
    prompts: tuple[int, int] = (0, 0)
    latency: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Steered:
    """What OSC steers. All are called in OSC's threads and return at once.

    Attributes:
        change: brings values of parameters into force.
        command: acts on a word.
        values: the values in force.
        standing: how it is.
        set_verbosity, verbosity: 0..3.
    """

    change: Callable[[dict[str, Any]], None]
    command: Callable[[Word], None] = lambda _: None
    values: Callable[[], Mapping[str, Any]] = dict
    standing: Callable[[], Standing] = lambda: Standing("live")
    set_verbosity: Callable[[int], None] = lambda _: None
    verbosity: Callable[[], int] = lambda: 1


class Dialect:
    """Messages in; replies out, and calls to the steered one. Used by one thread."""

    def __init__(
        self,
        steered: Steered,
        presets: Presets,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._steered = steered
        self._presets = presets
        self._clock = clock
        self._rules: Mapping[str, Any] = _UNKNOWN_YET
        self._schema = ParameterSchema({"properties": _UNKNOWN_YET})
        self._pending: dict[str, Any] = {}
        self._asked: dict[str, tuple[Any, float]] = {}
        self._held: OrderedDict[tuple[Sender, str], tuple[str, float]] = OrderedDict()

    def introduce(self, schema: Mapping[str, Any]) -> None:
        """Take each parameter of the schema for an address. From any thread.

        Raises:
            ProtocolError: it is none that a worker may publish.
        """
        self._schema = ParameterSchema(schema)
        self._rules = rules_of(schema)

    @property
    def rules(self) -> Mapping[str, Any]:
        """The parameters that there are, each with its rule."""
        return self._rules

    @property
    def waiting(self) -> bool:
        """Are there values that were not handed on yet?"""
        return bool(self._pending)

    def flush(self) -> None:
        """Hand on the values that were gathered."""
        if self._pending:
            values, self._pending = self._pending, {}
            now = self._clock()
            self._asked.update((name, (value, now)) for name, value in values.items())
            self._steered.change(values)

    def receive(self, message: Message, sender: Sender) -> list[Reply]:
        """Act on a message.

        Returns:
            What the sender asked to be told.

        Raises:
            ProtocolError: it, or a part of it, means nothing here; that changed nothing.
            DeviceError: the presets cannot be read or written.
        """
        # An OSC array of arguments is those arguments: some tools write one value as a list.
        message = Message(message.address, tuple(flat(message.arguments)))
        address = BY_ADDRESS.get(message.address)
        try:
            if address is not None:
                return self._known(address, message, sender)
            if message.address in FIGURE_NAMES:
                return self._figure(message)
            if message.address.startswith("/preset/"):
                return self._preset_button(message, sender)
            return self._parameter(message, sender)
        except Unfit as error:
            raise ProtocolError(str(error)) from None

    # -- the addresses of the table ---------------------------------------------------------------

    def _known(self, address: Address, message: Message, sender: Sender) -> list[Reply]:
        match address.kind:
            case "prompt":
                return self._prompt(message.arguments)
            case "button":
                if self._pressed(message, sender):
                    self._button(address.word)
                return []
            case "verbosity":
                return self._verbosity(message.arguments)
            case "preset":
                return self._preset(message, sender)
            case _:
                return self.everything() if self._pressed(message, sender) else []

    def _prompt(self, arguments: Sequence[Any]) -> list[Reply]:
        if _is_question(arguments):
            return [self._tell("prompt")]
        if not arguments:
            return []
        rules = self._rules
        if not all(isinstance(a, str | int | float | bytes) for a in arguments):
            raise Unfit(f"expected a text, got {list(arguments)!r:.80}")
        blend = len(arguments) > 1 and isinstance(arguments[0], str | bytes)
        if blend and not isinstance(arguments[1], str | bytes):
            if "prompts" not in rules:
                why = self._schema.absent.get("prompts", "expected a text [and a negative one]")
                raise Unfit(f"this engine blends no prompts: {why}")
            values = {"prompts": self._fitted("prompts", rules["prompts"], arguments)}
        else:
            names = ("prompt", "negative_prompt")
            values = {name: text(a) for name, a in zip(names, arguments, strict=False)}
            for name, value in values.items():
                if name not in rules:
                    why = self._schema.absent.get(name, "")
                    raise Unfit(f"this engine has no {name}{why and f': {why}'}")
                self._fitted(name, rules[name], [value])
            if self._now("prompts"):
                values["prompts"] = None  # a blend would hide it
        self._change(values)
        return []

    def _button(self, word: str) -> None:
        # In order: what was set before holds before.
        self.flush()
        match word:
            case "v":
                self._steered.set_verbosity((self._steered.verbosity() + 1) % 4)
            case "von" | "voff":
                self._steered.set_verbosity(2 if word == "von" else 0)
            case "start" | "stop" | "trigger" | "p" | "P" | "x":
                self._steered.command(word)

    def _verbosity(self, arguments: Sequence[Any]) -> list[Reply]:
        if not arguments or _is_question(arguments):
            return [("/verbose", [self._steered.verbosity()])]
        self._steered.set_verbosity(
            fit({"type": "integer", "minimum": 0, "maximum": 3}, arguments[:1])
        )
        return []

    # -- presets ----------------------------------------------------------------------------------

    def _preset(self, message: Message, sender: Sender) -> list[Reply]:
        arguments = message.arguments
        if _is_question(arguments) or not arguments:
            return [("/preset", list(self._presets.names()))]
        name = arguments[0]
        if isinstance(name, float) and name.is_integer():
            name = int(name)
        if isinstance(name, bool | float) or not isinstance(name, str | int | bytes):
            raise Unfit(f"expected the number or name of a preset, got {name!r:.40}")
        written = text(name).strip()
        if self._anew(sender, message.address, written):
            self._use_preset(message.address, written)
        return []

    def _preset_button(self, message: Message, sender: Sender) -> list[Reply]:
        address, _, name = message.address.rpartition("/")
        if address not in ("/preset", "/preset/save"):
            raise Unfit("expected /preset/4 or /preset/save/4")
        if self._pressed(message, sender):
            self._use_preset(address, name)
        return []

    def _use_preset(self, address: str, name: str) -> None:
        if address == "/preset/save":
            self.flush()
            values = {n: self._now(n) for n in self._rules}
            if not values or self._rules is _UNKNOWN_YET:
                raise Unfit("nothing to save yet: the engine has not said what it takes")
            self._presets.save(name, values)
            return
        values, problems = self._presets.fitting(name, self._schema)
        self._change(values)
        if problems:
            raise Unfit(f"preset {name} {all_but(problems)}")

    # -- parameters -------------------------------------------------------------------------------

    def _parameter(self, message: Message, sender: Sender) -> list[Reply]:
        path = message.address
        path = path.removeprefix(LONG) if path.startswith(LONG) else path[1:]
        name, _, suffix = path.partition("/")
        rule = self._rules.get(name)
        if rule is None or (suffix and suffix != "?" and suffix not in SUFFIXES):
            raise ProtocolError(self._no_such(message.address))
        arguments = message.arguments
        if suffix == "?" or not (arguments or suffix) or _is_question(arguments):
            return [self._tell(name)]
        if suffix == "toggle":
            if kind_of(rule) != "boolean":
                raise Unfit(f"only a switch can be toggled, {name} is a {kind_of(rule)}")
            if self._pressed(message, sender):
                self._change({name: not truth(self._now(name))})
        elif suffix:
            self._change({name: self._by(suffix, name, rule, arguments)})
        elif _is_relative(rule, arguments):
            self._change({name: self._by("add", name, rule, arguments)})
        else:
            self._change({name: self._fitted(name, rule, arguments)})
        return []

    def _fitted(self, name: str, rule: Any, arguments: Sequence[Any]) -> Any:
        """The value that the arguments mean, as the schema wants it."""
        value = fit(rule, arguments)
        if isinstance(value, list | dict) and (wrong := self._schema.problems({name: value})):
            raise Unfit(wrong[name])  # what is in lists, fitting knows in part
        return value

    def _by(self, suffix: str, name: str, rule: Any, arguments: Sequence[Any]) -> Any:
        kind = kind_of(rule)
        takes = kind in ("number", "integer", "enum") or (kind, suffix) == ("boolean", "unit")
        if not takes or len(arguments) != 1:
            raise Unfit(f"expected one number for {suffix}, {name} is a {kind}")
        amount = number(arguments[0])
        if kind == "boolean":
            return truth(amount)
        if kind == "enum":
            return self._choice_by(suffix, name, rule, amount)
        low, high = bounds(rule)
        if suffix == "unit":
            if low is None or high is None:
                raise Unfit(f"{name} has no bounds: set it itself")
            value = low + (high - low) * max(0.0, min(1.0, amount))
        else:
            value = number(self._now(name)) + amount
            value = value if low is None else max(low, value)
            value = value if high is None else min(high, value)
        # Ten times 0.1 is 1, not 0.9999999.
        value = float(f"{value:.9g}") if kind == "number" else round(value)
        return fit(rule, [value])

    def _choice_by(self, suffix: str, name: str, rule: Any, amount: float) -> Any:
        """Another choice: as far along the row as a fader stands, or so many further."""
        row = choices(rule)
        now = self._now(name)
        place = amount * len(row)
        if suffix == "add":
            place = (row.index(now) if now in row else 0) + round(amount)
        return row[int(max(0, min(len(row) - 1, place)))]

    def _change(self, values: Mapping[str, Any]) -> None:
        self._pending.update(values)

    def _now(self, name: str) -> Any:
        """The value that was asked for last, else the one in force."""
        if name in self._pending:
            return self._pending[name]
        value, when = self._asked.get(name, (None, 0.0))
        if name in self._asked and self._clock() - when < ASKED_SECONDS:
            return value
        self._asked.pop(name, None)
        return self._steered.values().get(name)

    # -- answers ----------------------------------------------------------------------------------

    def everything(self) -> list[Reply]:
        """All figures and all parameters."""
        standing = self._steered.standing()
        figures = [(name, figure_arguments(name, standing)) for name in _ANSWERED]
        figures += latency_figures(standing)
        return [*figures, *(self._tell(name) for name in self._rules)]

    def _figure(self, message: Message) -> list[Reply]:
        """Figures are asked for, or come from another of our kind: those are no errors."""
        if not _is_question(message.arguments):
            return []
        if message.address in _ANSWERED:
            arguments = figure_arguments(message.address, self._steered.standing())
            return [(message.address, arguments)]
        known = latency_figures(self._steered.standing())
        return [figure for figure in known if figure[0] == message.address]

    def _tell(self, name: str) -> Reply:
        rule = self._rules.get(name, {"type": "string"})
        return address_of(name), shown(rule, self._now(name))

    def _no_such(self, address: str) -> str:
        name = address.removeprefix(LONG).removeprefix("/").partition("/")[0]
        if name in self._schema.absent:
            return f"not in this engine: {self._schema.absent[name]}"
        if any(character in address for character in "*?[]{}"):
            return "expected one address, patterns are not taken"
        known = [*BY_ADDRESS, *map(address_of, self._rules)]
        near = difflib.get_close_matches(address, known, 1)
        return f"no such address{f' (did you mean {near[0]}?)' if near else ''}"

    # -- buttons ----------------------------------------------------------------------------------

    def _pressed(self, message: Message, sender: Sender) -> bool:
        """Whether a button goes down: 1 after 0, or no number at all.

        A release says 0. A cable says 1 again and again while the button is held.
        """
        if not message.arguments:
            return True
        try:
            value = number(message.arguments[0])
        except Unfit:
            return True
        if value < 0.5:
            self._held.pop((sender, message.address), None)
            return False
        return self._anew(sender, message.address, "1")

    def _anew(self, sender: Sender, address: str, value: str) -> bool:
        """Whether somebody says another thing than a moment ago: a cable repeats its value."""
        key, now = (sender, address), self._clock()
        before, when = self._held.pop(key, ("", -math.inf))
        self._held[key] = value, now
        if len(self._held) > MAX_BUTTONS:
            self._held.popitem(last=False)
        return value != before or now - when > HELD_SECONDS


_ANSWERED = ("/state", "/fps", "/age", "/prompt_cache")


def rules_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The rule of each parameter, without references to definitions elsewhere in the schema."""
    definitions = schema.get("$defs", {})
    return {n: _resolved(rule, definitions) for n, rule in schema.get("properties", {}).items()}


def figure_arguments(name: str, standing: Standing) -> list[Any]:
    """What a figure's message says."""
    if name == "/state":
        return [standing.state, standing.text]
    if name == "/prompt_cache":
        return [*standing.prompts]
    return [float(standing.fps if name == "/fps" else standing.age_ms)]


def latency_figures(standing: Standing) -> list[Reply]:
    """How late pictures are, part by part; what is not known is left out."""
    told = ((f"{LATENCY}{name}", list(times)) for name, times in standing.latency.items())
    return [(address, times) for address, times in told if address in FIGURE_NAMES]


def _is_question(arguments: Sequence[Any]) -> bool:
    return len(arguments) == 1 and arguments[0] == "?"


def _is_relative(rule: Any, arguments: Sequence[Any]) -> bool:
    """``"+0.1"`` as text; numbers are values, whatever their sign."""
    one = arguments[0] if len(arguments) == 1 else None
    number_like = kind_of(rule) in ("number", "integer")
    return number_like and isinstance(one, str) and one.startswith(("+", "-"))


def _resolved(rule: Any, definitions: Mapping[str, Any]) -> Any:
    """A rule with the definitions that it refers to in their places, one level deep."""
    if not isinstance(rule, Mapping):
        return {}
    name = str(rule.get("$ref", "")).removeprefix("#/$defs/")
    if name in definitions:
        rule = {**definitions[name], **{k: v for k, v in rule.items() if k != "$ref"}}
    if "anyOf" in rule:
        options = [_resolved(option, definitions) for option in rule["anyOf"]]
        return {**rule, "anyOf": options}
    if isinstance(rule.get("items"), Mapping) and "$ref" in rule["items"]:
        return {**rule, "items": _resolved(rule["items"], definitions)}
    return rule
