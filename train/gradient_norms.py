"""The gradient's norm, part by part: what the engine knows before clipping, at no other pass over the gradients.

Parts are named by prefixes of checkpoint names, as they are written into `optimizer.part_learning_rates` and `freeze`;
the longest prefix that fits counts. They are the same at every cut, so runs under different cuts can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
import torch.nn as nn
from torch import Tensor
from torch.nn.utils import get_total_norm

from train.optimizer import part_of

PARTS = (
    "model.sam_model",
    "model.sam_model.net_2",
    "model.sam_model.net_3",
    "model.vision_model",
    "model.projector",
    "model.embed_tokens",
    "model.layers",
    "lm_head",
    "language_model",
)
"""Vision tokenizer, the two layers of its compressor, global encoder, projector; embedding, decoder and head of
stage 2, the compact language model of stage 1."""
OTHER = "other"
"""What belongs to none: the final norm, the learned ends of rows and views."""


class PartNorms:
    """Adds up squared gradients by part (the constructor is collective).

    Args:
        named: trainable parameters of this stage by checkpoint name.
        prefixes: more parts, such as those with learning rates of their own.
    """

    def __init__(
        self, named: Iterable[tuple[str, nn.Parameter]], prefixes: Iterable[str], device: torch.device
    ) -> None:
        known = sorted(
            {*PARTS, *prefixes}, key=lambda part: PARTS.index(part) if part in PARTS else len(PARTS)
        )
        part = {id(parameter): part_of(name, known) or OTHER for name, parameter in named}
        every = [*known, OTHER]
        held = torch.tensor([int(name in part.values()) for name in every], dtype=torch.int32, device=device)
        dist.all_reduce(held, op=dist.ReduceOp.MAX)
        self.names = tuple(name for name, count in zip(every, held.tolist(), strict=True) if count)
        """Parts that train in any stage, in the same order on all ranks."""
        self._part = part
        self._device = device

    def squares(self, gradients: Iterable[tuple[nn.Parameter, Tensor]]) -> Tensor:
        """float64 [parts]: of each part of `names`, the squared norm of these (pieces of) gradients."""
        by_part: dict[str, list[Tensor]] = {name: [] for name in self.names}
        for parameter, gradient in gradients:
            # An anchor is no part of the model, and its gradient is zero.
            if part := self._part.get(id(parameter)):
                by_part[part].append(gradient)
        norms = [get_total_norm(pieces).to(self._device) for pieces in by_part.values()]
        return torch.stack(norms).double().square()
