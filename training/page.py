"""What of `docs/pocket.md` is written by a program: the words, and the figures that were kept.

`python -m training.page` writes both between their markers; a test says when the page is of
yesterday. The figures are those of `benchmarks/results/pocket.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.figures import GOALS, STEADY_GOAL
from training.prompts import COLOUR_WORDS, MOOD_WORDS, STYLE_WORDS

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "pocket.md"
KEPT = ROOT / "benchmarks" / "results" / "pocket.json"
NO_FIGURES = "No figures were kept yet: `python -m benchmarks pocket --json`."
AXES = ("styles", "colours", "moods")


def words() -> str:
    """Three tables: styles, colours, moods; the name in the studio, then its synonyms."""
    parts = []
    for title, known in (("style", STYLE_WORDS), ("colour", COLOUR_WORDS), ("mood", MOOD_WORDS)):
        rows = [f"| **{name}** | {', '.join(others)} |" for name, *others in known.values()]
        parts.append("\n".join([f"| {title} | also |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def figures(kept: Mapping[str, Any]) -> str:
    """The figures of `python -m benchmarks pocket --json` as tables."""
    if "pocket" not in kept:
        return NO_FIGURES
    pocket, machine = kept["pocket"], kept["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['python']}"
    parts = [f"Measured {kept['date']} on {where}, at load {kept['load'][0]} to {kept['load'][1]}."]
    if "obedience" in pocket:
        parts += [_obedience(pocket["obedience"]), _rest(pocket["obedience"]["summary"])]
    parts += [_speed(run, raced) for run, raced in pocket["speed"]["runs"].items()]
    starts = ", ".join(f"{name} {seconds} s" for name, seconds in pocket["start"].items())
    parts.append(f"From the start of a process to its first picture: {starts}.")
    return "\n\n".join(parts)


def _obedience(obedience: Mapping[str, Any]) -> str:
    lines = [
        "| asked for | nearest to it | goal | by colour alone | mean error | taken for another |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for axis, found in obedience["obedience"].items():
        goal = GOALS.get(axis.split()[0], "")
        lines.append(
            f"| {axis} | {found['right']} of {found['asked']} ({found['top1']:.2f}) | {goal}"
            f" | {found['top1_lab']:.2f} | {found['error']:.3f}"
            f" | {', '.join(found['confused']) or 'none'} |"
        )
    return "\n".join(lines)


def _rest(summary: Mapping[str, Any]) -> str:
    rows = (
        ("edges of the input kept (1 is all)", "edges", "edges_reference", ""),
        ("SSIM with the input", "ssim", "ssim_reference", ""),
        ("change from frame to frame over that of the input", "steadiness",
         "steadiness_reference", f"at most {STEADY_GOAL}"),
        ("the same, of the most restless style", "steadiness_worst", "", f"at most {STEADY_GOAL}"),
        ("what repeats every 8 pixels on flat fields, in 1/255", "grid8", "", "below 1"),
        ("what repeats every 16 pixels, in 1/255", "grid16", "", "below 1"),
        ("noise left on flat fields, in 1/255", "noise", "", "below 1"),
        ("mean difference from the input at strength 0 (0..1)", "identity_error", "", ""),
        ("largest fall of the distance while strength rises", "strength_dip", "", "0"),
        ("synonyms nearest to their first word", "synonyms", "", ""),
        ("share of an effect that strange words change", "strangers", "", ""),
    )  # fmt: skip
    lines = ["| measure | model | reference | goal |", "|---|---:|---:|---:|"]
    for title, key, reference, goal in rows:
        lines.append(f"| {title} | {summary[key]} | {summary.get(reference, '')} | {goal} |")
    return "\n".join(lines)


def _speed(run: str, raced: Mapping[str, Any]) -> str:
    lines = [f"| {run} | pictures a second | times torch |", "|---|---:|---:|"]
    for name, rate in raced["fps"].items():
        ratio = raced["ratios"].get(f"{name} / torch")
        lines.append(f"| {name} | {rate:.1f} | {f'{ratio:.1f}' if ratio else ''} |")
    return "\n".join(lines)


def written(page: str, kept: Mapping[str, Any]) -> str:
    """The page with what is known today between its markers.

    Raises:
        ValueError: it has no markers.
    """
    for name, text in (("words", words()), ("figures", figures(kept))):
        before, begin, rest = page.partition(f"<!-- {name}: python -m training.page -->")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        if not begin or not end:
            raise ValueError(f"expected the markers of {name} in the page")
        page = f"{before}{begin}\n\n{text}\n\n{end}{after}"
    return page


def read_kept() -> dict[str, Any]:
    """The figures that were kept; empty if there are none."""
    found: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
    return found


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), read_kept()), encoding="utf-8")
