"""Kinds of samples, for the log: what loss each task has in each resolution mode.

A kind travels with its sample in the metadata as a number, so the last stage adds up losses without knowing any name;
rank 0, which plans the data, has the names.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

KINDS = 1 << 16
"""Numbers that a kind can have. Of 30 kinds, two share one in 1 of 150 runs; their names are then shown together."""
TEXT = "text"
"""The mode of samples without images."""


def kind_number(task: str, mode: str) -> int:
    """The number of samples of a task in a resolution mode."""
    return zlib.crc32(f"{task}\n{mode}".encode()) % KINDS


def kind_names(tasks: Iterable[str], modes: Iterable[str]) -> dict[int, tuple[str, str]]:
    """Number -> (task, mode) of every kind that may occur."""
    modes = sorted({*modes, TEXT})
    names: dict[int, tuple[str, str]] = {}
    for task in sorted(set(tasks)):
        for mode in modes:
            number = kind_number(task, mode)
            other = names.get(number)
            names[number] = (task, mode) if other is None else (f"{other[0]}|{task}", f"{other[1]}|{mode}")
    return names
