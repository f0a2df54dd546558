"""Modules without memory: all names and shapes of a model in a moment, however large it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

FILLS = ("normal_", "uniform_", "kaiming_uniform_")


class _Unfilled(TorchFunctionMode):
    """Skip what constructors fill with random numbers: on the meta device that imports torch's compiler."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in FILLS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Modules made inside have parameters on the meta device: shapes and dtypes, no values."""
    with torch.device("meta"), _Unfilled():
        yield
