"""Learning rates, and the groups that every stage must have alike."""

from __future__ import annotations

import pytest
import torch
import torch.nn as nn

from train.config import OptimizerSettings
from train.optimizer import GROUPS, group_of, learning_rate, parameter_groups


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
    assert group_of(name, nn.Parameter(torch.zeros(shape))) == group


def test_every_stage_has_the_same_groups() -> None:
    anchors = {group: nn.Parameter(torch.zeros(2)) for group in GROUPS}
    settings = OptimizerSettings(weight_decay=0.3)
    matrix = ("model.layers.0.mlp.gate_proj.weight", nn.Parameter(torch.zeros(2, 2)))
    for named in ([], [matrix]):
        groups = parameter_groups(named, anchors, settings)
        assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
        assert all(group["params"] for group in groups)
    assert groups[0]["params"] == [matrix[1]] and groups[1]["params"] == [anchors["plain"]]
