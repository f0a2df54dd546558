"""The stage table: what every pipeline stage holds, costs and needs. Printed before every run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from train.cut import LayerInfo
from train.planning.memory import FP32, Memory

GIB = 2**30
SCHEMA = 2


@dataclass(frozen=True)
class StageRow:
    """One line of the stage table."""

    stage: int
    layers: list[str]
    parameters: int
    trainable: int
    teraflops: float
    """Forward and backward pass of one micro-batch under the assumed load."""
    milliseconds: float | None
    """Measured, where `parallel.times` gives times."""
    share_of_slowest: float
    memory: Memory
    """Bytes of one GPU."""

    @property
    def checkpoint(self) -> float:
        """Bytes of its part of a checkpoint: fp32 weight and two moments of what trains, all else as it is."""
        frozen = self.parameters - self.trainable
        return 3 * FP32 * self.trainable + self.memory.weights * frozen / self.parameters


def stage_table(
    layers: Sequence[LayerInfo], bounds: Sequence[int], memory: Sequence[Memory]
) -> list[StageRow]:
    """One row per stage."""
    costs = [sum(layer.cost for layer in layers[start:stop]) for start, stop in pairwise(bounds)]
    slowest = max(costs) or 1.0
    rows = []
    for stage, (start, stop) in enumerate(pairwise(bounds)):
        held = layers[start:stop]
        measured = all(layer.milliseconds for layer in held)
        rows.append(
            StageRow(
                stage=stage,
                layers=[layer.name for layer in held],
                parameters=sum(layer.parameters for layer in held),
                trainable=sum(layer.trainable for layer in held),
                teraflops=sum(layer.flops for layer in held) / 1e12,
                milliseconds=costs[stage] if measured else None,
                share_of_slowest=costs[stage] / slowest,
                memory=memory[stage],
            )
        )
    return rows


def table_as_text(rows: Sequence[StageRow], images: float) -> str:
    """The stage table for a terminal.

    Args:
        images: per sequence, that the costs assume.
    """
    measured = all(row.milliseconds is not None for row in rows)
    unit = "ms" if measured else "TFLOP"
    lines = [f"stage  parameters   trainable  {unit:>9}  of slowest  static GiB  total GiB  layers"]
    for row in rows:
        cost = row.milliseconds if measured else row.teraflops
        lines.append(
            f"{row.stage:>5}  {count(row.parameters):>10}  {count(row.trainable):>10}  {cost:>9.4g}  "
            f"{row.share_of_slowest:>10.0%}  {row.memory.static / GIB:>10.3g}  {row.memory.total / GIB:>9.3g}  "
            f"{layer_ranges(row.layers)}"
        )
    busy = sum(row.share_of_slowest for row in rows) / len(rows)
    lines.append(
        f"balance {busy:.0%} (mean over stages of time ÷ slowest stage), {unit} per micro-batch with "
        f"{images:.3g} images; GiB with all budgets full, total with the activations in flight"
    )
    return "\n".join(lines)


def table_as_dict(rows: Sequence[StageRow]) -> dict[str, Any]:
    """The stage table for stage_table.json; memory in GiB by kind."""
    stages = []
    for row in rows:
        columns = {key: value for key, value in asdict(row).items() if key != "memory"}
        columns["checkpoint_gib"] = row.checkpoint / GIB
        stages.append(columns | {f"{kind}_gib": value for kind, value in row.memory.in_gib().items()})
    return {"schema": SCHEMA, "stages": stages}


def count(number: float) -> str:
    """A number for people: 1.57 G, 306 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return f"{number:g}"


def layer_ranges(names: Sequence[str]) -> str:
    """`decoder 0, decoder 1, decoder 2` becomes `decoder 0-2`."""
    decoders = [name.removeprefix("decoder ") for name in names if name.startswith("decoder ")]
    shown = []
    for name in names:
        if not name.startswith("decoder "):
            shown.append(name)
        elif name == f"decoder {decoders[0]}":
            shown.append(name if len(decoders) == 1 else f"decoder {decoders[0]}-{decoders[-1]}")
    return ", ".join(shown)
