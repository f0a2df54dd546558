"""Signs of life: what each process is doing, written from a thread of its own, and an end for those that hang.

    RUN/heartbeat/rankN.json   host, pid, step, phase and since when; replaced every few seconds and whenever the phase
                               changes; a process that was stopped or lost leaves an old one
    RUN/stacks/rankN.txt       stacks of all threads, when a phase took longer than the watchdog allows, when the
                               process crashed, or when it got SIGUSR2; there only if there are any
    RUN/stacks/nccl_rank_N     NCCL's flight recorder after a timeout (torchfrtrace reads it)

What is special here:
- The watchdog is faulthandler's: it needs neither the interpreter nor its lock, so it also ends a process whose main
  thread hangs in a library. The process ends with status 1, and torchrun ends the others and starts all anew.
- A neighbour that is stopped or lost is noticed by the explicit timeouts of gloo and NCCL; the watchdog is for what
  happens outside of them, and its limit is longer.
- Nothing here can hurt the run: what cannot be written is not written.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import torch

INTERVAL = 5.0
"""Seconds between two heartbeats."""
LEAVING = 120.0
"""Seconds for what comes after the last step: metrics that are still to be sent, plots."""
PATIENT_START = 10
"""Until the end of the first step, the watchdog waits so many times as long: compiling and measuring take time."""


def record_collectives(stacks: Path) -> None:
    """Switch NCCL's flight recorder on, before the process group is made; what the user has set stays."""
    if not torch.cuda.is_available():
        return
    for name, value in (
        ("TORCH_FR_BUFFER_SIZE", "20000"),
        ("TORCH_NCCL_DUMP_ON_TIMEOUT", "1"),
        ("TORCH_FR_DUMP_TEMP_FILE", str(stacks / "nccl_rank_")),
        # Mode 3 ends the process without aborting the communicators, which would destroy what is to be dumped.
        ("TORCH_NCCL_ASYNC_ERROR_HANDLING", "3"),
    ):
        os.environ.setdefault(name, value)


class Watch:
    """Heartbeat and watchdog of this process, between `with` and its end.

    Args:
        limit: seconds that a phase may take.
        beat: called with every heartbeat, e.g. to keep the run's lock fresh.
    """

    def __init__(self, run: Path, rank: int, limit: float, beat: Callable[[], None] | None = None) -> None:
        self._file = run / "heartbeat" / f"rank{rank}.json"
        self._stacks = run / "stacks" / f"rank{rank}.txt"
        self._limit = limit
        self._beat = beat
        self._patience = PATIENT_START
        self._doing: dict[str, Any] = {
            "host": socket.gethostname(), "pid": os.getpid(), "rank": rank, "step": 0,
        }  # fmt: skip
        self._changed = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._live, name="heartbeat", daemon=True)
        self._dump: IO[str] | None = None

    def __enter__(self) -> Watch:
        for path in (self._file, self._stacks):
            path.parent.mkdir(parents=True, exist_ok=True)
        # Appended: what the process before this one left is why this one was started.
        self._dump = open(self._stacks, "a", encoding="utf-8", buffering=1)
        faulthandler.enable(self._dump)
        faulthandler.register(signal.SIGUSR2, self._dump, all_threads=True)
        self.enter("start", 0)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.enter("end" if error is None else f"ended by {type(error).__name__}", self._doing["step"])
        self._ended = True
        self._changed.set()
        self._thread.join(INTERVAL)
        faulthandler.cancel_dump_traceback_later()
        faulthandler.unregister(signal.SIGUSR2)
        faulthandler.disable()
        if self._dump:
            self._dump.close()
        with suppress(OSError):
            if self._stacks.stat().st_size == 0:
                self._stacks.unlink()

    def enter(self, phase: str, step: int, at_least: float = 0.0) -> None:
        """A phase begins: data, step, log, save, ... The watchdog starts to count anew.

        Args:
            at_least: seconds that this phase may take, however short the limit is.
        """
        if self._doing["step"] != step and self._doing.get("phase") == "step":
            self._patience = 1
        self._doing = {**self._doing, "step": step, "phase": phase, "since": time.time()}
        self._changed.set()
        assert self._dump is not None
        seconds = max(at_least, self._limit * self._patience)
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._dump)

    def leave(self) -> None:
        """The run is over but for closing its log, which may wait for others however short the limit is."""
        self.enter("close", self._doing["step"], LEAVING)

    def _live(self) -> None:
        written = 0.0
        while not self._ended:
            self._changed.wait(INTERVAL)
            self._changed.clear()
            # Phases of small models change many times a second; nobody reads that.
            time.sleep(max(0.0, min(1.0, written + 1 - time.monotonic())) if not self._ended else 0)
            written = time.monotonic()
            with suppress(OSError):
                self._write()
                if self._beat:
                    self._beat()

    def _write(self) -> None:
        # Not flushed to the disk, unlike everything else: it is worth nothing after a crash of the machine.
        temporary = self._file.with_suffix(".tmp")
        temporary.write_text(json.dumps({**self._doing, "time": time.time()}) + "\n", encoding="utf-8")
        os.replace(temporary, self._file)
