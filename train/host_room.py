"""Room on the host for a copy of what a process trains, so that it can be written while training goes on.

What is special here:
- One piece of memory, exactly as large as what it is for, is made at the first save and used again for every later
  one: no save after the first has to find memory.
- Where the state is on a GPU, the room is page-locked: copies go at the full rate of the bus, and behind each other.
"""

from __future__ import annotations

import errno
import weakref
from contextlib import suppress

import torch
from torch import Tensor

ALIGNMENT = 64
"""Bytes that every copy starts at a multiple of."""


class HostRoom:
    """Keeps copies of tensors until `clear`.

    Args:
        capacity: bytes, see `bytes_for`.
        device: where the tensors are.

    Raises:
        OSError: the host has no such memory.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._used = 0
        try:
            self._memory = torch.empty(capacity, dtype=torch.uint8)
            if self._on_gpu and capacity:
                _lock_pages(self._memory, device)
        except RuntimeError as error:
            raise OSError(
                errno.ENOMEM,
                f"the host has no {capacity / 2**30:,.1f} GiB to copy this rank's state into; set "
                "checkpoint.asynchronous=false",
            ) from error

    @staticmethod
    def bytes_for(sizes: list[int]) -> int:
        """The capacity for tensors of these sizes in bytes."""
        return sum(map(_aligned, sizes))

    def keep(self, tensor: Tensor) -> Tensor:
        """A copy on the host, of the same shape and dtype; it is whole after `complete` and lasts until `clear`."""
        start = self._used
        self._used += _aligned(tensor.nbytes)
        place = self._memory[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        # The copy is queued behind whatever computes the tensor, and before whatever changes it or takes its memory.
        return place.copy_(tensor, non_blocking=True)

    def complete(self) -> None:
        """Wait until everything kept is there."""
        if self._on_gpu:
            torch.cuda.synchronize()

    def clear(self) -> None:
        """Forget what is kept; its places are filled anew."""
        self._used = 0


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _lock_pages(memory: Tensor, device: torch.device) -> None:
    # Not torch's own page-locked memory: its allocator rounds up to a power of two, up to twice the memory.
    cudart, address = torch.cuda.cudart(), memory.data_ptr()
    status = cudart.cudaHostRegister(address, memory.nbytes, 0)
    if status != cudart.cudaError.success:
        # CUDA keeps a failure for whoever asks next: not for a kernel by which the ranks tell each other of this one.
        with suppress(RuntimeError):
            torch.zeros((), device=device)
        torch.cuda.check_error(status)
    weakref.finalize(memory, cudart.cudaHostUnregister, address)
