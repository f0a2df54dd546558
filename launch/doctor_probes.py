"""What launch/doctor measures in every process. No judgement here: each probe returns what it found, as plain numbers.

Shapes: none of the project's; buffers are flat fp32 (CPU) or bf16 (GPU) of so many MiB.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "deepspeed", "transformers", "tokenizers", "safetensors", "numpy")
MIB, GIB = 2**20, 2**30
GPU_FIELDS = (
    "name",
    "driver_version",
    "memory.total",
    "memory.used",
    "ecc.errors.uncorrected.volatile.total",
)

Report = dict[str, Any]


def who() -> Report:
    """Which process this is, and on which node; `boot` changes whenever the node is started."""
    return {
        "rank": int(os.environ.get("RANK", "0")),
        "local_rank": int(os.environ.get("LOCAL_RANK", "0")),
        "host": socket.gethostname(),
        "boot": _read("/proc/sys/kernel/random/boot_id"),
    }


def versions() -> dict[str, str]:
    """Name -> version of what must be the same everywhere."""
    found = {"python": platform.python_version(), "repository": _revision()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    if torch.cuda.is_available():
        found["cuda"] = str(torch.version.cuda)
        found["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    return found


def gpu(local_rank: int) -> Report | None:
    """The GPU of this process; None without one."""
    if not torch.cuda.is_available():
        return None
    count = torch.cuda.device_count()
    properties = torch.cuda.get_device_properties(local_rank % count)
    report: Report = {
        "count": count,
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gib": properties.total_memory / GIB,
        "free_gib": torch.cuda.mem_get_info(local_rank % count)[0] / GIB,
        "driver": None,
        "ecc_errors": None,
    }
    values = _nvidia_smi(str(getattr(properties, "uuid", local_rank % count)))
    if values:
        report["driver"] = values["driver_version"]
        errors = values["ecc.errors.uncorrected.volatile.total"]
        report["ecc_errors"] = int(errors) if errors.isdigit() else None
    return report


def limits() -> Report:
    """Of this process and its node; -1: unlimited."""
    shared_memory = shutil.disk_usage("/dev/shm") if Path("/dev/shm").is_dir() else None
    return {
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "locked_bytes": resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        "processes": resource.getrlimit(resource.RLIMIT_NPROC)[0],
        "shared_memory_gib": shared_memory.free / GIB if shared_memory else 0.0,
        "cores": len(os.sched_getaffinity(0)),
    }


def disk(directory: str) -> Report:
    """Free space of a directory, or why it cannot be asked."""
    try:
        usage, nodes = shutil.disk_usage(directory), os.statvfs(directory)
    except OSError as error:
        return {"error": error.strerror}
    return {
        "free_gib": usage.free / GIB,
        "free_files": nodes.f_favail if nodes.f_files else None,  # some file systems do not count them
    }


def shared_directory(directory: str, rank: int, nonce: str) -> str:
    """Whether what rank 0 writes is read here: empty, or what is wrong (collective)."""
    note = Path(directory) / f".doctor-{nonce}"
    problem = ""
    if rank == 0:
        try:
            note.write_text(nonce, encoding="utf-8")
        except OSError as error:
            problem = f"rank 0 cannot write there ({error.strerror})"
    dist.barrier()
    if rank > 0:
        deadline = time.monotonic() + 10  # network file systems show a new file a little later
        while not note.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
            _look_again(note.parent)
        try:
            if note.read_text(encoding="utf-8") != nonce:
                problem = "another content than rank 0 has written"
        except OSError as error:
            problem = f"what rank 0 has written is not there ({error.strerror})"
    dist.barrier()
    if rank == 0:
        note.unlink(missing_ok=True)
    return problem


def clock_offset(rank: int, size: int, rounds: int = 8) -> float:
    """Seconds that this process's clock is ahead of rank 0's, to half a round trip (collective)."""
    offset = 0.0
    for other in range(1, size):
        if rank == 0:
            _answer_clock(other, rounds)
        elif rank == other:
            offset = _ask_clock(rounds)
    return offset


def _answer_clock(other: int, rounds: int) -> None:
    for _ in range(rounds):
        dist.recv(torch.empty(1), src=other)
        dist.send(torch.tensor([time.time()], dtype=torch.float64), dst=other)


def _ask_clock(rounds: int) -> float:
    best, offset = float("inf"), 0.0
    theirs = torch.empty(1, dtype=torch.float64)
    for _ in range(rounds):
        sent = time.time()
        dist.send(torch.zeros(1), dst=0)
        dist.recv(theirs, src=0)
        back = time.time()
        if back - sent < best:
            best, offset = back - sent, (sent + back) / 2 - float(theirs)
    return offset


def all_reduce_bandwidth(device: torch.device, mebibytes: float, rounds: int = 5) -> float:
    """Bus bandwidth of the ring in GB/s: 2 (n - 1) / n of the buffer per all-reduce; 0 for one process (collective)."""
    size = dist.get_world_size()
    if size == 1:
        return 0.0
    buffer = _buffer(device, mebibytes)
    seconds = _least(lambda: dist.all_reduce(buffer), device, rounds)
    return 2 * (size - 1) / size * buffer.numel() * buffer.element_size() / seconds / 1e9


def neighbour_bandwidth(device: torch.device, mebibytes: float, stages: int, rounds: int = 5) -> float:
    """GB/s from the pipeline stage before to this one, all pipelines at once; 0 on the first stage (collective).

    Ranks are laid out as in training: stage · replicas + replica.
    """
    rank, replicas = dist.get_rank(), dist.get_world_size() // stages
    buffer = _buffer(device, mebibytes)
    bandwidth = 0.0
    for boundary in range(1, stages):
        dist.barrier()
        if rank // replicas == boundary - 1:
            _least(lambda: dist.send(buffer, rank + replicas), device, rounds)
        elif rank // replicas == boundary:
            seconds = _least(lambda: dist.recv(buffer, rank - replicas), device, rounds)
            bandwidth = buffer.numel() * buffer.element_size() / seconds / 1e9
    return bandwidth


def matmul_rate(device: torch.device, side: int, rounds: int = 5) -> float:
    """TFLOP/s of a square matrix product, all processes at once."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    left = torch.ones(side, side, dtype=dtype, device=device)
    return 2 * side**3 / _least(lambda: left @ left, device, rounds) / 1e12


def memory_rate(device: torch.device, mebibytes: float, rounds: int = 5) -> float:
    """GB/s read and written by copying a buffer, all processes at once."""
    source = _buffer(device, mebibytes)
    target = torch.empty_like(source)
    seconds = _least(lambda: target.copy_(source), device, rounds)
    return 2 * source.numel() * source.element_size() / seconds / 1e9


def _buffer(device: torch.device, mebibytes: float) -> torch.Tensor:
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.ones(int(mebibytes * MIB) // dtype.itemsize, dtype=dtype, device=device)


def _least(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Seconds of the fastest of several rounds, after one that warms up."""
    times = []
    for _ in range(rounds + 1):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - started)
    return max(min(times[1:]), 1e-9)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _revision() -> str:
    """Commit of the repository, with a mark when files differ from it."""
    try:
        described = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip()


def _nvidia_smi(which: str) -> dict[str, str] | None:
    name = which if which.isdigit() or which.startswith("GPU-") else f"GPU-{which}"
    command = [
        "nvidia-smi",
        f"--id={name}",
        f"--query-gpu={','.join(GPU_FIELDS)}",
        "--format=csv,noheader,nounits",
    ]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    values = [value.strip() for value in answer.strip().split(",")]
    return dict(zip(GPU_FIELDS, values, strict=True)) if len(values) == len(GPU_FIELDS) else None


def _look_again(directory: Path) -> None:
    """Listing a directory makes NFS ask its server again."""
    try:
        next(directory.iterdir(), None)
    except OSError:
        return


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
