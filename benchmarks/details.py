"""What lies behind the figures of a part, as tables of Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.marks import short


def relay(found: Mapping[str, Any]) -> str:
    """Microseconds of each design, and the ratios of medians beside those of minima."""
    costs = found["microseconds_per_delivered_picture"]
    counts = list(next(iter(costs.values())))
    viewers = [f"{count} viewer{'' if count == '1' else 's'}" for count in counts]
    first = _table(
        ["microseconds for each picture", *viewers],
        [[name, *(f"{cost[count]:.0f}" for count in counts)] for name, cost in costs.items()],
    )
    medians = found["ratios_of_medians"]
    second = _table(
        ["ratio, of minima (of medians)", *viewers],
        [
            [name, *(f"{short(ratio[c])} ({short(medians[name][c])})" for c in counts)]
            for name, ratio in found["ratios"].items()
        ],
    )
    return f"{second}\n\n{first}"


def worker(found: Mapping[str, Any]) -> str:
    """Rates and ratios of each engine."""
    rates = found["pictures_per_second"]
    return _table(
        ["engine", "alone, a second", "worker, a second", "best windows", "means", "came back"],
        [
            [
                name,
                short(rates[name]["engine"]),
                short(rates[name]["worker"]),
                short(ratio),
                short(found["ratios_of_means"][name]),
                short(found["returned"][name]),
            ]
            for name, ratio in found["ratios"].items()
        ],
    )


def sharing(found: Mapping[str, Any]) -> str:
    """Rate, efficiency and age of each case."""
    return _table(
        ["engines", "shown a second", "on average", "shown / possible", "age p95 / slowest engine"],
        [
            [name, *(short(case[key]) for key in ("fps", "fps_mean", "efficiency", "age_p95"))]
            for name, case in found["cases"].items()
        ],
    )


def streams(found: Mapping[str, Any]) -> str:
    """Rates of each worker of several streams."""
    return _table(
        [
            "engine",
            "streams",
            "in a call",
            "shown a second",
            "mean",
            "times one by one",
            "evenness",
        ],
        [
            [
                case["engine"],
                str(case["streams"]),
                str(case["limit"]),
                short(case["fps"]),
                short(case["fps_mean"]),
                short(case["times_alone"]) if "times_alone" in case else "",
                short(case["even"]),
            ]
            for case in found["cases"].values()
        ],
    )


def startup(found: Mapping[str, Any]) -> str:
    """Seconds of each start."""
    seconds = found["seconds"]
    return _table(
        ["to", "seconds", "bare process", "ratio"],
        [
            [title, short(seconds[name]), short(seconds[f"{name}, bare"]), short(ratio)]
            for name, title in (
                ("relay", "the relay's first answer by HTTP"),
                ("picture", "the first transformed picture"),
            )
            for ratio in [found["ratios"][name]]
        ],
    )


def floor(found: Mapping[str, Any]) -> str:
    """Rates of the model, and the peak that its floor is made of."""
    lines = []
    for run, figures in found["runs"].items():
        peak = max(figures["peak_gflops"].values(), default=0.0)
        rates = figures["fps"]
        of_floor = figures["ratios"].get("floor")
        lines.append(
            [
                run,
                str(figures["device"]),
                short(rates["auto"]) if "auto" in rates else "-",
                short(rates["torch"]) if "torch" in rates else "-",
                short(peak / found["gflop"]) if peak else "-",
                short(of_floor) if of_floor is not None else "-",
                f"{peak:.0f}" if peak else "-",
            ]
        )
    head = ["run", "device", "fps", "torch", "floor, fps", "of the floor", "peak, GFLOP/s"]
    return f"{_table(head, lines)}\n\n{found['gflop']:.2f} GFLOP a picture."


def packages(found: Mapping[str, Any]) -> str:
    """Frames a second of each contender."""
    lines = [[name, short(rate)] for name, rate in found["fps"].items()]
    table = _table([f"{found['model']}, {found['device']}", "fps"], lines)
    absent = "".join(f"\n* {name}: {why}" for name, why in found["absent"].items())
    return f"{table}\n{absent}" if absent else table


def memory(found: Mapping[str, Any]) -> str:
    """Megabytes at the start and at the end of what is counted."""
    lines = [
        [name, short(begin), short(end), short(found["bytes_per_frame"][name])]
        for name, (begin, end) in found["megabytes"].items()
    ]
    table = _table(
        ["process", "MB after the first fifth", "MB at the end", "bytes a picture"], lines
    )
    return (
        f"{table}\n\n{found['frames']} pictures, {found['frames_per_second']:.0f} a second;"
        f" the visitor came {found['visits']} times."
    )


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = "|---|" + "---:|" * (len(head) - 1)
    return "\n".join([_line(head), rule, *map(_line, lines)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
