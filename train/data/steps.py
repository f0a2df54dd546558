"""The plan of a step: its packs, which rank takes which of them, and what they add up to; no image is read for it.

It follows from the number of the step alone, so every rank computes all of it, and the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from train.data.build import PackTask, SampleTask
from train.data.loader_settings import LoaderSettings
from train.data.micro_batch import Header
from train.data.packing import TOKENS, VISION_TOKENS, assign_packs
from train.data.stream import Pack, PackStream, plan_checksum

STEPS_REMEMBERED = 64


@dataclass(frozen=True)
class StepSummary:
    """What the micro-batches of one step hold, over all data-parallel ranks."""

    step: int
    samples: int
    tokens: int
    """Filled places of the packed sequences, vision tokens included."""
    labelled_tokens: int
    vision_tokens: int
    pack_fill: float
    """Filled share of all places."""
    window: int
    """The window of draws that the step begins in."""
    epochs: dict[str, float]
    """Dataset -> how often it has been gone through, at the beginning of that window."""


class StepPlan:
    """Steps of a stream of packs, dealt out to data-parallel ranks. Safe to use from several threads.

    All methods raise IndexError after the end of a finite stream.
    """

    def __init__(self, stream: PackStream, settings: LoaderSettings) -> None:
        self._stream = stream
        self._settings = settings
        self.steps: int | None = None
        """Number of steps; None when there is no end."""
        if stream.draws.windows is not None:
            self.steps = -(-stream.count() // settings.packs_per_step)
        self.packs = lru_cache(maxsize=STEPS_REMEMBERED)(self._packs_of)
        """Step -> its packs in stream order, `settings.packs_per_step` of them; None fills up the last step."""
        self._assignment = lru_cache(maxsize=STEPS_REMEMBERED)(self._assign)

    def check(self, step: int) -> None:
        """Raise IndexError when there is no such step."""
        if self.steps is not None and step >= self.steps:
            raise IndexError(
                f"the held-out data ends after {self.steps} steps, and step {step} was asked for"
            )

    def summary(self, step: int) -> StepSummary:
        """What a step holds, over all ranks."""
        packs = [pack for pack in self.packs(step) if pack is not None]
        tokens = sum(int(pack.budgets[TOKENS]) for pack in packs)
        return StepSummary(
            step=step,
            samples=sum(len(pack.sample) for pack in packs),
            tokens=tokens,
            labelled_tokens=self._labelled_tokens(step),
            vision_tokens=sum(int(pack.budgets[VISION_TOKENS]) for pack in packs),
            pack_fill=tokens / (self._settings.packs_per_step * self._settings.shape.tokens),
            window=packs[0].window,
            epochs=self._stream.draws.epochs(packs[0].window),
        )

    def identities(self, step: int) -> list[list[str]]:
        """For each pack of a step, over all ranks and in stream order, its samples as "dataset/number"."""
        return [self._identities(pack) for pack in self.packs(step)]

    def samples_of(self, step: int, data_parallel_rank: int, micro_batch: int) -> list[str]:
        """The samples of one micro-batch of any rank as "dataset/number"."""
        return self._identities(self._pack_of(step, data_parallel_rank, micro_batch))

    def checksum(self, step: int) -> str:
        """Hash of the samples of a step, pack by pack: equal on all ranks that have planned the same."""
        return plan_checksum(self.identities(step))

    def task(self, number: int) -> PackTask:
        """What to build for micro-batch `number` of this rank, counted over all steps."""
        step, micro_batch = divmod(number, self._settings.micro_batches_per_step)
        rank = self._settings.data_parallel_rank
        header = Header(self._labelled_tokens(step), step, micro_batch, rank)
        pack = self._pack_of(step, rank, micro_batch)
        if pack is None:
            return PackTask(header, ())  # the last step of held-out data: it adds nothing to the loss
        samples = map(
            SampleTask,
            self._identities(pack),
            pack.source.tolist(),
            pack.sample.tolist(),
            pack.modes,
            pack.parts.tolist(),
            pack.tokens.tolist(),
        )
        return PackTask(header, tuple(samples))

    def _packs_of(self, step: int) -> list[Pack | None]:
        self.check(step)
        first = step * self._settings.packs_per_step
        return [self._stream.pack(first + place) for place in range(self._settings.packs_per_step)]

    def _assign(self, step: int) -> NDArray[np.int64]:
        """[ranks, micro-batches] places of packs in the step."""
        loads = [0 if pack is None else pack.load for pack in self.packs(step)]
        return assign_packs(loads, self._settings.micro_batches_per_step, self._settings.data_parallel_size)

    def _pack_of(self, step: int, data_parallel_rank: int, micro_batch: int) -> Pack | None:
        place = int(self._assignment(step)[data_parallel_rank, micro_batch])
        return self.packs(step)[place]

    def _labelled_tokens(self, step: int) -> int:
        return sum(pack.labelled for pack in self.packs(step) if pack is not None)

    def _identities(self, pack: Pack | None) -> list[str]:
        if pack is None:
            return []
        names = self._stream.draws.names
        samples = zip(pack.source.tolist(), pack.sample.tolist(), pack.parts.tolist(), strict=True)
        return [f"{names[source]}/{sample}{f'+{part}' if part else ''}" for source, sample, part in samples]
