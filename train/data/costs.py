"""What each sample takes of a micro-batch, to the token and the patch, before any image is decoded.

What is special here:
- Costs are exact, not hints: text is measured with what builds the training sequence (see `lengths`), and the
  same `view_plan` that cuts an image gives its views. What is packed is what is built.
- A resolution mode changes only the vision part, which is arithmetic on the image size.
- The *load* of an image is the work it gives the vision encoder. Patches alone do not tell: windows are padded,
  and global attention grows with the square, so a patch of a 512 px view costs another time than one of 1,280.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.config import PATCH_SIZE, ClipConfig, SamConfig
from model.flops import clip_flops, sam_flops
from model.tokenizer import Tokenizer
from model.views import ResolutionMode, ViewPlan, view_plan
from train.data.draws import DrawTable
from train.data.kinds import kind_names
from train.data.lengths import DAMAGED, LABELLED, TASK, TextLengths
from train.data.lengths import TOKENS as TEXT_TOKENS
from train.data.modes import ModePlan
from train.data.packing import BUDGETS, PATCHES, TOKENS
from train.data.reader import SampleReader

NEVER_FITS = 1 << 40


class Costs(NamedTuple):
    """What samples take; arrays with one row per sample."""

    budgets: NDArray[np.int64]
    """[n, 4], columns as in `packing.BUDGETS`."""
    labelled: NDArray[np.int64]
    """[n] positions with a label."""
    images: NDArray[np.int64]
    """[n] images."""
    load: NDArray[np.int64]
    """[n] work of the vision encoder in MFLOP of the released sizes, forward pass."""
    mode: NDArray[np.int64]
    """[n] resolution mode, a number in `ModePlan.modes`; of no meaning without images."""


class VisionCost(NamedTuple):
    """What one image takes of a micro-batch."""

    placeholders: int
    """Places in the token sequence: vision tokens, newlines, separator."""
    patches: int
    views: int
    vision_tokens: int

    @classmethod
    def of(cls, plan: ViewPlan) -> VisionCost:
        """Of an image that is cut so."""
        sides = plan.sides
        patches = sum((side // PATCH_SIZE) ** 2 for side in sides)
        return cls(len(plan.layout()), patches, len(sides), plan.vision_tokens)


@lru_cache(maxsize=64)
def view_load(side: int) -> int:
    """Work of the released vision encoder on one view of `side` pixels, forward pass, in MFLOP."""
    return round((sam_flops(SamConfig(), side) + clip_flops(ClipConfig(), side)) / 1e6)


@lru_cache(maxsize=4096)
def _plan_row(plan: ViewPlan) -> tuple[int, ...]:
    """The four budgets and the load of an image that is cut so."""
    return (*VisionCost.of(plan), sum(map(view_load, plan.sides)))


def image_costs(sizes: NDArray[np.integer], mode: ResolutionMode) -> NDArray[np.int64]:
    """[m, 5]: budgets and load of images of these (width, height) [m, 2] in one mode."""
    if not mode.crop:
        return np.tile(np.array(_plan_row(ViewPlan(mode.base_size, 0, (1, 1))), np.int64), (len(sizes), 1))
    distinct, which = np.unique(sizes, axis=0, return_inverse=True)
    rows = [_plan_row(_crop_plan(width, height, mode)) for width, height in distinct.tolist()]
    return np.array(rows, np.int64)[which.reshape(-1)]


@lru_cache(maxsize=65536)
def _crop_plan(width: int, height: int, mode: ResolutionMode) -> ViewPlan:
    return view_plan(width, height, mode)


class SampleCosts:
    """Measures draws: the `CostTable` of the pack stream.

    Args:
        names: order of the datasets in the tables of draws.
        modes: which mode a draw is seen in.
        cache_directory: where `data_report` keeps measured text lengths; None: measure as the run goes.
        keep_going: samples whose text cannot be measured fit no pack, and `texts[source].damaged` knows them.
    """

    def __init__(
        self,
        datasets: Mapping[str, SampleReader],
        names: Sequence[str],
        tokenizer: Tokenizer,
        modes: ModePlan,
        cache_directory: str | os.PathLike[str] | None = None,
        keep_going: bool = False,
    ) -> None:
        directory = None if cache_directory is None else Path(cache_directory)
        self._datasets = [datasets[name] for name in names]
        self.texts = [
            TextLengths(dataset, tokenizer, directory, keep_going=keep_going) for dataset in self._datasets
        ]
        self.modes = modes

    def of(self, draws: DrawTable) -> Costs:
        """Exact costs of every draw. Raises DamagedDataError like `TextLengths.of`."""
        count = len(draws.source)
        budgets = np.zeros((count, len(BUDGETS)), np.int64)
        labelled, images, load, mode = (np.zeros(count, np.int64) for _ in range(4))
        for source in np.unique(draws.source).tolist():
            rows = np.flatnonzero(draws.source == source)
            samples = draws.sample[rows]
            text = self.texts[source].of(samples)
            mode[rows] = self._modes_of(draws, rows, source, text[:, TASK])
            vision, images[rows] = self._vision(source, samples, mode[rows])
            budgets[rows], load[rows] = vision[:, : len(BUDGETS)], vision[:, len(BUDGETS)]
            budgets[rows, TOKENS] += text[:, TEXT_TOKENS]
            labelled[rows] = text[:, LABELLED]
            unreadable = rows[text[:, TEXT_TOKENS] == DAMAGED]
            # Too large for any pack, so every rank drops it; not too long, so it is not split.
            budgets[unreadable], load[unreadable] = 0, 0
            budgets[unreadable, TOKENS], budgets[unreadable, PATCHES] = 1, NEVER_FITS
        return Costs(budgets, labelled, images, load, mode)

    def _modes_of(
        self, draws: DrawTable, rows: NDArray[np.int64], source: int, tasks: NDArray[np.int32]
    ) -> NDArray[np.int64]:
        modes = np.empty(len(rows), np.int64)
        for task in np.unique(tasks).tolist():
            mine = tasks == task
            name = self.texts[source].tasks[task]
            modes[mine] = self.modes.of(draws.phase, name, draws.mode_slot[rows[mine]])
        return modes

    def _vision(
        self, source: int, samples: NDArray[np.int64], modes: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """[n, 5] budgets and load of all images of each sample, and [n] how many they are."""
        counts, sizes = self._datasets[source].image_sizes_of(samples)
        owner = np.repeat(np.arange(len(samples)), counts)
        mode_of_image = modes[owner]
        totals = np.zeros((len(samples), len(BUDGETS) + 1), np.int64)
        for mode in np.unique(mode_of_image).tolist():
            mine = mode_of_image == mode
            np.add.at(totals, owner[mine], image_costs(sizes[mine], self.modes.modes[mode]))
        return totals, counts

    def kinds(self) -> dict[int, tuple[str, str]]:
        """Number of a kind -> its task and resolution mode, of all that have been measured."""
        tasks = (task for text in self.texts for task in text.tasks)
        return kind_names(tasks, (mode.name for mode in self.modes.modes))

    def save(self) -> None:
        """Measure all samples and write the cache files, where there is a cache directory."""
        for text in self.texts:
            text.save()
