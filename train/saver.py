"""When a run saves itself, what it does when it cannot, and which checkpoints it keeps."""

from __future__ import annotations

import time
from typing import Any

from train.agreement import Agreement
from train.checkpoint import prune_checkpoints
from train.checkpoint_state import CheckpointError, save_checkpoint
from train.control import Request
from train.deepspeed_engine import TrainingEngine
from train.guard import Guard
from train.metrics import Log
from train.prepare import Prepared
from train.run_settings import CONTINUE

__all__ = ["CheckpointError", "Saver"]


class Saver:
    """Saves the run; every method is collective.

    Args:
        step: optimizer steps that the newest checkpoint holds.
    """

    def __init__(
        self,
        prepared: Prepared,
        engine: TrainingEngine,
        agreement: Agreement,
        guard: Guard,
        log: Log,
        step: int,
    ) -> None:
        self._prepared = prepared
        self._engine = engine
        self._agreement = agreement
        self._guard = guard
        self._log = log
        self._saved = step
        self.seconds = 0.0
        """Time spent saving since the beginning."""

    def is_due(self, step: int, request: Request) -> bool:
        """Whether the state after `step` steps is to be saved."""
        plan, last = self._prepared.config.checkpoint, self._prepared.config.steps
        asked = request.save or request.stop or request.pin
        return asked or step % plan.every == 0 or step == last or step in plan.pin

    def save(self, step: int, pin: bool = False, must: bool = True) -> None:
        """Save the state after `step` steps, unless that has been done.

        Args:
            pin: never remove this checkpoint.
            must: the run cannot do without it, whatever `checkpoint.on_failure` says.

        Raises:
            CheckpointError: on all ranks alike.
        """
        plan = self._prepared.config.checkpoint
        started = time.perf_counter()
        pin = pin or step in plan.pin
        try:
            if step > self._saved:
                self._agreement.settle(step)
                save_checkpoint(self._engine, self._prepared.run, step, self._contents(step), pin)
                self._log.say(f"saved step_{step} in {time.perf_counter() - started:.1f} s")
        except CheckpointError as error:
            if must or plan.on_failure != CONTINUE:
                raise
            self._log.say(f"{error}; going on without it (checkpoint.on_failure={CONTINUE})")
            return
        finally:
            self.seconds += time.perf_counter() - started
        self._saved = max(step, self._saved)
        if self._prepared.world.rank == 0:
            prune_checkpoints(self._prepared.run, plan.keep_last, plan.keep_every, plan.pin)

    def _contents(self, step: int) -> dict[str, Any]:
        """What the manifest says besides files and tensors."""
        prepared = self._prepared
        return {
            "loader": prepared.loader.state(step) if prepared.loader else None,
            "optimizer_steps": step - len(self._guard.skipped),
            "guard": self._guard.state(),
            "architecture": prepared.config.model.architecture,
            "lora_scale": prepared.config.lora.scale,
            "model": prepared.model.to_dict(),
            "tokenizer": prepared.tokenizer.fingerprint,
        }
