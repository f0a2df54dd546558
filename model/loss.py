"""Next-token loss at the positions that have a label, in chunks.

At 8,192 tokens and 129,280 words, logits in fp32 would take 3.95 GiB per sequence. Here a chunk of logits
lives only while its part of the loss and of the gradients is computed, in the forward pass, so that the
backward pass needs no second matrix product with the head.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .sequence import IGNORE

WORDS = 16384
"""Words per product where it has to be widened: 16,384 x 1,280 in bf16 are 42 MB."""

CHUNK = 256
"""Positions per chunk: 256 x 129,280 logits take 132 MB in fp32 and half of that in bf16; both exist for a moment."""


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        losses = torch.empty(len(labels), dtype=torch.float32, device=hidden.device)
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        hidden_gradient = torch.empty_like(hidden) if wants_hidden else None
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        for start in range(0, len(labels), CHUNK):
            rows, targets = hidden[start : start + CHUNK], labels[start : start + CHUNK, None]
            logits = F.linear(rows, weight).float()
            largest = logits.amax(-1, keepdim=True)
            at_target = logits.gather(-1, targets)
            # In place from here on: every further tensor of this size would be another quarter of a gigabyte.
            slope = logits.sub_(largest).exp_()
            normaliser = slope.sum(-1, keepdim=True)
            each = normaliser.log() + largest - at_target
            losses[start : start + CHUNK] = each[:, 0]
            total += each.sum()
            if not (wants_hidden or wants_weight):
                continue
            slope = slope.div_(normaliser)
            slope.scatter_add_(-1, targets, slope.new_full(targets.shape, -1.0))
            slope = slope.to(hidden.dtype)
            if hidden_gradient is not None:
                hidden_gradient[start : start + CHUNK] = slope @ weight
            if weight_gradient is not None:
                _add_product(weight_gradient, slope, rows)
        ctx.weight_dtype = weight.dtype
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        ctx.mark_non_differentiable(losses)
        return total, losses

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        upstream = gradients[0]
        to_hidden = None if hidden_gradient is None else hidden_gradient * upstream.to(hidden_gradient.dtype)
        # In place: a second gradient of this size (0.66 GB) would be the largest tensor of the whole step. With it the
        # saved tensor changes, so autograd refuses a second backward pass through this loss.
        to_weight = None if weight_gradient is None else weight_gradient.mul_(upstream).to(ctx.weight_dtype)
        return to_hidden, to_weight, None


def next_token_losses(hidden: Tensor, head_weight: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Like `next_token_loss`, and fp32 [labelled]: the loss of every labelled position, in order, without gradient."""
    labelled = (labels != IGNORE).nonzero()[:, 0]
    return _ChunkedCrossEntropy.apply(hidden[labelled], head_weight, labels[labelled].long())


def _add_product(total: Tensor, slope: Tensor, rows: Tensor) -> None:
    """Add slope^T · rows to the fp32 `total` [vocabulary, H] without a product of its size beside it."""
    if rows.dtype == torch.float32:
        torch.addmm(total, slope.t(), rows, out=total)
        return
    for part, columns in zip(total.split(WORDS), slope.split(WORDS, -1), strict=True):
        part += columns.t() @ rows


def next_token_loss(hidden: Tensor, head_weight: Tensor, labels: Tensor) -> Tensor:
    """Sum of the next-token losses, fp32 scalar; divide by the number of labels that you count.

    Args:
        hidden: [N, H] output of the final norm.
        head_weight: [vocabulary, H].
        labels: int [N], already shifted; IGNORE (-100) where there is no loss.
    """
    return next_token_losses(hidden, head_weight, labels)[0]
