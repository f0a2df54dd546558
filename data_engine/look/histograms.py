"""Distributions as small drawings in SVG: how long the responses are, how large the images, which styles there are."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

_WIDTH, _HEIGHT, _BINS = 300, 90, 30
_BARS_SHOWN = 12


def histogram(title: str, values: Sequence[float]) -> str:
    """Bars over equal parts of the range up to the 99.5th percentile; the last bar holds what lies above."""
    numbers = np.asarray(values, np.float64)
    if numbers.size == 0:
        return ""
    low, high = float(numbers.min()), float(np.quantile(numbers, 0.995))
    edges = np.linspace(low, max(high, low + 1), _BINS + 1)
    counts, _ = np.histogram(np.clip(numbers, low, edges[-1]), edges)
    heights = counts / max(1, int(counts.max())) * _HEIGHT
    step = _WIDTH / _BINS
    bars = "".join(
        f'<rect x="{place * step:.1f}" y="{_HEIGHT - heights[place]:.1f}" width="{step - 1:.1f}" '
        f'height="{heights[place]:.1f}"><title>{edges[place]:.0f} to {edges[place + 1]:.0f}: {count}</title></rect>'
        for place, count in enumerate(counts.tolist())
    )
    marks = ", ".join(
        f"{name} {np.quantile(numbers, share):.0f}"
        for name, share in (("least", 0), ("median", 0.5), ("90 %", 0.9), ("most", 1))
    )
    return (
        f"<figure><figcaption>{html.escape(title)}</figcaption>"
        f'<svg class="bars" viewBox="0 0 {_WIDTH} {_HEIGHT}">{bars}</svg><small>{marks}</small></figure>'
    )


def shares(title: str, counts: Mapping[str, int]) -> str:
    """A bar per value, the most frequent ones."""
    total = sum(counts.values())
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td><meter max='{total}' value='{count}'></meter></td>"
        f"<td>{100 * count / total:.1f} %</td></tr>"
        for name, count in Counter(counts).most_common(_BARS_SHOWN)
    )
    more = len(counts) - _BARS_SHOWN
    rest = f"<small>and {more} more values</small>" if more > 0 else ""
    return f"<figure><figcaption>{html.escape(title)}</figcaption><table class='shares'>{rows}</table>{rest}</figure>"
