"""What the data of a run will be, without a GPU and without decoding an image.

What is special here:
- It measures by doing: the loader of the run draws, measures and packs windows as it will in training.
- Draws and epochs of every dataset are exact for a run of any length: they are arithmetic. The rest (tokens, fill,
  what is dropped, balance) is measured, in all windows of a short run and in windows spread evenly over every phase
  of a long one; `run.sampled` says which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.data.costs import NEVER_FITS
from train.data.draws import MixtureDraws
from train.data.loader import PackedLoader
from train.data.mixture import Quotas
from train.data.modes import SLOTS
from train.data.packing import BUDGETS, PATCHES, TOKENS, assign_packs
from train.data.stream import PackStream, WindowPlan

MEASURED_DRAWS = 1 << 17
"""Draws that are measured of a run at most, but at least two windows of every phase."""
BALANCED_STEPS = 200
"""Steps whose balance is measured at most."""
REASONS = (*BUDGETS, "unreadable")
"""Why a sample is dropped."""


def data_report(loader: PackedLoader, steps: int, measured_draws: int = MEASURED_DRAWS) -> dict[str, Any]:
    """Measure what a run of `steps` steps of this loader will be.

    With a lengths cache, every sample of every dataset is measured too, and kept there for the loader.

    Returns:
        JSON-able:
        "run": steps, packs per step, windows of the run and how many of them were measured ("sampled": not all),
            samples, tokens, labelled tokens and images over the run and per step;
        "fill": budget -> filled share;
        "balance": vision load of the rank that has the most over the mean of its step, averaged over steps, as the
            packs are dealt out and as they would be in the order of the stream; null where there is one rank;
        "dropped": samples over the run, share, and by reason (budget that is exceeded, or "unreadable");
        "split": texts over the run that are split, and into how many stretches;
        "datasets": name -> available, samples, share, epochs, dropped, tokens, token_share, labelled_tokens, images,
            mean_tokens, modes (mode -> share of the images);
        "modes": mode -> share of all images;
        "phases": first_sample, first_step (null when the run does not reach it), weights, modes (task -> mode ->
            share).

    Raises:
        ConfigError, DamagedDataError: as the loader would.
    """
    draws = loader.stream.draws
    assert isinstance(draws, MixtureDraws)
    loader.costs.save()
    stretches = _measure(
        loader.stream, draws.quotas, loader.settings.packs_per_step * steps, _Sizes.of(loader), measured_draws
    )
    total = _Tally.sum([stretch.tally.times(stretch.windows / stretch.measured) for stretch in stretches])
    windows = sum(stretch.windows for stretch in stretches)
    window = draws.quotas.mixture.window
    packs = max(1.0, total.packs)
    per_step = loader.settings.packs_per_step / packs  # share of what was counted that one step takes
    uses = draws.quotas.uses_before(windows)
    names = [name for name, size in zip(draws.names, draws.sizes, strict=True) if size]
    first_packs = np.cumsum([0, *(stretch.windows * stretch.packs_per_window for stretch in stretches)])
    return {
        "run": {
            "steps": steps,
            "packs_per_step": loader.settings.packs_per_step,
            "windows": windows,
            "windows_measured": sum(stretch.measured for stretch in stretches),
            "sampled": any(stretch.measured < stretch.windows for stretch in stretches),
            "window": window,
            "packs": round(total.packs),
            "samples": windows * window,
            "tokens": round(total.budgets[TOKENS]),
            "labelled_tokens": round(total.labelled.sum()),
            "images": round(total.images.sum()),
            "samples_per_step": round(windows * window * per_step, 2),
            "tokens_per_step": round(total.budgets[TOKENS] * per_step, 2),
            "labelled_tokens_per_step": round(total.labelled.sum() * per_step, 2),
        },
        "fill": {
            name: round(filled / packs / have, 5)
            for name, filled, have in zip(
                BUDGETS, total.budgets.tolist(), loader.settings.shape.capacity, strict=True
            )
        },
        "balance": _balance(np.concatenate([stretch.loads for stretch in stretches]), loader),
        "dropped": {
            "samples": round(total.dropped.sum()),
            "share": round(total.dropped.sum() / max(1, windows * window), 6),
            **{reason: round(count) for reason, count in zip(REASONS, total.reasons.tolist(), strict=True)},
        },
        "split": {"texts": round(total.split[0]), "stretches": round(total.split[1])},
        "datasets": {
            name: _dataset(total, draws.names.index(name), loader, int(uses[draws.names.index(name)]))
            for name in names
        },
        "modes": _shares(total.modes.sum(axis=0), loader),
        "phases": [
            {
                "first_sample": phase["first_window"] * window,
                "first_step": (
                    int(first_packs[number] // loader.settings.packs_per_step)
                    if number < len(stretches)
                    else None
                ),
                "weights": phase["weights"],
                "modes": {
                    task: {mode["name"]: mode["slots"] / SLOTS for mode in choice}
                    for task, choice in loader.identity.modes[number].items()
                },
            }
            for number, phase in enumerate(draws.quotas.history())
        ],
    }


def _dataset(total: _Tally, number: int, loader: PackedLoader, uses: int) -> dict[str, Any]:
    draws = loader.stream.draws
    assert isinstance(draws, MixtureDraws)
    available = int(draws.sizes[number])
    kept = total.drawn[number] - total.dropped[number]
    return {
        "available": available,
        "samples": uses,
        "share": round(float(total.drawn[number] / max(1.0, total.drawn.sum())), 5),
        "epochs": round(uses / available, 4),
        "dropped": round(total.dropped[number]),
        "tokens": round(total.tokens[number]),
        "token_share": round(float(total.tokens[number] / max(1.0, total.tokens.sum())), 5),
        "labelled_tokens": round(total.labelled[number]),
        "images": round(total.images[number]),
        "mean_tokens": round(float(total.tokens[number] / max(1.0, kept)), 1),
        "modes": _shares(total.modes[number], loader),
    }


def _shares(images: NDArray[np.float64], loader: PackedLoader) -> dict[str, float]:
    """Mode -> share of the images, of those modes that occur."""
    return {
        mode.name: round(float(count / images.sum()), 5)
        for mode, count in zip(loader.costs.modes.modes, images, strict=True)
        if count
    }


def _balance(loads: NDArray[np.int64], loader: PackedLoader) -> dict[str, float | int] | None:
    """Slowest rank over the mean, averaged over steps of consecutive packs."""
    ranks, size = loader.settings.data_parallel_size, loader.settings.packs_per_step
    steps = [loads[first : first + size] for first in range(0, len(loads) - size + 1, size)]
    steps = [step for step in steps[:BALANCED_STEPS] if step.any()]
    if ranks == 1 or not steps:
        return None
    dealt, plain = [], []
    for step in steps:
        totals = step[assign_packs(step.tolist(), size // ranks, ranks)].sum(axis=1)
        dealt.append(float(totals.max() / totals.mean()))
        totals = step.reshape(-1, ranks).sum(axis=0)
        plain.append(float(totals.max() / totals.mean()))
    return {
        "ranks": ranks,
        "steps": len(steps),
        "slowest_over_mean": round(float(np.mean(dealt)), 5),
        "in_stream_order": round(float(np.mean(plain)), 5),
    }


@dataclass(frozen=True)
class _Sizes:
    """Lengths of the axes of a tally, and the budgets."""

    datasets: int
    modes: int
    capacity: NDArray[np.int64]

    @classmethod
    def of(cls, loader: PackedLoader) -> _Sizes:
        return cls(
            len(loader.stream.draws.names),
            len(loader.costs.modes.modes),
            np.array(loader.settings.shape.capacity),
        )


class _Tally:
    """Sums over windows; counts are floats, so that windows that were measured can stand for others."""

    def __init__(self, sizes: _Sizes) -> None:
        self._sizes = sizes
        self.packs = 0.0
        self.budgets = np.zeros(len(BUDGETS))
        self.drawn, self.dropped, self.tokens, self.images, self.labelled = np.zeros((5, sizes.datasets))
        self.modes = np.zeros((sizes.datasets, sizes.modes))
        self.reasons = np.zeros(len(REASONS))
        self.split = np.zeros(2)

    def add(self, plan: WindowPlan) -> None:
        """Add one window."""
        kept = np.ones(len(plan.draws.source), dtype=bool)
        kept[plan.dropped] = False
        source, costs = plan.draws.source, plan.costs

        def per_dataset(rows: NDArray[np.bool_], values: NDArray[np.int64] | None = None) -> NDArray:
            weights = None if values is None else values[rows]
            return np.bincount(source[rows], weights=weights, minlength=self._sizes.datasets)

        self.packs += len(plan.packs)
        self.budgets += costs.budgets[kept].sum(axis=0)
        self.drawn += per_dataset(plan.parts == 0)
        self.dropped += per_dataset(~kept)
        self.tokens += per_dataset(kept, costs.budgets[:, TOKENS])
        self.images += per_dataset(kept, costs.images)
        self.labelled += per_dataset(kept, costs.labelled)
        np.add.at(self.modes, (source[kept], costs.mode[kept]), costs.images[kept])
        rejected = costs.budgets[~kept]
        unreadable = rejected[:, PATCHES] >= NEVER_FITS
        self.reasons[:-1] += (rejected[~unreadable] > self._sizes.capacity).sum(axis=0)
        self.reasons[-1] += unreadable.sum()
        texts = np.count_nonzero(plan.parts == 1)
        self.split += (texts, texts + np.count_nonzero(plan.parts > 0))

    def times(self, factor: float) -> _Tally:
        """The same for `factor` times as many windows."""
        result = _Tally(self._sizes)
        for name, value in vars(self).items():
            if name != "_sizes":
                setattr(result, name, value * factor)
        return result

    @staticmethod
    def sum(tallies: list[_Tally]) -> _Tally:
        result = _Tally(tallies[0]._sizes)
        for tally in tallies:
            for name, value in vars(tally).items():
                if name != "_sizes":
                    setattr(result, name, getattr(result, name) + value)
        return result


@dataclass(frozen=True)
class _Stretch:
    """The part of a run that falls into one phase."""

    windows: int
    """That the run draws of it."""
    measured: int
    tally: _Tally
    """Of the windows that were measured."""
    loads: NDArray[np.int64]
    """Vision load of the packs that were measured."""

    @property
    def packs_per_window(self) -> float:
        return self.tally.packs / self.measured


def _measure(
    stream: PackStream, quotas: Quotas, packs: float, sizes: _Sizes, measured_draws: int
) -> list[_Stretch]:
    """The stretches of a run of so many packs."""
    firsts: list[int | None] = [*quotas.mixture.first_windows(), None]
    allowed = max(2, measured_draws // quotas.mixture.window // (len(firsts) - 1))
    stretches: list[_Stretch] = []
    for first, after in pairwise(firsts):
        if packs <= 0:
            break
        assert first is not None
        stretch = _measure_phase(stream, first, after, packs, sizes, allowed)
        packs -= stretch.windows * stretch.packs_per_window
        stretches.append(stretch)
    return stretches


def _measure_phase(
    stream: PackStream, first: int, after: int | None, packs: float, sizes: _Sizes, allowed: int
) -> _Stretch:
    """Window by window where `allowed` windows are enough, else in so many of them spread over the phase."""
    tally = _Tally(sizes)
    loads: list[int] = []

    def measure(window: int) -> None:
        plan = stream.plan(window)
        tally.add(plan)
        loads.extend(int(plan.costs.load[pack].sum()) for pack in plan.packs)

    measure(first)
    needed = math.ceil(packs / max(1.0, tally.packs))
    windows = needed if after is None else min(needed, after - first)
    if windows <= allowed:
        measured = 1
        while tally.packs < packs and (after is None or first + measured < after):
            measure(first + measured)
            measured += 1
        return _Stretch(measured, measured, tally, np.array(loads))
    spread = np.unique(np.linspace(first, first + windows - 1, allowed).astype(np.int64))[1:].tolist()
    for window in spread:
        measure(window)
    measured = 1 + len(spread)
    if after is None or windows < after - first:
        windows = max(measured, math.ceil(packs / (tally.packs / measured)))
        windows = windows if after is None else min(windows, after - first)
    return _Stretch(windows, measured, tally, np.array(loads))
