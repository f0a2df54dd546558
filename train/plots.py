"""One page of curves for a run: loss (of each task too), learning rate, gradient norm, tokens per second."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data_engine.files import atomic_write_text

Row = dict[str, Any]


def read_metrics(path: Path) -> list[Row]:
    """The whole lines of a metrics.jsonl; none when there is no such file."""
    rows = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
                row["step"]
            except (json.JSONDecodeError, KeyError, TypeError):
                continue  # the half line of a run that was killed
            rows.append(row)
    return rows


def draw_training(metrics: Path, target: Path) -> None:
    """Write the page as SVG; nothing when no loss has been logged."""
    rows = [row for row in read_metrics(metrics) if "loss" in row]
    if not rows:
        return
    # Here: the import takes most of a second, which a run should pay when it ends and not when it starts.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = figure.subplots(2, 2)
    loss, rate, norm, speed = panels.flat
    _curve(loss, rows, lambda row: row["loss"], "all", "black")
    for task in sorted({task for row in rows for task in row.get("task_loss", {})}):
        _curve(loss, rows, partial(_of, "task_loss", task), task)
    _curve(rate, rows, lambda row: row.get("learning_rate"))
    _curve(norm, rows, lambda row: row.get("gradient_norm"), "all", "black")
    for part in sorted({part for row in rows for part in row.get("part_gradient_norms", {})}):
        _curve(norm, rows, partial(_of, "part_gradient_norms", part), part.removeprefix("model."))
    norm.set_yscale("log")
    _curve(speed, rows, lambda row: row.get("tokens_per_second"))
    for panel in (loss, norm):
        if panel.lines:
            panel.legend(fontsize=8)
    titles = ("loss", "learning rate", "gradient norm before clipping", "tokens per second")
    for panel, title in zip(panels.flat, titles, strict=True):
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("step")
        panel.grid(alpha=0.3)
    text = io.StringIO()
    with rc_context({"svg.hashsalt": "training"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    target.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(target, text.getvalue())


def _of(table: str, name: str, row: Row) -> float | None:
    return row.get(table, {}).get(name)


def _curve(
    panel: Any,
    rows: Sequence[Row],
    value: Callable[[Row], float | None],
    label: str = "",
    colour: str | None = None,
) -> None:
    points = [(row["step"], number) for row in rows if (number := value(row)) is not None]
    if points:
        steps, numbers = zip(*points, strict=True)
        panel.plot(
            steps, numbers, label=label, color=colour, linewidth=1, marker="." if len(points) < 3 else ""
        )
