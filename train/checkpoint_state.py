"""Writing the state of a run into a checkpoint, and taking it up again. `train.checkpoint` says what is in one.

Every function here is collective: all ranks call it together, and all of them learn whether it succeeded.
"""

from __future__ import annotations

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
from train.checkpoint import KIND, SCHEMA, Checkpoint, find_checkpoint
from train.deepspeed_engine import DEEPSPEED_VERSION, TrainingEngine
from train.optimizer import MOMENTS
from train.run_directory import RunDirectory

LONGEST_TEXT = 4096


def decided_by_rank_0(engine: TrainingEngine, decide: Callable[[], str]) -> str:
    """A short text, such as a path, that rank 0 finds out and all ranks receive (collective)."""
    buffer = torch.zeros(LONGEST_TEXT, dtype=torch.uint8, device=engine.device)
    if engine.world.rank == 0:
        text = decide().encode("utf-8")
        if len(text) > LONGEST_TEXT:
            raise ConfigError(f"'{text.decode('utf-8')[:80]}...' is too long; use a shorter path.")
        buffer[: len(text)] = torch.tensor(list(text), dtype=torch.uint8)
    dist.broadcast(buffer, src=0)
    return bytes(buffer.tolist()).rstrip(b"\0").decode("utf-8")


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
    engine: TrainingEngine,
    run: RunDirectory,
    step: int,
    loader_state: dict[str, Any] | None,
    about: dict[str, Any],
) -> Path:
    """Write the state after `step` optimizer steps (collective).

    Args:
        loader_state: the reader's state; known on rank 0, None elsewhere.
        about: what else the manifest should say (model, architecture, configuration).

    Raises:
        OSError: this rank could not write, e.g. no space left; nothing half-written stays under a final name.
        ConfigError: another rank could not.
    """
    rank = engine.world.rank
    temporary = run.checkpoints / f".step_{step}.tmp"
    if rank == 0:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    dist.barrier()
    tensors, table = _stage_state(engine)
    failure: OSError | None = None
    try:
        if engine.replica == 0:
            _write(temporary, f"stage_{engine.stage}.safetensors", tensors, table)
        _write(temporary, f"random_{rank}.safetensors", _random_state(), {})
    except (OSError, SafetensorError) as error:
        failure = error if isinstance(error, OSError) else OSError(*_os_error(error))
    del tensors
    if not _all_succeeded(engine, failure is None):
        if rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)
        raise failure or ConfigError(f"checkpoint step_{step} could not be written by another rank.")
    if rank == 0:
        try:
            _publish(engine, run, temporary, step, loader_state, about)
        except OSError as error:
            failure = error
            shutil.rmtree(temporary, ignore_errors=True)
    if not _all_succeeded(engine, failure is None):
        raise failure or ConfigError(f"checkpoint step_{step} could not be finished by rank 0.")
    return run.checkpoints / f"step_{step}"


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
    engine.finish_loading(checkpoint.step)
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
    loader_state: dict[str, Any] | None,
    about: dict[str, Any],
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
        "loader": loader_state,
        "files": files,
        "tensors": tensors,
        "versions": {"torch": str(torch.__version__), "deepspeed": DEEPSPEED_VERSION},
        **about,
    }
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


def _all_succeeded(engine: TrainingEngine, mine: bool) -> bool:
    flag = torch.tensor([int(mine)], dtype=torch.int32, device=engine.device)
    dist.all_reduce(flag, op=dist.ReduceOp.MIN)
    return bool(flag.item())


def _os_error(error: SafetensorError) -> tuple[int, str]:
    """safetensors reports a full disk as its own error with the number in the text."""
    text = str(error)
    number = int(text.partition("os error ")[2].partition(")")[0]) if "os error " in text else 5
    return number, text


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
