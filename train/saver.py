"""When a run saves itself, what it does when it cannot, and which checkpoints it keeps.

With `checkpoint.asynchronous`, training stops only while the state is copied to the host; a thread of each rank writes.

What is special here:
- The thread makes no collective call: ranks would meet in another order on every one of them, and hang. While a
  checkpoint is being written, all ranks ask each other after every step whether it is, and publish it together.
- Never two at once: the next save waits for the one before.
- What the run cannot do without, because it ends or has been asked to, is on the disk before it goes on.
- Errors that all ranks have alike (a loss that is not finite, damaged data) wait for the checkpoint too; after any
  other, the neighbours may be gone, and it is left half-written under its temporary name, for the next run to remove.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch

from train.agreement import REFUSALS, Agreement, DisagreementError
from train.checkpoint import prune_checkpoints
from train.checkpoint_writing import CheckpointError, CheckpointWriting, tensor_sizes
from train.collective import gather
from train.control import Request
from train.deepspeed_engine import TrainingEngine
from train.guard import Guard
from train.host_room import HostRoom
from train.metrics import Log
from train.prepare import Prepared
from train.run_settings import CONTINUE
from train.step_report import BrokenStepError

__all__ = ["CheckpointError", "Saver"]

ALIKE: tuple[type[BaseException], ...] = (BrokenStepError, DisagreementError, *REFUSALS)
"""Errors that end the run on all ranks at the same place."""
LAST_WORDS = 10.0
"""Seconds that a process which ends for any other error gives its thread, so as not to tear it off in mid-write."""


class _Writer(threading.Thread):
    """Writes this rank's part of a checkpoint; ends with the process, whatever it is at."""

    def __init__(self, writing: CheckpointWriting) -> None:
        super().__init__(name=f"save step_{writing.step}", daemon=True)
        self.writing = writing
        self.began = time.perf_counter()
        self.foreground = 0.0
        """Seconds for which training stood still."""
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self.writing.write()
        except BaseException as error:  # raised again where it is noticed
            self._error = error

    def result(self) -> CheckpointWriting:
        """What was written, once it is; raises what went wrong besides what `CheckpointWriting` reports itself."""
        if self.ident is not None:
            self.join()
        if self._error is not None:
            raise self._error
        return self.writing


class Saver:
    """Saves the run; every method is collective. Leaving its `with` block finishes what is being written.

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
        self._writer: _Writer | None = None
        self._room: HostRoom | None = None
        self.seconds = 0.0
        """Time for which training stood still to save, since the beginning."""

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.wait()
        elif isinstance(error, ALIKE):
            try:
                self.wait()
            except CheckpointError as failure:
                self._log.say(str(failure))  # what ends the run is the other
        elif self._writer is not None:
            self._writer.join(LAST_WORDS)

    def is_due(self, step: int, request: Request) -> bool:
        """Whether the state after `step` steps is to be saved."""
        plan, last = self._prepared.config.checkpoint, self._prepared.config.steps
        asked = request.save or request.stop or request.pin
        return asked or step % plan.every == 0 or step == last or step in plan.pin

    def save(self, step: int, pin: bool = False, must: bool = True) -> None:
        """Save the state after `step` steps, unless that has been done; the one before is waited for.

        Args:
            pin: never remove this checkpoint.
            must: the run cannot do without it, whatever `checkpoint.on_failure` says; it is on the disk on return.

        Raises:
            CheckpointError: on all ranks alike.
        """
        self.wait()
        if step <= self._saved:
            return
        plan = self._prepared.config.checkpoint
        with self._standing_still(must):
            self._agreement.settle(step)
            writing = CheckpointWriting(
                self._engine, self._prepared.run, step, self._contents(step), pin or step in plan.pin
            )
            writer = _Writer(writing)
            writing.begin(self._clear_room if plan.asynchronous else None)
            if plan.asynchronous and not must:
                writer.start()
                writer.foreground = time.perf_counter() - writer.began
                self._writer = writer
            else:
                writer.run()
                self._publish(writer)

    def look_after(self) -> None:
        """Publish what is being written if every rank has written its part; to be called after every step.

        Raises:
            CheckpointError: on all ranks alike.
        """
        if self._writer is None:
            return
        with self._standing_still(must=False):
            mine = torch.tensor([int(self._writer.is_alive())], dtype=torch.int32)
            if not gather(self._engine, mine).any():
                self._finish()

    def wait(self) -> None:
        """Publish what is being written, as soon as it is written.

        Raises:
            CheckpointError: on all ranks alike.
        """
        if self._writer is not None:
            with self._standing_still(must=False):
                self._finish()

    def _finish(self) -> None:
        writer, self._writer = self._writer, None
        assert writer is not None
        self._publish(writer)

    def _publish(self, writer: _Writer) -> None:
        started = time.perf_counter()
        step = writer.result().step
        writer.writing.finish()
        seconds = time.perf_counter() - writer.began
        behind = f", standing still for {writer.foreground + time.perf_counter() - started:.1f} s"
        self._log.say(f"saved step_{step} in {seconds:.1f} s{behind if writer.foreground else ''}")
        self._saved = step
        if self._prepared.world.rank == 0:
            plan = self._prepared.config.checkpoint
            prune_checkpoints(self._prepared.run, plan.keep_last, plan.keep_every, plan.pin)

    @contextmanager
    def _standing_still(self, must: bool) -> Iterator[None]:
        """Counts the time, and goes on without a checkpoint that could not be written if that is allowed."""
        started = time.perf_counter()
        try:
            yield
        except CheckpointError as error:
            if must or self._prepared.config.checkpoint.on_failure != CONTINUE:
                raise
            self._log.say(f"{error}; going on without it (checkpoint.on_failure={CONTINUE})")
        finally:
            self.seconds += time.perf_counter() - started

    def _clear_room(self) -> HostRoom:
        """The room for this rank's state, made at the first save."""
        if self._room is None:
            self._room = HostRoom(HostRoom.bytes_for(tensor_sizes(self._engine)), self._engine.device)
        self._room.clear()
        return self._room

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
