"""Sending metrics to Weights & Biases without ever being in the way.

A process of its own imports wandb, starts the run and sends (`train.wandb_process`); the training loop only puts
metrics into a queue. What goes wrong there ends the sending and nothing else: wandb's own exit handlers can hold a
process up for minutes when the server is gone, and here they hold up a process that is killed when patience ends.
`offline` (the default) needs neither account nor network: the files lie in RUN/wandb, and `wandb sync` sends them
later. The same run directory is the same wandb run.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Protocol

from data_engine.files import atomic_write_text
from train.config import TrainConfig
from train.run_directory import RunDirectory

LONGEST_QUEUE = 10_000
"""Log lines that may wait; more are dropped."""
PATIENCE = 20.0
"""Seconds that the end of a run waits for what is still to be sent."""

Metrics = Mapping[str, Any]


class Tracker(Protocol):
    """A service that metrics are sent to."""

    def log(self, metrics: Metrics) -> None: ...

    def close(self) -> None: ...


class NoTracker:
    """Nothing is sent anywhere."""

    def log(self, metrics: Metrics) -> None:
        return

    def close(self) -> None:
        return


class WandbTracker:
    """Sends from its own process.

    Args:
        say: told, once, if the sending ends early.
    """

    def __init__(self, config: TrainConfig, run: RunDirectory, say: Callable[[str], None]) -> None:
        self._waiting: queue.Queue[Metrics | None] = queue.Queue(LONGEST_QUEUE)
        self._say = say
        self._process = subprocess.Popen(
            [sys.executable, "-m", "train.wandb_process", json.dumps(_options(config, run))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True,  # Ctrl-C is for the run, which then ends this one in good order
        )  # fmt: skip
        self._threads = [
            threading.Thread(target=act, name="wandb", daemon=True) for act in (self._write, self._listen)
        ]
        for thread in self._threads:
            thread.start()

    def log(self, metrics: Metrics) -> None:
        self._put(metrics)

    def close(self) -> None:
        self._put(None)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # it, and wandb's own service
        self._process.wait()
        for thread in self._threads:
            thread.join(1)

    def _put(self, item: Metrics | None) -> None:
        try:
            self._waiting.put_nowait(item)
        except queue.Full:
            return  # the service is slower than the run, or gone: metrics.jsonl has it all

    def _write(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended; `_listen` knows why
            while (metrics := self._waiting.get()) is not None:
                self._process.stdin.write(json.dumps(metrics) + "\n")
                self._process.stdin.flush()
        with suppress(OSError):
            self._process.stdin.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        if reason := self._process.stdout.read().strip():
            with suppress(ValueError):  # the log has been closed meanwhile
                self._say(f"wandb is switched off for this run: {reason}")


def _options(config: TrainConfig, run: RunDirectory) -> dict[str, Any]:
    """Arguments of `wandb.init`."""
    identity = run.path / "wandb_id"
    if not identity.is_file():
        atomic_write_text(identity, secrets.token_hex(4) + "\n")
    return {
        "project": config.logging.project,
        "name": run.path.name,
        "id": identity.read_text(encoding="utf-8").strip(),
        "resume": "allow",
        "mode": "offline" if config.logging.wandb == "offline" else "online",
        "dir": str(run.path),
        "config": asdict(config),
    }
