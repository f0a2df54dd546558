"""Learning rates, and the groups that every stage must have alike."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn as nn

from data_engine.errors import ConfigError
from train.config import OptimizerSettings
from train.optimizer import (
    Group,
    group_of,
    learning_rate,
    optimizer_groups,
    parameter_groups,
    set_learning_rate,
)


def test_warm_up_then_cosine_to_the_final_ratio() -> None:
    settings = OptimizerSettings(learning_rate=1.0, warmup_steps=4, final_ratio=0.1)
    rates = [learning_rate(settings, step, 104) for step in range(104)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0 and rates[-1] == pytest.approx(0.1)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_step_schedule_falls_at_its_milestones() -> None:
    settings = OptimizerSettings(learning_rate=1.0, schedule="step", milestones=[0.5, 0.75], step_factor=0.1)
    rates = [learning_rate(settings, step, 8) for step in range(8)]
    assert rates == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_constant_stays() -> None:
    settings = OptimizerSettings(learning_rate=3.0, schedule="constant")
    assert {learning_rate(settings, step, 5) for step in range(5)} == {3.0}


@pytest.mark.parametrize(
    ("name", "shape", "group"),
    [
        ("model.layers.0.mlp.gate_proj.weight", (4, 4), "decayed"),
        ("model.layers.1.mlp.experts.down_proj", (2, 4, 4), "decayed"),
        ("model.sam_model.net_2.weight", (2, 2, 3, 3), "decayed"),
        ("lm_head.weight", (4, 4), "decayed"),
        ("model.embed_tokens.weight", (4, 4), "plain"),
        ("model.sam_model.pos_embed", (1, 2, 2, 4), "plain"),
        ("model.vision_model.embeddings.position_embedding.weight", (5, 4), "plain"),
        ("model.norm.weight", (4,), "plain"),
        ("model.image_newline", (4,), "plain"),
    ],
)
def test_what_is_decayed(name: str, shape: tuple[int, ...], group: str) -> None:
    assert group_of(name, nn.Parameter(torch.zeros(shape))) == Group("", group == "decayed")


PARTS = {"model.layers": 1e-4, "model.layers.1": 5e-4, "model.vision_model": 2e-5}


def test_the_longest_prefix_decides_and_only_whole_words_count() -> None:
    matrix, vector = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))
    assert group_of("model.layers.0.mlp.up_proj.weight", matrix, PARTS) == ("model.layers", True)
    assert group_of("model.layers.1.input_layernorm.weight", vector, PARTS) == ("model.layers.1", False)
    assert group_of("model.layers.11.mlp.up_proj.weight", matrix, PARTS) == ("model.layers", True)
    assert group_of("lm_head.weight", matrix, PARTS) == ("", True)


def test_every_stage_has_the_same_groups() -> None:
    settings = OptimizerSettings(weight_decay=0.3, part_learning_rates=PARTS)
    anchors = [nn.Parameter(torch.zeros(2)) for _ in optimizer_groups(settings)]
    matrix = ("model.layers.0.mlp.gate_proj.weight", nn.Parameter(torch.zeros(2, 2)))
    stages = [parameter_groups(named, anchors, settings) for named in ([], [matrix])]
    for groups in stages:
        assert [group["weight_decay"] for group in groups] == [0.3, 0.0] * 4
        assert [group["rate_factor"] for group in groups] == pytest.approx(
            [1, 1, 0.1, 0.1, 0.5, 0.5, 0.02, 0.02]
        )
        assert all(group["params"] for group in groups)
    idle = [group["params"][0] is anchor for group, anchor in zip(stages[1], anchors, strict=True)]
    assert idle == [True, True, False, True, True, True, True, True]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_the_learning_rate_of_each_group_at_each_step(schedule: str) -> None:
    """Every part follows the curve of the schedule from its own highest rate: as if it were a run of its own."""
    settings = OptimizerSettings(
        schedule=schedule,
        learning_rate=1e-3,
        warmup_steps=3,
        milestones=[0.5, 0.75],
        part_learning_rates=PARTS,
    )
    anchors = [nn.Parameter(torch.zeros(2)) for _ in optimizer_groups(settings)]
    groups = parameter_groups([], anchors, settings)
    for step in range(20):
        set_learning_rate(groups, learning_rate(settings, step, 20))
        for number, (part, _) in enumerate(optimizer_groups(settings)):
            alone = dataclasses.replace(settings, learning_rate=PARTS.get(part, 1e-3), part_learning_rates={})
            assert groups[number]["lr"] == pytest.approx(learning_rate(alone, step, 20))


def test_a_rate_that_is_not_positive_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"part_learning_rates.model.vision_model=0 must be positive; .* freeze"
    ):
        OptimizerSettings(part_learning_rates={"model.vision_model": 0})
