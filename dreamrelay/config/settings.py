"""Gather settings from TOML file, environment and flags, check them, and say what was wrong.

A section of the programs' settings is a class made of ``Settings``; its own door is ``load``.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from dreamrelay.errors import ConfigError

FILE_NAME = "dreamrelay.toml"

NOT_HERE: Mapping[str, str] = {
    "mode": "full or human is a parameter here: the studio, OSC /mode, REST and pages change it",
    "safety_checker": "there is none: nothing here looks at what a picture shows",
    "lcm_lora_id": "name the LoRA with the others: python main.py --lora=ID",
    "engine_dir": "engines are kept in the user's cache; DREAMRELAY_CACHE names another folder",
    "reload": "there is no reload: stop the program and start it again",
    "debug": "write --verbose=3",
}
"""Flags of programs that ours replace, and what to do instead."""


class Settings(BaseModel):
    """Base of the programs' settings; ``load`` is the door."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        allow_inf_nan=False,
        coerce_numbers_to_str=True,  # --stream=7
        defer_build=True,  # a program starts with its own settings, and knows of the others
    )

    section: ClassVar[str]
    """Table of the TOML file and middle part of the variables' names."""

    usage: ClassVar[str]
    other_usage: ClassVar[str] = ""
    """And with words that are no flags, if it takes any."""
    """How it is started on a command line."""

    aliases: ClassVar[Mapping[str, str]] = {}
    """Other spellings of flags: those of the seeds."""

    secrets: ClassVar[frozenset[str]] = frozenset()
    """Settings beside tokens whose values no error shows."""

    family: ClassVar[tuple[type["Settings"], ...]] = ()
    """All that have a table in the TOML file; the package says which, once they are made."""

    @field_validator("*", mode="before")
    @classmethod
    def _odd(cls, value: Any, info: ValidationInfo) -> Any:
        """Nothing means "not set" where that can be; a flag without its value is no number."""
        kind = cls.model_fields[info.field_name or ""].annotation
        kinds = {*get_args(kind), *(word for part in get_args(kind) for word in get_args(part))}
        empty = value == "" or (value in ("none", "None") and value not in kinds)
        if empty and type(None) in kinds:
            return None
        if isinstance(value, bool) and bool not in (kind, *kinds):
            raise ValueError("expected a value")
        return value

    @classmethod
    def load(
        cls,
        flags: Mapping[str, Any] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        path: Path | None = None,
    ) -> Self:
        """Read all sources and check the outcome.

        Args:
            flags: what the command line said; names may use ``-`` for ``_``.
            environ: the environment, ``os.environ`` if not given.
            path: the TOML file; else ``DREAMRELAY_CONFIG``, else ``dreamrelay.toml`` if it is
                there.

        Raises:
            ConfigError: naming where the value came from and what was expected.
        """
        environ = os.environ if environ is None else environ
        given, typed = {}, {}
        for flag, text in (flags or {}).items():
            name, value = cls._flag(flag, text)
            cls._known(name, f"--{name}")
            given[name], typed[name] = value, f"--{flag}"
        table, file = cls._table(environ, path)
        table = {cls.aliases.get(name, name): value for name, value in table.items()}
        for name in table:
            cls._known(name, f"{file}: [{cls.section}] {name}")
        prefix = f"DREAMRELAY_{cls.section.upper()}_"
        variables = {
            cls.aliases.get(short := name.removeprefix(prefix).lower(), short): value
            for name, value in environ.items()
            if name.startswith(prefix)
        }
        for name in variables:
            cls._known(name, prefix + name.upper())
        try:
            return cls(**{**table, **variables, **given})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"][:1])) or cls.section
            origin = (
                typed[name]
                if name in given
                else prefix + name.upper()
                if name in variables
                else f"{file}: [{cls.section}] {name}"
            )
            reason = first["msg"].removeprefix("Value error, ")
            # What came is a secret, wrong or not, or has one in it.
            if name.endswith("token") or name in cls.secrets:
                raise ConfigError(f"{origin}: {reason}") from None
            raise ConfigError(f"{origin}: {reason}, got {first.get('input')!r:.80}") from None

    @classmethod
    def flag_name(cls, flag: str) -> str:
        """The setting that a flag means: ``websocket-uri`` is ``websocket_uri``, aliases looked
        up.
        """
        name = flag.replace("-", "_")
        if len(name) == 1 and name not in cls.aliases:
            begins = [known for known in cls.model_fields if known.startswith(name)]
            name = begins[0] if len(begins) == 1 else name
        return cls.aliases.get(name, name)

    @classmethod
    def _flag(cls, flag: str, value: Any) -> tuple[str, Any]:
        """A flag as setting and value; ``--noloop`` is ``--loop=False``."""
        name = cls.flag_name(flag)
        if name not in cls.model_fields and name.startswith("no") and str(value) == "True":
            opposite = cls.flag_name(name.removeprefix("no").lstrip("_"))
            field = cls.model_fields.get(opposite)
            if field is not None and field.annotation in (bool, bool | None):
                return opposite, "False"
        return name, value

    @classmethod
    def _known(cls, name: str, origin: str) -> None:
        if name not in cls.model_fields:
            plain = name.removeprefix("no_")
            if plain in NOT_HERE:
                raise ConfigError(f"{origin}: {NOT_HERE[plain]}")
            others = (
                other for other in cls.family if plain in {*other.model_fields, *other.aliases}
            )
            theirs = next(others, None)
            if theirs is not None:
                raise ConfigError(
                    f"{origin}: no such setting in {cls.usage}; {theirs.usage} has it"
                )
            near = difflib.get_close_matches(name, [*cls.model_fields, *cls.aliases], 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ConfigError(f"{origin}: no such setting{hint}")

    @classmethod
    def _table(cls, environ: Mapping[str, str], path: Path | None) -> tuple[dict[str, Any], str]:
        named = path or (
            Path(environ["DREAMRELAY_CONFIG"]) if "DREAMRELAY_CONFIG" in environ else None
        )
        file = named or Path(FILE_NAME)
        if named is None and not file.is_file():
            return {}, str(file)
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{file}: cannot be read: {error}") from None
        sections = {settings.section for settings in cls.family}
        for name in content:
            if name not in sections:
                near = difflib.get_close_matches(name, sections, 1)
                hint = f" (did you mean [{near[0]}]?)" if near else ""
                raise ConfigError(f"{file}: [{name}]: no such section{hint}")
        table = content.get(cls.section, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{file}: expected a table [{cls.section}]")
        return table, str(file)
