"""Finding the checkpoint that a run goes on from, and taking it up, whatever cut wrote it.

Both functions are collective: all ranks call them together.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open

from data_engine.errors import ConfigError
from train.checkpoint import Checkpoint, find_checkpoint
from train.checkpoint_writing import world_of
from train.collective import decided_by_rank_0
from train.deepspeed_engine import TrainingEngine
from train.optimizer import MOMENTS
from train.run_directory import RunDirectory


def shared_checkpoint(
    engine: TrainingEngine, run: RunDirectory, say: Callable[[str], None]
) -> Checkpoint | None:
    """The newest whole checkpoint of a run; rank 0 reads and checks the files for all."""

    def newest() -> str:
        checkpoint = find_checkpoint(run, say)
        return checkpoint.directory.name if checkpoint else ""

    name = decided_by_rank_0(engine, newest)
    return Checkpoint.trust(run.checkpoints / name) if name else None


def load_checkpoint(engine: TrainingEngine, checkpoint: Checkpoint) -> None:
    """Take up weights, moments, optimizer steps and random numbers, whatever cut wrote them (collective).

    Raises:
        ConfigError: the checkpoint is of another model.
    """
    parameters = dict(engine.named_parameters())
    missing = sorted(parameters.keys() - checkpoint.names)
    if missing:
        raise ConfigError(
            f"'{checkpoint.directory}' is of another model: it lacks {missing[0]}"
            + (f" and {len(missing) - 1} more tensors." if len(missing) > 1 else ".")
        )
    wanted = {
        name: ["weight", *(MOMENTS if p.requires_grad and checkpoint.has_moments(name) else ())]
        for name, p in parameters.items()
    }
    for kind, name, tensor in checkpoint.read(wanted):
        parameter = parameters[name]
        if tensor.shape != parameter.shape:
            raise ConfigError(
                f"'{checkpoint.directory}' is of another model: {name} is {list(tensor.shape)} there and "
                f"{list(parameter.shape)} here."
            )
        if kind == "weight":
            engine.set_master(parameter, tensor)
        else:
            engine.set_moment(parameter, kind, tensor)
    engine.finish_loading(checkpoint.optimizer_steps)
    world = checkpoint.manifest["world"]
    if world == world_of(engine):
        _restore_random_state(checkpoint.directory / f"random_{engine.world.rank}.safetensors")


def _restore_random_state(path: Path) -> None:
    with safe_open(path, framework="pt") as handle:
        torch.set_rng_state(handle.get_tensor("cpu"))
        if torch.cuda.is_available() and "cuda" in handle.keys():  # noqa: SIM118 - safe_open is no mapping
            torch.cuda.set_rng_state(handle.get_tensor("cuda"))
