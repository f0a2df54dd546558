"""Blocks that are computed again in the backward pass, or compiled: applied to built layers from outside.

What is special here:
- Only the `forward` of a block is replaced, so names of parameters, checkpoints and the model's code stay as they are.
- A block is one layer of a transformer, the unit that repeats: of SAM, of CLIP, of the decoder, of the compact language
  model. Its input is kept, everything inside is computed a second time when the gradient arrives.
- Recomputed is the compiled block, not the other way round: torch.compile then sees plain code.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any

import torch
import torch.nn as nn
from torch.utils.checkpoint import checkpoint

from model.freeze import is_below
from train.pipeline_layers import StageLayer
from train.settings import require

BLOCKS = ("sam_model.blocks", "vision_model.transformer.layers", "language_model.model.decoder.layers")
"""Lists of blocks inside the layers of a pipeline, by the names these give them."""
WHOLE = ("decoder",)
"""Parts of a layer that are a block themselves."""


def named_blocks(layer: StageLayer) -> Iterator[tuple[str, nn.Module]]:
    """The blocks of a layer under their checkpoint names."""
    modules = dict(layer.named_modules())
    for name in WHOLE:
        if name in modules:
            yield layer.checkpoint_name(name), modules[name]
    for name in BLOCKS:
        for number, block in enumerate(modules.get(name, ())):
            yield layer.checkpoint_name(f"{name}.{number}"), block


def recomputes(layer: StageLayer, prefixes: Sequence[str]) -> bool:
    """Whether the prefixes name a block of this layer."""
    return any(is_below(name, prefixes) for name, _ in named_blocks(layer))


def recompute_blocks(layer: StageLayer, prefixes: Sequence[str]) -> None:
    """Compute the named blocks again in the backward pass, bit for bit the same, dropout included."""
    for name, block in named_blocks(layer):
        if is_below(name, prefixes):
            block.forward = _recomputed(block.forward)


def compile_blocks(layer: StageLayer) -> None:
    """Hand every block to torch.compile."""
    for _, block in named_blocks(layer):
        block.forward = torch.compile(block.forward)


def check_compiler() -> None:
    """Refuse `compile=true` where torch.compile cannot work.

    Raises:
        ConfigError: there is no C++ compiler.
    """
    compiler = os.environ.get("CXX", "g++")
    require(
        shutil.which(compiler) is not None,
        f"compile=true needs a C++ compiler, and '{compiler}' is not installed; install g++, name another one in CXX, "
        "or leave compile=false.",
    )


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(forward)
    def recomputed(*inputs: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs, **options)  # frozen, or evaluation: nothing is kept anyway
        return checkpoint(forward, *inputs, use_reentrant=False, **options)

    return recomputed
