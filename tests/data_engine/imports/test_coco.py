"""COCO's annotations, and those for expressions, as samples with boxes and captions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_engine.dataset import Dataset
from data_engine.errors import ConfigError
from data_engine.markup import parse_grounded
from data_engine.prompts import DETECT_ALL
from tests.data_engine.conftest import skipped_of
from tests.data_engine.imports.test_import import import_from, pages

__all__ = ["pages"]


def coco(directory: Path) -> Path:
    content = {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.jpg"}, {"id": 3, "file_name": "c.bmp"}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 4, "name": "cup"}],
        "annotations": [
            {"image_id": 1, "category_id": 18, "bbox": [0, 0, 20, 10]},
            {"image_id": 1, "category_id": 4, "bbox": [20, 10, 20, 10]},
            {"image_id": 1, "category_id": 18, "bbox": [20, 0, 10, 10]},
            {"image_id": 1, "category_id": 18, "bbox": [0, 0, 40, 20], "iscrowd": 1},
            {"image_id": 2, "caption": "A slope of gray. "},
            {"image_id": 2, "caption": "From dark to light."},
        ],
    }  # fmt: skip
    path = directory / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_coco_detection_grounding_and_captions(pages: Path, tmp_path: Path) -> None:
    import_from(coco(pages), tmp_path / "out", shard_samples=2)
    dataset = Dataset.open(tmp_path / "out")
    samples = [dataset.read_text(i) for i in range(len(dataset))]
    assert [sample.task for sample in samples] == [
        "detection",
        "grounding",
        "grounding",
        "caption",
        "caption",
    ]
    assert samples[0].prompt == DETECT_ALL
    dogs, cups = parse_grounded(samples[0].response)
    assert (dogs.label, dogs.boxes) == ("dog", ((0, 0, 500, 500), (499, 0, 750, 500)))
    assert parse_grounded(samples[2].response) == [cups]
    assert "Locate <|ref|>cup<|/ref|>" in samples[2].prompt
    assert [sample.response for sample in samples[3:]] == ["A slope of gray.", "From dark to light."]
    assert [(skip.reason, skip.place) for skip in skipped_of(tmp_path / "out")] == [
        ("no response", "image 3 of instances.json")
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")) == []


def test_expressions_for_boxes_become_questions_for_their_places(pages: Path, tmp_path: Path) -> None:
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "caption": "a dark edge"},
            {"id": 2, "file_name": "b.jpg"},
            {"id": 3, "file_name": "b.jpg"},
        ],
        "annotations": [
            {"id": 5, "image_id": 1, "bbox": [0, 0, 20, 10], "tokens_positive": [[2, 6], [7, 11]]},
            {"id": 6, "image_id": 2, "bbox": [0, 0, 15, 30], "caption": "the upper half"},
            {"id": 7, "image_id": 2, "bbox": [15, 30, 15, 30], "sentences": [{"raw": "Below"}, {"sent": "right"}]},
            {"id": 8, "image_id": 3, "bbox": [0, 0, 30, 30]},
        ],
        "categories": [{"id": 1, "name": "thing"}],
        "refs": [{"ann_id": 8, "sentences": [{"raw": "all of it", "sent": "x"}]}],
    }  # fmt: skip
    for annotation in content["annotations"]:
        annotation["category_id"] = 1
    path = pages / "refs.json"
    path.write_text(json.dumps(content))
    import_from(path, tmp_path / "out", objects=["locate"])
    found = list(map(Dataset.open(tmp_path / "out").read_text, range(8)))
    phrases = [parse_grounded(sample.response)[0] for sample in found if "thing" not in sample.prompt]
    assert [(block.label, block.boxes) for block in phrases] == [
        ("dark edge", ((0, 0, 500, 500),)),
        ("the upper half", ((0, 0, 500, 500),)),
        ("Below", ((499, 499, 999, 999),)),
        ("right", ((499, 499, 999, 999),)),
        ("all of it", ((0, 0, 999, 500),)),
    ]
    assert {sample.task for sample in found} == {"grounding"}
    for annotation in content["annotations"]:
        del annotation["category_id"]
    del content["categories"]
    content["annotations"] = [annotation for annotation in content["annotations"] if annotation["id"] != 8]
    path.write_text(json.dumps(content))
    import_from(path, tmp_path / "without")
    assert len(Dataset.open(tmp_path / "without")) == 4


def test_one_caption_per_image_and_detection_alone(pages: Path, tmp_path: Path) -> None:
    import_from(coco(pages), tmp_path / "out", captions="first", objects=["detect"])
    dataset = Dataset.open(tmp_path / "out")
    assert [dataset.read_text(i).task for i in range(len(dataset))] == ["detection", "caption"]


def test_json_that_is_something_else_is_refused(pages: Path, tmp_path: Path) -> None:
    path = pages / "x.json"
    three_sides = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 4, "name": "cup"}],
        "annotations": [{"image_id": 1, "category_id": 4, "bbox": [1, 2, 3]}],
    }
    for content, sentence in (
        ("{}", "neither COCO's JSON"),
        ("{", "is not JSON .*: give format=jsonl if each line is"),
        ('{"images":[{}],"annotations":[]}', "is not COCO's JSON"),
        (json.dumps(three_sides), "is not COCO's JSON"),
    ):
        path.write_text(content)
        with pytest.raises(ConfigError, match=sentence):
            import_from(path, tmp_path / "out")
