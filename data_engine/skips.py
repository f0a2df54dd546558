"""What was left out of a dataset: all of it by name in a file, in memory only how much and the first of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from data_engine.files import atomic_writer
from data_engine.shard_index import Skipped

SKIPPED_NAME = "skipped.jsonl"
_SHOWN = 5


class Skips:
    """Counts by reason and the first of each, whatever the order in which shards come in."""

    def __init__(self, skipped: Iterable[Skipped] = ()) -> None:
        self.reasons: Counter[str] = Counter()
        self._first: dict[str, list[Skipped]] = {}
        self.add(skipped)

    def add(self, skipped: Iterable[Skipped]) -> None:
        for skip in skipped:
            self.reasons[skip.reason] += 1
            first = self._first.setdefault(skip.reason, [])
            if len(first) < _SHOWN or skip.index < first[-1].index:
                first.append(skip)
                first.sort(key=lambda one: one.index)
                del first[_SHOWN:]

    def report(self) -> list[str]:
        """Lines that tell which samples are missing and why."""
        lines = []
        for reason, count in sorted(self.reasons.items()):
            first = self._first[reason]
            lines.append(f"skipped {count}: {reason}")
            lines.extend(f"  sample {skip.index}: {skip.place}" for skip in first)
            if count > len(first):
                lines.append(f"  and {count - len(first)} more")
        return lines


def skipped_in(directory: Path, names: Iterable[str]) -> Iterator[Skipped]:
    """What the indices of shards say was skipped, one shard after the other."""
    for name in names:
        with np.load(directory / f"{name}.npz", allow_pickle=False) as index:
            found = json.loads(str(index["skipped"]))
        yield from (Skipped(**skip) for skip in found)


def write_skipped(directory: Path, names: Iterable[str]) -> Path | None:
    """Name all that the shards skipped in skipped.jsonl: index, reason and place a line. No file where that is nothing.

    Raises OSError as the file system reports it.
    """
    path = directory / SKIPPED_NAME
    skipped = skipped_in(directory, names)
    first = next(skipped, None)
    if first is None:
        path.unlink(missing_ok=True)  # an unfinished dataset may have left one
        return None
    with atomic_writer(path) as file:
        for skip in chain([first], skipped):
            file.write(_line(skip))
    return path


def is_skipped_whole(directory: Path, names: Iterable[str]) -> bool:
    """Whether skipped.jsonl is there and says what `write_skipped` would write."""
    lines = (_line(skip) for skip in skipped_in(directory, names))
    try:
        with open(directory / SKIPPED_NAME, "rb") as file:
            return all(there == expected for there, expected in zip_longest(file, lines))
    except FileNotFoundError:
        return next(lines, None) is None
    except OSError:
        return False


def _line(skip: Skipped) -> bytes:
    entry = {"index": skip.index, "reason": skip.reason, "place": skip.place}
    return json.dumps(entry, ensure_ascii=False).encode("utf-8") + b"\n"
