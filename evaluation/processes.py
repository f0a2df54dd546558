"""Which of several processes that predict together this one is, and which questions are its own.

torchrun says both by itself. Under srun, sbatch --array and Kubernetes world=N asks for it: a job array there may
as well be one evaluation per task, and a part of the samples must never be taken for all of them. The processes
never talk to each other: what each has to do follows from its number, what is done from the files (`parts`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from data_engine.command_line import ConfigError
from data_engine.job import Share
from data_engine.ranks import share_of

T = TypeVar("T")


@dataclass(frozen=True)
class Process:
    """One of `share.world` processes; alone by default."""

    share: Share = field(default_factory=Share)
    local_rank: int = 0
    """Its number on its machine, from 0: which GPU is its own."""

    @property
    def name(self) -> str:
        """ "rank 1 of 3", and "" for a process alone."""
        return "" if self.share.is_whole else f"rank {self.share.rank} of {self.share.world}"


def this_process(rank: int | None, world: int | None, environment: Mapping[str, str]) -> Process:
    """The process that the keys rank= and world= and the launcher's variables describe.

    Raises:
        ConfigError: a number is missing, is none, or is not below its world.
    """
    torchrun = "RANK" in environment and "WORLD_SIZE" in environment
    if rank is None and world is None and not torchrun:
        return Process()
    share = share_of(rank, world, environment)
    local = environment.get("LOCAL_RANK", environment.get("SLURM_LOCALID", "0"))
    if not (local.isascii() and local.isdigit()):
        raise ConfigError(f"LOCAL_RANK={local} is not possible: give this process's number on its machine.")
    return Process(share, int(local))


def own(questions: Sequence[T], share: Share) -> list[T]:
    """The questions of one process, in their order: every question belongs to exactly one of `share.world`.

    They are dealt in a random order that the number of processes seeds. So the shares are equal in number, a
    pattern in the data (every fourth page a long one) is nobody's burden, and what a killed run of another number of
    processes has left over is spread over all of these.
    """
    order = list(range(len(questions)))
    random.Random(f"questions of {share.world} processes").shuffle(order)
    return [questions[place] for place in sorted(order[i] for i in share.of(len(order)))]
