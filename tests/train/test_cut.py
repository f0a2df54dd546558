"""Where the model is cut, and what is refused."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest

from data_engine.errors import ConfigError
from train.assemble import assemble, model_config
from train.config import ModelChoice, Parallelism, SequenceShape, TrainConfig, World
from train.cut import LayerInfo, boundaries, stage_table, table_as_dict, table_as_text


def paper_layers() -> list[LayerInfo]:
    """The full-size model, on the meta device."""
    config = TrainConfig(
        model=ModelChoice(preset="deepseek_ocr_3b"),
        freeze=["model.sam_model"],
        micro_batches=16,
        # 6.3 pages of 1024 px in 8,192 tokens is the paper's usual mix; six here.
        sequence=SequenceShape(tokens=8192, patches=6 * 4096, views=8, vision_tokens=6 * 256),
        modes={"default": "base"},
    )
    sizes = model_config(config.model, 129280, 128815)
    return [layer.info for layer in assemble(config, sizes, 1)]


def test_the_papers_cut_of_the_full_model() -> None:
    layers = paper_layers()
    bounds = boundaries(layers, Parallelism(4, "paper"))
    assert bounds == [0, 1, 2, 9, 16]
    table = stage_table(layers, bounds, 40, "bf16")
    assert sum(row.parameters for row in table) == 3_336_106_240
    assert table[0].trainable == 0
    assert [round(row.share_of_slowest, 1) for row in table] == [0.3, 0.2, 0.6, 1.0]


def test_the_balanced_cut_is_half_again_as_fast() -> None:
    layers = paper_layers()
    bounds = boundaries(layers, Parallelism(4, "balanced"))
    assert bounds == [0, 1, 7, 13, 16], "SAM | CLIP, embedding, 0-3 | 4-9 | 10-11, head"

    def slowest(bounds: list[int]) -> float:
        return max(row.teraflops for row in stage_table(layers, bounds, 40, "bf16"))

    assert slowest(boundaries(layers, Parallelism(4, "paper"))) / slowest(bounds) >= 1.5


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5, 8, 16])
def test_every_stage_holds_something(stages: int) -> None:
    layers = paper_layers()
    bounds = boundaries(layers, Parallelism(stages, "balanced"))
    assert len(bounds) == stages + 1 and bounds[0] == 0 and bounds[-1] == len(layers)
    assert bounds == sorted(set(bounds))


def test_balanced_is_the_best_contiguous_cut() -> None:
    costs = [5.0, 1.0, 1.0, 4.0, 2.0, 3.0]
    layers = [LayerInfo(str(n), "decoder", 1, 1, cost) for n, cost in enumerate(costs)]
    bounds = boundaries(layers, Parallelism(3, "balanced"))
    sums = [sum(costs[a:b]) for a, b in pairwise(bounds)]
    assert max(sums) == 6.0


@pytest.mark.parametrize(
    ("parallelism", "sentence"),
    [
        (lambda: Parallelism(17, "balanced"), "17 is more than the 16 layers of this model"),
        (lambda: Parallelism(2, [16]), "names layers outside 1..15"),
        (lambda: Parallelism(3, "paper"), "defined for four stages"),
        (lambda: Parallelism(3, [4]), "must hold 2 rising layer numbers"),
        (lambda: Parallelism(3, [4, 4]), "rising"),
        (lambda: Parallelism(2, ["x"]), "positive layer numbers"),
        (lambda: Parallelism(4, "even"), "is unknown"),
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
    layers = paper_layers()
    table = stage_table(layers, boundaries(layers, Parallelism(4, "paper")), 40, "bf16")
    text = table_as_text(table)
    assert "embedding, decoder 0-5" in text and "decoder 6-11, head" in text
    stages = table_as_dict(table)["stages"]
    assert stages[1]["layers"] == ["global encoder"]
    assert stages[0] == dataclasses.asdict(table[0])
