"""Parquet files, as most datasets of the Hugging Face hub come: read where they lie, without a copy in a cache.

A picture is {"bytes": ..., "path": ...}, as `datasets` writes it, or bytes, or a path.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow.parquet import ParquetFile

from data_engine.errors import ConfigError, nearest
from data_engine.foreign import UnusableError
from data_engine.imports.records import ODD_CELL, UNREADABLE_ROW

_SPLITS = ("train", "test", "validation", "valid", "val", "dev", "eval")
_BATCH = 32
"""Rows that are decoded at once: they may hold pictures of many megabytes."""


@dataclass(frozen=True)
class Table:
    """One Parquet file."""

    path: Path
    first: int
    """The number of its first row, counted over all files."""
    rows: int
    digest: str
    """Of its size and its last part, which says what lies where: not of all that it holds."""


@dataclass(frozen=True)
class ParquetSource:
    """A `source.Source`: the rows of some Parquet files, one file after the other."""

    tables: tuple[Table, ...]
    root: Path
    per_piece: int
    columns: tuple[str, ...]
    """Those that are read; what stands in the others does not matter."""
    format: str = "parquet"

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)

    @property
    def pieces(self) -> int:
        return -(-self.rows // self.per_piece)

    def indices(self, number: int) -> range:
        start = number * self.per_piece
        return range(start, min(start + self.per_piece, self.rows))

    def identity(self, number: int) -> str:
        parts = [f"{table.digest} {rows.start} {rows.stop}" for table, rows in self._parts(number)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def records(self, number: int) -> Iterator[tuple[str, Any]]:
        """The rows of a piece with their places; an UnusableError for those that are damaged."""
        for table, rows in self._parts(number):
            for row, record in _rows(table.path, rows, self.columns):
                yield f"row {row} of {table.path.name}", record

    def fields(self) -> set[str]:
        return set(_opened(self.tables[0].path).schema_arrow.names)

    def _parts(self, number: int) -> Iterator[tuple[Table, range]]:
        """The files that a piece lies in, with its rows counted from the beginning of each."""
        wanted = self.indices(number)
        for table in self.tables:
            start = max(wanted.start - table.first, 0)
            stop = min(wanted.stop - table.first, table.rows)
            if start < stop:
                yield table, range(start, stop)


def open_parquet(
    files: Sequence[Path], top: Path, split: str | None, root: Path, per_piece: int, used: Set[str]
) -> ParquetSource:
    """The rows of files that lie at `top` or below, of them the columns `used`.

    Raises ConfigError when the files are damaged or do not belong together.
    """
    by_split: dict[str | None, list[Path]] = {}
    for file in files:
        by_split.setdefault(split_of(file.relative_to(top) if file != top else Path(file.name)), []).append(
            file
        )
    if split is not None and split not in by_split:
        raise ConfigError(f"options.split={split} is not possible{nearest(split, filter(None, by_split))}")
    if split is None and len(by_split) > 1:
        named = ", ".join(sorted(filter(None, by_split)))
        others = [str(file.relative_to(top)) for file in by_split.get(None, [])]
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        unnamed = f" and files without a split in their names ({others[0]}{more})" if others else ""
        raise ConfigError(
            f"import={top} has the splits {named}{unnamed}: give options.split=SPLIT, or one file."
        )
    tables: list[Table] = []
    columns: list[str] | None = None
    first = 0
    for file in by_split[split] if split is not None else files:
        opened = _opened(file)
        columns = columns or opened.schema_arrow.names
        if opened.schema_arrow.names != columns:
            raise ConfigError(
                f"import={top}: {file.name} has other columns than {tables[0].path.name}: import them one by one."
            )
        tables.append(Table(file, first, opened.metadata.num_rows, _digest(file)))
        first += opened.metadata.num_rows
    if first == 0:
        raise ConfigError(f"import={top} is empty.")
    return ParquetSource(
        tuple(tables), root, per_piece, tuple(name for name in columns or [] if name in used)
    )


def split_of(path: Path) -> str | None:
    """The split that a file is of by its name or directory, as the hub has it: data/train-00000-of-00002.parquet."""
    for part in (path.stem, *reversed(path.parts[:-1])):
        for word in re.split(r"[-_. ]", part.lower()):
            if word in _SPLITS:
                return word
    return None


def _opened(path: Path) -> ParquetFile:
    """A file and its index. ConfigError when it is no Parquet or not there."""
    try:
        state = path.stat()
        return _opened_once(path, state.st_size, state.st_mtime_ns)
    except (OSError, pyarrow.ArrowException) as error:
        raise ConfigError(f"import={path} cannot be read as Parquet ({_line(error)}).") from error


@functools.lru_cache(maxsize=8)
def _opened_once(path: Path, size: int, changed: int) -> ParquetFile:
    return ParquetFile(path)


def _digest(path: Path) -> str:
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, size - 8 - length))
        return hashlib.sha256(size.to_bytes(8, "little") + file.read()).hexdigest()


def _rows(path: Path, wanted: range, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Some rows of a file with their numbers, of them some columns."""
    opened, start = _opened(path), 0
    for group in range(opened.metadata.num_row_groups):
        stop = start + opened.metadata.row_group(group).num_rows
        row = start
        try:
            if start < wanted.stop and wanted.start < stop:
                for batch in opened.iter_batches(
                    _BATCH, row_groups=[group], columns=list(columns), use_threads=False
                ):
                    here = range(max(row, wanted.start), min(row + len(batch), wanted.stop))
                    if here:
                        yield from zip(here, _values(batch.slice(here.start - row, len(here))), strict=True)
                    row += len(batch)
        except (OSError, pyarrow.ArrowException) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the file system; pyarrow's own for damaged data have no number
            for lost in range(max(row, wanted.start), min(stop, wanted.stop)):
                yield lost, UnusableError("damaged Parquet row group")
        start = stop


def _values(batch: pyarrow.RecordBatch) -> list[Any]:
    """The rows of a batch; an UnusableError for each that holds what Python has no value for."""
    try:
        return list(batch.to_pylist())
    except ODD_CELL:
        if len(batch) == 1:
            return [UnusableError(UNREADABLE_ROW)]
        return [value for row in range(len(batch)) for value in _values(batch.slice(row, 1))]


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
