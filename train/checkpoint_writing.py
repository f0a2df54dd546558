"""Writing the state of a run into a checkpoint. `train.checkpoint` says what is in one.

    begin    all ranks together: is there space, the directory, a copy of the state on the host
    write    each rank for itself, in the foreground or in a thread of its own: files, flushed to the disk, checksums
    finish   all ranks together: has every one written its part; rank 0 publishes by renaming

What is special here:
- `write` makes no collective call and touches nothing that training changes, so the next steps can go on beside it.
- What the manifest says is fixed in `begin`, too: the guard's record and the random numbers are those of that step.
- Whatever fails, all ranks learn it in the same call, nothing half-written stays, and old checkpoints are not touched.
"""

from __future__ import annotations

import copy
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from data_engine.files import atomic_write_json, atomic_write_text, sha256_of
from train.checkpoint import KIND, PINNED, SCHEMA
from train.collective import raise_together
from train.deepspeed_engine import DEEPSPEED_VERSION, TrainingEngine
from train.host_room import HostRoom
from train.optimizer import MOMENTS
from train.run_directory import RunDirectory

SMALL_FILES = 1 << 16
"""Bytes reckoned per rank for random numbers and notes."""

Table = dict[str, dict[str, Any]]
"""Name of a tensor -> what the manifest says of it."""


class CheckpointError(Exception):
    """A checkpoint could not be written; the older ones are as they were. The message is one sentence for the user."""


class CheckpointWriting:
    """The state after `step` steps on its way to the disk.

    Args:
        contents: what else the manifest says: optimizer_steps, loader (known on rank 0), guard, model, ...
        pin: mark the checkpoint as never to be removed.
    """

    def __init__(
        self,
        engine: TrainingEngine,
        run: RunDirectory,
        step: int,
        contents: dict[str, Any],
        pin: bool = False,
    ) -> None:
        self.step = step
        self._engine = engine
        self._run = run
        self._contents = copy.deepcopy(contents)  # the run goes on and changes its own
        self._pin = pin
        self._temporary = run.checkpoints / f".step_{step}.tmp"
        self._files: list[tuple[str, dict[str, Tensor], Table]] = []
        self._failure = ""

    def begin(self, room: Callable[[], HostRoom] | None = None) -> None:
        """Take a copy of the state (collective).

        Args:
            room: gives the room for it on a rank that writes tensors; needed if training goes on beside `write`.

        Raises:
            CheckpointError: on all ranks alike: there is no space, or no memory for the copy.
        """
        needed = checkpoint_bytes(self._engine)
        keep: HostRoom | None = None

        def prepare() -> None:
            nonlocal keep
            if self._engine.world.rank == 0:
                shutil.rmtree(self._temporary, ignore_errors=True)
                self._temporary.mkdir(parents=True)
                check_free_space(self._run.checkpoints, needed)
            if room and self._engine.replica == 0:
                keep = room()

        self._together(prepare)
        tensors, table = _stage_state(self._engine, keep.keep if keep else _on_host)
        if keep:
            keep.complete()
        if self._engine.replica == 0:
            self._files.append((f"stage_{self._engine.stage}.safetensors", tensors, table))
        self._files.append((f"random_{self._engine.world.rank}.safetensors", random_state(), {}))

    def write(self) -> None:
        """Write this rank's files; what goes wrong is told by `finish`."""
        files, self._files = self._files, []
        try:
            for name, tensors, table in files:
                _write(self._temporary, name, tensors, table)
        except (OSError, SafetensorError) as error:
            self._failure = self._sentence(error)

    def finish(self) -> Path:
        """Publish the checkpoint once this rank has written its part (collective); returns its directory.

        Raises:
            CheckpointError: on all ranks alike, with the sentence of the first rank that could not write.
        """
        self._agree(self._failure)

        def publish() -> None:
            if self._engine.world.rank == 0:
                self._publish()

        self._together(publish)
        return self._run.checkpoints / f"step_{self.step}"

    def _together(self, act: Callable[[], None]) -> None:
        """Do something on this rank; if any rank could not, undo everything on all."""
        failure = ""
        try:
            act()
        except (OSError, SafetensorError) as error:
            failure = self._sentence(error)
        self._agree(failure)

    def _agree(self, failure: str) -> None:
        try:
            raise_together(self._engine, failure, CheckpointError)
        except CheckpointError:
            if self._engine.world.rank == 0:
                shutil.rmtree(self._temporary, ignore_errors=True)
            raise

    def _sentence(self, error: OSError | SafetensorError) -> str:
        return f"checkpoint step_{self.step} cannot be written: {_reason(error)}"

    def _publish(self) -> None:
        files: dict[str, dict[str, Any]] = {}
        tensors: Table = {}
        for path in sorted(self._temporary.glob("*.note.json")):
            note = json.loads(path.read_text(encoding="utf-8"))
            files[note["file"]] = {"bytes": note["bytes"], "sha256": note["sha256"]}
            tensors |= note["tensors"]
            path.unlink()
        manifest = {
            "kind": KIND,
            "schema": SCHEMA,
            "step": self.step,
            "world": world_of(self._engine),
            "files": files,
            "tensors": tensors,
            "versions": {"torch": str(torch.__version__), "deepspeed": DEEPSPEED_VERSION},
            **self._contents,
        }
        if self._pin:
            (self._temporary / PINNED).touch()
        atomic_write_json(self._temporary / "manifest.json", manifest)
        target = self._run.checkpoints / f"step_{self.step}"
        shutil.rmtree(target, ignore_errors=True)  # a damaged one of the same step, passed over at the start
        os.replace(self._temporary, target)
        atomic_write_text(self._run.latest_file, target.name + "\n")


def tensor_sizes(engine: TrainingEngine) -> list[int]:
    """Bytes of every tensor that this rank writes into a checkpoint."""
    if engine.replica != 0:
        return []
    sizes = []
    for _, parameter in engine.named_parameters():
        if parameter.requires_grad:
            sizes += [4 * parameter.numel()] * (1 + len(MOMENTS))
        else:
            sizes.append(parameter.nbytes)
    return sizes


def checkpoint_bytes(engine: TrainingEngine) -> int:
    """Size of a checkpoint of this run, all stages together (collective)."""
    mine = sum(tensor_sizes(engine)) + SMALL_FILES
    total = torch.tensor([mine], dtype=torch.int64, device=engine.device)
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


def world_of(engine: TrainingEngine) -> dict[str, int]:
    """What a checkpoint says of the processes that wrote it."""
    return {
        "pipeline_stages": engine.world.pipeline_stages,
        "data_parallel_size": engine.world.data_parallel_size,
    }


def random_state() -> dict[str, Tensor]:
    """torch's random-number state of this process."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _stage_state(engine: TrainingEngine, keep: Callable[[Tensor], Tensor]) -> tuple[dict[str, Tensor], Table]:
    """Tensors of this stage on the host, and what the manifest says of them. All replicas take part.

    Args:
        keep: takes a tensor to the host; asked on the first replica alone.
    """
    tensors: dict[str, Tensor] = {}
    table: Table = {}
    writes = engine.replica == 0
    for name, parameter in engine.named_parameters():
        for kind in ("weight", *(MOMENTS if parameter.requires_grad else ())):
            # One after the other: each is gathered whole on the device.
            tensor = engine.master(parameter) if kind == "weight" else engine.moment(parameter, kind)
            if writes:
                tensors[f"{kind}/{name}"] = keep(tensor)
        table[name] = {
            "file": f"stage_{engine.stage}.safetensors",
            "shape": list(parameter.shape),
            "trainable": parameter.requires_grad,
        }
    return tensors, table


def _on_host(tensor: Tensor) -> Tensor:
    return tensor.cpu().contiguous()


def _write(directory: Path, name: str, tensors: dict[str, Tensor], table: Table) -> None:
    """One file and a note about it for rank 0, which makes the manifest of all notes."""
    path = directory / name
    save_file(tensors, path, metadata={"format": "pt"})
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    note = {"file": name, "bytes": path.stat().st_size, "sha256": sha256_of(path), "tensors": table}
    atomic_write_json(directory / f"{name}.note.json", note)


def _reason(error: OSError | SafetensorError) -> str:
    """A full disk says so in words, whoever reports it."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    text = str(error)  # safetensors' own error has the system's number in its text
    number = text.partition("os error ")[2].partition(")")[0]
    return os.strerror(int(number)) if number.isdigit() else text
