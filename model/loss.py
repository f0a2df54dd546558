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

CHUNK = 512
"""Positions per chunk: 512 x 129,280 logits take 265 MB in fp32 and half of that in bf16; both exist for a moment."""


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        hidden_gradient = torch.empty_like(hidden) if wants_hidden else None
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        for start in range(0, len(labels), CHUNK):
            rows, targets = hidden[start : start + CHUNK], labels[start : start + CHUNK, None]
            logits = F.linear(rows, weight).float()
            log_normaliser = logits.logsumexp(-1, keepdim=True)
            total += (log_normaliser - logits.gather(-1, targets)).sum()
            if not (wants_hidden or wants_weight):
                continue
            slope = logits.sub_(log_normaliser).exp_()
            slope.scatter_add_(-1, targets, slope.new_full(targets.shape, -1.0))
            slope = slope.to(hidden.dtype)
            if hidden_gradient is not None:
                hidden_gradient[start : start + CHUNK] = slope @ weight
            if weight_gradient is not None:
                weight_gradient += (slope.t() @ rows).float()
        ctx.weight_dtype = weight.dtype
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        upstream = gradients[0]
        to_hidden = None if hidden_gradient is None else hidden_gradient * upstream.to(hidden_gradient.dtype)
        # In place: a second gradient of this size (0.66 GB) would be the largest tensor of the whole step. With it the
        # saved tensor changes, so autograd refuses a second backward pass through this loss.
        to_weight = None if weight_gradient is None else weight_gradient.mul_(upstream).to(ctx.weight_dtype)
        return to_hidden, to_weight, None


def next_token_loss(hidden: Tensor, head_weight: Tensor, labels: Tensor) -> Tensor:
    """Sum of the next-token losses, fp32 scalar; divide by the number of labels that you count.

    Args:
        hidden: [N, H] output of the final norm.
        head_weight: [vocabulary, H].
        labels: int [N], already shifted; IGNORE (-100) where there is no loss.
    """
    labelled = (labels != IGNORE).nonzero()[:, 0]
    return _ChunkedCrossEntropy.apply(hidden[labelled], head_weight, labels[labelled].long())
