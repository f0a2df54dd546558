"""How sure is a figure? Bootstrap intervals of ratios of sums, and the paired comparison of two readers.

Every figure of this room is sum(numerators) / sum(denominators) over samples: a mean has denominators of 1, the
character accuracy divides right characters by characters, tokens per second divide tokens by seconds. Samples
are drawn again with replacement (percentile bootstrap); what is drawn is the pair (numerator, denominator), so
that a long page weighs in an interval as it does in the figure. Two readers are compared on the same draws of
the same samples, which removes the difference in difficulty between samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95
_CELLS = 8_000_000  # drawn counts held at once: 64 MB


@dataclass(frozen=True)
class Interval:
    """A figure with its bootstrap interval; None where it is undefined (no sample, or nothing to divide by)."""

    value: float | None
    low: float | None
    high: float | None
    samples: int
    """Samples that count, those with a denominator above 0."""


@dataclass(frozen=True)
class Comparison:
    """Reader A against reader B on the same samples."""

    difference: Interval
    """Figure of A minus figure of B."""
    verdict: str
    """"better" or "worse" (A than B) when the interval lies on one side of 0, else "undecided"."""


def intervals(
    numerators: np.ndarray,
    denominators: np.ndarray,
    seed: int = 0,
    resamples: int = RESAMPLES,
    mean_of: Sequence[int] = (),
) -> list[Interval]:
    """One interval per column of two arrays [samples, figures], at a confidence of 95 %.

    With `mean_of` one more at the end: the mean of these figures (not of these samples).
    """
    values = _ratio(numerators.sum(axis=0), denominators.sum(axis=0))
    drawn = _resampled(numerators, denominators, seed, resamples)  # [resamples, figures]
    counted = (denominators > 0).sum(axis=0)
    found = [_interval(values[k], drawn[:, k], int(counted[k])) for k in range(len(values))]
    if mean_of:
        chosen = list(mean_of)
        samples = int((denominators[:, chosen] > 0).any(axis=1).sum())
        found.append(_interval(values[chosen].mean(), drawn[:, chosen].mean(axis=1), samples))
    return found


def interval(values: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The mean of `values` [samples] with its interval."""
    column = np.asarray(values, dtype=np.float64)[:, None]
    return intervals(column, np.ones_like(column), seed, resamples)[0]


def compare(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    lower_is_better: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compares one figure of two readers, each (numerators, denominators) [samples] of the same samples."""
    stacked = [np.stack([a, b], axis=1).astype(np.float64) for a, b in zip(first, second, strict=True)]
    values = _ratio(stacked[0].sum(axis=0), stacked[1].sum(axis=0))
    drawn = _resampled(stacked[0], stacked[1], seed, resamples)
    counted = int(((stacked[1] > 0).any(axis=1)).sum())
    difference = _interval(values[0] - values[1], drawn[:, 0] - drawn[:, 1], counted)
    return Comparison(difference, _verdict(difference, lower_is_better))


def _verdict(difference: Interval, lower_is_better: bool) -> str:
    if difference.low is None or difference.high is None or difference.low <= 0 <= difference.high:
        return "undecided"
    return "better" if (difference.low > 0) != lower_is_better else "worse"


def _interval(value: float, drawn: np.ndarray, samples: int) -> Interval:
    drawn = drawn[np.isfinite(drawn)]  # a draw may miss every sample that has a denominator
    if not np.isfinite(value) or not len(drawn):
        return Interval(None, None, None, samples)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(value), float(low), float(high), samples)


def _resampled(
    numerators: np.ndarray, denominators: np.ndarray, seed: int, resamples: int
) -> np.ndarray:  # [resamples, figures]
    samples = len(numerators)
    if not samples:
        return np.full((1, numerators.shape[1]), np.nan)
    generator = np.random.default_rng(seed)
    both = np.concatenate([numerators, denominators], axis=1)
    rows = max(1, _CELLS // samples)
    parts = []
    for start in range(0, resamples, rows):
        draws = min(rows, resamples - start)
        # Drawing n of n samples with replacement is drawing how often each one comes: a multinomial.
        counts = generator.multinomial(samples, np.full(samples, 1 / samples), size=draws)
        parts.append(counts.astype(np.float64) @ both)
    sums = np.concatenate(parts)
    return _ratio(sums[:, : numerators.shape[1]], sums[:, numerators.shape[1] :])


def _ratio(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    undefined = np.full(np.shape(numerators), np.nan)
    return np.divide(numerators, denominators, out=undefined, where=denominators > 0)
