"""A tar has no checksum and a truncated one is read without complaint; none of this may get past the reader."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from data_engine.dataset import DamagedSampleError, Dataset
from data_engine.errors import ConfigError
from data_engine.verify import contact_sheet, verify

Copy = Callable[[], Path]


def check(directory: Path) -> None:
    verify(Dataset.open(directory), lambda done, samples: None)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x40
    path.write_bytes(bytes(data))


def edit_manifest(directory: Path, **changes: object) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_whole_dataset_passes(cards: Dataset, tmp_path: Path) -> None:
    steps: list[int] = []
    verify(cards, lambda done, samples: steps.append(done))
    assert steps == [0, 5, 10, 12]
    contact_sheet([cards], tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes()[:4] == b"\x89PNG"


def test_it_survives_being_sent_to_another_process(cards: Dataset) -> None:
    assert pickle.loads(pickle.dumps(cards)).read(11) == cards.read(11)


def test_positions_outside_are_refused(cards: Dataset) -> None:
    for i in (-1, 12):
        with pytest.raises(IndexError, match="dataset cards has samples 0 to 11"):
            cards.read(i)


def test_truncated_shard(damaged: Copy) -> None:
    directory = damaged()
    path = directory / "card-000001.tar"
    path.write_bytes(path.read_bytes()[:-3000])
    dataset = Dataset.open(directory)
    dataset.read(4)
    with pytest.raises(DamagedSampleError, match=r"the shard has \d+ bytes and manifest.json says \d+"):
        dataset.read(5)
    with pytest.raises(DamagedSampleError, match=r"the shard has \d+ bytes and manifest.json says \d+"):
        check(directory)


def test_shard_truncated_while_it_is_read(damaged: Copy) -> None:
    directory = damaged()
    dataset = Dataset.open(directory)
    dataset.read(11)
    path = directory / "card-000002.tar"
    os.truncate(path, 2000)
    with pytest.raises(
        DamagedSampleError, match=r"sample card-000000011 in .*: its image ends after 0 of"
    ) as caught:
        dataset.read(11)
    assert (caught.value.shard, caught.value.key, caught.value.sample) == (str(path), "card-000000011", 11)
    assert caught.value.reason.startswith("its image ends after 0 of")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.sample) == (str(caught.value), 11)


@pytest.mark.parametrize(("part", "what"), [("image", "its image"), ("json", "its json")])
def test_flipped_byte_in_a_member(damaged: Copy, part: str, what: str) -> None:
    import numpy as np

    directory = damaged()
    with np.load(directory / "card-000000.npz") as index:
        place = int(index[f"{part}_offset"][2]) + int(index[f"{part}_size"][2]) // 2
    flip(directory / "card-000000.tar", place)
    dataset = Dataset.open(directory)
    dataset.read(1)
    with pytest.raises(
        DamagedSampleError, match=f"sample card-000000002 in .* damaged: the checksum of {what}"
    ):
        dataset.read(2)
    with pytest.raises(DamagedSampleError, match=r"sample card-000000002"):
        check(directory)


def test_flipped_byte_in_a_header_is_found_by_verify(damaged: Copy) -> None:
    directory = damaged()
    flip(directory / "card-000000.tar", 130)
    with pytest.raises(DamagedSampleError, match=r"card-000000.tar is damaged outside of its samples"):
        check(directory)


def test_missing_index_and_missing_shard(damaged: Copy) -> None:
    directory = damaged()
    (directory / "card-000001.npz").rename(directory / "away")
    Dataset.open(directory).read(7)  # a reader needs dataset.index only
    with pytest.raises(ConfigError, match=r"card-000001.npz is missing and manifest.json lists it"):
        check(directory)
    (directory / "dataset.index").unlink()
    with pytest.raises(ConfigError, match=r"card-000001.npz is missing and manifest.json lists it"):
        Dataset.open(directory)
    (directory / "away").rename(directory / "card-000001.npz")
    (directory / "card-000001.tar").unlink()
    with pytest.raises(ConfigError, match=r"card-000001.tar is missing and manifest.json lists it"):
        Dataset.open(directory)


def test_changed_index_of_a_shard(damaged: Copy) -> None:
    directory = damaged()
    flip(directory / "card-000001.npz", 200)
    with pytest.raises(ConfigError, match=r"card-000001.npz does not match manifest.json \(sha256\)"):
        check(directory)
    (directory / "dataset.index").unlink()
    with pytest.raises(ConfigError, match=r"card-000001.npz does not match manifest.json \(sha256\)"):
        Dataset.open(directory)


def test_a_dataset_without_its_joint_index_reads_the_same(damaged: Copy, cards: Dataset) -> None:
    directory = damaged()
    (directory / "dataset.index").unlink()
    older = Dataset.open(directory)
    assert [older.read(i) for i in range(12)] == [cards.read(i) for i in range(12)]
    assert sorted(path.suffix for path in directory.iterdir() if path.suffix == ".index") == []


def test_index_of_another_manifest(damaged: Copy) -> None:
    directory = damaged()
    edit_manifest(directory, options={"other": 1})
    with pytest.raises(ConfigError, match=r"dataset.index is not of this manifest.json"):
        Dataset.open(directory)


def test_manifest_that_does_not_match(damaged: Copy) -> None:
    directory = damaged()
    original = (directory / "manifest.json").read_text()
    cases: list[tuple[dict[str, object], str]] = [
        ({"samples": 11}, "contradicts itself"),
        ({"fingerprint": "0"}, "contradicts itself"),
        ({"schema": 2}, "has schema 2, and this program reads schema 1"),
    ]
    for changes, sentence in cases:
        edit_manifest(directory, **changes)
        with pytest.raises(ConfigError, match=sentence):
            Dataset.open(directory)
        (directory / "manifest.json").write_text(original)
    (directory / "manifest.json").write_text("{")
    with pytest.raises(ConfigError, match=r"manifest.json cannot be read"):
        Dataset.open(directory)
    (directory / "manifest.json").write_text('{"schema": 1}')
    with pytest.raises(ConfigError, match=r"manifest.json lacks fingerprint, kind"):
        Dataset.open(directory)


def test_no_manifest_is_an_unfinished_dataset(damaged: Copy) -> None:
    directory = damaged()
    (directory / "manifest.json").unlink()
    with pytest.raises(ConfigError, match=r"is unfinished: it has shards and no manifest.json"):
        Dataset.open(directory)
