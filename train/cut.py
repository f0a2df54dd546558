"""Where the list of layers is cut into pipeline stages.

What is special here:
- `paper` is the published cut: vision tokenizer | global encoder | embedding and half of the decoder | the other
  half and the head. It leaves about half of the machine idle, because the head alone costs as much as 4.6
  decoder layers.
- `balanced` keeps a frozen vision tokenizer alone (it only runs forward, and nothing comes back to it) and cuts
  the rest where the slowest stage is fastest for pages in the encoder's own size. It does not move with the data.
- `auto` cuts anywhere: the slowest stage as fast as possible under the assumed load or by measured times, of equally
  fast cuts the one whose largest stage needs least memory, of those only that fit. Where the timeline of `paper` or
  `balanced` is shorter all the same (how the stages wait for each other), it is that one: `auto` is never slower.
- An impossible cut is refused with the arithmetic, before any process group starts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

from data_engine.errors import ConfigError
from model.activations import Activations
from train.config import Parallelism, require

TIMES_SCHEMA = 1
"""Of `parallel.times`: {"schema": 1, "unit": "ms", "layers": {NAME: {"forward": F, "backward": B}}}."""
EQUAL = 1e-6
"""Stages whose times differ by less than this share count as equally fast."""

StageMemory = Callable[[int, int, int], float]
"""Bytes of one GPU for (stage, first layer, layer after its last)."""

StepTime = Callable[[Sequence[int]], float]
"""Time of one optimizer step for boundaries."""


@dataclass(frozen=True)
class LayerInfo:
    """What the cut needs to know of one layer."""

    name: str
    """Short name for the table, e.g. `decoder 3`."""
    kind: str
    """`vision_tokenizer`, `global_encoder`, `embedding`, `decoder`, `head` or `language_model`."""
    parameters: int
    trainable: int
    forward: float = 0.0
    """FLOPs of one micro-batch under the assumed load (multiply + add = 2)."""
    backward: float = 0.0
    activations: Activations = field(default_factory=Activations)
    """Bytes kept from forward to backward pass, of one micro-batch."""
    recomputed: bool = False
    """Whether its blocks are computed again in the backward pass instead of kept."""
    milliseconds: tuple[float, float] | None = None
    """Measured forward and backward pass of one micro-batch, where they are known."""

    @property
    def flops(self) -> float:
        return self.forward + self.backward

    @property
    def cost(self) -> float:
        """What the cut balances: milliseconds where they were measured, FLOPs otherwise."""
        return sum(self.milliseconds) if self.milliseconds else self.flops


def boundaries(
    layers: Sequence[LayerInfo],
    parallelism: Parallelism,
    reference: Sequence[LayerInfo] | None = None,
    memory: StageMemory | None = None,
    limit: float = float("inf"),
    step_time: StepTime | None = None,
) -> list[int]:
    """First layer of every stage, and the number of layers at the end: stage s holds [b[s], b[s + 1]).

    Args:
        reference: the layers with the costs that `balanced` goes by; None: `layers`.
        memory: bytes of a stage, for `auto`; None: not considered.
        limit: bytes of one GPU, for `auto`.
        step_time: for `auto`, to compare with the cuts that have a name; None: not compared.

    Raises:
        ConfigError: more stages than layers, a cut that leaves a stage empty, the paper's cut of another number of
            stages, or an automatic cut where none fits the GPU.
    """
    count, stages = len(layers), parallelism.pipeline_stages
    require(
        stages <= count,
        f"parallel.pipeline_stages={stages} is more than the {count} layers of this model "
        f"({', '.join(layer.name for layer in layers)}): {stages - count} stages would be empty.",
    )
    cut = parallelism.cut
    if isinstance(cut, list):
        require(
            all(0 < first < count for first in cut),
            f"parallel.cut={cut} names layers outside 1..{count - 1}; this model has {count} layers, and a stage "
            "must hold at least one.",
        )
        return [0, *cut, count]
    if cut == "paper" and stages > 1:
        return _paper(layers, stages)
    if cut == "auto":
        memory = memory or (lambda stage, start, stop: 0.0)
        found = _auto(layers, stages, memory, limit)
        if step_time is None:
            return found
        named = [_balanced(reference or layers, stages)]
        if _has_paper_cut(layers, stages):
            named.append(_paper(layers, stages))
        fitting = [
            bounds
            for bounds in named
            if all(memory(s, bounds[s], bounds[s + 1]) <= limit for s in range(stages))
        ]
        return min([found, *fitting], key=step_time)  # the first of equals
    return _balanced(reference or layers, stages)


def _has_paper_cut(layers: Sequence[LayerInfo], stages: int) -> bool:
    kinds = [layer.kind for layer in layers]
    return stages == 4 and "head" in kinds and kinds.count("decoder") >= 2


def _paper(layers: Sequence[LayerInfo], stages: int) -> list[int]:
    kinds = [layer.kind for layer in layers]
    require(
        stages == 4 and "head" in kinds,
        f"parallel.cut=paper is defined for four stages of deepseek_ocr, not for {stages}; set "
        "parallel.cut=balanced or parallel.pipeline_stages=4.",
    )
    decoders = kinds.count("decoder")
    require(decoders >= 2, f"parallel.cut=paper needs at least 2 decoder layers, this model has {decoders}.")
    first_decoder = kinds.index("decoder")
    return [
        0,
        kinds.index("global_encoder"),
        kinds.index("embedding"),
        first_decoder + decoders // 2,
        len(layers),
    ]


def _balanced(layers: Sequence[LayerInfo], stages: int) -> list[int]:
    flops = [layer.flops for layer in layers]
    alone = 1 if stages >= 3 and layers[0].trainable == 0 else 0
    costs = _Sums(flops[alone:])
    rest = _smallest_maximum(len(layers) - alone, stages - alone, lambda _, start, stop: costs(start, stop))
    assert rest is not None, "without a limit there is always a cut"
    return [0, *(alone + bound for bound in rest)] if alone else rest


def _auto(layers: Sequence[LayerInfo], stages: int, memory: StageMemory, limit: float) -> list[int]:
    costs, count = _Sums([layer.cost for layer in layers]), len(layers)
    infinite = float("inf")

    def time(stage: int, start: int, stop: int) -> float:
        return costs(start, stop) if memory(stage, start, stop) <= limit else infinite

    fastest = _smallest_maximum(count, stages, time)
    if fastest is None:
        least = _smallest_maximum(count, stages, memory)
        assert least is not None, "without a limit there is always a cut"
        need = max(memory(s, least[s], least[s + 1]) for s in range(stages))
        raise ConfigError(
            f"no cut of {count} layers into {stages} stages fits: at the best one the largest stage needs "
            f"{need / 2**30:.1f} GiB of the {limit / 2**30:.1f} GiB of one GPU; use more stages, more data-parallel "
            "replicas, a shorter sequence, or set gpu_memory to what there really is."
        )
    slowest = max(costs(fastest[s], fastest[s + 1]) for s in range(stages)) * (1 + EQUAL)

    def need_if_fast(stage: int, start: int, stop: int) -> float:
        return memory(stage, start, stop) if time(stage, start, stop) <= slowest else infinite

    return _smallest_maximum(count, stages, need_if_fast) or fastest


class _Sums:
    """Sum of any contiguous part, in constant time."""

    def __init__(self, values: Sequence[float]) -> None:
        self._prefix = [0.0, *accumulate(values)]

    def __call__(self, start: int, stop: int) -> float:
        return self._prefix[stop] - self._prefix[start]


def _smallest_maximum(count: int, parts: int, cost: Callable[[int, int, int], float]) -> list[int] | None:
    """Contiguous, non-empty parts of `count` items with the smallest possible largest cost; None when every cut has
    an infinite one. Ties put more into later parts.

    Dynamic programming over (parts used, items covered): parts · count² evaluations of `cost(part, start, stop)`.
    """
    infinite = float("inf")
    best = {0: 0.0}  # items covered by the parts so far -> largest cost among them
    origins: list[dict[int, int]] = []
    for part in range(parts):
        reached: dict[int, float] = {}
        origin: dict[int, int] = {}
        for stop in range(part + 1, count - (parts - part - 1) + 1):
            candidates = [
                (max(largest, cost(part, start, stop)), start)
                for start, largest in best.items()
                if start < stop
            ]
            value, start = min(candidates, default=(infinite, 0))
            if value < infinite:
                reached[stop], origin[stop] = value, start
        best = reached
        origins.append(origin)
    if count not in best:
        return None
    bounds = [count]
    for origin in reversed(origins):
        bounds.append(origin[bounds[-1]])
    return bounds[::-1]


def with_measured_times(layers: Sequence[LayerInfo], path: str) -> list[LayerInfo]:
    """The layers with the times of a file (format: `TIMES_SCHEMA`), which `benchmarks/stage2.py` writes.

    Raises:
        ConfigError: the file cannot be read, or lacks a layer of this model.
    """
    try:
        times = json.loads(Path(path).read_text(encoding="utf-8"))
        require(
            times["schema"] == TIMES_SCHEMA,
            f"parallel.times={path} has schema {times['schema']}, not {TIMES_SCHEMA}.",
        )
        measured = {
            str(name): (float(time["forward"]), float(time["backward"]))
            for name, time in times["layers"].items()
        }
    except OSError as error:
        raise ConfigError(f"parallel.times={path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"parallel.times={path} is not of the form "
            '{"schema": 1, "unit": "ms", "layers": {"decoder 0": {"forward": 1.5, "backward": 3.0}, ...}}: '
            f"{type(error).__name__} at {error}."
        ) from error
    missing = [layer.name for layer in layers if layer.name not in measured]
    require(
        not missing,
        f"parallel.times={path} lacks {', '.join(missing)}; it must name every layer of this model.",
    )
    for name, pair in measured.items():
        require(
            all(0 <= value < float("inf") for value in pair),
            f"parallel.times={path} gives '{name}' {pair[0]:g} and {pair[1]:g} ms; times must be 0 or positive.",
        )
    return [replace(layer, milliseconds=measured[layer.name]) for layer in layers]
