"""Where the model is cut, and what is refused."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_engine.errors import ConfigError
from train.assemble import assemble, model_config
from train.config import ModelChoice, Parallelism, SequenceShape, TrainConfig, World
from train.cut import LayerInfo, boundaries, with_measured_times
from train.planning.cutting import CutModel, cut_model
from train.stage_table import table_as_dict, table_as_text


def configuration(stages: int = 1, cut: object = "balanced", images: float = 6.0) -> TrainConfig:
    """The full-size model; 6.3 pages of 1024 px in 8,192 tokens is the paper's usual mix, six here."""
    return TrainConfig(
        model=ModelChoice(preset="deepseek_ocr_3b"),
        freeze=["model.sam_model"],
        micro_batches=16,
        precision="bf16",
        sequence=SequenceShape(tokens=8192, patches=11 * 4096, views=64, vision_tokens=11 * 256),
        modes={"default": "base"},
        parallel=Parallelism(stages, cut, images_per_sequence=images),
    )


@functools.cache
def paper_layers() -> list[LayerInfo]:
    config = configuration()
    return [layer.info for layer in assemble(config, SIZES, 1)]


@functools.cache
def cut(stages: int, how: str, images: float = 6.0, gpu_memory: float = 0.0) -> CutModel:
    return cut_model(configuration(stages, how, images), SIZES, 40, gpu_memory)


def layers_of(costs: list[float]) -> list[LayerInfo]:
    return [LayerInfo(str(n), "decoder", 1, 1, forward=cost) for n, cost in enumerate(costs)]


SIZES = model_config(ModelChoice(preset="deepseek_ocr_3b"), 129280, 128815)


def test_the_papers_cut_of_the_full_model() -> None:
    made = cut(4, "paper")
    assert made.bounds == [0, 1, 2, 9, 16]
    assert sum(row.parameters for row in made.table) == 3_336_106_240
    assert made.table[0].trainable == 0
    assert [round(row.share_of_slowest, 1) for row in made.table] == [0.3, 0.2, 0.6, 1.0]


def test_the_balanced_cut_is_half_again_as_fast_and_does_not_move_with_the_load() -> None:
    balanced = cut(4, "balanced")
    assert balanced.bounds == [0, 1, 7, 13, 16], "SAM | CLIP, embedding, 0-3 | 4-9 | 10-11, head"
    assert cut(4, "balanced", images=0).bounds == cut(4, "balanced", images=11).bounds == balanced.bounds

    def slowest(made: CutModel) -> float:
        return max(row.teraflops for row in made.table)

    assert slowest(cut(4, "paper")) / slowest(balanced) >= 1.5


@pytest.mark.parametrize("how", ["balanced", "auto"])
@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5, 8, 16])
def test_every_stage_holds_something(stages: int, how: str) -> None:
    layers = paper_layers()
    bounds = boundaries(layers, Parallelism(stages, how))
    assert len(bounds) == stages + 1 and bounds[0] == 0 and bounds[-1] == len(layers)
    assert bounds == sorted(set(bounds))


@given(
    st.lists(st.floats(0.1, 10), min_size=2, max_size=9).flatmap(
        lambda costs: st.tuples(st.just(costs), st.integers(2, len(costs)))
    )
)
def test_auto_finds_the_fastest_of_all_cuts(case: tuple[list[float], int]) -> None:
    costs, stages = case

    def slowest(bounds: list[int]) -> float:
        return max(sum(costs[a:b]) for a, b in pairwise(bounds))

    found = boundaries(layers_of(costs), Parallelism(stages, "auto"))
    every = ([0, *inner, len(costs)] for inner in itertools.combinations(range(1, len(costs)), stages - 1))
    assert slowest(found) <= min(map(slowest, every)) * (1 + 1e-5)


def test_of_equally_fast_cuts_auto_takes_the_one_that_needs_least_memory() -> None:
    layers = layers_of([6, 1, 1, 1])
    memory = {1: 9.0, 2: 1.0, 3: 7.0}  # by the first layer of the second stage
    bounds = boundaries(
        layers, Parallelism(2, "auto"), None, lambda stage, start, stop: memory[stop if not stage else start]
    )
    assert bounds == [0, 1, 4], "6 is the slowest stage only where it stands alone"
    layers = layers_of([6, 0, 0, 1])
    bounds = boundaries(
        layers, Parallelism(2, "auto"), None, lambda stage, start, stop: memory[stop if not stage else start]
    )
    assert bounds == [0, 2, 4]


def test_auto_moves_with_the_load_and_is_never_slower_than_the_papers_cut() -> None:
    bounds = {images: cut(4, "auto", images).bounds for images in (0, 6, 11)}
    assert len({tuple(bound) for bound in bounds.values()}) > 1
    for images in bounds:
        slowest = [max(row.teraflops for row in cut(4, how, images).table) for how in ("auto", "paper")]
        assert slowest[0] <= slowest[1]


def test_auto_keeps_to_the_memory_of_the_gpu() -> None:
    free, tight = cut(4, "auto", 0), cut(4, "auto", 0, gpu_memory=30)
    largest = [max(row.memory.total for row in made.table) / 2**30 for made in (free, tight)]
    assert largest[0] > 30 > largest[1]
    with pytest.raises(ConfigError, match=r"no cut of 16 layers into 4 stages fits.*of the 10.0 GiB"):
        cut(4, "auto", gpu_memory=10)
    with pytest.raises(
        ConfigError, match=r"stage 2 needs 2\d\.\d+ GiB \(2\.55 weights \+ .*one GPU has 16.00 GiB"
    ):
        cut(4, "paper", gpu_memory=16)


def test_measured_times_replace_flops(tmp_path: Path) -> None:
    layers = paper_layers()
    times = {layer.name: {"forward": 1.0, "backward": 2.0} for layer in layers}
    times["head"] = {"forward": 60.0, "backward": 0.0}
    path = tmp_path / "times.json"
    path.write_text(json.dumps({"schema": 1, "unit": "ms", "layers": times}))
    measured = with_measured_times(layers, str(path))
    assert boundaries(measured, Parallelism(2, "auto")) == [0, 15, 16], "the head costs more than all others"
    config = dataclasses.replace(configuration(2), parallel=Parallelism(2, "auto", times=str(path)))
    table = cut_model(config, SIZES, 1).table
    assert [row.milliseconds for row in table] == [45.0, 60.0]
    assert "ms" in table_as_text(table, 6)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read"),
        ("[]", "is not of the form"),
        ('{"schema": 2, "layers": {}}', "has schema 2, not 1"),
        ('{"schema": 1, "layers": {"head": {"forward": 1}}}', "is not of the form"),
        (
            '{"schema": 1, "layers": {"head": {"forward": 1, "backward": 2}}}',
            "lacks vision tokenizer, global",
        ),
    ],
)
def test_files_of_times_that_cannot_be_used(content: str | None, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=sentence):
        with_measured_times(paper_layers(), str(path))


@pytest.mark.parametrize(
    ("parallelism", "sentence"),
    [
        (lambda: Parallelism(17, "balanced"), "17 is more than the 16 layers of this model"),
        (lambda: Parallelism(2, [16]), "names layers outside 1..15"),
        (lambda: Parallelism(3, "paper"), "defined for four stages"),
        (lambda: Parallelism(3, [4]), "must hold 2 rising layer numbers"),
        (lambda: Parallelism(3, [4, 4]), "rising"),
        (lambda: Parallelism(2, ["x"]), "positive layer numbers"),
        (lambda: Parallelism(4, "even"), "is unknown; choose paper, balanced, auto"),
        (lambda: Parallelism(0), "must be at least 1"),
    ],
)
def test_impossible_cuts_are_refused(parallelism, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        boundaries(paper_layers(), parallelism())


def test_processes_that_do_not_fit_are_refused_with_the_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "10")
    with pytest.raises(ConfigError, match="10 = 2 × 4 \\+ 2"):
        World.from_environment(4)
    monkeypatch.setenv("WORLD_SIZE", "160")
    assert World.from_environment(4).data_parallel_size == 40


def test_table_as_text_and_json() -> None:
    table = cut(4, "paper").table
    text = table_as_text(table, 6)
    assert "embedding, decoder 0-5" in text and "decoder 6-11, head" in text and "with 6 images" in text
    stages = table_as_dict(table)["stages"]
    assert stages[1]["layers"] == ["global encoder"]
    assert stages[3]["total_gib"] == pytest.approx(table[3].memory.total / 2**30)
    json.dumps(stages)
