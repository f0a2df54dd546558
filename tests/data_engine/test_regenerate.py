"""What every checksum agrees with and the seed does not is found; what cannot be made here is no damage."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_engine.dataset import DamagedSampleError, Dataset
from data_engine.files import atomic_write_json
from data_engine.regenerate import Compared, compare_some, drawn
from data_engine.sample import Sample
from data_engine.shards import read_finished, write_manifest, write_shard
from data_engine.verify import verify
from tests.data_engine.conftest import Command, make, needs_assets
from tests.data_engine.imports.test_import import import_from


def forge(directory: Path, key: str, **changes: Any) -> None:
    """Change a sample of the first shard, with every checksum there is."""
    dataset = Dataset.open(directory)
    name, samples = dataset.shards[0].name, [dataset.read(i) for i in range(dataset.shards[0].samples)]
    dataset.close()
    finished = read_finished(directory, name)
    assert finished is not None
    changed: list[Sample] = [
        dataclasses.replace(sample, **changes) if sample.key == key else sample for sample in samples
    ]
    first = write_shard(directory, name, changed, finished.configuration)
    manifest = {name: dataset.manifest[name] for name in ("kind", "seed", "options", "versions", "plan")}
    write_manifest(directory, shards=[first, *dataset.shards[1:]], skipped=[], **manifest)


@pytest.mark.parametrize("what", ["text", "image", "index"])
def test_a_sample_changed_with_all_its_checksums_is_found(
    tmp_path: Path, data_engine: Command, what: str
) -> None:
    out = tmp_path / "cards"
    make("card", out, samples=4)
    assert (compare_some(Dataset.open(out), 0).samples, compare_some(Dataset.open(out), 0).problem) == (4, "")
    provenance = Dataset.open(out).read(2).provenance | {"index": 3 if what == "index" else 2}
    other = Dataset.open(out).read(1).images
    changes: dict[str, dict[str, Any]] = {
        "text": {"response": "forged"},
        "image": {"images": other},
        "index": {"provenance": provenance},
    }
    forge(out, "card-000000002", **changes[what])
    verify(Dataset.open(out), lambda done, samples: None)
    found = data_engine(f"verify={out}")
    assert found.returncode == 2
    found_there = {"text": "its text is another", "image": "its image is another", "index": "its key is"}
    assert "sample card-000000002 in " in found.stderr
    assert found_there[what] in found.stderr


def test_samples_are_drawn_from_all_over_the_dataset(cards: Dataset) -> None:
    numbers = drawn(cards, 0)
    assert numbers == drawn(cards, 0)
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 5
    assert {tuple(drawn(cards, seed)) for seed in range(20)} != {tuple(numbers)}
    assert compare_some(cards, 3).samples == 5


def test_what_cannot_be_made_again_here_is_said_and_is_no_damage(
    damaged: Callable[[], Path], data_engine: Command
) -> None:
    directory = damaged()
    manifest = json.loads((directory / "manifest.json").read_text())
    whole = json.dumps(manifest)
    manifest["versions"]["skia-python"] = "1.0"
    atomic_write_json(directory / "manifest.json", manifest)
    (directory / "dataset.index").unlink()
    said = data_engine(f"verify={directory}")
    assert said.returncode == 0, said.stderr
    assert "none could be made again here: " in said.stdout
    assert 'versions.skia-python is "1.0" there and' in said.stdout
    manifest = json.loads(whole)
    del manifest["plan"]
    atomic_write_json(directory / "manifest.json", manifest)
    assert "does not say how it was made" in compare_some(Dataset.open(directory), 0).problem


def test_an_import_is_compared_with_its_source(tmp_path: Path) -> None:
    source, out = tmp_path / "records.jsonl", tmp_path / "out"
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    records = [{"image": "a.png", "response": f"text {i}"} for i in range(12)]
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    import_from(source, out, shard_samples=5)
    before = sorted(out.iterdir())
    assert compare_some(Dataset.open(out), 0).samples == 5
    assert sorted(out.iterdir()) == before
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    assert "12 x image is missing" in compare_some(Dataset.open(out), 0).problem
    (tmp_path / "b.png").rename(tmp_path / "a.png")
    source.write_text(source.read_text().replace("text 11", "text twelve"))
    assert "its.records is" in compare_some(Dataset.open(out), 0).problem
    source.unlink()
    assert "does not exist" in compare_some(Dataset.open(out), 0).problem


@needs_assets
def test_a_photograph_that_changed_is_no_damage(tmp_path: Path) -> None:
    photograph = tmp_path / "photographs" / "a.png"
    photograph.parent.mkdir()

    def photographed(shade: int) -> None:
        Image.new("RGB", (128, 128), (shade, shade, shade)).save(photograph, compress_level=0)

    photographed(200)
    size, out = photograph.stat().st_size, tmp_path / "out"
    options: dict[str, Any] = {
        "photographs": str(photograph.parent),
        "size": 128,
        "languages": {"en": 1.0},
    }
    make("scene_text", out, samples=2, **options)
    assert compare_some(Dataset.open(out), 0) == Compared(2)
    photographed(180)
    assert photograph.stat().st_size == size  # all that the listing of photographs tells
    compared = compare_some(Dataset.open(out), 0)
    assert compared == Compared(0, "the photograph a.png has changed since the dataset was made from it")
    photograph.write_bytes(bytes(size))
    assert compare_some(Dataset.open(out), 0) == Compared(
        0, "image is not a readable PNG, JPEG, WEBP (a.png)"
    )


def test_a_forged_import_is_found(tmp_path: Path) -> None:
    source, out = tmp_path / "records.jsonl", tmp_path / "out"
    source.write_text('{"text": "one"}\n{"text": "two"}\n')
    import_from(source, out)
    forge(out, "import-000000001", response="forged")
    with pytest.raises(
        DamagedSampleError, match=r"import-000000001 .* its text is another, or what it was made"
    ):
        compare_some(Dataset.open(out), 0)
