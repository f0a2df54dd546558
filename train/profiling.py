"""Torch's profiler for chosen steps and processes; the trace opens in chrome://tracing or perfetto."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from train.run_settings import ProfileSettings


class Profile:
    """Records steps `first` to `last` on this process and writes one file."""

    def __init__(self, first: int, last: int, path: Path) -> None:
        self._first, self._last = first, last
        self._path = path
        self._profiler: torch.profiler.profile | None = None

    def begin(self, step: int) -> None:
        """A step begins; counted from 1."""
        if self._profiler is None and self._first <= step <= self._last:
            activities = [torch.profiler.ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(torch.profiler.ProfilerActivity.CUDA)
            self._profiler = torch.profiler.profile(activities=activities, profile_memory=True)
            self._profiler.start()

    def end(self, step: int) -> None:
        """A step is done."""
        if step >= self._last:
            self.write()

    def write(self) -> None:
        """Stop recording, if any, and write the trace."""
        if self._profiler is None:
            return
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(self._path))


@contextmanager
def profiler(settings: ProfileSettings, directory: Path, rank: int) -> Iterator[Profile]:
    """The profile of this process; one that records nothing where the settings do not name it."""
    first, last = settings.steps if settings.steps and rank in settings.ranks else (0, -1)
    profile = Profile(first, last, directory / f"rank{rank}_steps_{first}-{last}.json.gz")
    try:
        yield profile
    finally:
        profile.write()
