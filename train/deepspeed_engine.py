"""The engine: DeepSpeed's PipelineEngine with ZeRO-1, and everything in which ours differs from it.

This is the only file that knows DeepSpeed. What it adapts, and why (checked against 0.19.8):
- version: before 0.19.3 gradients were scaled wrongly by the number of micro-batches while the loss looked
  right; after 0.20 the internals below may have moved. `tests/train` compares gradients with one process.
- imports: on CPU, torch.compile and the compiled shared-memory collective are switched off; they cost half a
  minute at the start, need a compiler, and serve nothing here.
- `_partition_layers`: stage boundaries are given as numbers.
- `_exec_load_micro_batch`: only the first stage reads data; labels travel with the activations.
- `_allocate_or_extend_buffers`: one receive buffer per (position, dtype). DeepSpeed's pool ignores the dtype, so
  an int32 activation and a float gradient at the same position would share memory and corrupt gradients.
- `_exec_forward_pass`, `_exec_send_grads`: a micro-batch without images uses none of the vision weights, so
  an output may have no gradient function and an input no gradient; both are given zeros instead of hanging.
- zero gradients are filled in before every step, for the same reason and for idle experts: ZeRO-1 would wait
  for them for ever, and the bf16 optimizer would compute another norm on every replica.
- anchors: every stage has the same parameter groups (`train.optimizer`); a frozen stage has nothing but anchors.
- `model_parallel` is set on every parameter, so that clipping counts every stage and not only the first.
- `_exec_optimizer_step`: a loss or gradient that is not finite stops every rank before the optimizer.
- timeouts are explicit for all groups, DeepSpeed's sub-groups included.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from operator import mul
from typing import Any, ClassVar

import torch
import torch.distributed as dist
import torch.nn as nn
from packaging.version import Version
from torch import Tensor

from data_engine.errors import ConfigError
from train.clock import COMPUTE, LOAD, REDUCE, WAIT, StepClock, timed
from train.config import OptimizerSettings, World
from train.data.micro_batch import MicroBatch
from train.guard import StageReport, StepReport
from train.optimizer import (
    MOMENTS,
    build_adamw,
    optimizer_groups,
    parameter_groups,
    set_learning_rate,
)
from train.pipeline_layers import DecoderLayerStage, LossStage, StageLayer

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    # DeepSpeed compiles one of its optimizers when it is imported: seconds per process for nothing.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

import deepspeed
from deepspeed.accelerator import get_accelerator
from deepspeed.pipe import LayerSpec, PipelineModule
from deepspeed.runtime.config import DeepSpeedConfig
from deepspeed.runtime.pipe import schedule
from deepspeed.runtime.pipe.engine import PipelineEngine
from deepspeed.runtime.zero.stage_1_and_2 import INITIAL_MICRO_STEP_ID
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_grad,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)

# DeepSpeed calls collectives by names that newer versions of torch have replaced; a user can do nothing about it.
warnings.filterwarnings("ignore", category=FutureWarning, message=r"`torch\.distributed\.")

OLDEST, TOO_NEW = Version("0.19.3"), Version("0.20")
DEEPSPEED_VERSION: str = deepspeed.__version__
BUCKET_ELEMENTS = 50_000_000
"""Largest gradient bucket; DeepSpeed's default of 5e8 would be allocated whole."""


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step reports, the same on every rank."""

    loss: float
    """Mean over the labelled tokens of the whole step."""
    gradient_norm: float
    """Over all stages, before clipping."""
    learning_rate: float
    stage_gradient_norms: tuple[float, ...]
    seconds: float
    left_out: bool
    """The optimizer did not take this step."""


def start_processes(world: World, timeout: float) -> None:
    """Join the process group; without torchrun, be a group of one.

    Raises:
        ConfigError: the installed DeepSpeed is not one that computes the right gradients.
    """
    version = Version(DEEPSPEED_VERSION)
    if not OLDEST <= version < TOO_NEW:
        raise ConfigError(
            f"DeepSpeed {version} is installed, but this engine needs {OLDEST} or later below {TOO_NEW}: earlier "
            "versions scale pipeline gradients wrongly while the loss looks right; pip install 'deepspeed==0.19.8'."
        )
    if "RANK" not in os.environ:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        alone = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({key: str(value) for key, value in alone.items()})
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    limit = timedelta(seconds=timeout)
    # Groups made later without a timeout take these; torch's own defaults are 10 and 30 minutes.
    dist.distributed_c10d.default_pg_timeout = limit
    dist.distributed_c10d.default_pg_nccl_timeout = limit
    with quiet():
        deepspeed.init_distributed(timeout=limit)
    if torch.cuda.is_available():
        torch.cuda.set_device(world.local_rank)


def stop_processes() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """DeepSpeed prints its layers and seeds; our stage table says it better."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


class _Deferred(LayerSpec):
    """A layer that is built only in the process that holds it."""

    def __init__(self, build: Callable[[], StageLayer]) -> None:
        super().__init__(StageLayer)
        self._build = build

    def build(self, log: bool = False) -> StageLayer:
        return self._build()


class _Module(PipelineModule):
    """Layers cut at given boundaries, and one anchor per parameter group."""

    def __init__(
        self,
        builders: Sequence[Callable[[], StageLayer]],
        bounds: Sequence[int],
        data_parallel_size: int,
        groups: int,
    ) -> None:
        self._bounds = list(bounds)
        super().__init__([_Deferred(build) for build in builders], num_stages=len(bounds) - 1)
        # ZeRO-1 splits every group over the replicas, two elements at least for each.
        device = get_accelerator().device_name(self.local_rank)
        self.anchors = nn.ParameterList(
            nn.Parameter(torch.zeros(max(64, 2 * data_parallel_size), device=device)) for _ in range(groups)
        )

    def _partition_layers(self, method: str = "uniform") -> None:
        self.parts = self._bounds
        stage = self._topo.get_coord(self.global_rank).pipe
        self._set_bounds(self.parts[stage], self.parts[stage + 1])

    def stage_layers(self) -> list[StageLayer]:
        return [layer for layer in self.forward_funcs if isinstance(layer, StageLayer)]


class _Engine(PipelineEngine):
    """PipelineEngine with the differences listed at the top of this file."""

    before_optimizer: Callable[[], bool]
    """Whether the optimizer may take this step."""
    clock: StepClock
    output_sums: list[Tensor]
    """Sum of the floats that each micro-batch of this step left here: finite if they are."""

    def _exec_load_micro_batch(self, buffer_id: int) -> None:
        if self.is_first_stage():
            batch = next(self.data_iterator)
            self.pipe_buffers["inputs"][buffer_id] = tuple(
                tensor.to(self.device, non_blocking=True) for tensor in batch
            )

    def _exec_forward_pass(self, buffer_id: int) -> None:
        super()._exec_forward_pass(buffer_id)
        if not torch.is_grad_enabled():
            return
        outputs = self.pipe_buffers["outputs"][buffer_id]
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        floats = [output for output in outputs if output.is_floating_point()]
        for output in floats:
            if not output.requires_grad:
                output.requires_grad_()
        total = torch.zeros((), device=self.device)
        for output in floats:
            total = total + output.detach().sum(dtype=torch.float32)
        self.output_sums.append(total)

    def _exec_send_grads(self, buffer_id: int) -> None:
        for received in self.pipe_buffers["inputs"][buffer_id]:
            if received.is_floating_point() and received.grad is None:
                received.grad = torch.zeros_like(received)
        super()._exec_send_grads(buffer_id)

    def _exec_optimizer_step(self, lr_kwargs: dict[str, Any] | None = None) -> None:
        if self.before_optimizer():
            super()._exec_optimizer_step(lr_kwargs)
        else:
            self._forget_gradients()

    def _forget_gradients(self) -> None:
        """Leave a step out, as DeepSpeed's own optimizers do when fp16 gradients overflow."""
        self.optimizer.zero_grad(set_to_none=True)
        if not self.using_bf16_optimizer:
            self.optimizer.micro_step_id = INITIAL_MICRO_STEP_ID
            self.optimizer._release_preflattened_grad_buffers()
            for group in self.optimizer.averaged_gradients:
                self.optimizer.averaged_gradients[group] = None
                self.optimizer.all_grad_tensors[group] = None

    def _allocate_or_extend_buffers(self, idx: int, shape: list[int], dtype: torch.dtype) -> Tensor:
        # An activation and a gradient of one dtype may share: a received activation is cloned at once, and a
        # received gradient is used up by the backward pass that follows.
        pool: dict[tuple[int, torch.dtype], Tensor] = self.__dict__.setdefault("_buffers_by_dtype", {})
        count = reduce(mul, shape, 1)
        buffer = pool.get((idx, dtype))
        if buffer is None or buffer.numel() < count:
            buffer = pool[idx, dtype] = torch.zeros(max(count, 1), dtype=dtype, device=self.device)
        return buffer[:count].view(shape)

    _INSTRUCTION_MAP: ClassVar[dict[type, Callable[..., None]]] = {
        schedule.LoadMicroBatch: timed(LOAD, _exec_load_micro_batch),
        schedule.ForwardPass: timed(COMPUTE, _exec_forward_pass),
        schedule.BackwardPass: timed(COMPUTE, PipelineEngine._exec_backward_pass),
        schedule.SendActivation: timed(WAIT, PipelineEngine._exec_send_activations),
        schedule.RecvActivation: timed(WAIT, PipelineEngine._exec_recv_activations),
        schedule.SendGrad: timed(WAIT, _exec_send_grads),
        schedule.RecvGrad: timed(WAIT, PipelineEngine._exec_recv_grads),
        schedule.ReduceGrads: timed(REDUCE, PipelineEngine._exec_reduce_grads),
        schedule.ReduceTiedGrads: timed(REDUCE, PipelineEngine._exec_reduce_tied_grads),
        schedule.OptimizerStep: timed(REDUCE, _exec_optimizer_step),
    }


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
        self.may_update: Callable[[int, float, float], bool] = lambda step, loss, norm: True
        """Asked before the optimizer with the step (counted from 1), its loss and its gradient norm, on every rank."""
        self.gradient_observers: list[Callable[[TrainingEngine], None]] = []
        """Called after gradients are reduced and before the optimizer, e.g. by tests."""
        with quiet():
            groups = len(optimizer_groups(settings))
            self._module = _Module(builders, bounds, world.data_parallel_size, groups)
            trainable = [p for p in self._module.parameters() if p.requires_grad]
            for parameter in trainable:
                parameter.model_parallel = True
            optimizer = build_adamw(
                parameter_groups(
                    ((n, p) for n, p in self.named_parameters() if p.requires_grad),
                    list(self._module.anchors),
                    settings,
                ),
                settings,
                fused=torch.cuda.is_available(),
            )
            options = _deepspeed_options(micro_batches, precision, settings.clip, trainable)
            mpu = self._module.mpu()
            self._engine = _Engine(
                args=None,
                model=self._module,
                optimizer=optimizer,
                model_parameters=trainable,
                mpu=mpu,
                config=options,
                config_class=DeepSpeedConfig(options, mpu),
            )
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
            seconds=time.perf_counter() - started,
            left_out=self._left_out,
        )

    def evaluate_step(self, batches: Iterable[MicroBatch] | None) -> float:
        """Loss of `micro_batches` micro-batches without training on them; does not disturb the run."""
        iterator = iter(batches) if batches is not None else None
        loss = self._engine.eval_batch(iterator, num_micro_batches=self.micro_batches)
        return float(loss)

    def _before_optimizer(self) -> bool:
        mine = torch.zeros(3, dtype=torch.float64, device=self._engine.device)
        # vector_norm makes no copy of a gradient that may be gigabytes
        for gradient in self._local_gradients():
            mine[0] += torch.linalg.vector_norm(gradient, dtype=torch.float32).double().square()
        if self._engine.using_bf16_optimizer:
            mine[0] /= self.world.data_parallel_size  # there every replica holds the whole gradient
        if self._engine.is_last_stage():
            mine[1] = self._engine.total_loss.double()
        broken = ~torch.stack(self._engine.output_sums).isfinite()
        mine[2] = torch.where(broken.any(), broken.int().argmax(), -1)
        # Gathered, not reduced: every rank adds up the same numbers in the same order, and judges by the same sum.
        rows = [torch.empty_like(mine) for _ in range(self.world.size)]
        dist.all_gather(rows, mine)
        values = torch.stack(rows).tolist()
        report = StepReport(tuple(map(StageReport.of, values)), self.world.pipeline_stages)
        report.check_finite(self._step + 1)
        self._report = report
        for observer in self.gradient_observers:
            observer(self)
        self._left_out = not self.may_update(self._step + 1, report.loss, report.norm)
        return not self._left_out

    def _local_gradients(self) -> list[Tensor]:
        """Reduced gradients of this process: its partition (fp32) or the whole stage (bf16)."""
        optimizer = self._engine.optimizer
        if self._engine.using_bf16_optimizer:
            return list(optimizer.fp32_groups_gradients_flat)
        return [gradient for group in optimizer.averaged_gradients.values() for gradient in group]

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


def _deepspeed_options(
    micro_batches: int, precision: str, clip: float, trainable: Sequence[nn.Parameter]
) -> dict[str, Any]:
    elements = sum(parameter.numel() for parameter in trainable)
    options: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": micro_batches,
        "gradient_clipping": clip,
        "steps_per_print": 10**9,
        "zero_optimization": {"stage": 1, "reduce_bucket_size": min(BUCKET_ELEMENTS, max(elements, 1))},
        "zero_allow_untested_optimizer": True,
        "pipeline": {"use_reentrant": False},
    }
    if precision == "bf16":
        # BF16_Optimizer: fp32 master weights and moments sharded over replicas, fp32 gradient accumulation; the
        # default would reduce gradients over replicas in bf16.
        options |= {
            "bf16": {"enabled": True},
            "data_types": {"grad_accum_dtype": "fp32"},
            "communication_data_type": "fp32",
        }
    return options
