"""Parquet as the hub has it: rows in order, whatever the files and shards; damage costs its rows."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from data_engine.dataset import Dataset
from data_engine.errors import ConfigError
from data_engine.imports.parquet import split_of
from data_engine.markup import parse_grounded
from tests.data_engine.conftest import skipped_of
from tests.data_engine.imports.test_import import import_from


def picture(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (6, 5), shade).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, numbers: range, rows_in_group: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "image": [{"bytes": picture(number), "path": f"{number}.png"} for number in numbers],
        "text": [f"text {number}" for number in numbers],
    }
    parquet.write_table(pyarrow.table(columns), path, row_group_size=rows_in_group)


def test_a_directory_of_the_hub(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    write(hub / "data" / "train-00000-of-00002.parquet", range(8))
    write(hub / "data" / "train-00001-of-00002.parquet", range(8, 20))
    write(hub / "data" / "test-00000-of-00001.parquet", range(90, 92))
    (hub / "README.md").write_text("# About the data")
    (hub / "dataset_infos.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"has the splits test, train: give options.split=SPLIT"):
        import_from(hub, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"options.split=tran is not possible; did you mean 'train'"):
        import_from(hub, tmp_path / "out", split="tran")
    for name, sentence in (("a", r"a.parquet"), ("b", r"a.parquet and 1 more")):
        write(hub / f"{name}.parquet", range(2))
        with pytest.raises(
            ConfigError,
            match=rf"splits test, train and files without a split in their names \({sentence}\): give",
        ):
            import_from(hub, tmp_path / "out")
    import_from(hub, tmp_path / "out", split="train", shard_samples=7)
    dataset = Dataset.open(tmp_path / "out")
    samples = [dataset.read(i) for i in range(len(dataset))]
    assert [shard.samples for shard in dataset.shards] == [7, 7, 6]
    assert [sample.response for sample in samples] == [f"text {number}" for number in range(20)]
    assert [sample.images[0] for sample in samples] == [picture(number) for number in range(20)]
    assert samples[9].provenance["place"] == "row 1 of train-00001-of-00002.parquet"


def test_an_import_of_parquet_goes_on_unless_a_file_changed(tmp_path: Path) -> None:
    source, out = tmp_path / "a.parquet", tmp_path / "out"
    write(source, range(10))
    import_from(source, out, shard_samples=4)
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    for name in ("manifest.json", "import-000001.npz"):
        (out / name).unlink()
    assert import_from(source, out, shard_samples=4).reused_shards == 2
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    (out / "manifest.json").unlink()
    write(tmp_path / "b.parquet", range(20, 31))
    (tmp_path / "b.parquet").replace(source)
    with pytest.raises(ConfigError, match=r"holds shards of another command \(.*is"):
        import_from(source, out, shard_samples=4)


def test_a_damaged_part_costs_its_rows(tmp_path: Path) -> None:
    source = tmp_path / "a.parquet"
    write(source, range(9))
    group = parquet.ParquetFile(source).metadata.row_group(1)
    data = bytearray(source.read_bytes())
    start = group.column(0).dictionary_page_offset or group.column(0).data_page_offset
    data[start : start + group.column(0).total_compressed_size] = bytes(group.column(0).total_compressed_size)
    source.write_bytes(data)
    import_from(source, tmp_path / "out")
    dataset = Dataset.open(tmp_path / "out")
    assert [dataset.read(i).response for i in range(len(dataset))] == [
        f"text {i}" for i in (0, 1, 2, 6, 7, 8)
    ]
    assert [(skip.reason, skip.place) for skip in skipped_of(tmp_path / "out")] == [
        ("damaged Parquet row group", f"row {row} of a.parquet") for row in (3, 4, 5)
    ]
    source.write_bytes(data[:-30])
    with pytest.raises(ConfigError, match="cannot be read as Parquet"):
        import_from(source, tmp_path / "cut")


def test_an_odd_cell_costs_its_row_and_nothing_where_its_column_is_not_used(tmp_path: Path) -> None:
    source = tmp_path / "a.parquet"
    torn = pyarrow.array([b"zero", b"\xff", b"two"]).view(pyarrow.string())
    # Years after 9999, and spans longer than Python has: they are wanted by nobody, or by options.key=.
    odd = {
        "changed": pyarrow.array([0, 0, 10**12], pyarrow.timestamp("s")),
        "day": pyarrow.array([10**9, 0, 0], pyarrow.date32()),
        "span": pyarrow.array([0, 0, 10**18], pyarrow.duration("s")),
    }
    parquet.write_table(pyarrow.table({"text": torn, **odd}), source)
    import_from(source, tmp_path / "out")
    assert [Dataset.open(tmp_path / "out").read_text(i).response for i in range(2)] == ["zero", "two"]
    skipped = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert skipped == [{"index": 1, "reason": "row cannot be read", "place": "row 1 of a.parquet"}]
    for column, left in {"changed": "zero", "day": "two", "span": "zero"}.items():
        import_from(source, tmp_path / column, key=column)
        dataset = Dataset.open(tmp_path / column)
        assert [dataset.read_text(i).response for i in range(len(dataset))] == [left]
        assert dataset.manifest["skipped"] == {"row cannot be read": 2}


def test_blocks_of_one_box_and_of_several_in_one_table(tmp_path: Path) -> None:
    """Arrow gives every struct all fields that any of them has: the others are null."""
    blocks = [
        {"label": "title", "box": [0, 0, 6, 1]},
        {"label": "image", "boxes": [[0, 1, 3, 5], [3, 1, 6, 5]]},
    ]
    columns = {"image": [{"bytes": picture(9), "path": "9.png"}], "boxes": [blocks]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    import_from(tmp_path / "a.parquet", tmp_path / "out")
    first, second = parse_grounded(Dataset.open(tmp_path / "out").read_text(0).response)
    assert (first.label, len(first.boxes), second.label, len(second.boxes)) == ("title", 1, "image", 2)


def test_files_of_other_columns_and_of_none_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "two" / "a.parquet", range(3))
    parquet.write_table(pyarrow.table({"text": ["x"]}), tmp_path / "two" / "b.parquet")
    with pytest.raises(ConfigError, match=r"b.parquet has other columns than a.parquet"):
        import_from(tmp_path / "two", tmp_path / "out")
    write(tmp_path / "none.parquet", range(0))
    with pytest.raises(ConfigError, match=r"none.parquet is empty"):
        import_from(tmp_path / "none.parquet", tmp_path / "out")
    (tmp_path / "two" / "c.jsonl").write_text(json.dumps({"text": "x"}))
    with pytest.raises(ConfigError, match=r"files of several formats \(jsonl, parquet\)"):
        import_from(tmp_path / "two", tmp_path / "out")


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/train-00000-of-00002-3a.parquet", "train"),
        ("test/0000.parquet", "test"),
        ("vqa/val_1.parquet", "val"),
        ("training.parquet", None),
    ],
)
def test_the_split_of_a_name(path: str, split: str | None) -> None:
    assert split_of(Path(path)) == split
