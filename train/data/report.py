"""What the data of a run will be: per dataset and over all, without a GPU and without decoding an image.

`data_report` measures by doing: it draws and packs the windows of the run as the loader will. Long runs are
measured over their first windows, and the report says so.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from model.tokenizer import Tokenizer
from train.data.costs import SampleCosts
from train.data.draws import MixtureDraws
from train.data.micro_batch import MicroBatchShape
from train.data.mixture import Mixture
from train.data.modes import ModeChoices, ModePlan
from train.data.packing import BUDGETS, TOKENS
from train.data.reader import SampleReader
from train.data.stream import PackStream, WindowPlan


def data_report(
    datasets: Mapping[str, SampleReader],
    tokenizer: Tokenizer,
    modes: ModeChoices,
    shape: MicroBatchShape,
    mixture: Mixture,
    seed: int,
    packs_per_step: int,
    steps: int,
    *,
    lengths_cache: str | os.PathLike[str] | None = None,
    max_windows: int = 256,
) -> dict[str, Any]:
    """Measure the mixture of a run of `steps` steps of `packs_per_step` packs (over all ranks).

    Args:
        lengths_cache: also measure every sample of every dataset and keep the lengths there for the loader.
        max_windows: windows that are drawn and packed at most.

    Returns:
        JSON-able: "run" (steps, packs and windows measured, samples and tokens per step),
        "fill" (budget name -> filled share), "dropped" (all, and budget name -> samples that exceed it), "datasets"
        (name -> available, samples, share, epochs, dropped, tokens, token_share, labelled_tokens, images, mean_tokens),
        "phases" (first_sample, first_step or None, weights).

    Raises:
        ConfigError: as the loader would.
    """
    shape.check(modes)
    sizes = {name: len(dataset) for name, dataset in datasets.items()}
    draws = MixtureDraws(mixture, sizes, seed)
    plan = ModePlan(modes, [phase.modes for phase in mixture.phases])
    costs = SampleCosts(datasets, draws.names, tokenizer, plan, lengths_cache)
    stream = PackStream(draws, costs, shape.capacity, seed)
    wanted = steps * packs_per_step

    tally = _Tally(draws.names, shape)
    first_packs = []
    window = 0
    while tally.packs < wanted and window < max_windows:
        first_packs.append(tally.packs)
        tally.add(stream.plan(window))
        window += 1
    costs.save()

    steps_measured = min(steps, tally.packs // packs_per_step)
    per_step = packs_per_step / max(1, tally.packs)  # share of what was measured that one step takes
    return {
        "run": {
            "steps": steps,
            "steps_measured": steps_measured,
            "packs_per_step": packs_per_step,
            "packs": tally.packs,
            "windows": window,
            "window": mixture.window,
            "samples": window * mixture.window,
            "samples_per_step": round(window * mixture.window * per_step, 2),
            "tokens_per_step": round(float(tally.filled[TOKENS]) * per_step, 2),
            "labelled_tokens_per_step": round(float(tally.labelled.sum()) * per_step, 2),
        },
        "fill": tally.fill(),
        "dropped": {"samples": int(tally.dropped.sum()), **tally.dropped_by_budget},
        "datasets": {
            name: tally.of(number, sizes[name]) for number, name in enumerate(draws.names) if sizes[name]
        },
        "phases": [
            {
                "first_sample": phase["first_window"] * mixture.window,
                "first_step": (
                    first_packs[phase["first_window"]] // packs_per_step
                    if phase["first_window"] < len(first_packs)
                    else None
                ),
                "weights": phase["weights"],
            }
            for phase in draws.quotas.history()
        ],
    }


class _Tally:
    """Sums over windows."""

    def __init__(self, names: list[str], shape: MicroBatchShape) -> None:
        count = len(names)
        self._shape = shape
        self.packs = 0
        self.filled = np.zeros(len(BUDGETS), dtype=np.int64)
        self.drawn = np.zeros(count, dtype=np.int64)
        self.dropped = np.zeros(count, dtype=np.int64)
        self.tokens = np.zeros(count, dtype=np.int64)
        self.images = np.zeros(count, dtype=np.int64)
        self.labelled = np.zeros(count, dtype=np.int64)
        self.dropped_by_budget = dict.fromkeys(BUDGETS, 0)

    def add(self, plan: WindowPlan) -> None:
        """Add one window."""
        kept = np.ones(len(plan.draws.source), dtype=bool)
        kept[plan.dropped] = False
        source = plan.draws.source
        count = len(self.drawn)
        budgets = plan.costs.budgets
        self.packs += len(plan.packs)
        self.filled += budgets[kept].sum(axis=0)
        self.drawn += np.bincount(source, minlength=count)
        self.dropped += np.bincount(source[~kept], minlength=count)
        for number in range(count):
            mine = kept & (source == number)
            self.tokens[number] += budgets[mine, TOKENS].sum()
            self.images[number] += plan.costs.images[mine].sum()
            self.labelled[number] += plan.costs.labelled[mine].sum()
        over = budgets[~kept] > np.array(self._shape.capacity)
        for name, exceeding in zip(BUDGETS, over.sum(axis=0).tolist(), strict=True):
            self.dropped_by_budget[name] += exceeding

    def fill(self) -> dict[str, float]:
        """Filled share of each budget."""
        have = np.array(self._shape.capacity, dtype=np.float64) * max(1, self.packs)
        return dict(zip(BUDGETS, (self.filled / have).round(5).tolist(), strict=True))

    def of(self, number: int, available: int) -> dict[str, Any]:
        """The line of one dataset."""
        kept = int(self.drawn[number] - self.dropped[number])
        return {
            "available": available,
            "samples": int(self.drawn[number]),
            "share": round(float(self.drawn[number] / max(1, self.drawn.sum())), 5),
            "epochs": round(float(self.drawn[number] / available), 4),
            "dropped": int(self.dropped[number]),
            "tokens": int(self.tokens[number]),
            "token_share": round(float(self.tokens[number] / max(1, self.tokens.sum())), 5),
            "labelled_tokens": int(self.labelled[number]),
            "images": int(self.images[number]),
            "mean_tokens": round(float(self.tokens[number] / max(1, kept)), 1),
        }


def format_report(report: Mapping[str, Any]) -> str:
    """The report as text for a terminal, at most 110 columns wide."""
    run, fill = report["run"], report["fill"]
    lines = [
        f"{run['steps']:,} steps of {run['packs_per_step']:,} packs; measured over {run['steps_measured']:,} steps: "
        f"{run['windows']:,} windows of {run['window']:,} draws, {run['packs']:,} packs",
        f"per step: {run['samples_per_step']:,.1f} samples, {run['tokens_per_step']:,.0f} tokens, "
        f"{run['labelled_tokens_per_step']:,.0f} of them with a label",
        "pack fill: " + ", ".join(f"{name} {share:.2%}" for name, share in fill.items()),
        _dropped_line(report["dropped"]),
        "",
        f"{'dataset':<20}{'available':>12}{'drawn':>12}{'share':>8}{'epochs':>8}{'dropped':>9}"
        f"{'tokens':>16}{'share':>8}{'images':>12}",
    ]
    lines += [
        f"{name:<20}{line['available']:>12,}{line['samples']:>12,}{line['share']:>8.1%}{line['epochs']:>8.2f}"
        f"{line['dropped']:>9,}{line['tokens']:>16,}{line['token_share']:>8.1%}{line['images']:>12,}"
        for name, line in report["datasets"].items()
    ]
    lines.append("")
    for number, phase in enumerate(report["phases"]):
        step = phase["first_step"]
        where = "after what was measured" if step is None else f"step {step:,}"
        weights = ", ".join(f"{name} {weight:g}" for name, weight in phase["weights"].items())
        lines.append(f"phase {number} from sample {phase['first_sample']:,} ({where}): {weights}")
    return "\n".join(lines)


def _dropped_line(dropped: Mapping[str, int]) -> str:
    if not dropped["samples"]:
        return "no sample is too large"
    reasons = ", ".join(f"{name} {count:,}" for name, count in dropped.items() if name != "samples" and count)
    return f"dropped, too large for any pack: {dropped['samples']:,} samples (over budget in {reasons})"
