"""GPUs by name: what the planner needs to know of one.

Peak is dense bf16 with fp32 accumulation, without sparsity, from the vendors' data sheets; memory is what the
sheet says in GB of 10⁹ bytes, given in GiB; bandwidth is that of the memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from train.config import TrainConfig, require


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU."""

    name: str
    teraflops: float
    """Peak, dense bf16."""
    memory_gib: float
    bandwidth: float
    """Memory bandwidth in GB/s."""


_GB = 1e9 / 2**30
GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("a100-40g", 312, 40.0, 1555),
        Gpu("a100-80g", 312, 80.0, 2039),
        Gpu("h100-80g", 989, 80.0, 3350),
        Gpu("h200", 989, 141 * _GB, 4800),
        Gpu("h20", 148, 96.0, 4000),
        Gpu("l40s", 362, 48.0, 864),
        Gpu("l4", 121, 24.0, 300),
        Gpu("a10g", 70, 24.0, 600),
        Gpu("rtx4090", 165, 24.0, 1008),
        Gpu("b200", 2250, 180 * _GB, 8000),
    )
}


def chosen_gpu(config: TrainConfig) -> Gpu | None:
    """The GPU that `gpu`, `gpu_teraflops` and `gpu_memory` describe; None when nothing is said of its speed.

    Raises:
        ConfigError: no GPU is known by this name.
    """
    name = config.gpu.lower()
    require(
        not name or name in GPUS,
        f"gpu={config.gpu} is unknown; choose one of {', '.join(GPUS)}, or give gpu_teraflops and gpu_memory instead.",
    )
    known = GPUS.get(name)
    teraflops = config.gpu_teraflops or (known.teraflops if known else 0.0)
    if not teraflops:
        return None
    memory = config.gpu_memory or (known.memory_gib if known else 0.0)
    return Gpu(name or "GPU", teraflops, memory, known.bandwidth if known else 0.0)
