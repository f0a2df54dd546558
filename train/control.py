"""Requests from outside, seen by all ranks at the same step: signals, and files in `control/`.

SIGTERM and SIGINT (Ctrl-C, a pre-emption, torchrun stopping) and the file `control/stop` mean: finish this step,
save, leave. `control/save` means: save and go on.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Request:
    """What was asked for, the same on every rank."""

    stop: bool
    save: bool


class Control:
    """Collects requests on this rank; `poll` shares them."""

    def __init__(self, directory: Path, rank: int, device: torch.device) -> None:
        self._directory = directory
        self._rank = rank
        self._device = device
        self._signalled = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._signalled and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: leave at once
        self._signalled = True

    def poll(self) -> Request:
        """What any rank was asked for (collective)."""
        stop, save = self._signalled, False
        if self._rank == 0:
            stop = self._take("stop") or stop
            save = self._take("save")
        flags = torch.tensor([stop, save], dtype=torch.int32, device=self._device)
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return Request(*map(bool, flags.tolist()))

    def _take(self, name: str) -> bool:
        path = self._directory / name
        if not path.exists():
            return False
        path.unlink(missing_ok=True)
        return True
