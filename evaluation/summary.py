"""summary.json as five lines that a person reads, the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def percent(share: float | None) -> str:
    """0.9632 as "96.3 %"; "-" where there is no number."""
    return "-" if share is None else f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """492.3 as "8 min 12 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def five_lines(summary: Mapping[str, Any]) -> list[str]:
    """What was read, the control, the other datasets, the cost, and where the checkpoint is."""
    headline = summary["headline"]
    kind = "all held-out samples" if headline == "all" else f"held-out samples of '{headline}'"
    lines = [
        f"Read {percent(summary['character_accuracy'])} of the characters of {kind}; "
        f"{percent(summary['exact_match'])} of them without any error.",
        f"With shuffled images: {percent(summary['character_accuracy_shuffled'])} "
        f"(chance: {percent(summary['chance'])}).",
    ]
    others = [
        f"{name} {percent(score['character_accuracy'])}"
        for name, score in summary["datasets"].items()
        if name != headline
    ]
    lines.append(f"By dataset: {', '.join(others)}." if others else f"One dataset: {headline}.")
    cost = []
    if summary.get("seconds") is not None:
        cost.append(f"Took {duration(summary['seconds'])} without installation")
    if summary.get("peak_memory_gib") is not None:
        cost.append(f"peak memory of all processes {summary['peak_memory_gib']:.2f} GiB")
    lines.append(", ".join(cost) + "." if cost else "Time and memory were not measured.")
    if summary["checkpoint"] is None:
        lines.append(f"Predictions: {summary['predictions']}")
    else:
        lines.append(f"Checkpoint in the released layout: {summary['checkpoint']}")
    return lines
