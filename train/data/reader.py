"""What the loader asks of a dataset: five members. `data_engine.dataset.Dataset` has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from data_engine.errors import ConfigError
from data_engine.sample import Sample
from model.views import ResolutionMode


class SampleReader(Protocol):
    """Samples by number. Reading must be safe from several threads."""

    name: str
    fingerprint: str
    """Changes when a sample does."""

    def __len__(self) -> int: ...

    def read(self, i: int) -> Sample:
        """A whole sample. Raises DamagedSampleError, which names shard and key."""
        ...

    def read_text(self, i: int) -> Sample:
        """A sample without its images."""
        ...

    def image_sizes(self, i: int) -> tuple[tuple[int, int], ...]:
        """(width, height) of the images, from the index alone."""
        ...


DEFAULT_MODE = "default"


def mode_of(modes: Mapping[str, ResolutionMode], task: str) -> ResolutionMode:
    """The resolution mode of a task: its own entry, else the entry "default"."""
    return modes.get(task) or modes[DEFAULT_MODE]


def check_modes(modes: Mapping[str, ResolutionMode]) -> None:
    """Raises ConfigError when the tasks that have no mode of their own have none at all."""
    if DEFAULT_MODE not in modes:
        raise ConfigError(
            f"modes={sorted(modes)} lacks the key {DEFAULT_MODE}, which serves the tasks not named."
        )
