"""Loss curves of training runs as one inline SVG, read from their metrics.jsonl."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

SMOOTHED_SHARE = 1 / 40  # of all logged lines, over which the drawn average looks back


def read_losses(run: Path) -> list[tuple[int, float]]:
    """(step, loss) of a run, in order of steps; where a resumed run logged a step again, the later line
    counts.

    A missing metrics.jsonl gives an empty list; a torn last line and non-finite losses are left out.
    """
    path = run / "metrics.jsonl"
    if not path.is_file():
        return []
    losses: dict[int, float] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
            step, loss = int(record["step"]), float(record["loss"])
        except (ValueError, KeyError, TypeError):
            continue
        if math.isfinite(loss):
            losses[step] = loss
    return sorted(losses.items())


def smoothed(values: Sequence[float]) -> list[float]:
    """Exponential moving average without the bias towards its start; a short series is left as it is."""
    past = 1 - 1 / max(1.0, len(values) * SMOOTHED_SHARE)
    average = weight = 0.0
    curve = []
    for value in values:
        average = past * average + (1 - past) * value
        weight = past * weight + (1 - past)
        curve.append(average / weight)
    return curve


def loss_curves(runs: Sequence[Path]) -> str:
    """One panel per run: every logged loss in pale, its moving average in full colour; "" if there is no loss."""
    curves = [(run.name, read_losses(run)) for run in runs]
    curves = [(name, losses) for name, losses in curves if losses]
    if not curves:
        return ""
    figure = Figure(figsize=(5.2 * len(curves), 3.2), layout="constrained")
    for position, (name, losses) in enumerate(curves):
        axes = figure.add_subplot(1, len(curves), position + 1)
        steps = [step for step, _ in losses]
        values = [loss for _, loss in losses]
        axes.plot(steps, values, color="#9db7d5", linewidth=0.8)
        axes.plot(steps, smoothed(values), color="#1f4e8c", linewidth=1.6)
        axes.set_title(name)
        axes.set_xlabel("step")
        axes.set_ylabel("loss (nats per token)")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return as_svg(figure)


def as_svg(figure: Figure) -> str:
    """A drawing as inline SVG, the same for the same content, with text that stays text."""
    buffer = io.StringIO()
    nothing = {"Creator": None, "Date": None, "Format": None, "Type": None}
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "evaluation"}):
        figure.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]  # HTML knows neither the XML declaration nor the document type
