"""Files of molecules, as people have them."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest

from data_engine.errors import ConfigError
from data_engine.smiles import Molecules, read_smiles


@pytest.mark.parametrize(
    ("name", "content", "molecules"),
    [
        ("a.smi", "CCO ethanol\n\nC1CC1\n", [(1, "CCO"), (3, "C1CC1")]),
        ("CID-SMILES", "1\tCC(=O)O\n2\tN\n", [(1, "CC(=O)O"), (2, "N")]),
        ("a.csv", 'name,SMILES\n"water, heavy",[2H]O[2H]\nnone,\nx,C#N\n', [(2, "[2H]O[2H]"), (4, "C#N")]),
        ("a.csv", "\ufeffcid,canonical_smiles,isomeric_smiles\n7,CN,CN\n", [(2, "CN")]),
        ("a.tsv", "smiles\tname\r\nCCN\tethylamine\r\n", [(2, "CCN")]),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_formats(name: str, content: str, molecules: list, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / (f"{name}.gz" if packed else name)
    data = content.encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    found = read_smiles(path)
    assert (
        list(found) == molecules and len(found) == len(molecules) and found[len(found) - 1] == molecules[-1]
    )


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("cid,name\n1,water\n")
    with pytest.raises(
        ConfigError, match=r"has no column of SMILES: its header names cid, name; call one smiles"
    ):
        read_smiles(path)
    path.write_text("smiles\n")
    with pytest.raises(ConfigError, match=r"is empty: give one SMILES per line"):
        read_smiles(path)
    packed = tmp_path / "CID-SMILES.gz"
    packed.write_bytes(gzip.compress(b"1\tC\n" * 100)[:-9])
    with pytest.raises(ConfigError, match=r"CID-SMILES.gz cannot be read"):
        read_smiles(packed)


def test_many_molecules_take_little_more_than_their_text() -> None:
    tracemalloc.start()
    try:
        molecules = Molecules((line, "CC(C)Cc1ccc(cc1)C(C)C(=O)O") for line in range(1, 100_001))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert molecules[99_999] == (100_000, "CC(C)Cc1ccc(cc1)C(C)C(=O)O")
    assert taken < 100_000 * (26 + 16) * 1.2
