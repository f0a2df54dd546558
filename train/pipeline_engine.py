"""DeepSpeed's PipelineEngine with ZeRO-1, and everything in which ours differs from it.

Only this file and `train.deepspeed_engine` on top of it know DeepSpeed. What is adapted, and why (against 0.19.8):
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
- anchors: every stage has the same parameter groups (`train.optimizer`); a frozen stage has nothing but anchors.
- `_exec_optimizer_step`: whether the optimizer may take a step is asked before; a step can be left out.
- every instruction is timed (`train.clock`).
- timeouts are explicit for all groups, DeepSpeed's sub-groups included.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
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
from train.config import World
from train.pipeline_layers import StageLayer

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    # DeepSpeed compiles one of its optimizers when it is imported: seconds per process for nothing.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

import deepspeed
from deepspeed.accelerator import get_accelerator
from deepspeed.pipe import LayerSpec, PipelineModule
from deepspeed.runtime.pipe import schedule
from deepspeed.runtime.pipe.engine import PipelineEngine
from deepspeed.runtime.zero.stage_1_and_2 import INITIAL_MICRO_STEP_ID

# DeepSpeed calls collectives by names that newer versions of torch have replaced; a user can do nothing about it.
warnings.filterwarnings("ignore", category=FutureWarning, message=r"`torch\.distributed\.")

OLDEST, TOO_NEW = Version("0.19.3"), Version("0.20")
DEEPSPEED_VERSION: str = deepspeed.__version__
BUCKET_ELEMENTS = 50_000_000
"""Largest gradient bucket; DeepSpeed's default of 5e8 would be allocated whole."""


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


class Module(PipelineModule):
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


class Engine(PipelineEngine):
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


def deepspeed_options(
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
