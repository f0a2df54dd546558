from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from data_engine.dataset import DamagedSampleError, Dataset, open_datasets
from data_engine.errors import ConfigError
from data_engine.files import sha256_of
from data_engine.sample import Sample
from data_engine.shards import tar_header, write_manifest, write_shard
from tests.data_engine.conftest import make


def two_images(key: str = "two") -> Sample:
    return Sample(
        key,
        (b"first", b"second"),
        ("png", "jpg"),
        ((3, 4), (5, 6)),
        "<image><image>\nCompare.",
        "equal",
        "pair",
        {},
    )


def text_only(key: str = "none") -> Sample:
    return Sample(key, (), (), (), "Say it.", "它", "text", {"index": 1})


def write(directory: Path, samples: list[Sample]) -> Dataset:
    directory.mkdir(exist_ok=True)
    record = write_shard(directory, "mixed-000000", samples, {"kind": "mixed"})
    write_manifest(directory, kind="mixed", seed=0, shards=[record], skipped=[], options={}, versions={})
    return Dataset.open(directory)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    samples = [two_images(), text_only()]
    dataset = write(tmp_path / "mixed", samples)
    assert [dataset.read(i) for i in range(2)] == samples
    assert dataset.read_text(0).images == ()
    assert dataset.read_text(0).image_sizes == ((3, 4), (5, 6))
    assert dataset.key(0) == "two"
    with tarfile.open(tmp_path / "mixed" / "mixed-000000.tar") as tar:
        names = [member.name for member in tar]
    assert names == ["two.0.png", "two.1.jpg", "two.json", "none.json"]


def test_the_json_member_is_as_described(cards: Dataset) -> None:
    sample = cards.read(3)
    with tarfile.open(cards.directory / "card-000000.tar") as tar:
        file = tar.extractfile(f"{sample.key}.json")
        assert file is not None
        text = file.read().decode()
    record = json.loads(text)
    assert list(record) == sorted(record) == ["images", "prompt", "provenance", "response", "schema", "task"]
    assert record["schema"] == 1
    assert record["images"] == [{"member": "png", "width": 128, "height": 128}]
    assert record["provenance"]["index"] == 3
    assert {"seed", "kind", "engine_version", "renderer"} <= set(record["provenance"])


@pytest.mark.parametrize("key", ["a.b", "", "a/b", "ä"])
def test_a_key_that_would_break_a_tar_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="may hold only letters, digits"):
        write(tmp_path, [text_only(key)])
    assert list(tmp_path.iterdir()) == []


def test_prompt_and_images_must_agree(tmp_path: Path) -> None:
    sample = Sample("one", (b"x",), ("png",), ((1, 1),), "no mark", "", "text", {})
    with pytest.raises(ValueError, match="sample one has 1 images, 1 formats, 1 sizes and 0 <image> marks"):
        write(tmp_path, [sample])


def test_headers_equal_those_of_the_standard_library() -> None:
    info = tarfile.TarInfo("card-1.png")
    info.size, info.mode = 12345, 0o444
    theirs = info.tobuf(tarfile.USTAR_FORMAT)
    ours = tar_header("card-1.png", 12345)
    assert len(ours) == 512
    assert ours[:148] == theirs[:148]  # name, mode, owner, size, time
    assert ours[156:265] == theirs[156:265]  # kind, link, format
    again = tarfile.TarInfo.frombuf(ours, "ascii", "strict")  # compares the checksum
    assert (again.name, again.size, again.mode, again.mtime) == ("card-1.png", 12345, 0o444, 0)


def test_same_seed_same_bytes_in_any_order(cards: Dataset, tmp_path: Path) -> None:
    """All in a row, and each shard alone from the last to the first: equal files."""
    from data_engine.run import close_renderer, make_shard
    from tests.data_engine.conftest import plan_of

    plan = plan_of("card", tmp_path / "alone")
    plan.directory.mkdir()
    for number in reversed(range(plan.shards)):
        make_shard(plan, number)
        close_renderer()
    files = sorted(path.name for path in cards.directory.iterdir())
    assert files[0] == "card-000000.npz"
    assert files[-1] == "manifest.json"
    for name in files:
        if name not in ("manifest.json", "dataset.index"):
            assert (cards.directory / name).read_bytes() == (plan.directory / name).read_bytes(), name


@pytest.mark.slow
def test_two_workers_make_the_same_bytes(cards: Dataset, tmp_path: Path) -> None:
    make("card", tmp_path / "two", workers=2)
    for path in cards.directory.iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_another_seed_is_another_dataset(cards: Dataset, tmp_path: Path) -> None:
    make("card", tmp_path / "other", seed=8)
    other = Dataset.open(tmp_path / "other")
    assert other.fingerprint != cards.fingerprint
    responses = [[data.read_text(i).response for i in range(12)] for data in (cards, other)]
    assert sum(a == b for a, b in zip(*responses, strict=True)) < 4


def test_open_datasets_finds_one_or_many(cards: Dataset) -> None:
    assert list(open_datasets(cards.directory)) == ["cards"]
    assert list(open_datasets(cards.directory.parent)) == ["cards"]


def test_open_datasets_refuses_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"/nothing does not exist: make it with python -m data_engine\.$"):
        open_datasets(tmp_path / "nothing")
    with pytest.raises(ConfigError, match=r"holds no dataset"):
        open_datasets(tmp_path)


def test_stock_webdataset_reads_a_shard(cards: Dataset) -> None:
    webdataset = pytest.importorskip("webdataset")
    read = list(webdataset.WebDataset(str(cards.directory / "card-000001.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in read] == [cards.key(i) for i in range(5, 10)]
    for place, sample in enumerate(read):
        assert sample["png"] == cards.read(5 + place).images[0]
        assert json.loads(sample["json"])["response"] == cards.read_text(5 + place).response


OFFLINE = """
import sys, datasets
read = datasets.load_dataset("webdataset", data_files=sys.argv[1:], split="train")
assert len(read) == 12, len(read)
for row in read:
    assert row["png"].size == (128, 128)
    print(row["__key__"], row["json"]["response"])
"""


@pytest.mark.slow
def test_hugging_face_datasets_read_the_shards(cards: Dataset, tmp_path: Path) -> None:
    """In a process of its own: `datasets` reads its settings from the environment when it is imported."""
    pytest.importorskip("datasets")
    shards = sorted(str(path) for path in cards.directory.glob("*.tar"))
    environment = dict(os.environ, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    environment |= {"HF_DATASETS_CACHE": str(tmp_path / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    result = subprocess.run(
        [sys.executable, "-c", OFFLINE, *shards], capture_output=True, text=True, env=environment, timeout=200
    )
    assert result.returncode == 0, result.stderr
    expected = [f"{cards.key(i)} {cards.read_text(i).response}" for i in range(12)]
    assert result.stdout.split("\n")[:-1] == expected


def test_an_index_from_before_xxh3(tmp_path: Path) -> None:
    """Older shards have CRC-32 in their indices, and a dataset may have shards of both sorts."""
    samples = [two_images("a"), text_only("b"), two_images("c")]
    records = [write_shard(tmp_path, f"s-{number}", [sample], {}) for number, sample in enumerate(samples)]
    with np.load(tmp_path / "s-0.npz") as index:
        columns = dict(index)
    tar = (tmp_path / "s-0.tar").read_bytes()
    for part in ("json", "image"):
        places = zip(columns[f"{part}_offset"].tolist(), columns[f"{part}_size"].tolist(), strict=True)
        sums = [zlib.crc32(tar[offset : offset + size]) for offset, size in places]
        del columns[f"{part}_xxh3"]
        columns[f"{part}_crc32"] = np.array(sums, np.uint32)
    np.savez(tmp_path / "s-0.npz", allow_pickle=False, **columns)
    records[0] = dataclasses.replace(records[0], index_sha256=sha256_of(tmp_path / "s-0.npz"))
    write_manifest(tmp_path, kind="mixed", seed=0, shards=records, skipped=[], options={}, versions={})
    dataset = Dataset.open(tmp_path)
    assert [dataset.read(i) for i in range(3)] == samples
    place = int(columns["image_offset"][1])
    (tmp_path / "s-0.tar").write_bytes(tar[:place] + b"S" + tar[place + 1 :])
    with pytest.raises(DamagedSampleError, match="the checksum of its image"):
        Dataset.open(tmp_path).read(0)


def test_many_samples_at_once_equal_one_at_a_time(tmp_path: Path) -> None:
    samples = [text_only("a"), two_images("b"), text_only("c"), two_images("d"), two_images("e")]
    shards = [
        write_shard(tmp_path, f"mixed-{number}", part, {})
        for number, part in enumerate((samples[:2], samples[2:3], [], samples[3:]))
    ]
    write_manifest(tmp_path, kind="mixed", seed=0, shards=shards, skipped=[], options={}, versions={})
    dataset = Dataset.open(tmp_path)
    asked = np.array([4, 0, 1, 1, 3, 2])
    counts, sizes = dataset.image_sizes_of(asked)
    assert counts.tolist() == [2, 0, 2, 2, 2, 0]
    read = [dataset.read_text(i) for i in asked.tolist()]
    assert [tuple(size) for size in sizes.tolist()] == [
        size for sample in read for size in sample.image_sizes
    ]
    assert dataset.text_lengths_of(asked).tolist() == [
        [len(sample.prompt), len(sample.response)] for sample in read
    ]
    none = np.zeros(0, np.int64)
    assert dataset.image_sizes_of(none)[1].shape == dataset.text_lengths_of(none).shape == (0, 2)
    with pytest.raises(IndexError, match="has samples 0 to 4, and"):
        dataset.image_sizes_of(np.array([0, 5]))
