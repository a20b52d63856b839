"""One table of a whole run: for people, for the next comparison, and for the page of the docs.

``make bench`` writes ``results/last.json``, which git ignores, and compares with what was there.
``python -m benchmarks report`` keeps that run as ``results/baseline.json`` and writes the tables of
``docs/performance.md`` from it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import suite
from benchmarks.marks import Row, change, short

ROOT = Path(__file__).parent.parent
BASELINE = ROOT / "benchmarks" / "results" / "baseline.json"
LAST = BASELINE.with_name("last.json")
PAGE = ROOT / "docs" / "performance.md"

UNREST = 1.75
"""A load above so many processes for each core is other work; no part keeps more busy."""

HEAD = ("figure", "value", "pass", "stretch", "verdict", "last time")
_WIDTHS = (62, 9, 9, 9, 9, 18)
_REGION = re.compile(r"(<!-- bench: (\w+) -->).*?(<!-- end of bench -->)", re.DOTALL)


def load_figures(path: Path) -> dict[str, Any]:
    """What was kept in a file; empty if there is none."""
    if not path.is_file():
        return {}
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return figures


def last_run() -> dict[str, Any]:
    """What to compare with: the last whole run on this machine, or the one that was kept."""
    return load_figures(LAST) or load_figures(BASELINE)


def keep(figures: Mapping[str, Any], path: Path) -> None:
    """Write figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def is_whole(figures: Mapping[str, Any]) -> bool:
    """Whether a run can stand for the next comparison: all parts, full, to its end."""
    asked = {*figures["parts"], *figures["absent"]}
    return (
        not figures["interrupted"]
        and not figures["quick"]
        and asked == {part.name for part in suite.PARTS}
    )


# For people ---------------------------------------------------------------------------------------


def table(figures: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """The machine, then each figure with its marks and what it was before."""
    lines = [machine(figures), packages(figures), "", _columns(HEAD)]
    comparable = _comparable(figures, before)
    old = _values(before) if comparable else {}
    for part, rows in suite.rows(figures):
        lines += ["", part.title]
        lines += [_columns(_cells(row, old.get((part.name, row.name)))) for row in rows]
    lines += [f"\n{suite.part_named(name).title}\n  not measured: {why}"
              for name, why in figures["absent"].items()]  # fmt: skip
    lines += ["", summary(figures), *filter(None, [unrest(figures)])]
    if before and not comparable:
        lines.append(
            f"not compared: last time was another machine or kind of run: {machine(before)}"
        )
    if figures["quick"]:
        lines.append("a quick run: it shows that all of it runs, its figures say nothing")
    return "\n".join(lines)


def machine(figures: Mapping[str, Any]) -> str:
    """The machine, the day and what else it did."""
    about = figures["machine"]
    loads = _loads(figures)
    return (
        f"{about['processor']}, {about['cores']} cores, {about['system']}, {about['python']};"
        f" {figures['date']}" + (f", load {min(loads)} to {max(loads)}" if loads else "")
    )


def _loads(figures: Mapping[str, Any]) -> list[float]:
    return [load for load in figures["load"] if load is not None]  # Windows knows none


def unrest(figures: Mapping[str, Any]) -> str:
    """A warning where other work took the cores; empty where it did not."""
    cores = figures["machine"]["cores"]
    if max(_loads(figures), default=0) <= cores * UNREST:
        return ""
    return (
        f"The machine was not quiet: up to {max(_loads(figures)):.0f} processes wanted its {cores}"
        " cores. What is timed by a clock, or needs all cores at once, came out worse than it is."
    )


def packages(figures: Mapping[str, Any]) -> str:
    """The versions of what it runs on."""
    return " ".join(f"{name} {v}" for name, v in figures["machine"]["packages"].items())


def summary(figures: Mapping[str, Any]) -> str:
    """How many figures reach their marks, and which do not."""
    marked = [
        (part, row) for part, rows in suite.rows(figures) for row in rows if row.mark is not None
    ]
    reached = sum(row.verdict != "MISSED" for _, row in marked)
    stretch = sum(row.verdict == "stretch" for _, row in marked)
    took = sum(figures["seconds"].values())
    text = (
        f"{reached} of {len(marked)} marked figures pass, {stretch} of them stretch;"
        f" {took / 60:.1f} min"
    )
    return f"{text}; interrupted" if figures["interrupted"] else text


def _values(figures: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    return {(p.name, row.name): row.value for p, rows in suite.rows(figures) for row in rows}


def _comparable(figures: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    if not before:
        return False
    same = all(figures["machine"][key] == before["machine"][key] for key in ("processor", "cores"))
    return same and figures["quick"] == before["quick"]


def _cells(row: Row, before: float | None) -> tuple[str, ...]:
    more = change(row.value, before)
    old = "" if before is None else short(before)
    if more is not None:
        old = f"{old} ({100 * more:+.0f} %)"
    sign = "<= " if row.mark and row.mark.less else ""
    marks = (row.mark.passes, row.mark.stretch) if row.mark else ()
    steps = [f"{sign}{short(step)}" for step in marks] or ["", ""]
    return (f"  {row.name}", short(row.value), *steps, row.verdict, old)


def _columns(cells: tuple[str, ...]) -> str:
    first, *others = cells
    name = f"{first:<{_WIDTHS[0]}}"
    figures = (f"{cell:>{width}}" for cell, width in zip(others, _WIDTHS[1:], strict=True))
    return (name + "".join(figures)).rstrip()


def quote(figures: Mapping[str, Any]) -> str:
    """One sentence for a README."""
    found = figures["parts"]
    parts = []
    if "relay" in found:
        naive = found["relay"]["ratios"]["naive-deflate / seed to binary"]
        count = max(naive, key=int)
        parts.append(
            f"the relay spends 1/{naive[count]:.0f} of the CPU time of a naive relay with its"
            f" library's defaults ({count} viewers, 60 kB JPEG)"
        )
    if "worker" in found:
        ratio = min(v for k, v in found["worker"]["ratios"].items() if k.startswith("scripted"))
        share = f"{100 * min(ratio, 1):.1f} %"
        parts.append(f"the worker runs its engine at {share} of the speed that it has alone")
    about = figures["machine"]
    where = f"{about['processor']}, {about['cores']} cores, {about['python']}"
    return f"{'; '.join(parts)} ({where}; `make bench`)" if parts else ""


# For the docs -------------------------------------------------------------------------------------


def page(text: str, figures: Mapping[str, Any]) -> str:
    """The page with the tables of a run in its regions, ``<!-- bench: all -->`` and of each part.

    Raises:
        ValueError: a region is of no part, or a part that has details has no region.
    """
    known = {part.name for part in suite.PARTS if part.details is not None} | {"all"}
    regions = {match[2] for match in _REGION.finditer(text)}
    if regions != known:
        raise ValueError(f"expected regions for {sorted(known)}, got {sorted(regions)}")

    def written(match: re.Match[str]) -> str:
        return f"{match[1]}\n\n{_region(match[2], figures)}\n\n{match[3]}"

    return _REGION.sub(written, text)


def _region(name: str, figures: Mapping[str, Any]) -> str:
    if name == "all":
        return "\n".join(_markdown(figures))
    part, found = suite.part_named(name), figures["parts"].get(name)
    if found is None:
        return f"Not measured: {_why_absent(figures, name)}."
    assert part.details is not None
    return part.details(found)


def _markdown(figures: Mapping[str, Any]) -> Iterator[str]:
    yield f"{machine(figures)}; {figures['rounds']} rounds."
    yield f"{packages(figures)}."
    yield ""
    yield f"**{summary(figures)}.** {unrest(figures)}".rstrip()
    yield ""
    yield "| figure | value | pass | stretch | verdict |"
    yield "|---|---:|---:|---:|---|"
    for part, rows in suite.rows(figures):
        yield f"| **{part.title}** | | | | |"
        for row in rows:
            name, value, *steps, verdict, _ = _cells(row, None)
            shown = f"**{verdict}**" if verdict == "MISSED" else verdict
            yield f"| {name.strip()} | {value} | {' | '.join(steps)} | {shown} |"
    for part in suite.PARTS:
        if part.name not in figures["parts"]:
            yield f"| **{part.title}** | not measured: {_why_absent(figures, part.name)} | | | |"


def _why_absent(figures: Mapping[str, Any], name: str) -> str:
    """A part may be newer than the run that was kept."""
    return str(figures["absent"].get(name, "not in the run that was kept"))
