"""Distributions as small drawings in SVG: how long the responses are, how large the images, which styles there are."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np

_WIDTH, _HEIGHT, _BINS = 300, 90, 30
_BARS_SHOWN = 16


def histogram(title: str, values: Sequence[float]) -> str:
    """Bars over equal parts of the range up to the 99.5th percentile; the last bar holds what lies above."""
    numbers = np.asarray(values, np.float64)
    if numbers.size == 0:
        return ""
    low, high = float(numbers.min()), float(np.quantile(numbers, 0.995))
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    counts, _ = np.histogram(np.clip(numbers, low, edges[-1]), edges)
    heights = counts / max(1, int(counts.max())) * _HEIGHT
    step = _WIDTH / _BINS
    bars = "".join(
        f'<rect x="{place * step:.1f}" y="{_HEIGHT - heights[place]:.1f}" width="{step - 1:.1f}" '
        f'height="{heights[place]:.1f}">'
        f"<title>{_short(edges[place])} to {_short(edges[place + 1])}: {count}</title></rect>"
        for place, count in enumerate(counts.tolist())
    )
    marks = ", ".join(
        f"{name} {_short(np.quantile(numbers, share))}"
        for name, share in (("least", 0), ("median", 0.5), ("90 %", 0.9), ("most", 1))
    )
    return (
        f"<figure><figcaption>{html.escape(title)}</figcaption>"
        f'<svg class="bars" viewBox="0 0 {_WIDTH} {_HEIGHT}">{bars}</svg><small>{marks}</small></figure>'
    )


def _short(number: float) -> str:
    """Whole where it is large, three figures where it is small."""
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"


def shares(title: str, counts: Mapping[str, int], total: int) -> str:
    """A bar per value, the most frequent ones: how many of `total` samples have it."""
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td><meter max='{total}' value='{count}'></meter></td>"
        f"<td>{100 * count / total:.1f} %</td></tr>"
        for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_BARS_SHOWN]
    )
    more = len(counts) - _BARS_SHOWN
    rest = f"<small>and {more} more values</small>" if more > 0 else ""
    return f"<figure><figcaption>{html.escape(title)}</figcaption><table class='shares'>{rows}</table>{rest}</figure>"
