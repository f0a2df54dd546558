"""Requests from outside, seen by all ranks at the same step: signals, and files in `control/`.

SIGTERM, SIGINT and SIGUSR1 (Ctrl-C, a pre-emption, torchrun stopping, Slurm's --signal) and the file `control/stop`
mean: finish this step, save, leave. `control/save` means: save and go on. `control/pin` means: save, go on, and never
remove that checkpoint.

The exit status after a signal is 128 + its number, as for a program that the signal ended, so that whoever started
the run does not take it for finished; after `control/stop` it is 0, so that torchrun does not start it again. A run
that left before its last step leaves `control/stopped` behind, for whoever wants to tell the two apart.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
import torch.distributed as dist

from train.run_directory import REQUESTS, STOPPED

IMPATIENT_AFTER = 3.0
"""Seconds after which a second Ctrl-C leaves at once, without saving."""


@dataclass(frozen=True)
class Request:
    """What was asked for, the same on every rank."""

    stop: bool
    save: bool
    pin: bool
    signal: int
    """Number of the signal that any rank received, 0 for none."""


class Control:
    """Collects requests on this rank; `poll` shares them."""

    def __init__(self, directory: Path, rank: int, device: torch.device) -> None:
        self._directory = directory
        self._rank = rank
        self._device = device
        self._signal = 0
        self._signalled_at = 0.0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # torchrun passes on the Ctrl-C that the terminal has already sent to everyone: the second one within a
        # moment is that echo; a later one is somebody who does not want to wait.
        now = time.monotonic()
        if self._signal and number == signal.SIGINT and now - self._signalled_at > IMPATIENT_AFTER:
            raise KeyboardInterrupt
        self._signal, self._signalled_at = number, now

    def poll(self) -> Request:
        """What any rank was asked for (collective)."""
        asked = [self._rank == 0 and self._take(name) for name in REQUESTS]
        flags = torch.tensor([*asked, self._signal], dtype=torch.int32, device=self._device)
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        stop, save, pin, number = flags.tolist()
        return Request(stop=bool(stop or number), save=bool(save), pin=bool(pin), signal=number)

    def leave(self) -> None:
        """Tell that the run leaves before its last step, as asked."""
        if self._rank == 0:
            (self._directory / STOPPED).touch()

    def _take(self, name: str) -> bool:
        path = self._directory / name
        if not path.exists():
            return False
        path.unlink(missing_ok=True)
        return True
