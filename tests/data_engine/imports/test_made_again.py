"""verify= and repair= make imports again from the path that the user gave, whatever led there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from data_engine.dataset import Dataset
from data_engine.errors import ConfigError
from data_engine.regenerate import Compared, compare_some
from data_engine.repair import repair
from tests.data_engine.imports.test_import import import_from
from tests.data_engine.imports.test_parquet import write
from tests.data_engine.test_ranks import files


def nobody(step: str, done: int, shards: int) -> None:
    """Is told how far it is."""


def check_made_again(out: Path) -> Dataset:
    """A whole dataset is equal when it is made again, and a lost shard of it comes out as it was."""
    dataset, whole = Dataset.open(out), files(out)
    assert compare_some(dataset, 0) == Compared(min(5, len(dataset)))
    next(out.glob("*.tar")).unlink()
    assert len(repair(out, 1, nobody)) == 1
    assert files(out) == whole
    return dataset


def test_a_linked_file_keeps_its_name(tmp_path: Path) -> None:
    """A cache of the Hugging Face hub holds links to files that are called by a hash."""
    write(tmp_path / "blobs" / "train.parquet", range(4))
    (tmp_path / "blobs" / "train.parquet").rename(tmp_path / "blobs" / "0a1b")
    (tmp_path / "snapshot").mkdir()
    source = tmp_path / "snapshot" / "train.parquet"
    source.symlink_to(tmp_path / "blobs" / "0a1b")
    import_from(source, tmp_path / "out")
    dataset = check_made_again(tmp_path / "out")
    assert dataset.read_text(0).provenance["place"] == "row 0 of train.parquet"


def test_relative_paths_mean_the_same_in_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "lines").mkdir()
    (tmp_path / "elsewhere").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "pages" / "a.png")
    (tmp_path / "pages" / "a.txt").write_text("one")
    (tmp_path / "lines" / "a.jsonl").write_text(json.dumps({"image": "a.png", "response": "one"}) + "\n")
    monkeypatch.chdir(tmp_path)
    import_from(Path("pages"), tmp_path / "pairs")
    import_from(Path("lines/a.jsonl"), tmp_path / "out", images="pages")
    monkeypatch.chdir(tmp_path / "elsewhere")
    dataset = check_made_again(tmp_path / "pairs")
    assert dataset.read_text(0).provenance["place"] == "a.txt"
    check_made_again(tmp_path / "out")


def test_a_source_that_became_shorter_is_said_to_have_changed(tmp_path: Path) -> None:
    source, out = tmp_path / "texts.jsonl", tmp_path / "out"
    source.write_text("".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(9)))
    import_from(source, out, shard_samples=3)
    source.write_text('{"text": "text 0"}\n')
    sentence = "made from has changed: it gives 1 shards now, and the dataset has 3"
    assert sentence in compare_some(Dataset.open(out), 0).problem
    (out / "import-000002.tar").unlink()
    with pytest.raises(ConfigError, match=sentence):
        repair(out, 1, nobody)


def test_a_lost_or_damaged_list_of_what_was_left_out_is_written_again(tmp_path: Path) -> None:
    source, out = tmp_path / "texts.jsonl", tmp_path / "out"
    source.write_text('{"text": "one"}\n{\n{"text": "two"}\n[]\n')
    import_from(source, out, shard_samples=2)
    whole = files(out)
    assert len(whole["skipped.jsonl"].splitlines()) == 2
    for damaged in (None, whole["skipped.jsonl"][:-1], whole["skipped.jsonl"] * 2, b""):
        (out / "skipped.jsonl").unlink()
        if damaged is not None:
            (out / "skipped.jsonl").write_bytes(damaged)
        assert repair(out, 1, nobody) == {}
        assert files(out) == whole
    state = (out / "skipped.jsonl").stat()
    repair(out, 1, nobody)
    assert (out / "skipped.jsonl").stat() == state  # what is whole is not touched


def test_entries_with_an_empty_place_are_called_by_their_number(tmp_path: Path) -> None:
    source = tmp_path / "list.json"
    source.write_text(json.dumps([{"text": "one", "place": ""}, {"text": "two", "place": "page 2"}]))
    import_from(source, tmp_path / "out")
    dataset = check_made_again(tmp_path / "out")
    places = [dataset.read_text(i).provenance["place"] for i in range(2)]
    assert places == ["entry 1 of list.json", "page 2"]
