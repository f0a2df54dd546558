"""From the configuration to a cut that is known to be possible: layers, costs, memory, boundaries, stage table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model.config import DeepseekOCRConfig
from train.assemble import PipelineLayer, assemble, cost_model
from train.config import Parallelism, TrainConfig, require
from train.cut import LayerInfo, boundaries, with_measured_times
from train.planning.cluster import stage_times
from train.planning.costs import CostModel
from train.planning.load import Load, assumed_load, fullest_load, reference_load
from train.planning.memory import GIB, Memory, MemoryModel, Widths
from train.planning.timeline import simulate
from train.stage_table import StageRow, stage_table


@dataclass(frozen=True)
class CutModel:
    """A model cut into stages, with everything that was reckoned for it."""

    layers: list[PipelineLayer]
    infos: list[LayerInfo]
    """The layers' costs under the assumed load, measured times included."""
    bounds: list[int]
    table: list[StageRow]
    load: Load
    costs: CostModel
    memory: MemoryModel


def cut_model(
    config: TrainConfig, model: DeepseekOCRConfig, data_parallel_size: int, gpu_memory: float = 0.0
) -> CutModel:
    """Cut the model as `parallel` says.

    Args:
        gpu_memory: of one GPU in GiB; 0: unknown, anything fits.

    Raises:
        ConfigError: the cut is impossible, or a stage does not fit the GPU.
    """
    layers = assemble(config, model, data_parallel_size)
    costs, load = cost_model(config, model), assumed_load(config)
    infos = costs.costed([layer.info for layer in layers], load)
    if config.parallel.times:
        infos = with_measured_times(infos, config.parallel.times)
    memory = memory_model(config, costs, infos, data_parallel_size)
    limit = gpu_memory * GIB if gpu_memory else float("inf")
    bounds = bounds_for(config, config.parallel, costs, infos, memory, limit)
    needs = memory.cut(bounds)
    _check_fits(needs, limit)
    return CutModel(layers, infos, bounds, stage_table(infos, bounds, needs), load, costs, memory)


def bounds_for(
    config: TrainConfig,
    parallel: Parallelism,
    costs: CostModel,
    layers: Sequence[LayerInfo],
    memory: MemoryModel,
    limit: float = float("inf"),
) -> list[int]:
    """Boundaries that `parallel` asks for, of layers with the costs of any load.

    Raises:
        ConfigError: see `train.cut.boundaries`.
    """

    def step_time(bounds: Sequence[int]) -> float:
        return simulate(stage_times(layers, bounds, 1.0), config.micro_batches).length

    reference = costs.costed(layers, reference_load(config, costs.model.sam.image_size))
    return boundaries(layers, parallel, reference, memory, limit, step_time)


def memory_model(
    config: TrainConfig, costs: CostModel, layers: Sequence[LayerInfo], data_parallel_size: int
) -> MemoryModel:
    """What any stage of this run needs when every budget is full."""
    hidden = costs.compact.hidden_size if costs.compact else costs.model.language.hidden_size
    widths = Widths(config.sequence, costs.model.sam.downsample_channels[-1], hidden, costs.value_bytes)
    return MemoryModel(
        layers=costs.costed(layers, fullest_load(config)),
        widths=widths,
        head=costs.compact.as_decoder() if costs.compact else costs.model.language,
        stages=config.parallel.pipeline_stages,
        micro_batches=config.micro_batches,
        data_parallel=data_parallel_size,
        mixed_precision=config.precision == "bf16",
    )


def _check_fits(needs: Sequence[Memory], limit: float) -> None:
    stage, worst = max(enumerate(needs), key=lambda item: item[1].total)
    gib = worst.in_gib()
    parts = " + ".join(
        f"{gib[kind]:.2f} {kind}"
        for kind in ("weights", "gradients", "optimizer", "activations", "wire", "loss")
    )
    require(
        worst.total <= limit,
        f"stage {stage} needs {gib['total']:.2f} GiB ({parts}), but one GPU has {limit / GIB:.2f} GiB: use more "
        "pipeline stages or data-parallel replicas, parallel.cut=auto, a shorter sequence, or set gpu_memory to "
        "what there really is.",
    )
