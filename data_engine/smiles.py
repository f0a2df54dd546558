"""Where molecules come from: a file of SMILES, or the list of the NCI that every RDKit wheel carries."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from data_engine.errors import ConfigError


def nci_file() -> Path:
    """5,000 molecules of the NCI's open collection, part of RDKit (BSD licence)."""
    from rdkit import RDConfig

    return Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi"


def read_smiles(path: Path) -> list[tuple[int, str]]:
    """(line number from 1, SMILES) of every line that is not empty; the first column counts.

    Reads .smi and .smi.gz. ConfigError when the file cannot be read or holds nothing.
    """
    molecules: list[tuple[int, str]] = []
    try:
        opener: Callable[..., TextIO] = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                columns = line.split(maxsplit=1)
                if columns:
                    molecules.append((number, columns[0]))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"the file of molecules {path} cannot be read: {reason}.") from error
    if not molecules:
        raise ConfigError(f"the file of molecules {path} is empty: give one SMILES per line.")
    return molecules
