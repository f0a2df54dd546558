"""Where molecules come from: a file of SMILES, or the list of the NCI that every RDKit wheel carries.

A file may have a line for each of PubChem's 119 million compounds, and every worker opens it: it is read through once,
for its hash and the place of every 128th molecule, and after that a few kilobytes per molecule that is drawn.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import tempfile
import zlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from data_engine.errors import ConfigError
from data_engine.files import sha256_of

NOT_UTF8 = "line that is not UTF-8"
NO_SMILES = "line without a SMILES"
_TABLES = {".csv": ",", ".tsv": "\t"}
"""Endings of files with a header, and what parts their columns."""
_STRIDE = 128
_CHUNK = 1 << 22
_LARGEST_UNPACKED = 1 << 28
"""Bytes that a .gz may hold: every worker unpacks its own copy."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Molecules:
    """The molecules of a file, plain or ending in .gz, by number; empty lines have none.

    .csv and .tsv have a header that names a column of SMILES, and a molecule per line. In any other file the first
    column of a line counts, and the second where the first is a number: PubChem's CID-SMILES.
    """

    def __init__(self, path: Path) -> None:
        """ConfigError when the file cannot be read, holds nothing, or its header names no SMILES."""
        self.path = path
        self._last: tuple[int, tuple[int, bytes]] | None = None
        self._separator = _TABLES.get(Path(path.name.removesuffix(".gz")).suffix)
        try:
            self._file = _unpacked(path) if path.suffix == ".gz" else open(path, "rb")  # noqa: SIM115 - kept open
            digest = hashlib.sha256()
            self._scan(digest)
            self.sha256 = sha256_of(path) if path.suffix == ".gz" else digest.hexdigest()
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(f"the file of molecules {path} cannot be read: {reason}.") from error
        self._column = 0 if self._separator is None or self._count == 0 else self._column_of_header()
        self._first = 0 if self._separator is None else 1
        if len(self) == 0:
            raise ConfigError(f"the file of molecules {path} is empty: give one SMILES per line.")

    def __len__(self) -> int:
        return max(0, self._count - self._first)

    def line(self, number: int) -> tuple[int, bytes]:
        """(number from 1, bytes) of the line with a molecule. Raises OSError as the file system reports it."""
        if not 0 <= number < len(self):
            raise IndexError(f"there is no molecule {number} of {len(self)}")
        if self._last is None or self._last[0] != number:  # a sample asks for its line more than once
            self._last = (number, self._line(number + self._first))
        return self._last[1]

    def smiles(self, line: bytes) -> str:
        """The SMILES of a line. ValueError, NOT_UTF8 or NO_SMILES, when there is none."""
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise ValueError(NOT_UTF8) from error
        if self._separator is None:
            columns = text.split(maxsplit=2)
            has_number = len(columns) > 1 and columns[0].isdigit()  # no SMILES is a number
            found = columns[1 if has_number else 0] if columns else ""
        else:
            columns = _columns(text, self._separator)
            found = columns[self._column].strip() if self._column < len(columns) else ""
        if not found:
            raise ValueError(NO_SMILES)
        return found

    def close(self) -> None:
        self._file.close()

    def _line(self, number: int) -> tuple[int, bytes]:
        block, further = divmod(number, _STRIDE)
        self._file.seek(self._starts[block])
        place = self._lines[block] - 1
        for line in self._file:
            place += 1
            if line in (b"\n", b"\r\n"):
                continue
            if further == 0:
                return place, line.rstrip(b"\r\n")
            further -= 1
        raise OSError(None, f"{self.path} has become shorter")

    def _scan(self, digest: hashlib._Hash) -> None:
        """Note where every 128th line that is not empty begins, and its number."""
        self._starts, self._lines, self._count = array("Q"), array("Q"), 0
        lines = 0
        for starts, is_full in _line_starts(self._file, digest):
            full = np.flatnonzero(is_full)
            chosen = full[-self._count % _STRIDE :: _STRIDE]
            self._starts.extend(starts[chosen].tolist())
            self._lines.extend((chosen + lines + 1).tolist())
            self._count += len(full)
            lines += len(starts)

    def _column_of_header(self) -> int:
        _, line = self._line(0)
        header = _columns(line.decode(errors="replace"), self._separator or ",")
        place = _column(header)
        if place is None:
            raise ConfigError(
                f"the file of molecules {self.path} has no column of SMILES: its header names "
                f"{', '.join(header)[:200]}; call one smiles."
            )
        return place


def nci_file() -> Path:
    """5,000 molecules of the NCI's open collection, part of RDKit (BSD licence)."""
    from rdkit import RDConfig

    return Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi"


def _unpacked(path: Path) -> IO[bytes]:
    """A temporary file, gone with the process, with what a .gz holds. ConfigError where that is too much."""
    target = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's
    written = 0
    with gzip.open(path) as source:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > _LARGEST_UNPACKED:
                target.close()
                raise ConfigError(
                    f"the file of molecules {path} holds more than {_LARGEST_UNPACKED >> 20} MB, which every worker "
                    f"would unpack: unpack it once (gunzip --keep {path.name}) and give options.smiles={path.stem}."
                )
            target.write(chunk)
    return target


def _line_starts(file: IO[bytes], digest: hashlib._Hash) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read a file through: (where its lines begin, whether they hold more than their end), for some lines at a time."""
    file.seek(0)
    position, start, last = 0, 0, 0  # `last` is the byte before the chunk
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        if position == 0 and chunk.startswith(_BYTE_ORDER_MARK):
            start = len(_BYTE_ORDER_MARK)
        data = np.frombuffer(chunk, np.uint8)
        ends = np.flatnonzero(data == ord("\n"))
        if len(ends):
            starts = np.empty(len(ends), np.int64)
            starts[0], starts[1:] = start, ends[:-1] + position + 1
            lengths = ends + position - starts
            before = np.where(ends > 0, data[ends - 1], last)
            yield starts, (lengths > 1) | ((lengths == 1) & (before != ord("\r")))
            start = int(ends[-1]) + position + 1
        position += len(chunk)
        last = chunk[-1]
    if start < position:
        yield np.array([start]), np.array([True])


def _columns(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:  # a field of more than 128 KiB
        return []


def _column(header: Sequence[str]) -> int | None:
    """The column called smiles, else the first whose name ends so: canonical_smiles, IsomericSMILES."""
    names = [name.strip().lower() for name in header]
    if "smiles" in names:
        return names.index("smiles")
    return next((place for place, name in enumerate(names) if name.endswith("smiles")), None)
