"""Checkpoints: tensors by full parameter name, in safetensors; everything else in one manifest.

    checkpoints/step_40/
        stage_S.safetensors    weight/NAME (fp32 master), exp_avg/NAME, exp_avg_sq/NAME; written by the stage's
                               first replica
        random_R.safetensors   random-number state of rank R
        manifest.json          written last: size and sha256 of every file, where every tensor is, the step, the
                               state of the reader and the guard, the model, the world it was written by
        pinned                 only in those that are never to be removed

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from data_engine.errors import ConfigError
from data_engine.files import sha256_of
from train.run_directory import RunDirectory

PINNED = "pinned"
"""An empty file of this name in a checkpoint: it is never removed."""
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
        """Steps done, those included that were left out; the next one has this number, counted from 0."""
        return self.manifest["step"]

    @property
    def optimizer_steps(self) -> int:
        """Steps that the optimizer has taken."""
        return self.manifest.get("optimizer_steps", self.step)

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
    """The newest whole checkpoint of a run; says which ones are damaged and passes over them.

    `latest` is for people and other programs: a run that was killed between renaming a checkpoint and replacing
    `latest` has a newer one.
    """
    steps = checkpoint_steps(run)
    if run.latest_file.is_file():
        latest = run.latest_file.read_text(encoding="utf-8").strip()
        if latest not in {f"step_{step}" for step in steps}:
            say(f"checkpoint {latest}, the latest, is missing; looking for the one before")
    damaged = None
    for step in reversed(steps):
        name = f"step_{step}"
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


def checkpoint_steps(run: RunDirectory) -> list[int]:
    """Steps of the run's checkpoints, damaged ones included, in order."""
    return sorted(int(path.name[5:]) for path in run.checkpoints.glob("step_*") if path.name[5:].isdigit())


def prune_checkpoints(run: RunDirectory, keep_last: int, keep_every: int, pinned: Sequence[int] = ()) -> None:
    """Remove old checkpoints. Rank 0 only, after a new one is complete."""
    for step in checkpoint_steps(run)[:-keep_last]:
        directory = run.checkpoints / f"step_{step}"
        if step in pinned or (directory / PINNED).exists() or (keep_every and step % keep_every == 0):
            continue
        doomed = run.checkpoints / f".step_{step}.old"
        # Renamed first: a half-removed directory must not be called step_N.
        os.replace(directory, doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def remove_remains(run: RunDirectory) -> None:
    """Remove what runs that were killed left half-written or half-removed. Rank 0 only, before any saving."""
    for pattern in (".step_*.tmp", ".step_*.old"):
        for path in run.checkpoints.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)
