"""The directory of a run: what lies where, whom it belongs to, and that only one run works in it at a time.

    config.yaml         the resolved configuration
    metrics.jsonl       one JSON object per logged step
    log.txt             the lines of the terminal
    stage_table.json    the pipeline's stages
    tokenizer/          the tokenizer's files, so that the run can be exported without anything else
    checkpoints/step_N/ see `train.checkpoint`
    latest              name of the newest checkpoint
    broken_steps.jsonl  spikes and losses that were not finite, with their samples
    quarantine-*.jsonl  damaged samples that were left out, see `train.data.damage`
    control/            a file `stop`, `save` or `pin` in it asks the run to do so; `stopped`: it did, before its end
    heartbeat/, stacks/ signs of life of every process, see `train.watch`
    profile/            what torch's profiler recorded
    report/             plots; data.json of `data_report=true`, which may be there before the run is
    .lock               who is at work here, see `train.run_lock`

Only rank 0 writes here, except for files that name a rank or a stage.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from data_engine.errors import ConfigError
from data_engine.files import atomic_write_text
from model.tokenizer import Tokenizer
from train.config import TrainConfig
from train.run_lock import RunLock

REQUESTS = ("stop", "save", "pin")
"""Names of files in `control/` by which somebody asks for something, see `train.control`."""
STOPPED = "stopped"
"""Name of the file there that says: left before the last step, as asked. Removed when the run goes on."""

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")

# What may differ when a run is taken up again: none of it changes which numbers come out of a step, or the
# checkpoint and the loader check it themselves (data and tokenizer by fingerprint, packs per step).
_MAY_DIFFER = (
    "data", "run", "tokenizer", "init", "out", "steps", "micro_batches", "parallel", "checkpoint", "logging",
    "prefetch", "workers", "damage", "timeout", "watchdog", "guard", "skip_steps", "profile",
    "export", "plan", "data_report", "data_parallel",
    "vocab_size", "mixture", "evaluate", "checkpoint_activations", "compile", "gpu", "gpu_teraflops", "gpu_memory",
    "efficiency", "corpus_tokens", "tokens_per_day",
)  # fmt: skip


class RunDirectory:
    """Paths of a run, and its lock."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.metrics_file = self.path / "metrics.jsonl"
        self.log_file = self.path / "log.txt"
        self.stage_table_file = self.path / "stage_table.json"
        self.tokenizer = self.path / "tokenizer"
        self.checkpoints = self.path / "checkpoints"
        self.latest_file = self.path / "latest"
        self.broken_steps_file = self.path / "broken_steps.jsonl"
        self.control = self.path / "control"
        self.plot_file = self.path / "report" / "training.svg"
        self.data_report_file = self.path / "report" / "data.json"
        self.lock = RunLock(self.path / ".lock", self.control)

    def read_config(self) -> dict[str, Any]:
        """The configuration that the run was started with.

        Raises:
            ConfigError: this is no run directory.
        """
        if not self.config_file.is_file():
            raise ConfigError(f"'{self.path}' is not a run directory: it has no config.yaml.")
        try:
            config = yaml.safe_load(self.config_file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"'{self.config_file}' cannot be read as YAML: {error}.") from error
        if not isinstance(config, dict):
            raise ConfigError(f"'{self.config_file}' does not hold the configuration of a run.")
        return config

    def check_belongs_to(self, config: TrainConfig) -> None:
        """Refuse a directory that holds something else, or a run of another configuration."""
        if not self.path.exists() or (self.path.is_dir() and not _visible(self.path)):
            return
        if not self.path.is_dir():
            raise ConfigError(f"run={self.path} is a file; give a directory.")
        # A key that did not exist when the run began had its default.
        before = _identity(dataclasses.asdict(TrainConfig())) | _identity(self.read_config())
        now = _identity(dataclasses.asdict(config))
        changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        if changed:
            key = changed[0]
            more = f" (and {len(changed) - 1} more: {', '.join(changed[1:])})" if len(changed) > 1 else ""
            raise ConfigError(
                f"run={self.path} was started with {key}={before.get(key)}, not {now.get(key)}{more}; repeat the old "
                "values to go on, or give another run directory."
            )

    def occupy(self, config: TrainConfig, tokenizer: Tokenizer | None) -> None:
        """Make the directory ours until this process ends, and write what describes the run. Rank 0 only.

        Raises:
            ConfigError: another run is at work in it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock.take()
        self.checkpoints.mkdir(exist_ok=True)
        self.control.mkdir(exist_ok=True)
        for name in (*REQUESTS, STOPPED):
            (self.control / name).unlink(missing_ok=True)
        text = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)
        atomic_write_text(self.config_file, text)
        if tokenizer is not None:
            self._keep_tokenizer(config, tokenizer)

    def _keep_tokenizer(self, config: TrainConfig, tokenizer: Tokenizer) -> None:
        if (self.tokenizer / "tokenizer.json").is_file():
            kept = Tokenizer.from_directory(self.tokenizer)
            if kept.fingerprint != tokenizer.fingerprint:
                raise ConfigError(
                    f"run={self.path} was started with another tokenizer than {config.tokenizer}; give that one "
                    f"(a copy is {self.tokenizer}), or another run directory."
                )
            return
        self.tokenizer.mkdir(exist_ok=True)
        # tokenizer.json last: it says that the others are there.
        for name in reversed(TOKENIZER_FILES):
            source = Path(config.tokenizer) / name
            if source.is_file():
                shutil.copyfile(source, self.tokenizer / f"{name}.tmp")
                os.replace(self.tokenizer / f"{name}.tmp", self.tokenizer / name)


def _visible(directory: Path) -> list[str]:
    return [e.name for e in directory.iterdir() if not e.name.startswith(".") and e.name != "report"]


def _identity(config: dict[str, Any]) -> dict[str, Any]:
    """The keys that make a run what it is, flat: `optimizer.learning_rate` and so on."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key in _MAY_DIFFER:
            continue
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": item for inner, item in value.items()}
        else:
            flat[key] = value
    return flat
