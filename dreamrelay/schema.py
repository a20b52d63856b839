"""The JSON Schema that a worker publishes, and checking values against it.

The schema comes from a peer, so only what is cheap and stays here is taken from it: regular
expressions are not run, nothing is fetched from an address, definitions do not refer to one
another. The worker checks again with all it knows.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jsonschema
import orjson
import referencing
from referencing.exceptions import Unresolvable

from dreamrelay.errors import ProtocolError

MAX_SCHEMA_BYTES = 64 * 1024
MAX_PARAMETERS = 256

MOST_CHECKS = 5000
"""Rules that are looked at for one value, each for each value inside of it."""

_SILENT = frozenset("title description default examples $comment const".split())
"""Of a rule: what is for people, or one look."""

_PLACES = frozenset(
    "path file-path directory-path uri uri-reference uri-template iri iri-reference url".split()
)


def checked(schema: Mapping[str, Any]) -> "ParameterSchema":
    """As :class:`ParameterSchema`; made once for all streams that one worker serves.

    Checking a worker's schema takes 20 ms, and pages come and go.
    """
    try:
        text = orjson.dumps(schema)
    except orjson.JSONEncodeError:
        return ParameterSchema(schema)  # which says what is wrong with it
    return ParameterSchema(schema) if len(text) > MAX_SCHEMA_BYTES else _made(text)


@lru_cache(maxsize=32)
def _made(text: bytes) -> "ParameterSchema":
    return ParameterSchema(orjson.loads(text))


class ParameterSchema:
    """A checked schema of named parameters.

    Raises:
        ProtocolError: it is no JSON Schema of an object, or one that costs too much.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        plain = dict(schema)
        try:
            size = len(orjson.dumps(plain))
            if size > MAX_SCHEMA_BYTES:
                raise ProtocolError(f"expected a schema of at most {MAX_SCHEMA_BYTES} bytes")
            jsonschema.Draft202012Validator.check_schema(plain)
            named = _place(plain)
        except jsonschema.SchemaError as error:
            raise ProtocolError(f"not a JSON Schema: {error.message[:200]}") from None
        except (RecursionError, TypeError):
            raise ProtocolError("the schema is nested too deep") from None
        if named:
            raise ProtocolError(
                f"a parameter may not name a file or an address (format {named!r}): remote peers"
                " choose from what the operator offers"
            )
        properties = plain.get("properties", {})
        definitions = plain.get("$defs", {})
        if len(properties) > MAX_PARAMETERS:
            raise ProtocolError(f"expected at most {MAX_PARAMETERS} parameters in the schema")
        if b'"$ref"' in orjson.dumps(definitions) or b'"$dynamicRef"' in orjson.dumps(plain):
            # Two definitions that refer to each other never end, a ladder of them nearly so.
            raise ProtocolError("the schema's $defs may not refer to one another")
        self.names = tuple(sorted(properties))
        self.absent = _texts(plain.get("x-absent"))
        """Why there is no parameter of a name that other engines have."""
        shared = {f"#/$defs/{name}": _weight(rule, {}) for name, rule in definitions.items()}
        # Parameters that refer to one another are such a ladder, too.
        others = {name: _other_reference(rule) for name, rule in properties.items()}
        self._unusable = {name: other for name, other in others.items() if other}
        self._weights = {name: _weight(rule, shared) for name, rule in properties.items()}
        rule = {"properties": _cheap(properties), "$defs": _cheap(definitions)}
        self._validator = jsonschema.Draft202012Validator(rule, registry=referencing.Registry())

    def problems(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Say what is wrong with which of the values; empty if nothing is."""
        problems: dict[str, str] = {}
        for name, value in values.items():
            if name not in self.names:
                problems[name[:64]] = self._why_not(name)
                continue
            if name in self._unusable:
                other = f"it refers to {self._unusable[name]!r:.60}, not to one of $defs"
                problems[name[:64]] = f"its rule cannot be used: {other}"
                continue
            try:
                if self._weights[name] * _size(value) > MOST_CHECKS:
                    problems[name[:64]] = "expected fewer values: checking them takes too long"
                    continue
                error = next(self._validator.iter_errors({name: value}), None)
            except (Unresolvable, RecursionError, ArithmeticError) as failure:
                # The worker's rule is at fault, not the value.
                problems[name[:64]] = f"its rule cannot be used: {type(failure).__name__}"
            else:
                if error is not None:
                    problems[name[:64]] = _explain(error)
        return problems

    def _why_not(self, name: str) -> str:
        """Why there is no parameter of that name."""
        if name in self.absent:
            return f"not in this engine: {self.absent[name]}"
        return f"no such parameter: expected one of {', '.join(self.names)}"


def _texts(node: Any) -> dict[str, str]:
    """The short texts by name that a worker wrote there; what else there is, is left out."""
    if not isinstance(node, dict):
        return {}
    return {name: text[:200] for name, text in node.items() if isinstance(text, str) and text}


def _place(node: Any) -> str:
    """The first ``format`` of a text that names a file or an address; empty if there is none."""
    if isinstance(node, list):
        return next(filter(None, map(_place, node)), "")
    if not isinstance(node, dict):
        return ""
    kind = node.get("format")
    if isinstance(kind, str) and kind in _PLACES:
        return kind
    return next(filter(None, map(_place, node.values())), "")


def _weight(rule: Any, shared: Mapping[str, int]) -> int:
    """How many rules there are in a rule, with those that it refers to."""
    if isinstance(rule, list):
        return sum(_weight(inner, shared) for inner in rule)
    if not isinstance(rule, dict):
        return 0
    weight = 1 + len(rule)
    for name, inner in rule.items():
        if name == "enum" and isinstance(inner, list):
            weight += len(inner) // 16
        elif name == "$ref" and isinstance(inner, str):
            weight += shared.get(inner, 0)
        elif name not in _SILENT and not name.startswith("x-"):
            weight += _weight(inner, shared)
    return weight


def _size(value: Any) -> int:
    """How many values there are in a value, itself included."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_size, inner))


def _other_reference(node: Any) -> str:
    """The first reference to something else than a definition; empty if there is none."""
    if isinstance(node, list):
        return next(filter(None, map(_other_reference, node)), "")
    if not isinstance(node, dict):
        return ""
    reference = node.get("$ref")
    if isinstance(reference, str) and not re.fullmatch(r"#/\$defs/[^/]+", reference):
        return reference
    return next(filter(None, map(_other_reference, node.values())), "")


def _cheap(node: Any) -> Any:
    """Leave out what takes for ever: some regular expressions, comparing each entry with each."""
    if isinstance(node, list):
        return [_cheap(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _cheap(value)
        for key, value in node.items()
        if not (key == "pattern" and isinstance(value, str))
        and not (key == "uniqueItems" and isinstance(value, bool))
        and key != "patternProperties"
    }


def _explain(error: jsonschema.ValidationError) -> str:
    """Say what a value should have been."""
    if error.context:  # one of several: what kept it from the one whose type fits
        fitting = [inner for inner in error.context if inner.validator != "type"]
        if fitting:
            return _explain(fitting[0])
        kinds = " or ".join(str(inner.validator_value) for inner in error.context)
        return f"expected {kinds}, got {error.instance!r:.60}"
    value: Any = error.instance
    rule: Any = error.validator_value
    came = f"got {value!r:.60}"
    match error.validator:
        case "type":
            kinds = rule if isinstance(rule, str) else " or ".join(rule)
            return f"expected {kinds}, {came}"
        case "minimum":
            return f"expected at least {rule}, {came}"
        case "maximum":
            return f"expected at most {rule}, {came}"
        case "exclusiveMinimum":
            return f"expected more than {rule}, {came}"
        case "exclusiveMaximum":
            return f"expected less than {rule}, {came}"
        case "enum":
            choices = ", ".join(str(choice) or "nothing" for choice in rule)
            return f"expected one of {choices}, {came}"[:200]
        case "maxLength":
            return f"expected at most {rule} characters, got {len(value)}"
        case "minItems" | "maxItems":
            most = "least" if error.validator == "minItems" else "most"
            return f"expected at {most} {rule} entries, got {len(value)}"
        case _:
            return str(error.message)[:200]
