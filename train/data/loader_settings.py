"""What a loader is asked for besides its data: sizes, this rank's place, how far ahead, what becomes of bad samples."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from data_engine.errors import ConfigError
from train.data.damage import DamagePolicy
from train.data.micro_batch import MicroBatchShape
from train.data.modes import ModeChoices
from train.data.splitting import DROP


@dataclass(frozen=True, kw_only=True)
class LoaderSettings:
    """Settings that the loaders of training and of held-out data share.

    Raises:
        ConfigError: a number is out of its range, or an image of some mode could never be packed.
    """

    modes: ModeChoices
    """Task -> resolution mode or shares of modes; the key "default" serves all other tasks."""
    shape: MicroBatchShape
    """Budgets of every micro-batch."""
    micro_batches_per_step: int
    """Per data-parallel rank."""
    data_parallel_size: int = 1
    data_parallel_rank: int = 0
    prefetch: int = 2
    """Steps that are made ahead; 0 makes them when they are asked for."""
    workers: int = 0
    """Processes that build packs; 0: the thread that reads ahead builds them itself."""
    lengths_cache: str | os.PathLike[str] | None = None
    """Directory where `data_report` has left the measured lengths; they are measured anew, window by window, where it
    has not."""
    too_long: str = DROP
    """What becomes of texts without images that exceed the budget: `drop` or `split`."""
    damage: DamagePolicy = field(default_factory=DamagePolicy)
    """What becomes of samples that cannot be used; by default the run stops."""

    def __post_init__(self) -> None:
        for name, value in (
            ("micro_batches", self.micro_batches_per_step),
            ("the data-parallel size", self.data_parallel_size),
            ("prefetch", self.prefetch + 1),
        ):
            if value < 1:
                raise ConfigError(f"{name} is {value}; it must be positive.")
        if not 0 <= self.data_parallel_rank < self.data_parallel_size:
            raise ConfigError(
                f"data-parallel rank {self.data_parallel_rank} is outside a data-parallel size of "
                f"{self.data_parallel_size}."
            )
        if self.workers and not self.prefetch:
            raise ConfigError(f"workers={self.workers} build packs ahead; set prefetch to at least 1 step.")
        self.shape.check(self.modes)

    @property
    def packs_per_step(self) -> int:
        """Over all data-parallel ranks."""
        return self.micro_batches_per_step * self.data_parallel_size
