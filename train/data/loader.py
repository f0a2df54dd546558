"""The loader: step number -> this rank's micro-batches.

What is special here:
- `step_batches(step)` depends on the step number alone. To resume is to ask for a later step; to replay, for an
  earlier one. Nothing has to be skipped, and nothing can drift apart between ranks.
- Only first stages of pipelines have a loader. Every one of them computes the same plan and reads its own packs.
- Another data-parallel size with the same number of packs per step continues the same stream of global batches.
- One background thread reads, decodes and packs ahead; what training waited for data is measured here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from data_engine.errors import ConfigError
from data_engine.sample import Sample
from model.tokenizer import Tokenizer
from model.views import ResolutionMode
from train.data.draws import DrawOrder, MixtureDraws, OnePassDraws
from train.data.lengths import SampleCosts
from train.data.micro_batch import SEGMENT, Header, MicroBatch, MicroBatchBuilder, MicroBatchShape
from train.data.mixture import Mixture
from train.data.packing import TOKENS, VISION_TOKENS, packs_of
from train.data.prefetch import Prefetcher
from train.data.reader import SampleReader
from train.data.state import Identity, LoaderState, check_same_stream
from train.data.stream import Pack, PackStream

HELD_OUT_WINDOW = 4096


@dataclass(frozen=True)
class StepSummary:
    """What the micro-batches of one step hold, over all data-parallel ranks; known without reading an image."""

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


class _StepLoader:
    """Steps of packs, whichever order they come in. See PackedLoader for the arguments."""

    def __init__(
        self,
        datasets: Mapping[str, SampleReader],
        tokenizer: Tokenizer,
        modes: Mapping[str, ResolutionMode],
        shape: MicroBatchShape,
        draws: DrawOrder,
        seed: int | None,
        micro_batches_per_step: int,
        data_parallel_size: int,
        data_parallel_rank: int,
        prefetch: int,
        lengths_cache: str | os.PathLike[str] | None,
    ) -> None:
        for name, value in (
            ("micro_batches", micro_batches_per_step),
            ("the data-parallel size", data_parallel_size),
            ("prefetch", prefetch + 1),
        ):
            if value < 1:
                raise ConfigError(f"{name} is {value}; it must be positive.")
        if not 0 <= data_parallel_rank < data_parallel_size:
            raise ConfigError(
                f"data-parallel rank {data_parallel_rank} is outside a data-parallel size of {data_parallel_size}."
            )
        shape.check(modes)
        self.shape = shape
        self.micro_batches_per_step = micro_batches_per_step
        self.packs_per_step = micro_batches_per_step * data_parallel_size
        self._datasets = [datasets[name] for name in draws.names]
        self._names = list(draws.names)
        self._data_parallel_size = data_parallel_size
        self._data_parallel_rank = data_parallel_rank
        self._costs = SampleCosts(datasets, draws.names, tokenizer, modes, lengths_cache)
        self._stream = PackStream(draws, self._costs, shape.capacity, seed, ahead=prefetch > 0)
        self._builder = MicroBatchBuilder(tokenizer, modes, shape)
        self._step_packs = lru_cache(maxsize=64)(self._make_step_packs)
        self.steps: int | None = None
        """Number of steps; None when there is no end."""
        if draws.windows is not None:
            self.steps = -(-self._stream.count() // self.packs_per_step)
            if self.steps == 0:
                raise ConfigError(
                    f"none of the held-out samples of {', '.join(draws.names)} fits a micro-batch of {shape}; enlarge "
                    "it or choose a smaller resolution mode."
                )
        self._prefetcher = Prefetcher(
            self._make,
            prefetch * micro_batches_per_step,
            None if self.steps is None else self.steps * micro_batches_per_step,
        )

    def step_batches(self, step: int) -> Iterator[MicroBatch]:
        """The micro-batches of one step for this rank, `micro_batches_per_step` of them.

        Raises:
            DamagedSampleError: what a shard holds is not what was written; names shard and key.
            ValueError: a sample that is whole but cannot be used; names key and dataset.
            IndexError: the step is after the end of held-out data.
        """
        if self.steps is not None and step >= self.steps:
            raise self._after_the_end(step)
        first = step * self.micro_batches_per_step
        for number in range(first, first + self.micro_batches_per_step):
            yield self._prefetcher.take(number)

    @property
    def data_wait_seconds(self) -> float:
        """Time that `step_batches` has made its caller wait, since the beginning."""
        return self._prefetcher.waited_seconds

    def summary(self, step: int) -> StepSummary:
        """What a step holds, over all ranks."""
        packs = [pack for pack in self._step_packs(step) if pack is not None]
        if not packs:
            raise self._after_the_end(step)
        tokens = sum(int(pack.budgets[TOKENS]) for pack in packs)
        return StepSummary(
            step=step,
            samples=sum(len(pack.sample) for pack in packs),
            tokens=tokens,
            labelled_tokens=sum(pack.labelled for pack in packs),
            vision_tokens=sum(int(pack.budgets[VISION_TOKENS]) for pack in packs),
            pack_fill=tokens / (self.packs_per_step * self.shape.tokens),
            window=packs[0].window,
            epochs=self._stream.draws.epochs(packs[0].window),
        )

    def identities(self, step: int) -> list[list[str]]:
        """For each pack of a step, over all ranks and in stream order, its samples as "dataset/number"."""
        return [self._identities(pack) for pack in self._step_packs(step)]

    def close(self) -> None:
        """Stop reading ahead. The loader stays usable."""
        self._prefetcher.close()

    def _after_the_end(self, step: int) -> IndexError:
        return IndexError(f"the held-out data ends after {self.steps} steps, and step {step} was asked for")

    def _make_step_packs(self, step: int) -> list[Pack | None]:
        first = step * self.packs_per_step
        return [self._stream.pack(number) for number in range(first, first + self.packs_per_step)]

    def _identities(self, pack: Pack | None) -> list[str]:
        if pack is None:
            return []
        samples = zip(pack.source.tolist(), pack.sample.tolist(), strict=True)
        return [f"{self._names[source]}/{sample}" for source, sample in samples]

    def _make(self, number: int) -> MicroBatch:
        """Micro-batch `number` of this rank, counted over all steps."""
        step, micro_batch = divmod(number, self.micro_batches_per_step)
        packs = self._step_packs(step)
        mine = packs_of(step, self.micro_batches_per_step, self._data_parallel_size, self._data_parallel_rank)
        pack = packs[mine[micro_batch] - step * self.packs_per_step]
        labelled = sum(pack.labelled for pack in packs if pack is not None)
        header = Header(labelled, step, micro_batch, self._data_parallel_rank)
        batch = self._builder.build(self._read(pack), header)
        measured = 0 if pack is None else int(pack.budgets[TOKENS])
        built = int(batch.metadata[SEGMENT].count_nonzero())
        if built != measured:
            # The loss is divided by the measured labels of the whole step: better no step than a wrong one.
            raise ValueError(
                f"micro-batch {micro_batch} of step {step} was measured at {measured} tokens and has {built}: the "
                "size of an image differs from its index, or a lengths cache is not of this data; remove the cache, "
                "or make the data again."
            )
        return batch

    def _read(self, pack: Pack | None) -> list[tuple[str, Sample]]:
        if pack is None:
            return []  # the last step of held-out data: an empty micro-batch adds nothing to the loss
        return [
            (identity, self._datasets[source].read(sample))
            for identity, source, sample in zip(
                self._identities(pack), pack.source.tolist(), pack.sample.tolist(), strict=True
            )
        ]


class PackedLoader(_StepLoader):
    """Micro-batches for training, without end.

    Args:
        datasets: by name, e.g. of `data_engine.dataset.open_datasets`.
        modes: task -> resolution mode; the key "default" serves all other tasks.
        mixture: which share of the draws each dataset gives, when.
        seed: decides the order of everything.
        micro_batches_per_step: per data-parallel rank.
        prefetch: steps that are made ahead in a background thread; 0 makes them when they are asked for.
        lengths_cache: directory where `data_report` has left the measured lengths; they are measured anew, window
            by window, where it has not.

    Raises:
        ConfigError: mixture and datasets, or shape and modes, do not fit together.
    """

    def __init__(
        self,
        datasets: Mapping[str, SampleReader],
        tokenizer: Tokenizer,
        modes: Mapping[str, ResolutionMode],
        shape: MicroBatchShape,
        mixture: Mixture,
        seed: int,
        micro_batches_per_step: int,
        data_parallel_size: int = 1,
        data_parallel_rank: int = 0,
        prefetch: int = 2,
        *,
        lengths_cache: str | os.PathLike[str] | None = None,
    ) -> None:
        draws = MixtureDraws(mixture, {name: len(dataset) for name, dataset in datasets.items()}, seed)
        super().__init__(
            datasets,
            tokenizer,
            modes,
            shape,
            draws,
            seed,
            micro_batches_per_step,
            data_parallel_size,
            data_parallel_rank,
            prefetch,
            lengths_cache,
        )
        self.identity = Identity.of(
            datasets, tokenizer, modes, shape, draws.quotas, seed, self.packs_per_step
        )

    def state(self, next_step: int) -> dict[str, Any]:
        """JSON for the checkpoint after step `next_step - 1`; the same on every rank."""
        window, first_pack = self._stream.anchor(next_step * self.packs_per_step)
        return asdict(
            LoaderState(self.identity.fingerprint, next_step, window, first_pack, asdict(self.identity))
        )

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Make sure that this loader continues the stream of `state`, and remember where it was.

        Raises:
            ConfigError: it would be another stream; the sentence says what changed.
        """
        restored = LoaderState.from_dict(state)
        check_same_stream(restored, self.identity)
        self._stream.set_anchor(restored.window, restored.first_pack)


class HeldOutLoader(_StepLoader):
    """Every held-out sample once, in order; `steps` says how many steps that takes.

    The packs are those of a window in the order of their making; the last step is filled up with empty
    micro-batches. Arguments as for PackedLoader.
    """

    steps: int

    def __init__(
        self,
        datasets: Mapping[str, SampleReader],
        tokenizer: Tokenizer,
        modes: Mapping[str, ResolutionMode],
        shape: MicroBatchShape,
        micro_batches_per_step: int,
        data_parallel_size: int = 1,
        data_parallel_rank: int = 0,
        prefetch: int = 0,
        *,
        lengths_cache: str | os.PathLike[str] | None = None,
    ) -> None:
        draws = OnePassDraws({name: len(dataset) for name, dataset in datasets.items()}, HELD_OUT_WINDOW)
        super().__init__(
            datasets,
            tokenizer,
            modes,
            shape,
            draws,
            None,
            micro_batches_per_step,
            data_parallel_size,
            data_parallel_rank,
            prefetch,
            lengths_cache,
        )
