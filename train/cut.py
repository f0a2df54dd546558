"""Where the list of layers is cut into pipeline stages, and the table that shows it before a run starts.

What is special here:
- `paper` is the published cut: vision tokenizer | global encoder | embedding and half of the decoder | the other
  half and the head. It leaves about half of the machine idle, because the head alone costs as much as 4.6
  decoder layers.
- `balanced` keeps a frozen vision tokenizer alone (it only runs forward, and nothing comes back to it) and cuts
  the rest where the slowest stage is fastest, by the estimated cost of every layer.
- An impossible cut is refused with the arithmetic, before any process group starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import Any

from train.config import Parallelism, require

GIB = 2**30


@dataclass(frozen=True)
class LayerInfo:
    """What the cut needs to know of one layer."""

    name: str
    """Short name for the table, e.g. `decoder 3`."""
    kind: str
    """`vision_tokenizer`, `global_encoder`, `embedding`, `decoder`, `head` or `language_model`."""
    parameters: int
    trainable: int
    flops: float
    """Forward and backward of one full micro-batch (multiply + add = 2); a frozen layer only runs forward."""


@dataclass(frozen=True)
class StageRow:
    """One line of the stage table."""

    stage: int
    layers: list[str]
    parameters: int
    trainable: int
    teraflops: float
    share_of_slowest: float
    static_gib: float
    """Weights, gradients, master weights and moments of one process; activations are not in it."""


def boundaries(layers: Sequence[LayerInfo], parallelism: Parallelism) -> list[int]:
    """First layer of every stage, and the number of layers at the end: stage s holds [b[s], b[s + 1]).

    Raises:
        ConfigError: more stages than layers, a cut that leaves a stage empty, or the paper's cut of another
            number of stages.
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
    if stages == 1:
        return [0, count]
    return _paper(layers, stages) if cut == "paper" else _balanced(layers, stages)


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
    costs = [layer.flops for layer in layers]
    alone = 1 if stages >= 3 and layers[0].trainable == 0 else 0
    rest = _smallest_maximum(costs[alone:], stages - alone)
    return [0, *(alone + bound for bound in rest)] if alone else rest


def _smallest_maximum(costs: Sequence[float], parts: int) -> list[int]:
    """Contiguous, non-empty parts with the smallest possible largest sum; ties put more into later parts."""
    prefix = [0.0, *accumulate(costs)]
    count = len(costs)
    best = {(0, 0): 0.0}
    origin: dict[tuple[int, int], int] = {}
    for part in range(1, parts + 1):
        for end in range(part, count - (parts - part) + 1):
            candidates = [
                (max(best[part - 1, start], prefix[end] - prefix[start]), start)
                for start in range(part - 1, end)
                if (part - 1, start) in best
            ]
            best[part, end], origin[part, end] = min(candidates)
    bounds = [count]
    for part in range(parts, 0, -1):
        bounds.append(origin[part, bounds[-1]])
    return bounds[::-1]


def stage_table(
    layers: Sequence[LayerInfo], bounds: Sequence[int], data_parallel_size: int, precision: str
) -> list[StageRow]:
    """One row per stage. Memory follows ZeRO-1: weights and gradients whole, optimizer state sharded."""
    flops = [sum(layer.flops for layer in layers[start:stop]) for start, stop in pairwise(bounds)]
    slowest = max(flops) or 1.0
    weight_bytes = 2 if precision == "bf16" else 4
    rows = []
    for stage, (start, stop) in enumerate(pairwise(bounds)):
        held = layers[start:stop]
        parameters = sum(layer.parameters for layer in held)
        trainable = sum(layer.trainable for layer in held)
        # bf16 keeps its own gradient beside the fp32 sum over micro-batches (BF16_Optimizer).
        gradient_bytes = 4 + (2 if precision == "bf16" else 0)
        static = parameters * weight_bytes + trainable * (gradient_bytes + 12 / data_parallel_size)
        rows.append(
            StageRow(
                stage=stage,
                layers=[layer.name for layer in held],
                parameters=parameters,
                trainable=trainable,
                teraflops=flops[stage] / 1e12,
                share_of_slowest=flops[stage] / slowest,
                static_gib=static / GIB,
            )
        )
    return rows


def table_as_text(rows: Sequence[StageRow]) -> str:
    """The stage table for a terminal."""
    lines = ["stage  parameters   trainable   TFLOP/micro-batch  of slowest  static GiB  layers"]
    lines += [
        f"{row.stage:>5}  {_count(row.parameters):>10}  {_count(row.trainable):>10}  {row.teraflops:>17.4g}  "
        f"{row.share_of_slowest:>10.0%}  {row.static_gib:>10.3g}  {_ranges(row.layers)}"
        for row in rows
    ]
    busy = sum(row.share_of_slowest for row in rows) / len(rows)
    lines.append(f"balance {busy:.0%} (mean over stages of time ÷ slowest stage)")
    return "\n".join(lines)


def table_as_dict(rows: Sequence[StageRow]) -> dict[str, Any]:
    """The stage table for stage_table.json."""
    return {"schema": 1, "stages": [asdict(row) for row in rows]}


def _count(number: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return str(number)


def _ranges(names: Sequence[str]) -> str:
    """`decoder 0, decoder 1, decoder 2` becomes `decoder 0-2`."""
    decoders = [name.removeprefix("decoder ") for name in names if name.startswith("decoder ")]
    shown = []
    for name in names:
        if not name.startswith("decoder "):
            shown.append(name)
        elif name == f"decoder {decoders[0]}":
            shown.append(name if len(decoders) == 1 else f"decoder {decoders[0]}-{decoders[-1]}")
    return ", ".join(shown)
