"""The report says beforehand what the loader will do."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from reading_samples import NANO_MODES, MemoryDataset, cards, make_sample, pages, texts

from data_engine.errors import ConfigError
from model.tokenizer import Tokenizer
from train.data.loader import PackedLoader
from train.data.micro_batch import MicroBatchShape
from train.data.mixture import Mixture, Phase
from train.data.report import data_report, format_report

SHAPE = MicroBatchShape(tokens=300, patches=3000, views=24, vision_tokens=200)
MIXTURE = Mixture((Phase({"card": 1}, 80), Phase({"card": 5, "page": 2, "text": 3})), window=40)


def datasets() -> dict[str, MemoryDataset]:
    long = make_sample("long", "text", [], "words " * 400)
    return {
        "card": cards(60),
        "page": pages(15),
        "text": MemoryDataset("text", [*texts(19).samples, long]),
        "unused": cards(5),
    }


def test_the_report_agrees_with_the_loader(tokenizer: Tokenizer, tmp_path: Path) -> None:
    report = data_report(
        datasets(), tokenizer, NANO_MODES, SHAPE, MIXTURE, 9, 4, 10, lengths_cache=tmp_path / "lengths"
    )
    assert report == json.loads(json.dumps(report))
    reader = PackedLoader(datasets(), tokenizer, NANO_MODES, SHAPE, MIXTURE, 9, 4, prefetch=0)
    drawn: Counter[str] = Counter()
    images = tokens = 0
    samples = {name: dataset.samples for name, dataset in datasets().items()}
    run = report["run"]
    assert run["steps"] == run["steps_measured"] == 10
    for number in range(run["packs"]):
        for identity in reader.identities(number // 4)[number % 4]:
            name, _, i = identity.partition("/")
            drawn[name] += 1
            images += len(samples[name][int(i)].images)
    steps = run["packs"] // 4
    tokens = sum(reader.summary(step).tokens for step in range(steps))
    lines = report["datasets"]
    for name, line in lines.items():
        assert line["samples"] - line["dropped"] == drawn[name]
        assert line["epochs"] == pytest.approx(line["samples"] / line["available"], abs=1e-4)
    assert sum(line["images"] for line in lines.values()) == images
    assert lines["unused"]["samples"] == 0
    assert report["dropped"]["samples"] == report["dropped"]["tokens"] == lines["text"]["dropped"] > 0
    assert report["fill"]["tokens"] == pytest.approx(tokens / (steps * 4 * 300), rel=0.05)
    assert report["phases"][1]["first_sample"] == 80
    first = report["phases"][1]["first_step"]
    assert reader.summary(first + 1).window >= 2 > reader.summary(first - 1).window

    # What was measured is kept, and the loader takes it from there.
    unread = datasets()
    PackedLoader(
        unread, tokenizer, NANO_MODES, SHAPE, MIXTURE, 9, 4, lengths_cache=tmp_path / "lengths"
    ).state(5)
    assert sum(dataset.texts_read for dataset in unread.values()) == 0


def test_the_text_fits_a_terminal(tokenizer: Tokenizer) -> None:
    report = data_report(datasets(), tokenizer, NANO_MODES, SHAPE, MIXTURE, 9, 4, 1000, max_windows=2)
    assert report["run"]["steps_measured"] < 1000
    assert report["phases"][1]["first_step"] is None
    text = format_report(report)
    assert max(map(len, text.splitlines())) <= 130
    for part in ("card", "no sample is too large", "phase 1 from sample 80 (after what was measured)"):
        assert part in text


def test_a_shape_that_is_too_small_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="too small for one image"):
        data_report(datasets(), tokenizer, NANO_MODES, MicroBatchShape(64, 64, 1, 4), MIXTURE, 1, 4, 10)
