"""Make ``docs/parameters.md`` from the engines' parameters.

``python -m examples.parameters`` in the repository's root; ``--check`` only compares.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dreamrelay.engines.control_parameters import ControlParameters, ImagePromptParameters
from dreamrelay.engines.lora_parameters import LoraParameters
from dreamrelay.engines.parameters import StreamBatchParameters
from dreamrelay.engines.processor_parameters import ProcessorParameters
from dreamrelay.preprocess import HumanParameters

PAGE = Path(__file__).resolve().parent.parent / "docs" / "parameters.md"

HEAD = """# Parameters

What can be changed between two frames: in the studio, by REST, OSC and each wire protocol, under
these names. Made from the engines' own definitions by `python -m examples.parameters`; a stream
publishes those that its loaded engine can use.
"""

KINDS: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("Every stream batch", "Also the pocket model.", StreamBatchParameters),
    ("People", "Of every worker that was not started with `--matting=off`.", HumanParameters),
    ("ControlNets", "Of a worker started with `--controlnets`.", ControlParameters),
    ("Image prompts", "Of a worker started with `--ip_adapter`.", ImagePromptParameters),
    ("LoRAs", "Of a worker started with `--lora`.", LoraParameters),
    ("Processors", "Of `--engine standard` and `--engine lightning`.", ProcessorParameters),
)


def page() -> str:
    """All of the page."""
    parts = [HEAD]
    for title, whose, kind in KINDS:
        rows = [
            f"| `{name}` | {_values(rule)} | {_default(rule)} | {_cell(rule['description'])} |"
            for name, rule in kind.model_json_schema()["properties"].items()
        ]
        head = "| name | values | at first | what it does |\n|---|---|---|---|"
        parts.append("\n".join([f"## {title}\n\n{whose}\n", head, *rows, ""]))
    return "\n".join(parts)


def _values(rule: Mapping[str, Any]) -> str:
    """In a word what a JSON Schema lets pass."""
    if "anyOf" in rule:
        return " or ".join(
            "empty" if c.get("type") == "null" else _values(c) for c in rule["anyOf"]
        )
    if "enum" in rule:
        return ", ".join(f"`{value}`" for value in rule["enum"])
    match rule["type"]:
        case "boolean":
            return "yes, no"
        case "number" | "integer":
            whole = "whole, " if rule["type"] == "integer" else ""
            steps = f" in steps of {rule['multipleOf']}" if "multipleOf" in rule else ""
            return f"{whole}{rule['minimum']:g} to {rule['maximum']:.10g}{steps}"
        case "array" if rule["items"]["type"] == "object":
            names = ", ".join(f"`{name}`" for name in rule["items"]["properties"])
            return f"up to {rule['maxItems']} of {names}"
        case "array":
            return f"up to {rule['maxItems']}, each {_values(rule['items'])}"
    return f"text of up to {rule['maxLength']} characters" if "maxLength" in rule else "text"


def _default(rule: Mapping[str, Any]) -> str:
    match rule.get("default"):
        case None | "" | []:
            return ""
        case True:
            return "yes"
        case False:
            return "no"
        case str() as text:
            return f"`{text}`"
        case value:
            return f"{value:g}" if isinstance(value, int | float) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Write the page, or say that it is of yesterday."""
    made = page()
    if arguments == ["--check"]:
        return 0 if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == made else 1
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
