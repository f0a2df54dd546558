"""Which of several independent runs this one is: from the command, or from what launched it.

rank=3 world=16                          given
RANK, WORLD_SIZE                         torchrun
SLURM_ARRAY_TASK_ID                      sbatch --array (numbered from its least, by its step)
SLURM_PROCID, SLURM_NTASKS               srun
JOB_COMPLETION_INDEX, and world=         an indexed job of Kubernetes, which does not say of how many
"""

from __future__ import annotations

from collections.abc import Mapping

from data_engine.errors import ConfigError, in_range
from data_engine.job import Share


def share_of(rank: int | None, world: int | None, environment: Mapping[str, str]) -> Share:
    """The share of this run. ConfigError when it cannot be told or does not exist."""
    if rank is None:
        rank, known_world = _from_launcher(environment)
        if world is not None and known_world is not None and world != known_world:
            raise ConfigError(
                f"world={world} is not possible: the launcher says {known_world}; give that number."
            )
        world = known_world if world is None else world
    if world is None:
        raise ConfigError("world is required: give world=N, the number of runs that share the work.")
    in_range("world", world, 1, 10**6)
    in_range("rank", rank, 0, world - 1)
    return Share(rank, world)


def _from_launcher(environment: Mapping[str, str]) -> tuple[int, int | None]:
    def number(name: str, default: int | None = None) -> int:
        text = environment.get(name)
        if text is None and default is not None:
            return default
        if text is None or not text.isascii() or not text.isdigit():
            raise ConfigError(f"the environment's {name}={text or ''} is no number: give rank=R world=N.")
        return int(text)

    if "RANK" in environment and "WORLD_SIZE" in environment:
        return number("RANK"), number("WORLD_SIZE")
    if "SLURM_ARRAY_TASK_ID" in environment:
        first, step = number("SLURM_ARRAY_TASK_MIN", 0), number("SLURM_ARRAY_TASK_STEP", 1)
        return (number("SLURM_ARRAY_TASK_ID") - first) // step, number("SLURM_ARRAY_TASK_COUNT")
    if "SLURM_PROCID" in environment:
        return number("SLURM_PROCID"), number("SLURM_NTASKS")
    if "JOB_COMPLETION_INDEX" in environment:
        return number("JOB_COMPLETION_INDEX"), None
    raise ConfigError(
        "sharing the work needs rank=R world=N, or a launcher that says them: torchrun, srun, sbatch --array, or an "
        "indexed job of Kubernetes with world=N."
    )
