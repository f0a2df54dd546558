"""Checkpoints: tensors by full parameter name, in safetensors; everything else in one manifest.

    checkpoints/step_40/
        stage_S.safetensors    weight/NAME (fp32 master), exp_avg/NAME, exp_avg_sq/NAME; written by the stage's
                               first replica
        random_R.safetensors   random-number state of rank R
        manifest.json          written last: size and sha256 of every file, where every tensor is, the step, the
                               reader's state, the model, the world it was written by

What is special here:
- A checkpoint is written under another name and renamed when every rank has finished and the manifest is on the
  disk; then `latest` is replaced. A directory called step_N is whole, or was damaged later, which is noticed.
- Names do not depend on the cut: any number of stages and replicas can load what any other has written.
- Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from data_engine.errors import ConfigError
from data_engine.files import atomic_write_json, atomic_write_text, sha256_of
from train.deepspeed_engine import MOMENTS, TrainingEngine
from train.run_directory import RunDirectory

KIND = "deepseek-ocr training checkpoint"
SCHEMA = 1


class DamagedCheckpointError(Exception):
    """A checkpoint whose files are not what its manifest says."""


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: its directory and manifest."""

    directory: Path
    manifest: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps taken; the next one has this number."""
        return self.manifest["step"]

    @classmethod
    def open(cls, directory: Path) -> Checkpoint:
        """Read and check a checkpoint directory.

        Raises:
            ConfigError: it is not one of ours.
            DamagedCheckpointError: a file is missing, has another size, or another sha256.
        """
        path = directory / "manifest.json"
        if not path.is_file():
            raise ConfigError(f"'{directory}' is not a checkpoint of this project: it has no manifest.json.")
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DamagedCheckpointError(f"manifest.json is damaged ({error})") from error
        if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
            raise ConfigError(
                f"'{directory}' is not a checkpoint of this project: its manifest is of another kind."
            )
        if manifest.get("schema") != SCHEMA:
            raise ConfigError(
                f"'{directory}' has checkpoint schema {manifest.get('schema')}, this version reads {SCHEMA}."
            )
        for name, record in manifest["files"].items():
            file = directory / name
            if not file.is_file():
                raise DamagedCheckpointError(f"{name} is missing")
            if file.stat().st_size != record["bytes"]:
                raise DamagedCheckpointError(
                    f"{name} has {file.stat().st_size} bytes instead of {record['bytes']}"
                )
            if sha256_of(file) != record["sha256"]:
                raise DamagedCheckpointError(f"the content of {name} has changed since it was written")
        return cls(directory, manifest)

    @classmethod
    def trust(cls, directory: Path) -> Checkpoint:
        """A checkpoint that another rank has opened and checked."""
        return cls(directory, json.loads((directory / "manifest.json").read_text(encoding="utf-8")))

    @property
    def names(self) -> set[str]:
        return set(self.manifest["tensors"])

    def read(self, wanted: dict[str, list[str]]) -> Iterator[tuple[str, str, Tensor]]:
        """(kind, name, tensor) for the wanted kinds (weight, exp_avg, exp_avg_sq) of each named parameter."""
        by_file: dict[str, list[str]] = {}
        for name in wanted:
            by_file.setdefault(self.manifest["tensors"][name]["file"], []).append(name)
        for file, names in by_file.items():
            try:
                with safe_open(self.directory / file, framework="pt") as handle:
                    for name in names:
                        for kind in wanted[name]:
                            yield kind, name, handle.get_tensor(f"{kind}/{name}")
            except SafetensorError as error:
                raise ConfigError(f"'{self.directory / file}' cannot be read: {error}.") from error

    def has_moments(self, name: str) -> bool:
        return self.manifest["tensors"][name]["trainable"]


def find_checkpoint(run: RunDirectory, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole checkpoint of a run, `latest` first; says which ones are damaged and passes over them."""
    names = [path.name for path in run.checkpoints.glob("step_*") if path.name[5:].isdigit()]
    names.sort(key=lambda name: int(name[5:]), reverse=True)
    if run.latest_file.is_file():
        latest = run.latest_file.read_text(encoding="utf-8").strip()
        names.sort(key=lambda name: name != latest)
        if latest not in names:
            say(f"checkpoint {latest}, the latest, is missing; looking for the one before")
    damaged = None
    for name in names:
        try:
            checkpoint = Checkpoint.open(run.checkpoints / name)
        except DamagedCheckpointError as error:
            damaged = name
            say(f"checkpoint {name} is damaged and not used: {error}")
            continue
        if damaged:
            say(f"using checkpoint {name} instead of {damaged}")
        return checkpoint
    return None


def shared_checkpoint(
    engine: TrainingEngine, run: RunDirectory, say: Callable[[str], None]
) -> Checkpoint | None:
    """`find_checkpoint` done by rank 0 for all (collective)."""
    found = torch.full((1,), -1, dtype=torch.int64, device=engine.device)
    if engine.world.rank == 0:
        checkpoint = find_checkpoint(run, say)
        if checkpoint is not None:
            found.fill_(checkpoint.step)
    dist.broadcast(found, src=0)
    step = int(found.item())
    return None if step < 0 else Checkpoint.trust(run.checkpoints / f"step_{step}")


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


def prune_checkpoints(run: RunDirectory, keep_last: int, keep_every: int) -> None:
    """Remove old checkpoints. Rank 0 only, after a new one is complete."""
    steps = sorted(int(path.name[5:]) for path in run.checkpoints.glob("step_*") if path.name[5:].isdigit())
    for step in steps[:-keep_last]:
        if keep_every and step % keep_every == 0:
            continue
        doomed = run.checkpoints / f".step_{step}.old"
        # Renamed first: a half-removed directory must not be called step_N.
        os.replace(run.checkpoints / f"step_{step}", doomed)
        shutil.rmtree(doomed, ignore_errors=True)


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
        "versions": {"torch": str(torch.__version__), "deepspeed": deepspeed.__version__},
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
