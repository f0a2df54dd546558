"""AdamW: which parameters are decayed, and the learning rate of every step.

What is special here:
- Every pipeline stage gets the same number of parameter groups in the same order, whatever it holds: ZeRO-1
  reduces one gradient norm per group across the stages, so a stage that lacks a group would leave the others
  waiting for ever. A stage without members of a group puts an anchor into it (a parameter that nothing uses).
- The learning rate is a function of the step alone. There is no scheduler to save, and none to forget.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn as nn

from train.config import OptimizerSettings

GROUPS = ("decayed", "plain")
MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state of a parameter, by the names torch gives it."""
# Matrices that are tables of vectors rather than maps: decay would only shrink what is rarely looked up.
_TABLES = ("embed_tokens", "embed_positions", "position_embedding", "pos_embed", "rel_pos_h", "rel_pos_w")


def group_of(name: str, parameter: nn.Parameter) -> str:
    """`decayed` for matrices and kernels, `plain` for vectors, norms, biases and tables of positions or tokens."""
    if parameter.ndim < 2 or any(part in _TABLES for part in name.split(".")):
        return "plain"
    return "decayed"


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], anchors: dict[str, nn.Parameter], settings: OptimizerSettings
) -> list[dict[str, object]]:
    """The groups of one stage, in the order of `GROUPS` on every stage.

    Args:
        named: trainable parameters of this stage with their full checkpoint names.
        anchors: one unused parameter per group, for the groups that nothing of this stage belongs to.
    """
    members: dict[str, list[nn.Parameter]] = {group: [] for group in GROUPS}
    for name, parameter in named:
        members[group_of(name, parameter)].append(parameter)
    return [
        {
            "params": members[group] or [anchors[group]],
            "weight_decay": settings.weight_decay if group == "decayed" else 0.0,
        }
        for group in GROUPS
    ]


def build_adamw(
    groups: list[dict[str, object]], settings: OptimizerSettings, fused: bool
) -> torch.optim.AdamW:
    """torch's own AdamW: DeepSpeed's FusedAdam and CPUAdam would be compiled on the spot (over a minute)."""
    return torch.optim.AdamW(
        groups,
        lr=settings.learning_rate,
        betas=(settings.betas[0], settings.betas[1]),
        eps=settings.epsilon,
        fused=fused,
    )


def learning_rate(settings: OptimizerSettings, step: int, steps: int) -> float:
    """Learning rate of optimizer step `step` (0-based) in a run of `steps`."""
    highest = settings.learning_rate
    if step < settings.warmup_steps:
        return highest * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return highest
    if settings.schedule == "step":
        passed = sum(step >= share * steps for share in settings.milestones)
        return highest * settings.step_factor**passed
    done = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps - 1)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return highest * (settings.final_ratio + (1 - settings.final_ratio) * cosine)
