"""The loader: step number -> this rank's micro-batches.

What is special here:
- `step_batches(step)` depends on the step number alone. To resume is to ask for a later step; to replay, for an
  earlier one. Nothing has to be skipped, and nothing can drift apart between ranks.
- Only first stages of pipelines have a loader. Every one of them computes the same plan and reads its own packs.
- Another data-parallel size with the same number of packs per step continues the same stream of global batches.
- Packs are read, decoded and filled ahead, by one background thread or by worker processes; what training waited for
  data is measured here.
- A sample that cannot be used is met here, in its step, and nowhere else: reading ahead raises nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_engine.errors import ConfigError
from model.tokenizer import Tokenizer
from train.data.block_order import GLOBAL_ORDER, SampleOrder
from train.data.build import PackBuilder, PackTask, SampleTask, pinned
from train.data.costs import SampleCosts
from train.data.damage import STOP, Damage, DamagePolicy
from train.data.draws import DrawOrder, MixtureDraws, OnePassDraws
from train.data.micro_batch import Header, MicroBatch, MicroBatchShape
from train.data.mixture import Mixture
from train.data.modes import ModeChoices, ModePlan
from train.data.packing import TOKENS, VISION_TOKENS, assign_packs
from train.data.prefetch import Prefetcher, made_by
from train.data.reader import SampleReader
from train.data.splitting import DROP, SPLIT
from train.data.state import Identity, LoaderState, check_same_stream
from train.data.stream import Pack, PackStream, plan_checksum
from train.data.workers import WorkerPool

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
        modes: ModeChoices,
        shape: MicroBatchShape,
        draws: DrawOrder,
        seed: int | None,
        micro_batches_per_step: int,
        data_parallel_size: int,
        data_parallel_rank: int,
        prefetch: int,
        lengths_cache: str | os.PathLike[str] | None,
        too_long: str,
        phases: Sequence[ModeChoices] = (),
        workers: int = 0,
        damage: DamagePolicy | None = None,
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
        if workers and not prefetch:
            raise ConfigError(f"workers={workers} build packs ahead; set prefetch to at least 1 step.")
        for choices in (modes, *phases):
            shape.check(choices or modes)
        self.shape = shape
        self.micro_batches_per_step = micro_batches_per_step
        self.packs_per_step = micro_batches_per_step * data_parallel_size
        self._datasets = [datasets[name] for name in draws.names]
        self._names = list(draws.names)
        self._data_parallel_size = data_parallel_size
        self._data_parallel_rank = data_parallel_rank
        self._damage = damage or DamagePolicy()
        self._damages: list[Damage] = []
        self._reported_window = -1
        self._costs = SampleCosts(
            datasets,
            draws.names,
            tokenizer,
            ModePlan(modes, phases),
            lengths_cache,
            self._damage.policy != STOP,
        )
        self._stream = PackStream(
            draws, self._costs, shape.capacity, seed, ahead=prefetch > 0, split=too_long == SPLIT
        )
        self._step_packs = lru_cache(maxsize=64)(self._make_step_packs)
        self._assignment = lru_cache(maxsize=64)(self._make_assignment)
        self.steps: int | None = None
        """Number of steps; None when there is no end."""
        if draws.windows is not None:
            self.steps = -(-self._stream.count() // self.packs_per_step)
            if self.steps == 0:
                raise ConfigError(
                    f"none of the held-out samples of {', '.join(draws.names)} fits a micro-batch of {shape}; enlarge "
                    "it or choose a smaller resolution mode."
                )
        ahead = prefetch * micro_batches_per_step
        end = None if self.steps is None else self.steps * micro_batches_per_step
        builder = PackBuilder(self._datasets, tokenizer, shape)
        self._pool = WorkerPool(builder, self._task, workers, ahead, end) if workers else None
        source = self._pool.packs if self._pool else made_by(lambda number: builder.build(self._task(number)))
        self._prefetcher = Prefetcher(pinned(source), 1 if workers else ahead, end)

    def step_batches(self, step: int) -> Iterator[MicroBatch]:
        """The micro-batches of one step for this rank, `micro_batches_per_step` of them.

        Raises:
            DamagedDataError: a sample of the step cannot be used, and the policy is to stop; names shard and key.
            IndexError: the step is after the end of held-out data.
        """
        if self.steps is not None and step >= self.steps:
            raise self._after_the_end(step)
        self._meet_planned(step)
        first = step * self.micro_batches_per_step
        for number in range(first, first + self.micro_batches_per_step):
            built = self._prefetcher.take(number)
            if built.damages and self._damage.policy == STOP:
                raise built.damages[0].as_error()
            self._damages += built.damages
            yield built.batch

    def take_damages(self) -> list[Damage]:
        """The samples that cannot be used of the steps that were asked for since the last call.

        Those of which the text could not be measured are dropped by every rank alike; rank 0 reports them, with the
        first step of their window.
        """
        damages, self._damages = self._damages, []
        return damages

    @property
    def stream(self) -> PackStream:
        """All packs, before they are dealt out to ranks."""
        return self._stream

    @property
    def costs(self) -> SampleCosts:
        """What samples take of a micro-batch."""
        return self._costs

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

    def samples_of(self, step: int, data_parallel_rank: int, micro_batch: int) -> list[str]:
        """The samples of one micro-batch of any rank as "dataset/number"."""
        place = int(self._assignment(step)[data_parallel_rank, micro_batch])
        return self._identities(self._step_packs(step)[place])

    def plan_checksum(self, step: int) -> str:
        """Hash of the samples of a step, pack by pack: equal on all ranks that have planned the same."""
        return plan_checksum(self.identities(step))

    def close(self) -> None:
        """Stop reading ahead and end the workers. The loader stays usable."""
        self._prefetcher.close()
        if self._pool:
            self._pool.close()

    def _after_the_end(self, step: int) -> IndexError:
        return IndexError(f"the held-out data ends after {self.steps} steps, and step {step} was asked for")

    def _make_step_packs(self, step: int) -> list[Pack | None]:
        first = step * self.packs_per_step
        return [self._stream.pack(number) for number in range(first, first + self.packs_per_step)]

    def _make_assignment(self, step: int) -> NDArray[np.int64]:
        loads = [0 if pack is None else pack.load for pack in self._step_packs(step)]
        return assign_packs(loads, self.micro_batches_per_step, self._data_parallel_size)

    def _identities(self, pack: Pack | None) -> list[str]:
        if pack is None:
            return []
        samples = zip(pack.source.tolist(), pack.sample.tolist(), pack.parts.tolist(), strict=True)
        return [
            f"{self._names[source]}/{sample}{f'+{part}' if part else ''}" for source, sample, part in samples
        ]

    def _task(self, number: int) -> PackTask:
        """Micro-batch `number` of this rank, counted over all steps."""
        step, micro_batch = divmod(number, self.micro_batches_per_step)
        packs = self._step_packs(step)
        pack = packs[int(self._assignment(step)[self._data_parallel_rank, micro_batch])]
        labelled = sum(pack.labelled for pack in packs if pack is not None)
        header = Header(labelled, step, micro_batch, self._data_parallel_rank)
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

    def _meet_planned(self, step: int) -> None:
        """Report the samples that planning dropped because their text cannot be read, once a window."""
        if self._data_parallel_rank > 0:
            return
        for pack in self._step_packs(step):
            if pack is not None and pack.window != self._reported_window:
                self._reported_window = pack.window
                plan = self._stream.plan(pack.window)
                draws = zip(
                    plan.draws.source[plan.dropped].tolist(),
                    plan.draws.sample[plan.dropped].tolist(),
                    strict=True,
                )
                found = (self._costs.texts[source].damaged.get(sample) for source, sample in draws)
                self._damages += [damage for damage in found if damage]


class PackedLoader(_StepLoader):
    """Micro-batches for training, without end.

    Args:
        datasets: by name, e.g. of `data_engine.dataset.open_datasets`.
        modes: task -> resolution mode or shares of modes; the key "default" serves all other tasks.
        mixture: which share of the draws each dataset gives, when.
        seed: decides the order of everything.
        micro_batches_per_step: per data-parallel rank.
        prefetch: steps that are made ahead; 0 makes them when they are asked for.
        lengths_cache: directory where `data_report` has left the measured lengths; they are measured anew, window
            by window, where it has not.
        order: how the samples of a dataset follow each other within an epoch.
        too_long: what becomes of texts without images that exceed the budget: `drop` or `split`.
        workers: processes that build packs; 0: the thread that reads ahead builds them itself.
        damage: what becomes of samples that cannot be used; None: the run stops.

    Raises:
        ConfigError: mixture and datasets, or shape and modes, do not fit together.
    """

    def __init__(
        self,
        datasets: Mapping[str, SampleReader],
        tokenizer: Tokenizer,
        modes: ModeChoices,
        shape: MicroBatchShape,
        mixture: Mixture,
        seed: int,
        micro_batches_per_step: int,
        data_parallel_size: int = 1,
        data_parallel_rank: int = 0,
        prefetch: int = 2,
        *,
        lengths_cache: str | os.PathLike[str] | None = None,
        order: SampleOrder = GLOBAL_ORDER,
        too_long: str = DROP,
        workers: int = 0,
        damage: DamagePolicy | None = None,
    ) -> None:
        sizes = {name: len(dataset) for name, dataset in datasets.items()}
        draws = MixtureDraws(mixture, sizes, seed, order)
        phases = [phase.modes for phase in mixture.phases]
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
            too_long,
            phases,
            workers,
            damage,
        )
        self.identity = Identity.of(
            datasets,
            tokenizer,
            self._costs.modes,
            shape,
            draws.quotas,
            seed,
            self.packs_per_step,
            order,
            too_long,
        )

    def state(self, next_step: int) -> dict[str, Any]:
        """JSON for the checkpoint after step `next_step - 1`; the same on every rank."""
        # Of the last pack consumed: the next one may lie in a window that cannot be planned, and saving must work then.
        window, first_pack = self._stream.anchor(max(0, next_step * self.packs_per_step - 1))
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
        modes: ModeChoices,
        shape: MicroBatchShape,
        micro_batches_per_step: int,
        data_parallel_size: int = 1,
        data_parallel_rank: int = 0,
        prefetch: int = 0,
        *,
        lengths_cache: str | os.PathLike[str] | None = None,
        too_long: str = DROP,
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
            too_long,
        )
