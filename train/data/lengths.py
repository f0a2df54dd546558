"""How long each sample is, to the token, and what its images cost, before any image is decoded.

What is special here:
- Lengths are exact, not hints: the same `build_sequence` that makes the training sequence counts its text, and
  the same `view_plan` that cuts the image gives its views. What is packed is what is built.
- Text is measured when a window first needs it (one JSON read and one tokenisation per sample) and remembered;
  a resolution mode changes only the vision part, which is arithmetic on the image size.
- A cache file per (dataset, tokenizer) spares even that at scale. `python -m train data_report=true` measures
  all samples and writes it; training only reads it. Plain arrays, no pickle, written whole or not at all.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_engine.files import atomic_write_bytes
from model.config import PATCH_SIZE
from model.sequence import IGNORE, build_sequence
from model.tokenizer import Tokenizer
from model.views import ResolutionMode, ViewPlan, view_plan
from train.data.draws import DrawTable
from train.data.packing import BUDGETS, PATCHES, TOKENS, VIEWS, VISION_TOKENS
from train.data.reader import SampleReader, mode_of
from train.data.stream import Costs

CACHE_SCHEMA = 1
_NO_PLACEHOLDERS = np.zeros(0, dtype=np.int32)


class VisionCost(NamedTuple):
    """What one image takes of a micro-batch."""

    placeholders: int
    """Places in the token sequence: vision tokens, newlines, separator."""
    patches: int
    views: int
    vision_tokens: int

    @classmethod
    def of(cls, plan: ViewPlan) -> VisionCost:
        sides = plan.sides
        patches = sum((side // PATCH_SIZE) ** 2 for side in sides)
        return cls(len(plan.layout()), patches, len(sides), plan.vision_tokens)


@lru_cache(maxsize=65536)
def vision_cost(width: int, height: int, mode: ResolutionMode) -> VisionCost:
    """The cost of an image of this size in this mode."""
    return VisionCost.of(view_plan(width, height, mode))


class TextLengths:
    """Text tokens, labelled positions and task of the samples of one dataset, measured once each.

    Safe to use from several threads: measuring a sample twice gives the same numbers.
    """

    def __init__(
        self, dataset: SampleReader, tokenizer: Tokenizer, cache_directory: Path | None = None
    ) -> None:
        self._dataset = dataset
        self._tokenizer = tokenizer
        # Zero means unknown: every sequence has at least its begin and end token.
        self.tokens = np.zeros(len(dataset), dtype=np.int32)
        """All tokens but the placeholders of images."""
        self.labelled = np.zeros(len(dataset), dtype=np.int32)
        self.task = np.zeros(len(dataset), dtype=np.int16)
        """Number of the task in `tasks`."""
        self.tasks: list[str] = []
        self._lock = threading.Lock()
        self.cache_path = None
        if cache_directory is not None:
            identity = f"{CACHE_SCHEMA} {dataset.fingerprint} {tokenizer.fingerprint}".encode()
            self.cache_path = cache_directory / f"lengths-{hashlib.sha256(identity).hexdigest()[:24]}.npz"
            self._load()

    def require(self, samples: Iterable[int]) -> None:
        """Measure those of these samples that are not known yet. Raises what reading them raises."""
        for i in samples:
            if self.tokens[i] == 0:
                self._measure(int(i))

    def _measure(self, i: int) -> None:
        sample = self._dataset.read_text(i)
        try:
            sequence = build_sequence(
                self._tokenizer, sample.prompt, [_NO_PLACEHOLDERS] * len(sample.image_sizes), sample.response
            )
        except ValueError as error:
            raise ValueError(f"sample {sample.key} of dataset {self._dataset.name}: {error}") from error
        with self._lock:
            if sample.task not in self.tasks:
                self.tasks.append(sample.task)
            self.task[i] = self.tasks.index(sample.task)
        self.labelled[i] = np.count_nonzero(sequence.labels != IGNORE)
        self.tokens[i] = len(sequence)  # last: from here on the sample counts as known

    def save(self) -> None:
        """Measure everything that is missing and write the cache file. Does nothing without a cache directory."""
        if self.cache_path is None:
            return
        missing = np.flatnonzero(self.tokens == 0)
        if not missing.size and self.cache_path.exists():
            return
        self.require(missing.tolist())
        buffer = io.BytesIO()
        np.savez(
            buffer,
            allow_pickle=False,
            identity=np.array([self._dataset.fingerprint, self._tokenizer.fingerprint]),
            tasks=np.array(self.tasks),
            tokens=self.tokens,
            labelled=self.labelled,
            task=self.task,
        )
        self.cache_path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(self.cache_path, buffer.getvalue())

    def _load(self) -> None:
        assert self.cache_path is not None
        try:
            with np.load(self.cache_path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in ("identity", "tasks", "tokens", "labelled", "task")}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return  # missing or not ours: measured again, and overwritten by the next report
        expected = [self._dataset.fingerprint, self._tokenizer.fingerprint]
        if arrays["identity"].tolist() != expected or len(arrays["tokens"]) != len(self._dataset):
            return
        self.tokens, self.labelled, self.task = arrays["tokens"], arrays["labelled"], arrays["task"]
        self.tasks = arrays["tasks"].tolist()


class SampleCosts:
    """Measures draws: the `CostTable` of the pack stream.

    Args:
        names: order of the datasets in the tables of draws.
        modes: task -> resolution mode, with the key "default".
        cache_directory: where `data_report` keeps measured text lengths; None: measure as the run goes.
    """

    def __init__(
        self,
        datasets: Mapping[str, SampleReader],
        names: Sequence[str],
        tokenizer: Tokenizer,
        modes: Mapping[str, ResolutionMode],
        cache_directory: str | os.PathLike[str] | None = None,
    ) -> None:
        directory = None if cache_directory is None else Path(cache_directory)
        self._datasets = [datasets[name] for name in names]
        self.texts = [TextLengths(dataset, tokenizer, directory) for dataset in self._datasets]
        self._modes = dict(modes)

    def of(self, draws: DrawTable) -> Costs:
        """Exact costs of every draw. Raises what reading the text of a sample raises."""
        count = len(draws.source)
        costs = Costs(
            np.zeros((count, len(BUDGETS)), np.int64), np.zeros(count, np.int64), np.zeros(count, np.int64)
        )
        for source in np.unique(draws.source).tolist():
            mine = np.flatnonzero(draws.source == source)
            samples = draws.sample[mine]
            text = self.texts[source]
            text.require(samples.tolist())
            self._add_vision(costs, mine, source, samples)
            costs.budgets[mine, TOKENS] += text.tokens[samples]
            costs.labelled[mine] = text.labelled[samples]
        return costs

    def _add_vision(
        self, costs: Costs, rows: NDArray[np.int64], source: int, samples: NDArray[np.int64]
    ) -> None:
        dataset, text = self._datasets[source], self.texts[source]
        modes = [mode_of(self._modes, task) for task in text.tasks]
        for row, i, task in zip(rows.tolist(), samples.tolist(), text.task[samples].tolist(), strict=True):
            for width, height in dataset.image_sizes(i):
                cost = vision_cost(width, height, modes[task])
                budget = costs.budgets[row]
                budget[TOKENS] += cost.placeholders
                budget[PATCHES] += cost.patches
                budget[VIEWS] += cost.views
                budget[VISION_TOKENS] += cost.vision_tokens
                costs.images[row] += 1

    def save(self) -> None:
        """Measure all samples and write the cache files, where there is a cache directory."""
        for text in self.texts:
            text.save()
