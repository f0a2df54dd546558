"""Writing the state of a run into a checkpoint, and taking it up again. `train.checkpoint` says what is in one.

Every function here is collective: all ranks call it together, and all of them learn whether it succeeded.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from data_engine.errors import ConfigError
from data_engine.files import atomic_write_json, atomic_write_text, sha256_of
from train.checkpoint import KIND, PINNED, SCHEMA, Checkpoint, find_checkpoint
from train.collective import decided_by_rank_0, raise_together
from train.deepspeed_engine import DEEPSPEED_VERSION, TrainingEngine
from train.optimizer import MOMENTS
from train.run_directory import RunDirectory

SMALL_FILES = 1 << 16
"""Bytes reckoned per rank for random numbers and notes."""


class CheckpointError(Exception):
    """A checkpoint could not be written; the older ones are as they were. The message is one sentence for the user."""


def shared_checkpoint(
    engine: TrainingEngine, run: RunDirectory, say: Callable[[str], None]
) -> Checkpoint | None:
    """The newest whole checkpoint of a run; rank 0 reads and checks the files for all."""

    def newest() -> str:
        checkpoint = find_checkpoint(run, say)
        return checkpoint.directory.name if checkpoint else ""

    name = decided_by_rank_0(engine, newest)
    return Checkpoint.trust(run.checkpoints / name) if name else None


def save_checkpoint(
    engine: TrainingEngine, run: RunDirectory, step: int, contents: dict[str, Any], pin: bool = False
) -> Path:
    """Write the state after `step` steps (collective). Nothing half-written stays, and old checkpoints are not touched.

    Args:
        contents: what else the manifest says: optimizer_steps, loader (known on rank 0), guard, model, ...
        pin: mark it as never to be removed.

    Raises:
        CheckpointError: on all ranks alike, with the sentence of the first rank that could not write.
    """
    rank = engine.world.rank
    temporary = run.checkpoints / f".step_{step}.tmp"

    def together(act: Callable[[], None]) -> None:
        """Do something on this rank; if any rank could not, undo everything on all."""
        failure = ""
        try:
            act()
        except (OSError, SafetensorError) as error:
            failure = f"checkpoint step_{step} cannot be written: {_reason(error)}"
        try:
            raise_together(engine, failure, CheckpointError)
        except CheckpointError:
            if rank == 0:
                shutil.rmtree(temporary, ignore_errors=True)
            raise

    def begin() -> None:
        if rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            check_free_space(run.checkpoints, needed)

    def write() -> None:
        if engine.replica == 0:
            _write(temporary, f"stage_{engine.stage}.safetensors", tensors, table)
        _write(temporary, f"random_{rank}.safetensors", _random_state(), {})

    def finish() -> None:
        if rank == 0:
            _publish(engine, run, temporary, step, contents, pin)

    needed = checkpoint_bytes(engine)
    together(begin)
    tensors, table = _stage_state(engine)
    together(write)
    together(finish)
    return run.checkpoints / f"step_{step}"


def checkpoint_bytes(engine: TrainingEngine) -> int:
    """Size of a checkpoint of this run, all stages together (collective)."""
    mine = 0
    if engine.replica == 0:
        for _, parameter in engine.named_parameters():
            kinds = 1 + len(MOMENTS) if parameter.requires_grad else 1
            mine += kinds * parameter.numel() * (4 if parameter.requires_grad else parameter.element_size())
    total = torch.tensor([mine + SMALL_FILES], dtype=torch.int64, device=engine.device)
    dist.all_reduce(total)
    return int(total)


def check_free_space(directory: Path, needed: int) -> None:
    """OSError with the arithmetic unless `needed` bytes fit on the file system of `directory`."""
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"no space left: it takes {needed / 2**20:,.1f} MiB (weights and two moments, 4 bytes each) and "
            f"{directory} has {free / 2**20:,.1f} MiB free, {(needed - free) / 2**20:,.1f} MiB too few; free some, or "
            "set checkpoint.keep_last lower",
        )


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
    if world == _world(engine):
        _restore_random_state(checkpoint.directory / f"random_{engine.world.rank}.safetensors")


def _stage_state(engine: TrainingEngine) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """Tensors of this stage on the host, and what the manifest says of them. All replicas take part."""
    tensors: dict[str, Tensor] = {}
    table: dict[str, dict[str, Any]] = {}
    writes = engine.replica == 0
    for name, parameter in engine.named_parameters():
        kinds = {"weight": engine.master(parameter)}
        if parameter.requires_grad:
            kinds |= {moment: engine.moment(parameter, moment) for moment in MOMENTS}
        if writes:
            tensors |= {f"{kind}/{name}": tensor.cpu().contiguous() for kind, tensor in kinds.items()}
        table[name] = {
            "file": f"stage_{engine.stage}.safetensors",
            "shape": list(parameter.shape),
            "trainable": parameter.requires_grad,
        }
    return tensors, table


def _write(directory: Path, name: str, tensors: dict[str, Tensor], table: dict[str, dict[str, Any]]) -> None:
    """One file and a note about it for rank 0, which makes the manifest of all notes."""
    path = directory / name
    save_file(tensors, path, metadata={"format": "pt"})
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    note = {"file": name, "bytes": path.stat().st_size, "sha256": sha256_of(path), "tensors": table}
    atomic_write_json(directory / f"{name}.note.json", note)


def _publish(
    engine: TrainingEngine,
    run: RunDirectory,
    temporary: Path,
    step: int,
    contents: dict[str, Any],
    pin: bool,
) -> None:
    files: dict[str, dict[str, Any]] = {}
    tensors: dict[str, dict[str, Any]] = {}
    for path in sorted(temporary.glob("*.note.json")):
        note = json.loads(path.read_text(encoding="utf-8"))
        files[note["file"]] = {"bytes": note["bytes"], "sha256": note["sha256"]}
        tensors |= note["tensors"]
        path.unlink()
    manifest = {
        "kind": KIND,
        "schema": SCHEMA,
        "step": step,
        "world": _world(engine),
        "files": files,
        "tensors": tensors,
        "versions": {"torch": str(torch.__version__), "deepspeed": DEEPSPEED_VERSION},
        **contents,
    }
    if pin:
        (temporary / PINNED).touch()
    atomic_write_json(temporary / "manifest.json", manifest)
    target = run.checkpoints / f"step_{step}"
    shutil.rmtree(target, ignore_errors=True)  # a damaged one of the same step, passed over at the start
    os.replace(temporary, target)
    atomic_write_text(run.latest_file, target.name + "\n")


def _world(engine: TrainingEngine) -> dict[str, int]:
    return {
        "pipeline_stages": engine.world.pipeline_stages,
        "data_parallel_size": engine.world.data_parallel_size,
    }


def _reason(error: OSError | SafetensorError) -> str:
    """A full disk says so in words, whoever reports it."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    text = str(error)  # safetensors' own error has the system's number in its text
    number = text.partition("os error ")[2].partition(")")[0]
    return os.strerror(int(number)) if number.isdigit() else text


def _random_state() -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _restore_random_state(path: Path) -> None:
    with safe_open(path, framework="pt") as handle:
        torch.set_rng_state(handle.get_tensor("cpu"))
        if torch.cuda.is_available() and "cuda" in handle.keys():  # noqa: SIM118 - safe_open is no mapping
            torch.cuda.set_rng_state(handle.get_tensor("cuda"))
