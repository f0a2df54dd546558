"""Where the time of a step goes on one process: computing, waiting for neighbours, reducing and updating.

On a GPU, work is queued and the host's clock says nothing; pairs of events are recorded around each part instead,
and read when the log asks for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

COMPUTE, WAIT, REDUCE, LOAD = "compute", "wait", "reduce", "load"
KINDS = (COMPUTE, WAIT, REDUCE, LOAD)
"""Passes forward and back; messages from and to neighbours; gradients and optimizer; micro-batches to the device."""


class StepClock:
    """Seconds by kind since the last `take`."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._seconds = dict.fromkeys(KINDS, 0.0)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def measure(self, kind: str) -> Iterator[None]:
        """Counts what the block takes."""
        if self._on_gpu:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            yield
            end.record()
            self._events.append((kind, begin, end))
        else:
            started = time.perf_counter()
            yield
            self._seconds[kind] += time.perf_counter() - started

    def take(self) -> dict[str, float]:
        """Seconds by kind since the last call; on a GPU, waits until all of it is done."""
        if self._events:
            torch.cuda.synchronize()
        for kind, begin, end in self._events:
            self._seconds[kind] += begin.elapsed_time(end) / 1000
        self._events = []
        seconds, self._seconds = self._seconds, dict.fromkeys(KINDS, 0.0)
        return seconds


def timed(kind: str, act: Callable[..., None]) -> Callable[..., None]:
    """A method that does the same and is measured by its object's `clock`."""

    def measured(self: Any, *arguments: Any, **keywords: Any) -> None:
        with self.clock.measure(kind):
            act(self, *arguments, **keywords)

    return measured
