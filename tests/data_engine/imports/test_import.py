"""Data of the user's own: what goes in comes out, and what cannot be used is named with its place."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_engine.dataset import Dataset
from data_engine.errors import ConfigError
from data_engine.imports.job import Import, open_import
from data_engine.imports.options import ImportOptions
from data_engine.markup import parse_grounded
from data_engine.prompts import FREE_OCR
from data_engine.run import Outcome, make_dataset
from data_engine.verify import verify
from tests.data_engine.conftest import quiet, skipped_of

Write = Callable[[Sequence[Any]], Path]


def nobody(line: str) -> None:
    """Is told what was found out."""


def import_from(source: Path, out: Path, workers: int = 1, **values: Any) -> Outcome:
    fields = {
        name: values.pop(name) for name in ("format", "prompt", "task", "shard_samples") if name in values
    }
    with open_import(Import(source, out, ImportOptions(**values), **fields), nobody) as job:
        return make_dataset(job, workers, quiet)


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """A directory with pictures of several formats."""
    directory = tmp_path / "pages"
    directory.mkdir()
    Image.linear_gradient("L").resize((40, 20)).convert("RGB").save(directory / "a.png")
    Image.linear_gradient("L").resize((30, 60)).save(directory / "b.jpg")
    Image.linear_gradient("L").resize((8, 9)).save(directory / "c.bmp")
    (directory / "broken.png").write_bytes((directory / "a.png").read_bytes()[:-30])
    return directory


@pytest.fixture
def lines(pages: Path) -> Write:
    def write(records: Sequence[Any]) -> Path:
        path = pages / "records.jsonl"
        path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))
        return path

    return write


def test_lines_of_json_become_samples(lines: Write, pages: Path, tmp_path: Path) -> None:
    source = lines(
        [
            {"image": "a.png", "response": "one"},
            {"image": "b.jpg", "prompt": "Read this.", "response": "two", "task": "scan", "key": "x-7"},
            {"images": ["a.png", "c.bmp"], "prompt": "<image> or <image>?", "response": "three"},
            {"text": "君不见，黄河之水天上来"},
            {
                "image": "a.png",
                "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}],
            },
        ]
    )
    import_from(source, tmp_path / "out")
    dataset = Dataset.open(tmp_path / "out")
    verify(dataset, lambda done, samples: None)
    samples = [dataset.read(i) for i in range(len(dataset))]
    assert [sample.response for sample in samples] == ["one", "two", "three", "君不见，黄河之水天上来", "r"]
    assert [sample.prompt for sample in samples] == [
        FREE_OCR, "<image>\nRead this.", "<image> or <image>?", "", "<image>\nq",
    ]  # fmt: skip
    assert [sample.task for sample in samples] == ["import", "scan", "import", "text", "import"]
    assert samples[0].images == ((pages / "a.png").read_bytes(),)
    assert samples[1].images == ((pages / "b.jpg").read_bytes(),)
    assert samples[1].provenance == {
        "kind": "import",
        "index": 1,
        "place": "line 2 of records.jsonl",
        "key": "x-7",
    }
    converted = Image.open(io.BytesIO(samples[2].images[1]))
    assert converted.format == "PNG"
    assert converted.tobytes() == Image.open(pages / "c.bmp").tobytes()


def test_boxes_become_markup_on_the_grid(lines: Write, tmp_path: Path) -> None:
    blocks = [
        {"label": "title", "box": [0, 0, 20, 10], "text": "# Tea"},
        {"label": "image", "boxes": [[20, 10, 40, 20], [0, 10, 20, 20]]},
    ]
    source = lines(
        [
            {"image": "a.png", "boxes": blocks},
            {"image": "a.png", "phrase": "a cup", "boxes": [[10, 5, 30, 15]]},
        ]
    )
    import_from(source, tmp_path / "out")
    dataset = Dataset.open(tmp_path / "out")
    page, place = dataset.read_text(0), dataset.read_text(1)
    assert page.prompt == "<image>\n<|grounding|>Convert the document to markdown."
    first, second = parse_grounded(page.response)
    assert (first.label, first.boxes, first.text) == ("title", ((0, 0, 500, 500),), "# Tea")
    assert second.boxes == ((499, 499, 999, 999), (0, 499, 500, 999))
    assert place.prompt == "<image>\nLocate <|ref|>a cup<|/ref|> in the image."
    assert place.response == "<|ref|>a cup<|/ref|><|det|>[[249, 249, 750, 750]]<|/det|>"


@pytest.mark.parametrize("units", ["grid", "shares"])
def test_boxes_in_other_units(lines: Write, tmp_path: Path, units: str) -> None:
    box = [5, 7, 998, 999] if units == "grid" else [0, 0, 0.5, 1]
    import_from(lines([{"image": "a.png", "phrase": "p", "boxes": [box]}]), tmp_path / "out", units=units)
    (block,) = parse_grounded(Dataset.open(tmp_path / "out").read_text(0).response)
    assert block.boxes == ((5, 7, 998, 999) if units == "grid" else (0, 0, 500, 999),)


BAD = {
    "bad JSON": "{",
    "record is no JSON object": "[1]",
    "image is missing": {"image": "gone.png", "response": "x"},
    "image ends before its end": {"image": "broken.png", "response": "x"},
    "image is of no known format": {"image": "records.jsonl", "response": "x"},
    "image is a URL and not a file": {"image": "https://example.org/a.png", "response": "x"},
    "image file cannot be read": {"image": ".", "response": "x"},
    "image is neither a path nor an image": {"image": 7, "response": "x"},
    "no response": {"image": "a.png"},
    "empty response": {"image": "a.png", "response": "  "},
    "text is not Unicode": '{"response": "\\ud800"}',
    "number of <image> marks is not that of the images": {"prompt": "<image>", "response": "x"},
    "prompt or question is no text": {"prompt": 5, "response": "x"},
    "both a response and boxes": {"image": "a.png", "response": "x", "boxes": [{"label": "a", "box": [0, 0, 1, 1]}]},
    "boxes without one image": {"boxes": [{"label": "a", "box": [0, 0, 1, 1]}]},
    "box leaves its image": {"image": "a.png", "boxes": [{"label": "a", "box": [0, 0, 42, 20]}]},
    "box is empty": {"image": "a.png", "boxes": [{"label": "a", "box": [5, 5, 5, 9]}]},
    "box is not [left, top, right, bottom]": {"image": "a.png", "boxes": [{"label": "a", "box": [1, 2, 3]}]},
    "no box": {"image": "a.png", "phrase": "x", "boxes": []},
    "conversation does not end with an answer to a question": {"messages": [{"role": "user", "content": "q"}]},
}  # fmt: skip


def test_what_cannot_be_used_is_counted_with_its_place(lines: Write, tmp_path: Path) -> None:
    source = lines([{"response": "good"}, *BAD.values(), "", {"response": "also good"}])
    outcome = import_from(source, tmp_path / "out", shard_samples=6)
    assert outcome.manifest is not None
    assert outcome.manifest["skipped"] == dict.fromkeys(sorted(BAD), 1)
    assert [skip.reason for skip in skipped_of(tmp_path / "out")] == list(BAD)
    assert [skip.place for skip in skipped_of(tmp_path / "out")] == [
        f"line {i + 2} of records.jsonl" for i in range(len(BAD))
    ]
    dataset = Dataset.open(tmp_path / "out")
    assert [dataset.read_text(i).response for i in range(len(dataset))] == ["good", "also good"]
    verify(dataset, lambda done, samples: None)


@pytest.mark.parametrize(
    ("records", "options", "sentence"),
    [
        ([{"image": "gone.png", "response": "x"}] * 3, {}, "none of 3 records .* can be used .3 x image is missing"),
        ([{"picture": "a.png", "text": "x"}], {"image": "pictures"}, "image=pictures is no .*; did you mean 'picture'"),
        ([{"image": "a.png", "output": "x"}], {}, "no field for the response, only image, output: give options.resp"),
        ([], {}, "is empty"),
        ([""], {}, "no field for the response"),
        ([{"text": "x"}], {"format": "jsnl"}, "format=jsnl is not possible; did you mean 'jsonl'"),
        ([{"text": "x"}], {"images": "/nowhere"}, "options.images=/nowhere is no directory"),
        ([{"text": "x"}], {"units": "pixel"}, "options.units=pixel is not possible; did you mean 'pixels'"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_up_front(
    lines: Write, tmp_path: Path, records: list[Any], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        import_from(lines(records), tmp_path / "out", **options)
    assert not list(tmp_path.glob("out/*"))


def test_fields_of_other_names(lines: Write, tmp_path: Path) -> None:
    source = lines([{"scan": "a.png", "output": "x", "instruction": "Do."}])
    import_from(source, tmp_path / "out", image="scan", response="output", prompt=None)
    sample = Dataset.open(tmp_path / "out").read(0)
    assert (sample.response, len(sample.images), sample.prompt) == ("x", 1, FREE_OCR)


def test_lines_that_are_called_json_are_lines(pages: Path, tmp_path: Path) -> None:
    path = pages / "records.json"
    path.write_text('{"image": "a.png", "response": "one"}\n{"response": "two"}\n{"response":\n')
    import_from(path, tmp_path / "out")
    assert [Dataset.open(tmp_path / "out").read(i).response for i in range(2)] == ["one", "two"]
    assert [skip.place for skip in skipped_of(tmp_path / "out")] == ["line 3 of records.json"]
    path.write_text(json.dumps({"response": "a record alone"}))
    with pytest.raises(ConfigError, match="give format=jsonl if each line is one"):
        import_from(path, tmp_path / "alone")
    import_from(path, tmp_path / "alone", format="jsonl")


def test_a_table_in_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("image,response\n")
    with pytest.raises(
        ConfigError, match=r"is of a format that is not read: write it as JSONL, .* or as Parquet"
    ):
        import_from(tmp_path / "x.csv", tmp_path / "out")


def test_a_json_list_is_read_like_lines(pages: Path, tmp_path: Path) -> None:
    path = pages / "llava.json"
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Gray."}]
    path.write_text(json.dumps([{"id": 1, "image": "a.png", "conversations": turns}, 5]))
    import_from(path, tmp_path / "out")
    assert Dataset.open(tmp_path / "out").read(0).response == "Gray."
    assert [skip.place for skip in skipped_of(tmp_path / "out")] == ["entry 2 of llava.json"]


def test_images_beside_texts(pages: Path, tmp_path: Path) -> None:
    (pages / "a.md").write_text("# Tea\n")
    (pages / "b.txt").write_text("word")
    import_from(pages, tmp_path / "out", prompt="<image>\nRead.", task="page")
    dataset = Dataset.open(tmp_path / "out")
    assert [dataset.read(i).response for i in range(2)] == ["# Tea", "word"]
    assert {(s.prompt, s.task, len(s.images)) for s in map(dataset.read, range(2))} == {
        ("<image>\nRead.", "page", 1)
    }


def test_tars_and_compressed_files_are_sent_where_they_are_read(tmp_path: Path) -> None:
    for name in ("x.tar", "x.jsonl.gz"):
        (tmp_path / name).write_bytes(b"1")
    with pytest.raises(ConfigError, match="is a tar: python -m data_engine index=DIR reads"):
        import_from(tmp_path / "x.tar", tmp_path / "out")
    with pytest.raises(ConfigError, match="is compressed: unpack it first"):
        import_from(tmp_path / "x.jsonl.gz", tmp_path / "out")
    (tmp_path / "x.jsonl.gz").unlink()
    with pytest.raises(ConfigError, match="holds tars: python -m data_engine index="):
        import_from(tmp_path, tmp_path / "out")


def test_an_interrupted_import_goes_on_and_a_changed_source_is_refused(lines: Write, tmp_path: Path) -> None:
    records = [{"image": "a.png", "response": str(i)} for i in range(10)]
    source, out = lines(records), tmp_path / "out"
    import_from(source, out, shard_samples=4)
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    for name in ("manifest.json", "dataset.index", "import-000001.npz"):
        (out / name).unlink()
    assert import_from(source, out, shard_samples=4).reused_shards == 2
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    (out / "manifest.json").unlink()
    lines([{"image": "b.jpg", "response": "0"}, *records[1:]])
    with pytest.raises(ConfigError, match=r"holds shards of another command \(records is"):
        import_from(source, out, shard_samples=4)


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(lines: Write, tmp_path: Path) -> None:
    source = lines([{"image": "a.png", "response": str(i)} if i % 3 else "{" for i in range(30)])
    for workers in (1, 2):
        import_from(source, tmp_path / str(workers), workers=workers, shard_samples=4)
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "2" / path.name).read_bytes(), path.name


@pytest.mark.slow
def test_datasets_saved_on_a_disk(pages: Path, tmp_path: Path) -> None:
    from datasets import Dataset as HuggingFaceDataset
    from datasets import DatasetDict, Features, Value
    from datasets import Image as ImageFeature

    features = Features({"scan": ImageFeature(), "text": Value("string"), "latex": Value("string")})
    columns = {
        "scan": [str(pages / "a.png"), str(pages / "b.jpg")],
        "text": ["one", "two"],
        "latex": ["1", "2"],
    }
    saved = HuggingFaceDataset.from_dict(columns, features=features)
    DatasetDict({"train": saved}).save_to_disk(tmp_path / "saved")
    with pytest.raises(ConfigError, match=r"has the splits train: give options.split=SPLIT"):
        import_from(tmp_path / "saved", tmp_path / "out")
    import_from(tmp_path / "saved", tmp_path / "out", split="train", image="scan", response="latex")
    dataset = Dataset.open(tmp_path / "out")
    assert [dataset.read(i).response for i in range(2)] == ["1", "2"]
    assert dataset.read(0).images == ((pages / "a.png").read_bytes(),)
    with pytest.raises(ConfigError, match=r"options.image=skan is no field of .*; did you mean 'scan'"):
        import_from(tmp_path / "saved", tmp_path / "other", split="train", image="skan", response="text")


def test_names_that_are_no_unicode_are_spelled_out(lines: Write, pages: Path, tmp_path: Path) -> None:
    source = lines(
        ['{"response": "x", "place": "\\ud83d torn"}', '{"response": "", "place": "\\udcff empty"}']
    )
    import_from(source, tmp_path / "lines")
    assert Dataset.open(tmp_path / "lines").read(0).provenance["place"] == "\\ud83d torn"
    assert skipped_of(tmp_path / "lines")[0].place == "\\udcff empty"

    named = Path(os.fsdecode(bytes(tmp_path / "named")))
    named.mkdir()
    odd = Path(os.fsdecode(bytes(named) + b"/\xff"))
    odd.with_suffix(".png").write_bytes((pages / "a.png").read_bytes())
    odd.with_suffix(".md").write_text("tea")
    import_from(named, tmp_path / "pairs")
    sample = Dataset.open(tmp_path / "pairs").read(0)
    assert (sample.response, len(sample.images)) == ("tea", 1)
    assert sample.provenance["place"] == "\\udcff.md"

    odd.with_suffix(".txt").write_text("tea")
    with pytest.raises(ConfigError, match=r"is not Unicode \(near .*udcff.txt.*: give the file another name"):
        import_from(odd.with_suffix(".txt"), tmp_path / "text")
