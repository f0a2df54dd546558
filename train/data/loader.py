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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from data_engine.errors import ConfigError
from model.tokenizer import Tokenizer
from train.data.block_order import GLOBAL_ORDER, SampleOrder
from train.data.build import PackBuilder, pinned
from train.data.costs import SampleCosts
from train.data.damage import STOP, Damage
from train.data.draws import DrawOrder, MixtureDraws, OnePassDraws
from train.data.loader_settings import LoaderSettings
from train.data.micro_batch import MicroBatch
from train.data.mixture import Mixture
from train.data.modes import ModeChoices, ModePlan
from train.data.prefetch import Prefetcher, made_by
from train.data.reader import SampleReader
from train.data.splitting import SPLIT
from train.data.state import Identity, LoaderState, check_same_stream
from train.data.steps import StepPlan
from train.data.stream import PackStream
from train.data.workers import WorkerPool

HELD_OUT_WINDOW = 4096


class StepLoader:
    """What every loader does: plan steps, read this rank's packs of them, and meet what cannot be used.

    Args:
        datasets: by name, e.g. of `data_engine.dataset.open_datasets`.
        draws: which sample comes when.
        seed: key of the order of packs; None keeps them in the order of their making.
        phases: per phase of the mixture, its own modes, or empty for those of the settings.

    Raises:
        ConfigError: an image of some mode of some phase could never be packed.
    """

    def __init__(
        self,
        datasets: Mapping[str, SampleReader],
        tokenizer: Tokenizer,
        settings: LoaderSettings,
        draws: DrawOrder,
        seed: int | None,
        phases: Sequence[ModeChoices] = (),
    ) -> None:
        modes = ModePlan(settings.modes, phases)
        for choices in modes.phases:
            settings.shape.check(choices)
        self.settings = settings
        self.costs = SampleCosts(
            datasets,
            draws.names,
            tokenizer,
            modes,
            settings.lengths_cache,
            keep_going=settings.damage.policy != STOP,
        )
        """What samples take of a micro-batch."""
        self.stream = PackStream(
            draws,
            self.costs,
            settings.shape.capacity,
            seed,
            ahead=settings.prefetch > 0,
            split=settings.too_long == SPLIT,
        )
        """All packs, before they are dealt out to ranks."""
        self.plan = StepPlan(self.stream, settings)
        """What each step holds, over all ranks."""
        self._damages: list[Damage] = []
        self._reported_window = -1
        builder = PackBuilder([datasets[name] for name in draws.names], tokenizer, settings.shape)
        ahead = settings.prefetch * settings.micro_batches_per_step
        end = None if self.plan.steps is None else self.plan.steps * settings.micro_batches_per_step
        self._pool: WorkerPool | None = None
        if settings.workers:
            self._pool = WorkerPool(builder, self.plan.task, settings.workers, ahead, end)
            # The workers make packs ahead already; the thread only takes them over.
            self._prefetcher = Prefetcher(pinned(self._pool.packs), 1, end)
        else:
            source = made_by(lambda number: builder.build(self.plan.task(number)))
            self._prefetcher = Prefetcher(pinned(source), ahead, end)

    def step_batches(self, step: int) -> Iterator[MicroBatch]:
        """The micro-batches of one step for this rank, `settings.micro_batches_per_step` of them.

        Raises:
            DamagedDataError: a sample of the step cannot be used, and the policy is to stop; names shard and key.
            IndexError: the step is after the end of held-out data.
        """
        self.plan.check(step)
        self._meet_planned(step)
        first = step * self.settings.micro_batches_per_step
        for number in range(first, first + self.settings.micro_batches_per_step):
            built = self._prefetcher.take(number)
            if built.damages and self.settings.damage.policy == STOP:
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
    def data_wait_seconds(self) -> float:
        """Time that `step_batches` has made its caller wait, since the beginning."""
        return self._prefetcher.waited_seconds

    def close(self) -> None:
        """Stop reading ahead and end the workers. The loader stays usable."""
        self._prefetcher.close()
        if self._pool:
            self._pool.close()

    def _meet_planned(self, step: int) -> None:
        """Report the samples that planning dropped because their text cannot be read, once a window."""
        if self.settings.data_parallel_rank > 0:
            return
        for pack in self.plan.packs(step):
            if pack is not None and pack.window != self._reported_window:
                self._reported_window = pack.window
                plan = self.stream.plan(pack.window)
                draws = zip(
                    plan.draws.source[plan.dropped].tolist(),
                    plan.draws.sample[plan.dropped].tolist(),
                    strict=True,
                )
                found = (self.costs.texts[source].damaged.get(sample) for source, sample in draws)
                self._damages += [damage for damage in found if damage]


class PackedLoader(StepLoader):
    """Micro-batches for training, without end.

    Args:
        datasets: by name, e.g. of `data_engine.dataset.open_datasets`.
        mixture: which share of the draws each dataset gives, when.
        seed: decides the order of everything.
        order: how the samples of a dataset follow each other within an epoch.

    Raises:
        ConfigError: mixture and datasets, or shape and modes, do not fit together.
    """

    def __init__(
        self,
        datasets: Mapping[str, SampleReader],
        tokenizer: Tokenizer,
        settings: LoaderSettings,
        mixture: Mixture,
        seed: int,
        order: SampleOrder = GLOBAL_ORDER,
    ) -> None:
        draws = MixtureDraws(mixture, _sizes(datasets), seed, order)
        super().__init__(
            datasets, tokenizer, settings, draws, seed, [phase.modes for phase in mixture.phases]
        )
        self.identity = Identity.of(
            datasets, tokenizer, settings, self.costs.modes, draws.quotas, seed, order
        )
        """Everything that decides which sample comes when."""

    def state(self, next_step: int) -> dict[str, Any]:
        """JSON for the checkpoint after step `next_step - 1`; the same on every rank."""
        # Of the last pack consumed: the next one may lie in a window that cannot be planned, and saving must work then.
        last_pack = max(0, next_step * self.settings.packs_per_step - 1)
        window, first_pack = self.stream.anchor(last_pack)
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
        self.stream.set_anchor(restored.window, restored.first_pack)


class HeldOutLoader(StepLoader):
    """Every held-out sample once, in order.

    The packs are those of a window in the order of their making; the last step is filled up with empty
    micro-batches.

    Args:
        datasets: by name, e.g. of `data_engine.dataset.open_datasets`.

    Raises:
        ConfigError: none of the samples fits a micro-batch.
    """

    steps: int
    """How many steps that takes."""

    def __init__(
        self, datasets: Mapping[str, SampleReader], tokenizer: Tokenizer, settings: LoaderSettings
    ) -> None:
        draws = OnePassDraws(_sizes(datasets), HELD_OUT_WINDOW)
        super().__init__(datasets, tokenizer, settings, draws, seed=None)
        self.steps = self.plan.steps or 0
        if not self.steps:
            raise ConfigError(
                f"none of the held-out samples of {', '.join(draws.names)} fits a micro-batch of {settings.shape}; "
                "enlarge it or choose a smaller resolution mode."
            )


def _sizes(datasets: Mapping[str, SampleReader]) -> dict[str, int]:
    return {name: len(dataset) for name, dataset in datasets.items()}
