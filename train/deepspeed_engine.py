"""The engine of a run: one process with its pipeline stage, the step, and its state by checkpoint name.

What is special here, besides what `train.pipeline_engine` adapts:
- zero gradients are filled in before every step, for the same reason and for idle experts: ZeRO-1 would wait
  for them for ever, and the bf16 optimizer would compute another norm on every replica.
- `model_parallel` is set on every parameter, so that clipping counts every stage and not only the first.
- before the optimizer, every rank learns the same about the step and decides alike (`train.guard`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn as nn
from torch import Tensor

from train.clock import StepClock
from train.config import OptimizerSettings, World
from train.data.micro_batch import MicroBatch
from train.gradient_norms import PartNorms
from train.optimizer import (
    MOMENTS,
    build_adamw,
    optimizer_groups,
    parameter_groups,
    set_learning_rate,
)
from train.pipeline_engine import (
    BUCKET_ELEMENTS,
    DEEPSPEED_VERSION,
    Engine,
    Module,
    deepspeed_options,
    quiet,
    start_processes,
    stop_processes,
)
from train.pipeline_layers import DecoderLayerStage, LossStage, StageLayer
from train.step_report import StageReport, StepReport

# Below `pipeline_engine`, which prepares the environment that DeepSpeed is imported in.
from deepspeed.runtime.config import DeepSpeedConfig  # isort: skip
from deepspeed.utils import (  # isort: skip
    safe_get_full_fp32_param,
    safe_get_full_grad,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)

__all__ = [
    "BUCKET_ELEMENTS",
    "DEEPSPEED_VERSION",
    "StepResult",
    "TrainingEngine",
    "start_processes",
    "stop_processes",
]


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step reports, the same on every rank."""

    loss: float
    """Mean over the labelled tokens of the whole step."""
    gradient_norm: float
    """Over all stages, before clipping."""
    learning_rate: float
    stage_gradient_norms: tuple[float, ...]
    part_gradient_norms: dict[str, float]
    """By part of the model, see `train.gradient_norms`."""
    seconds: float
    left_out: bool
    """The optimizer did not take this step."""


class TrainingEngine:
    """One process of the run: its pipeline stage, its share of the optimizer, and the step.

    Interface: `train_step`, `evaluate_step`, the state by checkpoint name for saving and loading, `close`.
    """

    def __init__(
        self,
        builders: Sequence[Callable[[], StageLayer]],
        bounds: Sequence[int],
        world: World,
        micro_batches: int,
        precision: str,
        settings: OptimizerSettings,
    ) -> None:
        self.world = world
        self.micro_batches = micro_batches
        self._step = 0
        self._report: StepReport | None = None
        self._left_out = False
        self.may_update: Callable[[int, StepReport], bool] = lambda step, report: True
        """Asked before the optimizer with the step (counted from 1) and what is known of it, on every rank."""
        self.gradient_observers: list[Callable[[TrainingEngine], None]] = []
        """Called after gradients are reduced and before the optimizer, e.g. by tests."""
        with quiet():
            groups = len(optimizer_groups(settings))
            self._module = Module(builders, bounds, world.data_parallel_size, groups)
            trainable = [p for p in self._module.parameters() if p.requires_grad]
            for parameter in trainable:
                parameter.model_parallel = True
            named = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
            optimizer = build_adamw(
                parameter_groups(named, list(self._module.anchors), settings),
                settings,
                fused=torch.cuda.is_available(),
            )
            options = deepspeed_options(micro_batches, precision, settings.clip, trainable)
            mpu = self._module.mpu()
            self._engine = Engine(
                args=None,
                model=self._module,
                optimizer=optimizer,
                model_parameters=trainable,
                mpu=mpu,
                config=options,
                config_class=DeepSpeedConfig(options, mpu),
            )
        self._part_norms = PartNorms(named, settings.part_learning_rates, self.device)
        self._engine.before_optimizer = self._before_optimizer
        self._engine.clock = self.clock = StepClock(self.device)
        self._start_moments()

    # ---- the step

    def train_step(self, batches: Iterable[MicroBatch] | None, step: int, learning_rate: float) -> StepResult:
        """Run one optimizer step.

        Args:
            batches: exactly `micro_batches` micro-batches on the first stage, None elsewhere.
            step: number of the step, counted from 0.

        Raises:
            BrokenStepError: on every rank, before the optimizer changed anything.
        """
        started = time.perf_counter()
        self._step = step
        self._engine.output_sums = []
        set_learning_rate(self._engine.optimizer.param_groups, learning_rate)
        for parameter in self._module.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        loss = self._engine.train_batch(data_iter=iter(batches) if batches is not None else None)
        assert self._report is not None
        return StepResult(
            loss=float(loss),
            gradient_norm=self._report.norm,
            learning_rate=learning_rate,
            stage_gradient_norms=self._report.stage_norms,
            part_gradient_norms=dict(zip(self._part_norms.names, self._report.part_norms, strict=True)),
            seconds=time.perf_counter() - started,
            left_out=self._left_out,
        )

    def evaluate_step(self, batches: Iterable[MicroBatch] | None) -> float:
        """Loss of `micro_batches` micro-batches without training on them; does not disturb the run."""
        iterator = iter(batches) if batches is not None else None
        loss = self._engine.eval_batch(iterator, num_micro_batches=self.micro_batches)
        return float(loss)

    def _before_optimizer(self) -> bool:
        squares = self._part_norms.squares(self._local_gradients())
        if self._engine.using_bf16_optimizer:
            squares /= self.world.data_parallel_size  # there every replica holds the whole gradient
        mine = torch.cat([self._losses(), squares])
        # Gathered, not reduced: every rank adds up the same numbers in the same order, and judges by the same sum.
        rows = [torch.empty_like(mine) for _ in range(self.world.size)]
        dist.all_gather(rows, mine)
        values = torch.stack(rows).tolist()
        report = StepReport(tuple(map(StageReport.of, values)), self.world.pipeline_stages)
        report.check_finite(self._step + 1)
        self._report = report
        for observer in self.gradient_observers:
            observer(self)
        self._left_out = not self.may_update(self._step + 1, report)
        return not self._left_out

    def _losses(self) -> Tensor:
        """float64 [4]: the fields of `StageReport` before the norms."""
        sums = torch.stack(self._engine.output_sums)
        broken = ~sums.isfinite()
        first = torch.where(broken.any(), broken.int().argmax(), -1).double()
        none = torch.zeros_like(first)
        if not self._engine.is_last_stage():
            return torch.stack([none, first, none - 1, none])
        # What the last stage left there are its micro-batches' shares of the loss.
        largest, place = sums.double().max(0)
        return torch.stack([self._engine.total_loss.double().reshape(()), first, place.double(), largest])

    def _local_gradients(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Reduced gradients of this process, fp32: its partition of them (fp32) or those of the whole stage (bf16)."""
        optimizer = self._engine.optimizer
        if self._engine.using_bf16_optimizer:
            for parameters, whole in zip(optimizer.bf16_groups, optimizer.fp32_groups_gradients, strict=True):
                yield from zip(parameters, whole, strict=True)
            return
        for number, group in optimizer.averaged_gradients.items():
            # As DeepSpeed's own norm reads them: padding is marked where it lies between pieces, and last otherwise.
            pieces = (piece for piece in group if not getattr(piece, "_zero_padding", False))
            yield from zip(optimizer.params_in_partition[number], pieces, strict=False)

    # ---- who this process is

    @property
    def stage(self) -> int:
        return self._module.stage_id

    @property
    def replica(self) -> int:
        """Number of this pipeline among the data-parallel ones."""
        return self._engine.grid.get_data_parallel_id()

    @property
    def is_first_stage(self) -> bool:
        return self._engine.is_first_stage()

    @property
    def device(self) -> torch.device:
        return torch.device(self._engine.device)

    def decoder_layers(self) -> list[DecoderLayerStage]:
        """Decoder layers held here, for the log."""
        return [layer for layer in self._module.stage_layers() if isinstance(layer, DecoderLayerStage)]

    def loss_layer(self) -> LossStage | None:
        """The layer that ends in the loss, on the last stage."""
        layers = self._module.stage_layers()
        return next((layer for layer in layers if isinstance(layer, LossStage)), None)

    # ---- state by checkpoint name; what says "collective" must be called by all replicas of a stage together

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters of this stage under their checkpoint names, frozen ones included, anchors not."""
        for layer in self._module.stage_layers():
            yield from layer.named_checkpoint_parameters()

    def master(self, parameter: nn.Parameter) -> Tensor:
        """The fp32 master weight (collective); of a frozen parameter, the weight itself."""
        return safe_get_full_fp32_param(parameter) if parameter.requires_grad else parameter.detach()

    def moment(self, parameter: nn.Parameter, name: str) -> Tensor:
        """One of `MOMENTS` of a trainable parameter, fp32 (collective)."""
        return safe_get_full_optimizer_state(parameter, name)

    def gradient(self, parameter: nn.Parameter) -> Tensor:
        """The reduced gradient, from a gradient observer (collective)."""
        return safe_get_full_grad(parameter)

    def set_master(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Set a weight; `finish_loading` must follow. A frozen parameter takes the value itself."""
        if parameter.requires_grad:
            safe_set_full_fp32_param(parameter, value.to(self.device, torch.float32))
        else:
            parameter.data.copy_(value)

    def set_moment(self, parameter: nn.Parameter, name: str, value: Tensor) -> None:
        """Set one of `MOMENTS`."""
        safe_set_full_optimizer_state(parameter, value.to(self.device, torch.float32), name)

    def finish_loading(self, optimizer_steps: int) -> None:
        """Spread master weights to the working copies and set AdamW's step count."""
        self._engine.optimizer.update_lp_params()
        for flat in self._flat_partitions():
            self._engine.optimizer.optimizer.state[flat]["step"].fill_(float(optimizer_steps))
        self._engine.global_steps = optimizer_steps

    def _flat_partitions(self) -> list[Tensor]:
        return [group["params"][0] for group in self._engine.optimizer.optimizer.param_groups]

    def _start_moments(self) -> None:
        """Make AdamW's state now and not at its first step, so that it can be loaded and saved from step 0."""
        optimizer = self._engine.optimizer
        for group, flat in zip(optimizer.optimizer.param_groups, self._flat_partitions(), strict=True):
            step_device = flat.device if group["fused"] else "cpu"
            state = optimizer.optimizer.state[flat]
            state["step"] = torch.zeros((), dtype=torch.float32, device=step_device)
            for name in MOMENTS:
                state[name] = torch.zeros_like(flat, requires_grad=False)
        optimizer._lazy_init_hp_params_optimizer_state()

    def close(self) -> None:
        """Free DeepSpeed's hooks; the process group is left by `stop_processes`."""
        self._engine.destroy()
