"""What can be made in shards: rendered samples (`plan.Plan`) and data of the user's own (`imports.ImportJob`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from data_engine.sample import Sample
from data_engine.shards import FinishedShard, Skipped


class Job(Protocol):
    """A dataset as a row of shards, each a pure function of the job and its number. Can be sent to another process."""

    @property
    def kind(self) -> str: ...

    @property
    def seed(self) -> int: ...

    @property
    def directory(self) -> Path:
        """Where the dataset goes."""

    @property
    def shards(self) -> int:
        """How many there are."""

    def shard_name(self, number: int) -> str: ...

    def indices(self, number: int) -> range:
        """What a shard is made of, counted over the dataset: for the progress."""

    def configuration(self, number: int) -> dict[str, Any]:
        """All that decides the content of one shard, and nothing else (no path, no worker count)."""

    def manifest(self) -> dict[str, Any]:
        """What the manifest says beside the shards: options, versions and more."""

    def sample(self, number: int, index: int) -> Sample | Skipped:
        """What one index of a shard gives, as the shard holds it."""

    def make_shard(self, number: int) -> FinishedShard:
        """Write one shard: the same bytes from the same job and number, in any process, in any order."""


@dataclass(frozen=True)
class Share:
    """The shards of one of several independent runs: every `world`-th, from `rank` on."""

    rank: int = 0
    world: int = 1

    @property
    def is_whole(self) -> bool:
        return self.world == 1

    def of(self, shards: int) -> range:
        return range(self.rank, shards, self.world)
