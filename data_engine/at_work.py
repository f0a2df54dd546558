"""What a worker is at, where its parent can read it after the worker was killed: a few bytes in a mapped file.

Writing them costs less than a microsecond, and what is in mapped memory outlives the process that put it there.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

_NUMBERS = struct.Struct("<qq")
_NOTHING = -1

_note: mmap.mmap | None = None
_shard = _NOTHING


def start_notes(directory: Path) -> None:
    """From now on this process notes in a file of `directory` what it is at."""
    global _note
    path = directory / str(os.getpid())
    path.write_bytes(_NUMBERS.pack(_NOTHING, _NOTHING))
    with open(path, "r+b") as file:
        _note = mmap.mmap(file.fileno(), _NUMBERS.size)


def note_shard(number: int) -> None:
    """This process begins a shard."""
    global _shard
    _shard = number
    note_sample(_NOTHING)


def note_sample(index: int) -> None:
    """This process begins a sample of its shard; nothing where nobody asked for notes."""
    if _note is not None:
        _NUMBERS.pack_into(_note, 0, _shard, index)


def last_note(directory: Path, process: int) -> tuple[int | None, int | None]:
    """Shard and sample that a process was at; None for what it had not begun."""
    try:
        shard, index = _NUMBERS.unpack((directory / str(process)).read_bytes())
    except (OSError, struct.error):  # killed before it could begin
        return None, None
    return (None if shard == _NOTHING else shard), (None if index == _NOTHING else index)
