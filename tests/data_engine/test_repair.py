"""Bad shards are made again to the same bytes, or nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_engine.dataset import Dataset
from data_engine.errors import ConfigError
from data_engine.files import atomic_write_json
from data_engine.repair import repair
from data_engine.verify import verify
from tests.data_engine.imports.test_import import import_from
from tests.data_engine.test_ranks import files


def nobody(step: str, done: int, shards: int) -> None:
    """Is told how far it is."""


def damage(directory: Path) -> None:
    """One tar with a flipped bit, one that is missing, one index that is cut off."""
    stem = next(directory.glob("*-000000.tar")).stem.removesuffix("-000000")
    first = directory / f"{stem}-000000.tar"
    content = bytearray(first.read_bytes())
    content[600] ^= 1
    first.write_bytes(content)
    (directory / f"{stem}-000001.tar").unlink()
    last = directory / f"{stem}-000002.npz"
    last.write_bytes(last.read_bytes()[:100])
    (directory / "dataset.index").unlink()


def test_bad_shards_come_out_with_the_same_bytes(damaged: Callable[[], Path]) -> None:
    directory = damaged()
    whole = files(directory)
    assert repair(directory, 1, nobody) == {}
    damage(directory)
    problems = repair(directory, 1, nobody)
    assert list(problems.values()) == [
        "the sha256 of card-000000.tar does not match",
        "card-000001.tar is missing",
        "the sha256 of card-000002.npz does not match",
    ]
    assert files(directory) == whole
    verify(Dataset.open(directory), lambda done, samples: None)


def test_an_import_is_repaired_from_its_source(tmp_path: Path) -> None:
    source = tmp_path / "texts.jsonl"
    source.write_text("".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(9)))
    import_from(source, tmp_path / "out", shard_samples=3)
    whole = files(tmp_path / "out")
    damage(tmp_path / "out")
    assert len(repair(tmp_path / "out", 1, nobody)) == 3
    assert files(tmp_path / "out") == whole
    damage(tmp_path / "out")
    before = files(tmp_path / "out")
    source.write_text(source.read_text().replace("text 4", "text four"))
    with pytest.raises(
        ConfigError, match="import-000001 comes out with other bytes than it had: nothing was changed"
    ):
        repair(tmp_path / "out", 1, nobody)
    assert files(tmp_path / "out") == before


def test_other_versions_are_refused(damaged: Callable[[], Path]) -> None:
    directory = damaged()
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["versions"]["skia-python"] = "1.0"
    atomic_write_json(directory / "manifest.json", manifest)
    (directory / "card-000001.tar").unlink()
    with pytest.raises(ConfigError, match=r"to the same bytes: versions.skia-python is \"1.0\" there and"):
        repair(directory, 1, nobody)


def test_a_dataset_that_does_not_say_how_it_was_made_is_refused(damaged: Callable[[], Path]) -> None:
    directory = damaged()
    manifest = json.loads((directory / "manifest.json").read_text())
    del manifest["plan"]
    atomic_write_json(directory / "manifest.json", manifest)
    with pytest.raises(
        ConfigError, match=r"remove its manifest.json and give the command that made it once more"
    ):
        repair(directory, 1, nobody)
