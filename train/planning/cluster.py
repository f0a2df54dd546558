"""What a cut means on given hardware: step time, bubble, messages, tokens per day, MFU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from train.cut import LayerInfo
from train.planning.memory import FP32, Memory, Widths
from train.planning.timeline import StageTime, Timeline, simulate

SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Messages:
    """Bytes that one step moves."""

    forward: tuple[int, ...]
    """Over every stage boundary, per micro-batch."""
    backward: tuple[int, ...]
    """Back over every stage boundary, per micro-batch; 0 where nothing before it trains."""
    reduced: tuple[float, ...]
    """Gradients that each GPU of a stage sends to the other replicas, per step (ring: 2 (d - 1) / d of them)."""
    gathered: tuple[float, ...]
    """Updated weights that each GPU of a stage sends, per step ((d - 1) / d of them)."""


def messages(
    layers: Sequence[LayerInfo], bounds: Sequence[int], widths: Widths, data_parallel: int
) -> Messages:
    """What a cut sends. Gradients are summed over replicas in fp32, in one all-reduce of the whole stage."""
    forward, backward = [], []
    for bound in bounds[1:-1]:
        kind = layers[bound - 1].kind
        trains_before = any(layer.trainable for layer in layers[:bound])
        forward.append(widths.activations(kind) + widths.integers(kind))
        backward.append(widths.activations(kind) if trains_before else 0)
    trainable = [sum(layer.trainable for layer in layers[start:stop]) for start, stop in pairwise(bounds)]
    share = (data_parallel - 1) / data_parallel
    return Messages(
        tuple(forward),
        tuple(backward),
        tuple(2 * share * FP32 * count for count in trainable),
        tuple(share * widths.value_bytes * count for count in trainable),
    )


def stage_times(
    layers: Sequence[LayerInfo], bounds: Sequence[int], flops_per_second: float
) -> list[StageTime]:
    """Seconds of every stage and micro-batch: measured where `milliseconds` are known, else from FLOPs."""
    times = []
    for start, stop in pairwise(bounds):
        forward = backward = 0.0
        for layer in layers[start:stop]:
            if layer.milliseconds:
                forward += layer.milliseconds[0] / 1e3
                backward += layer.milliseconds[1] / 1e3
            else:
                forward += layer.forward / flops_per_second
                backward += layer.backward / flops_per_second
        times.append(StageTime(forward, backward))
    return times


@dataclass(frozen=True)
class Speed:
    """One cut on given hardware."""

    bounds: tuple[int, ...]
    timeline: Timeline
    memory: tuple[Memory, ...]
    step_seconds: float
    tokens_per_step: int
    gpus: int
    model_flops_per_step: float
    """What the step must compute: forward and backward of every micro-batch of every replica."""
    peak_flops: float

    @property
    def tokens_per_second(self) -> float:
        return self.tokens_per_step / self.step_seconds

    @property
    def tokens_per_day(self) -> float:
        return self.tokens_per_second * SECONDS_PER_DAY

    @property
    def mfu(self) -> float:
        """FLOPs that the step must compute ÷ what all GPUs could compute in its time."""
        return self.model_flops_per_step / (self.gpus * self.peak_flops * self.step_seconds)


def speed(
    layers: Sequence[LayerInfo],
    bounds: Sequence[int],
    memory: Sequence[Memory],
    micro_batches: int,
    data_parallel: int,
    tokens: int,
    peak_flops: float,
    efficiency: float,
) -> Speed:
    """One optimizer step of a cut: the 1F1B timeline of its stages. Optimizer and messages are not in it.

    Args:
        tokens: places of one packed sequence.
        peak_flops: of one GPU, per second.
        efficiency: share of it that a stage reaches while it computes.
    """
    timeline = simulate(stage_times(layers, bounds, peak_flops * efficiency), micro_batches)
    sequences = micro_batches * data_parallel
    return Speed(
        bounds=tuple(bounds),
        timeline=timeline,
        memory=tuple(memory),
        step_seconds=timeline.length,
        tokens_per_step=sequences * tokens,
        gpus=(len(bounds) - 1) * data_parallel,
        model_flops_per_step=sequences * sum(layer.flops for layer in layers),
        peak_flops=peak_flops,
    )
