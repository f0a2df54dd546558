"""What the loader asks of a dataset: a few members. `data_engine.dataset.Dataset` has them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data_engine.dataset import DamagedSampleError
from data_engine.sample import Sample


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

    def image_sizes_of(self, samples: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """How many images each of these samples [n] has, and (width, height) of all of them in that order [m, 2]."""
        ...

    def key(self, i: int) -> str:
        """The key of a sample, from the index alone."""
        ...


RETRY_PAUSES = (0.1, 0.5)
"""Seconds before the second and third attempt to read a sample."""


def read_patiently(read: Callable[[int], Sample], i: int) -> Sample:
    """`read(i)`, tried again a few times when the disk or the network reports an error.

    A wrong checksum is no such error and is not tried again; nor is a file that is gone.

    Raises:
        DamagedSampleError, OSError: what the last attempt raised.
    """
    for pause in RETRY_PAUSES:
        try:
            return read(i)
        except (OSError, DamagedSampleError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if not isinstance(cause, OSError) or isinstance(cause, FileNotFoundError):
                raise
        time.sleep(pause)
    return read(i)
