"""What OSC tools send, made to fit what a JSON Schema asks for: a fader's 3.0 is the 3 of a whole
number, 1 is true, "0.5" is a number, "22, 32, 45" is a list.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

Rule = Mapping[str, Any]

LONGEST_TEXT = 2000
_MOST = sys.float_info.max
NOTHING = ("", "none", "null", "nil")
TRUE, FALSE = ("1", "true", "on", "yes"), ("0", "false", "off", "no", "")


class Unfit(ValueError):
    """A value that cannot be what is asked for; the text says what was expected."""


def kind_of(rule: Rule) -> str:
    """The type that a parameter has besides null: ``number``, ``enum``, ``array`` ..."""
    rule = next((r for r in rule.get("anyOf", [rule]) if r.get("type") != "null"), rule)
    return "enum" if "enum" in rule else str(rule.get("type", "object"))


def bounds(rule: Rule) -> tuple[float | None, float | None]:
    """The least and the greatest value of a number."""
    rule = next((r for r in rule.get("anyOf", [rule]) if r.get("type") != "null"), rule)
    low = rule.get("minimum", rule.get("exclusiveMinimum"))
    high = rule.get("maximum", rule.get("exclusiveMaximum"))
    return low, high


def choices(rule: Rule) -> Sequence[Any]:
    """What an enum may be, in its order."""
    rule = next((r for r in rule.get("anyOf", [rule]) if r.get("type") != "null"), rule)
    found: Sequence[Any] = rule["enum"]
    return found


def fit(rule: Rule, arguments: Sequence[Any]) -> Any:
    """The value that the arguments of a message mean for a parameter.

    Raises:
        Unfit: they mean none, or one that is out of bounds.
    """
    options = rule.get("anyOf", [rule])
    nothing = len(arguments) == 1 and (
        arguments[0] is None
        or (isinstance(arguments[0], str) and arguments[0].strip().lower() in NOTHING)
    )
    if nothing and any(option.get("type") == "null" for option in options):
        return None
    problem = Unfit("expected another value")
    for option in options:
        if option.get("type") != "null":
            try:
                return _fit(option, arguments)
            except Unfit as error:
                problem = error
    raise problem


def _fit(rule: Rule, arguments: Sequence[Any]) -> Any:
    kind = kind_of(rule)
    if kind == "array":
        return _list(rule, arguments)
    if len(arguments) != 1:
        raise Unfit(f"expected one value, got {len(arguments)}")
    value = arguments[0]
    if kind == "enum":
        return _choice(rule["enum"], value)
    if kind == "number":
        return _within(rule, number(value))
    if kind == "integer":
        return _within(rule, round(number(value)))
    if kind == "boolean":
        return truth(value)
    if kind == "string":
        return text(value, int(rule.get("maxLength", LONGEST_TEXT)))
    return _json(value)


def number(value: Any) -> float | int:
    """A finite number, from a number, a boolean or a text of digits."""
    if isinstance(value, str):
        try:
            value = int(value) if value.strip().lstrip("+-").isdecimal() else float(value)
        except ValueError:
            raise Unfit(f"expected a number, got {value!r:.40}") from None
    if isinstance(value, bool):
        return int(value)
    if not isinstance(value, int | float) or not abs(value) <= _MOST:  # NaN is not
        raise Unfit(f"expected a number, got {value!r:.40}")
    return value


def truth(value: Any) -> bool:
    """On or off, as a toggle, a fader or a person says it."""
    if isinstance(value, str):
        word = value.strip().lower()
        if word in TRUE or word in FALSE:
            return word in TRUE
    elif isinstance(value, int | float) and math.isfinite(value):
        return value >= 0.5
    raise Unfit(f"expected 0 or 1, got {value!r:.40}")


def text(value: Any, longest: int = LONGEST_TEXT) -> str:
    """A text; numbers are written out, as the Spout service did.

    A blob is one too: tools whose texts are not in UTF-8 can send the bytes themselves.
    """
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise Unfit(f"expected a text in UTF-8, got {value!r:.40}") from None
        if not value or "\0" in value:
            raise Unfit(f"expected a text, got {value.encode()!r:.40}")
    if not isinstance(value, str | int | float):
        raise Unfit(f"expected a text, got {value!r:.40}")
    written = str(value)
    if len(written) > longest:
        raise Unfit(f"expected at most {longest} characters, got {len(written)}")
    return written


def _within(rule: Rule, value: float) -> float:
    low, high = bounds(rule)
    outside = (
        (low is not None and (value < low or value == rule.get("exclusiveMinimum")))
        or (high is not None and (value > high or value == rule.get("exclusiveMaximum")))
    )  # fmt: skip
    if outside:
        span = f"{low:.12g}.." if low is not None else "at most "
        raise Unfit(f"expected {span}{'' if high is None else f'{high:.12g}'}, got {value:.12g}")
    return value


def _choice(choices: Sequence[Any], value: Any) -> Any:
    """One of several words, or its place among them: what a radio button or a knob sends."""
    if isinstance(value, str) and value in choices:
        return value
    try:
        place = number(value)
    except Unfit:
        place = -1
    if place in choices and not isinstance(value, str):
        return place
    if 0 <= place < len(choices) and place == int(place):
        return choices[int(place)]
    raise Unfit(f"expected one of {', '.join(map(str, choices))}, got {value!r:.40}")


def _list(rule: Rule, arguments: Sequence[Any]) -> list[Any]:
    items: Rule = rule.get("items", {})
    values = flat(arguments)
    if len(values) == 1 and isinstance(values[0], str):
        written = values[0].strip()
        if written.startswith("["):
            read = _json(written)
            values = read if isinstance(read, list) else [read]
        elif kind_of(items) != "object":
            values = written.replace(",", " ").split()
    if kind_of(items) == "object":
        names = pair(rule)
        if names is None or any(isinstance(value, Mapping) for value in values):
            fitted = values
        else:
            fitted = _pairs(items, values, *names)
    else:
        fitted = [fit(items, [value]) for value in values]
    low, high = int(rule.get("minItems", 0)), int(rule.get("maxItems", 64))
    if not low <= len(fitted) <= high:
        raise Unfit(f"expected {low} to {high} values, got {len(fitted)}")
    return fitted


def pair(rule: Rule) -> tuple[str, str] | None:
    """Of a list of things that each have an amount (a text and its weight, a LoRA and its scale):
    the names of the two.
    """
    rule = next((r for r in rule.get("anyOf", [rule]) if r.get("type") != "null"), rule)
    names = tuple(rule.get("items", {}).get("properties", ()))
    return (names[0], names[1]) if len(names) == 2 else None


def _pairs(items: Rule, values: Sequence[Any], thing: str, amount: str) -> list[dict[str, Any]]:
    """Things, each with its amount behind it: ``"fox" 0.7 "wolf" 0.3``. A text may go without."""
    rule = items["properties"][thing]
    parts: list[dict[str, Any]] = []
    for value in values:
        named = kind_of(rule) == "string"
        begins = isinstance(value, str | bytes) if named else not parts or amount in parts[-1]
        if begins:
            parts.append({thing: fit(rule, [value])})
        elif not parts or amount in parts[-1]:
            raise Unfit(f"expected a {thing}, then its {amount}, and so on: got {value!r:.40}")
        else:
            parts[-1][amount] = float(number(value))
    return [{amount: 1.0, **part} for part in parts]


def flat(values: Sequence[Any]) -> list[Any]:
    """The values, those of lists among them one by one."""
    all_of_them: list[Any] = []
    for value in values:
        if isinstance(value, list | tuple):
            all_of_them.extend(flat(value))
        else:
            all_of_them.append(value)
    return all_of_them


def _json(value: Any) -> Any:
    if not isinstance(value, str):
        raise Unfit(f"expected JSON, got {value!r:.40}")
    try:
        return json.loads(value, parse_constant=number)
    except (ValueError, RecursionError):
        raise Unfit(f"expected JSON, got {value!r:.40}") from None


def shown(rule: Rule, value: Any) -> list[Any]:
    """The arguments that tell a parameter's value: what sending them back would set again."""
    kind = kind_of(rule)
    if value is None:
        return ["none"]
    if kind == "boolean":
        return [int(bool(value))]
    if kind == "number" and isinstance(value, int | float):
        return [float(value)]
    if kind == "array" and isinstance(value, Sequence) and not isinstance(value, str):
        if (names := pair(rule)) and all(isinstance(part, Mapping) for part in value):
            thing, amount = names
            return [word for part in value for word in (part[thing], float(part[amount]))]
        return [v if isinstance(v, str | int | float) else json.dumps(v) for v in value]
    return [value if isinstance(value, str | int | float) else json.dumps(value)]
