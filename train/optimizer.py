"""AdamW: which parameters are decayed, how fast each part learns, and the learning rate of every step.

What is special here:
- Every pipeline stage gets the same number of parameter groups in the same order, whatever it holds: ZeRO-1
  reduces one gradient norm per group across the stages, so a stage that lacks a group would leave the others
  waiting for ever. A stage without members of a group puts an anchor into it (a parameter that nothing uses).
- The learning rate is a function of the step alone. There is no scheduler to save, and none to forget. A part with a
  rate of its own follows the same curve, scaled.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn as nn

from model.freeze import is_below
from train.settings import OptimizerSettings

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state of a parameter, by the names torch gives it."""
# Matrices that are tables of vectors rather than maps: decay would only shrink what is rarely looked up.
_TABLES = ("embed_tokens", "embed_positions", "position_embedding", "pos_embed", "rel_pos_h", "rel_pos_w")


class Group(NamedTuple):
    """A group of parameters that the optimizer treats alike. Every stage has the same ones in the same order."""

    part: str
    """Checkpoint-name prefix with a learning rate of its own; empty: all other parameters."""
    decayed: bool


def optimizer_groups(settings: OptimizerSettings) -> list[Group]:
    """The groups of every stage, in their order."""
    return [Group(part, decayed) for part in ("", *settings.part_learning_rates) for decayed in (True, False)]


def part_of(name: str, parts: Iterable[str]) -> str:
    """The longest of these prefixes that fits a parameter's checkpoint name; empty: none does."""
    return max((part for part in parts if is_below(name, [part])), key=len, default="")


def group_of(name: str, parameter: nn.Parameter, parts: Iterable[str] = ()) -> Group:
    """Where a parameter belongs: to the longest prefix that fits its name, and to the decayed if it is a matrix or a
    kernel; vectors, norms, biases and tables of positions or tokens are not decayed."""
    table = any(word in _TABLES for word in name.split("."))
    return Group(part_of(name, parts), parameter.ndim >= 2 and not table)


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], anchors: Sequence[nn.Parameter], settings: OptimizerSettings
) -> list[dict[str, object]]:
    """What torch's optimizer is made with, for one stage. `rate_factor` is ours: times the step's learning rate.

    Args:
        named: trainable parameters of this stage with their full checkpoint names.
        anchors: one unused parameter for each of `optimizer_groups`, for those that nothing of this stage belongs to.
    """
    groups = optimizer_groups(settings)
    members: dict[Group, list[nn.Parameter]] = {group: [] for group in groups}
    for name, parameter in named:
        members[group_of(name, parameter, settings.part_learning_rates)].append(parameter)
    return [
        {
            "params": members[group] or [anchor],
            "weight_decay": settings.weight_decay if group.decayed else 0.0,
            "rate_factor": settings.part_learning_rates.get(group.part, settings.learning_rate)
            / settings.learning_rate,
        }
        for group, anchor in zip(groups, anchors, strict=True)
    ]


def set_learning_rate(groups: Iterable[dict[str, object]], rate: float) -> None:
    """Give every group its share of the step's learning rate."""
    for group in groups:
        group["lr"] = rate * group["rate_factor"]  # type: ignore[operator]


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
