"""Kinds of values that settings have: how people type them, and their bounds.

What comes from a file has its type; what comes from the environment or a command line is a text.
"""

import ast
import logging
import re
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import AfterValidator, BeforeValidator, Field

DEFAULT_PORT = 8765
LOG_LEVELS = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
"""What ``verbose`` 0 to 3 lets through."""


def _literal(value: Any) -> Any:
    """Read lists and dictionaries as people type them on a command line; leave anything else
    alone.
    """
    if isinstance(value, str) and value.strip()[:1] in ("[", "{", "("):
        try:
            return ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            raise ValueError("not a list or dictionary that Python can read") from None
    return value


def _numbers(value: Any) -> Any:
    value = _literal(value)
    if isinstance(value, str) and value:
        return [part for part in value.replace(",", " ").split() if part]
    return value


def _loras(value: Any) -> Any:
    """``{"a": 0.5}`` or ``a:0.5,b:0.7``; a name without a scale counts as 1."""
    value = _literal(value)
    if not isinstance(value, str):
        return value
    pairs = [part.strip() for part in value.split(",") if part.strip()]
    # The last colon only: Windows paths have one of their own.
    split = [pair.rpartition(":") if not _is_drive(pair) else ("", "", pair) for pair in pairs]
    return {name or scale: scale if name else 1.0 for name, _, scale in split}


def _is_drive(pair: str) -> bool:
    return pair.rfind(":") == 1 and pair[2:3] in ("\\", "/")


def _texts(value: Any) -> Any:
    """``a, b``: names may have spaces, but no commas."""
    value = _literal(value)
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _endless(value: Any) -> Any:
    """No end is written as nothing, ``none`` or 0."""
    text = str(value).strip().lower()
    return None if text in ("", "none", "0", "0.0") else value


def spout_url(name: str) -> str:
    """The source or sink that a Spout sender's name means; it may hold any character."""
    return f"spout://{quote(name, safe='/')}"


def _stream_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", value):
        raise ValueError("expected a stream's name of 1-64 letters, digits, _ . -")
    return value


def _names(value: Any) -> Any:
    """``a,b``; a name may be a number."""
    parts = value if isinstance(value, list) else str(value).split(",")
    return [str(part).strip() for part in parts]


def _each_once(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("expected each stream once")
    return names


def _origin(value: str) -> str:
    """An origin as browsers send it: lower case, no path, no slash at its end."""
    text = value.rstrip("/").lower()
    if not re.fullmatch(
        r"[a-z][a-z0-9+.-]*://[a-z0-9_.-]+(:\d{1,5})?|[a-z]+://\[[0-9a-f:]+\](:\d+)?", text
    ):
        raise ValueError("expected pages' origins as scheme://host:port")
    return text


def _token(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[A-Za-z0-9._~+/=-]{16,512}", value):
        raise ValueError("expected 16-512 letters, digits, . _ ~ + / = -")
    return value


def _backplane(value: str | None) -> str | None:
    """Addresses with commas; they may hold a password, so what came is not repeated."""
    for address in (value or "").split(",") if value else ():
        if not re.fullmatch(r"(nats|tls)://([^@/\s]+@)?[^@/\s:]+(:\d{1,5})?/?", address.strip()):
            raise ValueError("expected nats://HOST:PORT or tls://HOST:PORT, several with commas")
    return value


def _word(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise ValueError("expected 1-64 letters, digits, _ -")
    return value


Numbers = Annotated[list[int] | None, BeforeValidator(_numbers)]
Loras = Annotated[dict[str, float], BeforeValidator(_loras)]
Texts = Annotated[list[str], BeforeValidator(_texts)]
OptionalText = str | None
Origins = Annotated[list[Annotated[str, AfterValidator(_origin)]], BeforeValidator(_texts)]
Token = Annotated[OptionalText, AfterValidator(_token)]
Backplane = Annotated[OptionalText, AfterValidator(_backplane)]
Word = Annotated[OptionalText, AfterValidator(_word)]
Port = Annotated[int, Field(ge=0, le=65535)]
StreamName = Annotated[str, AfterValidator(_stream_name)]
StreamNames = Annotated[
    list[StreamName],
    Field(min_length=1, max_length=32),
    AfterValidator(_each_once),
    BeforeValidator(_names),
]
Ports = Annotated[list[Port], Field(max_length=8), BeforeValidator(_numbers)]
Seconds = Annotated[float | None, Field(ge=0), BeforeValidator(_endless)]
