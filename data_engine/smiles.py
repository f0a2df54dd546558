"""Where molecules come from: a file of SMILES, or the list of the NCI that every RDKit wheel carries."""

from __future__ import annotations

import csv
import gzip
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from data_engine.errors import ConfigError

_TABLES = {".csv": ",", ".tsv": "\t"}
"""Endings of files with a header, and what parts their columns."""


class Molecules:
    """(line number from 1, SMILES) of many molecules, in little more memory than their text takes."""

    def __init__(self, molecules: Iterable[tuple[int, str]] = ()) -> None:
        self._text = bytearray()
        self._ends = array("Q", [0])
        self._lines = array("Q")
        for line, smiles in molecules:
            self._text += smiles.encode()
            self._ends.append(len(self._text))
            self._lines.append(line)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, place: int) -> tuple[int, str]:
        return self._lines[place], self._text[self._ends[place] : self._ends[place + 1]].decode()

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return (self[place] for place in range(len(self)))


def nci_file() -> Path:
    """5,000 molecules of the NCI's open collection, part of RDKit (BSD licence)."""
    from rdkit import RDConfig

    return Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi"


def read_smiles(path: Path) -> Molecules:
    """The molecules of a file, plain or ending in .gz; lines without one are passed over.

    .csv and .tsv have a header that names a column of SMILES. In any other file the first column of a line counts, and
    the second where the first is a number: PubChem's CID-SMILES.

    Raises:
        ConfigError: the file cannot be read, holds nothing, or its header names no SMILES.
    """
    table = _TABLES.get(Path(path.name.removesuffix(".gz")).suffix)
    try:
        opener: Callable[..., TextIO] = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            found = Molecules(_of_lines(file) if table is None else _of_table(path, file, table))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"the file of molecules {path} cannot be read: {reason}.") from error
    if not found:
        raise ConfigError(f"the file of molecules {path} is empty: give one SMILES per line.")
    return found


def _of_lines(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, start=1):
        columns = line.split(maxsplit=2)
        if columns:
            has_number = len(columns) > 1 and columns[0].isdigit()  # no SMILES is a number
            yield number, columns[1 if has_number else 0]


def _of_table(path: Path, file: TextIO, separator: str) -> Iterator[tuple[int, str]]:
    rows = csv.reader(file, delimiter=separator)
    header = next(rows, [])
    if not header:
        return
    place = _column(header)
    if place is None:
        raise ConfigError(
            f"the file of molecules {path} has no column of SMILES: its header names {', '.join(header)[:200]}; "
            "call one smiles."
        )
    for row in rows:
        if place < len(row) and row[place].strip():
            yield rows.line_num, row[place].strip()


def _column(header: Sequence[str]) -> int | None:
    """The column called smiles, else the first whose name ends so: canonical_smiles, IsomericSMILES."""
    names = [name.strip().lower() for name in header]
    if "smiles" in names:
        return names.index("smiles")
    return next((place for place, name in enumerate(names) if name.endswith("smiles")), None)
