"""Plots of an evaluation: every share with its interval, and precision against compression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from evaluation.benchmarks import fox
from evaluation.compression import FACTS, curves
from evaluation.curves import as_svg
from evaluation.figures import FIGURES

COLOURS = ("#1f4e8c", "#c8553d", "#4f8f4f", "#8a5aa8", "#b08a1e", "#4c9fa8", "#7a7a7a")
HEIGHT_PER_FIGURE = 0.28  # inches


def plots(scores: Mapping[str, Any]) -> dict[str, str]:
    """File name to SVG; only what the scores have material for."""
    drawn = {}
    if any(score["figures"] for score in scores["datasets"].values()):
        drawn["figures"] = _figures(scores["datasets"])
    if scores.get("benchmark") == "fox":
        drawn["compression"] = _compression(scores["datasets"])
    if scores.get(FACTS):
        drawn["compression"] = _read_in_modes(
            curves(scores, "mode", "compression"), "compression", "text tokens per vision token"
        )
        drawn["forgetting"] = _read_in_modes(
            curves(scores, "dataset", "vision_tokens"), "vision_tokens", "vision tokens spent on a page"
        )
    return drawn


def _figures(datasets: Mapping[str, Mapping[str, Any]]) -> str:
    """One line per share and dataset, with its interval."""
    names = [
        name
        for name, figure in FIGURES.items()
        if figure.is_share and any(name in score["figures"] for score in datasets.values())
    ]
    rows = [(name, data) for name in names for data, score in datasets.items() if name in score["figures"]]
    height = 0.9 + HEIGHT_PER_FIGURE * len(rows)
    figure = Figure(figsize=(8.5, height))
    figure.subplots_adjust(left=0.42, right=0.98, bottom=0.6 / height, top=1 - 0.05 / height)
    axes = figure.add_subplot()
    labels = [f"{FIGURES[name].title}, {data}" for name, data in rows]
    for number, (data, score) in enumerate(datasets.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [place for place, row in enumerate(rows) if row[1] == data]
        found = [(place, score["figures"][rows[place][0]]) for place in places]
        found = [(place, interval) for place, interval in found if interval["value"] is not None]
        y = [place for place, _ in found]
        low, value, high = (
            [100 * interval[key] for _, interval in found] for key in ("low", "value", "high")
        )
        axes.hlines(y, low, high, color=colour, linewidth=3, alpha=0.4)
        axes.plot(value, y, "o", color=colour, markersize=4)
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)  # the first row on top
    axes.set_xlim(-1, 101)
    axes.set_xlabel("per cent, with 95 % interval")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return as_svg(figure)


def _compression(datasets: Mapping[str, Mapping[str, Any]]) -> str:
    """Figure 1(a) of the paper: precision against text tokens per vision token, measured and published."""
    figure = Figure(figsize=(6.5, 4.0))
    axes = figure.add_subplot()
    for place, mode in enumerate(fox.MODES):
        paper = [(row[2 * place + 1], 100 * row[2 * place]) for row in fox.PAPER.values()]
        axes.plot(*zip(*paper, strict=True), "--", color=COLOURS[place], alpha=0.5, label=f"{mode}, paper")
    for place, (name, score) in enumerate(datasets.items()):
        groups = score["groups"].get(fox.GROUP, {}).values()
        points = sorted(
            (
                found["compression"]["value"],
                *(100 * found["word_precision"][key] for key in ("value", "low", "high")),
            )
            for found in groups
            if "compression" in found and found["word_precision"]["value"] is not None
        )
        if points:
            x, y, low, high = zip(*points, strict=True)
            axes.plot(x, y, "o-", color=COLOURS[place], label=f"{name}, word precision (set)")
            axes.fill_between(x, low, high, color=COLOURS[place], alpha=0.15)
    axes.set_xlabel("text tokens per vision token")
    axes.set_ylabel("precision (%)")
    axes.set_ylim(0, 101)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return as_svg(figure)


def _read_in_modes(found: Mapping[str, list[dict[str, float]]], along: str, label: str) -> str:
    """Characters right against `along`, one curve each with its intervals; dotted below it the shuffled images."""
    figure = Figure(figsize=(6.5, 4.0))
    axes = figure.add_subplot()
    for place, (name, points) in enumerate(found.items()):
        colour = COLOURS[place % len(COLOURS)]
        x = [point[along] for point in points]
        low, value, high = ([100 * point[key] for point in points] for key in ("low", "value", "high"))
        axes.plot(x, value, "o-", color=colour, markersize=4, label=name)
        axes.fill_between(x, low, high, color=colour, alpha=0.15)
        control = [(point[along], 100 * point["shuffled"]) for point in points if "shuffled" in point]
        if control:
            axes.plot(*zip(*control, strict=True), ":", color=colour)
    axes.set_xlabel(label)
    axes.set_ylabel("characters right (%)")
    axes.set_ylim(-1, 101)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, title="dotted: shuffled images", title_fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return as_svg(figure)
