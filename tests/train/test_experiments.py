"""The experiments of the paper carry every hyper-parameter that it publishes (sections 3.2.2, 3.4.4 and 3.5)."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_engine.command_line import compose
from model.config import DeepseekOCRConfig
from train.config import TrainConfig
from train.optimizer import learning_rate
from train.planning.cutting import cut_model
from train.planning.load import load_of

EXPERIMENTS = sorted(
    path.stem for path in (Path(__file__).resolve().parents[2] / "configs/experiment").glob("*.yaml")
)


def composed(name: str, *arguments: str) -> TrainConfig:
    return compose(TrainConfig, [f"experiment={name}", *arguments], "train")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_possible(name: str) -> None:
    assert composed(name).steps > 0


def test_stage_1_as_published() -> None:
    config = composed("paper_stage1")
    assert config.model.architecture == "encoder_lm"
    assert (config.sequence.tokens, config.optimizer.learning_rate, config.optimizer.schedule) == (
        4096,
        5e-5,
        "cosine",
    )
    # Two epochs in batches of 1280: of 54.6M samples of OCR 1.0, 16M of OCR 2.0 and 100M general ones, and scenes.
    assert 2 * 170e6 <= config.steps * 1280 <= 2 * 190e6
    assert config.freeze == []


@pytest.mark.parametrize("name", ["paper_stage2", "paper_gundam_m"])
def test_stage_2_as_published(name: str) -> None:
    config = composed(name)
    assert config.freeze == ["model.sam_model"] and config.sequence.tokens == 8192
    assert (config.parallel.pipeline_stages, config.parallel.cut, config.data_parallel) == (4, "paper", 40)
    assert config.micro_batches * config.data_parallel == 640
    assert (config.optimizer.learning_rate, config.optimizer.schedule) == (3e-5, "step")
    rates = [learning_rate(config.optimizer, step, config.steps) for step in range(config.steps)]
    assert max(rates) == 3e-5 and rates[-1] < max(rates)
    cut = cut_model(config, DeepseekOCRConfig(), config.data_parallel)
    assert [row.layers[0] for row in cut.table] == [
        "vision tokenizer",
        "global encoder",
        "embedding",
        "decoder 6",
    ]
    assert cut.table[0].trainable == 0 and cut.table[1].trainable > 300e6


def test_modes_are_trained_together_and_the_largest_alone() -> None:
    assert set(composed("paper_stage2").modes["default"]) == {"tiny", "small", "base", "large", "gundam"}
    config = composed("paper_gundam_m")
    assert config.modes == {"default": "gundam_m"}
    # 6M samples; a sequence that is full of pages with six tiles holds between one and four of them.
    assert 1 <= 6e6 / (640 * config.steps) <= 4
    largest = 9 * (1024 // 16) ** 2 + (1280 // 16) ** 2
    assert config.sequence.patches >= 2 * largest
    assert load_of(config, 2).tokens == 8192
