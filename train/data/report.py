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

from train.data.draws import MixtureDraws
from train.data.loader import PackedLoader
from train.data.mixture import Quotas
from train.data.modes import SLOTS
from train.data.packing import BUDGETS, TOKENS, assign_packs
from train.data.report_tally import REASONS, Tally
from train.data.stream import PackStream

MEASURED_DRAWS = 1 << 17
"""Draws that are measured of a run at most, but at least two windows of every phase."""
BALANCED_STEPS = 200
"""Steps whose balance is measured at most."""


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
    loader.costs.save()
    quotas = _draws(loader).quotas
    packs = loader.settings.packs_per_step * steps
    stretches = _measure(loader.stream, quotas, packs, _tally_of(loader), measured_draws)
    total = Tally.sum([stretch.tally.times(stretch.windows / stretch.measured) for stretch in stretches])
    draws = sum(stretch.windows for stretch in stretches) * quotas.mixture.window
    return {
        "run": _run(loader, steps, stretches, total),
        "fill": {
            name: round(filled / max(1.0, total.packs) / have, 5)
            for name, filled, have in zip(
                BUDGETS, total.budgets.tolist(), loader.settings.shape.capacity, strict=True
            )
        },
        "balance": _balance(np.concatenate([stretch.loads for stretch in stretches]), loader),
        "dropped": {
            "samples": round(total.dropped.sum()),
            "share": round(total.dropped.sum() / max(1, draws), 6),
            **{reason: round(count) for reason, count in zip(REASONS, total.reasons.tolist(), strict=True)},
        },
        "split": {"texts": round(total.split[0]), "stretches": round(total.split[1])},
        "datasets": _datasets(loader, stretches, total),
        "modes": _shares(total.modes.sum(axis=0), loader),
        "phases": _phases(loader, stretches),
    }


def _draws(loader: PackedLoader) -> MixtureDraws:
    draws = loader.stream.draws
    assert isinstance(draws, MixtureDraws)
    return draws


def _tally_of(loader: PackedLoader) -> Tally:
    return Tally(len(_draws(loader).names), len(loader.costs.modes.modes), loader.settings.shape.capacity)


def _run(loader: PackedLoader, steps: int, stretches: list[_Stretch], total: Tally) -> dict[str, Any]:
    """What the run draws, in all and per step."""
    window = _draws(loader).quotas.mixture.window
    windows = sum(stretch.windows for stretch in stretches)
    packs_per_step = loader.settings.packs_per_step
    per_step = packs_per_step / max(1.0, total.packs)  # share of what was counted that one step takes
    return {
        "steps": steps,
        "packs_per_step": packs_per_step,
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
    }


def _datasets(loader: PackedLoader, stretches: list[_Stretch], total: Tally) -> dict[str, dict[str, Any]]:
    """Name -> what the run draws of a dataset; of those that have a sample."""
    draws = _draws(loader)
    uses = draws.quotas.uses_before(sum(stretch.windows for stretch in stretches))
    return {
        name: _dataset(total, number, loader, int(uses[number]))
        for number, (name, size) in enumerate(zip(draws.names, draws.sizes, strict=True))
        if size
    }


def _phases(loader: PackedLoader, stretches: list[_Stretch]) -> list[dict[str, Any]]:
    """Every phase of the mixture, and the step at which the run enters it."""
    quotas = _draws(loader).quotas
    first_packs = np.cumsum([0, *(stretch.windows * stretch.packs_per_window for stretch in stretches)])
    first_steps = [int(pack // loader.settings.packs_per_step) for pack in first_packs[:-1]]
    return [
        {
            "first_sample": phase["first_window"] * quotas.mixture.window,
            "first_step": first_steps[number] if number < len(stretches) else None,
            "weights": phase["weights"],
            "modes": {
                task: {mode["name"]: mode["slots"] / SLOTS for mode in choice}
                for task, choice in loader.identity.modes[number].items()
            },
        }
        for number, phase in enumerate(quotas.history())
    ]


def _dataset(total: Tally, number: int, loader: PackedLoader, uses: int) -> dict[str, Any]:
    available = int(_draws(loader).sizes[number])
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
class _Stretch:
    """The part of a run that falls into one phase."""

    windows: int
    """That the run draws of it."""
    measured: int
    tally: Tally
    """Of the windows that were measured."""
    loads: NDArray[np.int64]
    """Vision load of the packs that were measured."""

    @property
    def packs_per_window(self) -> float:
        """As measured."""
        return self.tally.packs / self.measured


def _measure(
    stream: PackStream, quotas: Quotas, packs: float, empty: Tally, measured_draws: int
) -> list[_Stretch]:
    """The stretches of a run of so many packs; `empty` is a tally of nothing."""
    firsts: list[int | None] = [*quotas.mixture.first_windows(), None]
    allowed = max(2, measured_draws // quotas.mixture.window // (len(firsts) - 1))
    stretches: list[_Stretch] = []
    for first, after in pairwise(firsts):
        if packs <= 0:
            break
        assert first is not None
        stretch = _measure_phase(stream, first, after, packs, empty.times(0), allowed)
        packs -= stretch.windows * stretch.packs_per_window
        stretches.append(stretch)
    return stretches


def _measure_phase(
    stream: PackStream, first: int, after: int | None, packs: float, tally: Tally, allowed: int
) -> _Stretch:
    """Window by window where `allowed` windows are enough, else in so many of them spread over the phase.

    `tally` is filled.
    """
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
