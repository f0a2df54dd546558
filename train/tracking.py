"""Sending metrics to Weights & Biases without ever being in the way.

A thread of its own imports wandb, starts the run and sends; the training loop only puts metrics into a queue. What
goes wrong there ends the sending and nothing else. `offline` (the default) needs neither account nor network: the
files lie in RUN/wandb, and `wandb sync` sends them later. The same run directory is the same wandb run.
"""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Mapping
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
    """Sends from its own thread.

    Args:
        say: told, once, if the sending ends early.
    """

    def __init__(self, config: TrainConfig, run: RunDirectory, say: Callable[[str], None]) -> None:
        self._waiting: queue.Queue[Metrics | None] = queue.Queue(LONGEST_QUEUE)
        self._say = say
        self._thread = threading.Thread(target=self._send, args=(config, run), name="wandb", daemon=True)
        self._thread.start()

    def log(self, metrics: Metrics) -> None:
        self._put(metrics)

    def close(self) -> None:
        self._put(None)
        self._thread.join(PATIENCE)

    def _put(self, item: Metrics | None) -> None:
        try:
            self._waiting.put_nowait(item)
        except queue.Full:
            return  # the service is slower than the run, or gone: metrics.jsonl has it all

    def _send(self, config: TrainConfig, run: RunDirectory) -> None:
        try:
            session = _start(config, run)
            while (metrics := self._waiting.get()) is not None:
                session.log(dict(metrics), step=metrics["step"])
            session.finish()
        except Exception as error:  # whatever a logging service raises, training goes on
            self._say(f"wandb is switched off for this run: {type(error).__name__}: {error}")


def _start(config: TrainConfig, run: RunDirectory) -> Any:
    # Here, in the thread: the import alone takes seconds.
    import wandb

    identity = run.path / "wandb_id"
    if not identity.is_file():
        atomic_write_text(identity, secrets.token_hex(4) + "\n")
    return wandb.init(
        project=config.logging.project,
        name=run.path.name,
        id=identity.read_text(encoding="utf-8").strip(),
        resume="allow",
        mode="offline" if config.logging.wandb == "offline" else "online",
        dir=str(run.path),
        config=asdict(config),
        settings=wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True),
    )
