"""From a planned pack to its micro-batch: read, decode, fill; in this process or in another one.

What is special here:
- A task says everything: which samples, in which mode, how long they were planned. Whoever builds it has no state, so
  it does not matter who does, and a resumed run asks for a later task.
- A sample that cannot be used is left out and reported. What follows from that is not decided here; see
  `train.data.damage`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from model.tokenizer import Tokenizer
from model.views import ResolutionMode
from train.data.damage import UNUSABLE, Damage, damage_of
from train.data.filling import MicroBatchFilling, PackedSample
from train.data.micro_batch import Header, MicroBatch, MicroBatchShape
from train.data.prefetch import Source
from train.data.reader import SampleReader, read_patiently


class SampleTask(NamedTuple):
    """One sample of a planned pack."""

    identity: str
    source: int
    """Number of its dataset."""
    sample: int
    mode: ResolutionMode
    part: int
    """Which stretch of a text that was split; 0 of a whole sample."""
    tokens: int
    """Its length as planned, placeholders of images included."""


class PackTask(NamedTuple):
    """One planned pack; plain values that can be sent to another process."""

    header: Header
    samples: tuple[SampleTask, ...]


class BuiltPack(NamedTuple):
    """A micro-batch, and the samples that are not in it because they cannot be used."""

    batch: MicroBatch
    damages: list[Damage]


class PackBuilder:
    """Builds packs. Safe to use from several threads, and can be sent to another process.

    Args:
        datasets: in the order of the plan's numbers.
    """

    def __init__(
        self, datasets: Sequence[SampleReader], tokenizer: Tokenizer, shape: MicroBatchShape
    ) -> None:
        self._datasets = list(datasets)
        self._tokenizer = tokenizer
        self._shape = shape

    def build(self, task: PackTask, shared: bool = False) -> BuiltPack:
        """One micro-batch; with `shared`, in memory that another process can take over without a copy."""
        filling = MicroBatchFilling(self._tokenizer, self._shape, shared)
        damages = []
        for planned in task.samples:
            dataset = self._datasets[planned.source]
            try:
                sample = read_patiently(dataset.read, planned.sample)
                filling.add(
                    PackedSample(planned.identity, sample, planned.mode, planned.part, planned.tokens)
                )
            except UNUSABLE as error:
                filling.leave_out(planned.identity)
                damages.append(damage_of(dataset, planned.sample, error))
        return BuiltPack(filling.finish(task.header), damages)


def pinned(source: Source[BuiltPack]) -> Source[BuiltPack]:
    """The same in page-locked memory where there is a GPU, so that a copy to it does not hold training up."""
    if not torch.cuda.is_available():
        return source

    def start(first: int) -> Iterator[BuiltPack]:
        # Asked for in the caller's thread: a new thread would begin with device 0.
        return pin(source(first), torch.cuda.current_device())

    def pin(packs: Iterator[BuiltPack], device: int) -> Iterator[BuiltPack]:
        torch.cuda.set_device(device)
        for batch, damages in packs:
            yield BuiltPack(MicroBatch(*(tensor.pin_memory() for tensor in batch)), damages)

    return start
