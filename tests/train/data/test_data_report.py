"""The report says beforehand what the loader will do."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from reading_samples import NANO_MODES, MemoryDataset, cards, make_sample, pages, texts

from model.tokenizer import Tokenizer
from train.data.loader import PackedLoader
from train.data.loader_settings import LoaderSettings
from train.data.micro_batch import MicroBatchShape
from train.data.mixture import Mixture, Phase
from train.data.modes import ModeShares
from train.data.report import data_report
from train.data.report_text import format_report

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


def make_loader(
    tokenizer: Tokenizer,
    mixture: Mixture = MIXTURE,
    data: dict[str, MemoryDataset] | None = None,
    **changes: Any,
) -> PackedLoader:
    options = {"modes": NANO_MODES, "shape": SHAPE, "micro_batches_per_step": 4, "prefetch": 0}
    return PackedLoader(data or datasets(), tokenizer, LoaderSettings(**(options | changes)), mixture, seed=9)


def test_the_report_agrees_with_the_loader(tokenizer: Tokenizer, tmp_path: Path) -> None:
    report = data_report(make_loader(tokenizer, lengths_cache=tmp_path / "lengths"), 10)
    assert report == json.loads(json.dumps(report))
    reader = make_loader(tokenizer)
    drawn: Counter[str] = Counter()
    images = tokens = 0
    samples = {name: dataset.samples for name, dataset in datasets().items()}
    run = report["run"]
    assert run["steps"] == 10 and run["packs"] >= 40 and not run["sampled"]
    assert run["windows_measured"] == run["windows"]
    for number in range(run["packs"]):
        for identity in reader.plan.identities(number // 4)[number % 4]:
            name, _, i = identity.partition("/")
            drawn[name] += 1
            images += len(samples[name][int(i)].images)
    steps = run["packs"] // 4
    tokens = sum(reader.plan.summary(step).tokens for step in range(steps))
    lines = report["datasets"]
    for name, line in lines.items():
        assert line["samples"] - line["dropped"] == drawn[name]
        assert line["epochs"] == pytest.approx(line["samples"] / line["available"], abs=1e-4)
    assert sum(line["images"] for line in lines.values()) == images == run["images"]
    assert lines["unused"]["samples"] == 0
    assert report["dropped"]["samples"] == report["dropped"]["tokens"] == lines["text"]["dropped"] > 0
    assert report["fill"]["tokens"] == pytest.approx(tokens / (steps * 4 * 300), rel=0.05)
    assert lines["card"]["modes"] == {"nano_tiny": 1} and lines["page"]["modes"] == {"nano_gundam": 1}
    assert lines["text"]["modes"] == {}
    assert report["phases"][1]["first_sample"] == 80
    first = report["phases"][1]["first_step"]
    assert reader.plan.summary(first + 1).window >= 2 > reader.plan.summary(first - 1).window

    # What was measured is kept, and the loader takes it from there.
    unread = datasets()
    make_loader(tokenizer, data=unread, lengths_cache=tmp_path / "lengths").state(5)
    assert sum(dataset.texts_read for dataset in unread.values()) == 0


def test_a_long_run_is_sampled(tokenizer: Tokenizer) -> None:
    steps = 120
    exact = data_report(make_loader(tokenizer), steps, measured_draws=1 << 20)
    sampled = data_report(make_loader(tokenizer), steps, measured_draws=12 * 40)
    assert sampled["run"]["sampled"] and not exact["run"]["sampled"]
    assert sampled["run"]["windows_measured"] == 2 + 6  # the whole first phase, and its share of the second
    assert sampled["run"]["windows"] == pytest.approx(exact["run"]["windows"], rel=0.1)
    assert sampled["run"]["tokens"] == pytest.approx(exact["run"]["tokens"], rel=0.1)
    assert sampled["fill"]["tokens"] == pytest.approx(exact["fill"]["tokens"], rel=0.1)
    quotas = make_loader(tokenizer).stream.draws.quotas  # type: ignore[attr-defined]
    uses = dict(zip(quotas.names, quotas.uses_before(sampled["run"]["windows"]).tolist(), strict=True))
    assert {name: line["samples"] for name, line in sampled["datasets"].items()} == uses


def test_balance_modes_and_split_texts_are_told(tokenizer: Tokenizer) -> None:
    shares = {"default": ModeShares.of({"nano_tiny": 3, "nano_base": 1}), "page": ModeShares.of("nano_tiny")}
    loader = make_loader(
        tokenizer, modes=shares, micro_batches_per_step=2, data_parallel_size=2, too_long="split"
    )
    report = data_report(loader, 20)
    assert (
        report["dropped"]["samples"] == 0 and report["split"]["stretches"] >= 2 * report["split"]["texts"] > 0
    )
    assert set(report["modes"]) == {"nano_tiny", "nano_base"}
    assert report["datasets"]["card"]["modes"]["nano_base"] == pytest.approx(0.25, abs=0.05)
    balance = report["balance"]
    assert 1 <= balance["slowest_over_mean"] < balance["in_stream_order"]
    text = format_report(report)
    for part in (
        "slowest of 2 ranks",
        "images by mode: nano_tiny",
        "split:",
        "modes: default nano_tiny 75.0%",
    ):
        assert part in text


def test_the_text_fits_a_terminal(tokenizer: Tokenizer) -> None:
    mixture = Mixture((Phase({"card": 1}, 80), Phase({"text": 1}, 40_000), Phase({"page": 1})), window=40)
    report = data_report(make_loader(tokenizer, mixture=mixture), 100, measured_draws=80)
    assert report["run"]["sampled"]
    assert report["phases"][2]["first_step"] is None
    text = format_report(report)
    assert max(map(len, text.splitlines())) <= 130
    for part in ("card", "dropped: ", "sampled: ", "phase 2 from sample 40,000 (after the end of the run)"):
        assert part in text
