"""Files of molecules, as people have them."""

from __future__ import annotations

import gzip
import random
import tracemalloc
from pathlib import Path

import pytest

from data_engine import smiles
from data_engine.errors import ConfigError
from data_engine.smiles import NO_SMILES, NOT_UTF8, Molecules


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def all_of(molecules: Molecules) -> list[tuple[int, str]]:
    """(line, SMILES, or why there is none) of every one, read in no order."""
    order = random.Random(5).sample(range(len(molecules)), len(molecules))
    found = {}
    for number in order:
        line, data = molecules.line(number)
        try:
            found[number] = (line, molecules.smiles(data))
        except ValueError as error:
            found[number] = (line, str(error))
    return [found[number] for number in range(len(molecules))]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.smi", "CCO ethanol\n\nC1CC1\n", [(1, "CCO"), (3, "C1CC1")]),
        ("a.smi", "\r\nCCO\r\n\r\n\r\nN\r\n", [(2, "CCO"), (5, "N")]),
        ("a.smi", "\n\n\nCCO\n  \nN", [(4, "CCO"), (5, NO_SMILES), (6, "N")]),
        ("a.smi", "\ufeffCCO\nN", [(1, "CCO"), (2, "N")]),
        ("CID-SMILES", "1\tCC(=O)O\n2\tN\n", [(1, "CC(=O)O"), (2, "N")]),
        (
            "a.csv",
            'name,SMILES\n"water, heavy",[2H]O[2H]\nnone,\nx,C#N\nshort\n',
            [(2, "[2H]O[2H]"), (3, NO_SMILES), (4, "C#N"), (5, NO_SMILES)],
        ),
        ("a.csv", "\ufeffcid,canonical_smiles,isomeric_smiles\n7,CN,CN\n", [(2, "CN")]),
        ("a.tsv", "smiles\tname\r\nCCN\tethylamine\r\n", [(2, "CCN")]),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("chunk", [3, 7, 1 << 22])
def test_formats(
    name: str,
    content: str,
    found: list,
    packed: bool,
    chunk: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(smiles, "_CHUNK", chunk)
    path = written(tmp_path / (f"{name}.gz" if packed else name), content.encode())
    assert all_of(Molecules(path)) == found


def test_places_are_found_again_in_a_long_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smiles, "_CHUNK", 1000)
    chance = random.Random(3)
    lines = [chance.choice(["", "C" * chance.randint(1, 40), f"{place}\tN"]) for place in range(3000)]
    path = written(tmp_path / "a.smi", "\n".join(lines).encode())
    expected = [(place, line.split("\t")[-1]) for place, line in enumerate(lines, start=1) if line]
    assert all_of(Molecules(path)) == expected


def test_what_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_text("cid,name\n1,water\n")
    with pytest.raises(
        ConfigError, match=r"has no column of SMILES: its header names cid, name; call one smiles"
    ):
        Molecules(path)
    path.write_text("smiles\n")
    with pytest.raises(ConfigError, match=r"is empty: give one SMILES per line"):
        Molecules(path)
    whole = gzip.compress(b"".join(b"%d\tC%s\n" % (place, b"N" * (place % 7)) for place in range(20_000)))
    packed = tmp_path / "CID-SMILES.gz"
    for damaged in (
        whole[:-9],
        whole[: len(whole) // 2],
        b"no gzip",
        *(flipped(whole, place) for place in range(100, 2000, 100)),
    ):
        packed.write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"CID-SMILES.gz cannot be read: "):
            Molecules(packed)
    packed.write_bytes(whole)
    monkeypatch.setattr(smiles, "_LARGEST_UNPACKED", 1 << 17)
    with pytest.raises(ConfigError, match=r"unpack it once \(gunzip --keep CID-SMILES.gz\)"):
        Molecules(packed)


def flipped(data: bytes, place: int) -> bytes:
    """With the bits of one byte turned over."""
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def test_a_line_that_is_no_utf8_costs_nothing_but_itself(tmp_path: Path) -> None:
    path = written(tmp_path / "a.smi", "CCO\nN na\xefve\nO\n".encode("latin-1"))
    assert all_of(Molecules(path)) == [(1, "CCO"), (2, NOT_UTF8), (3, "O")]


def test_a_long_file_takes_no_memory(tmp_path: Path) -> None:
    path = written(tmp_path / "a.smi", b"CC(C)Cc1ccc(cc1)C(C)C(=O)O\n" * 400_000)
    tracemalloc.start()
    try:
        molecules = Molecules(path)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert molecules.line(399_999) == (400_000, b"CC(C)Cc1ccc(cc1)C(C)C(=O)O")
    assert taken < 200_000


def test_lines_that_ended_twice_are_counted_as_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "windows.smi"
    path.write_bytes(b"CCO\r\r\n\r\r\nCCC\r\r\nCCN\r\r\n")
    assert all_of(Molecules(path)) == [(1, "CCO"), (2, NO_SMILES), (3, "CCC"), (4, "CCN")]
