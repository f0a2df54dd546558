"""The routed experts of a layer: stacked weights, and tokens on their way to their experts and back.

What is special here:
- On CUDA in bf16 all experts go through one grouped matrix product without a host synchronisation. Tokens are sorted
  by expert and put back by permutations whose gradients are permutations too: no scatter-add in either direction, so
  sums have one order and the same bits every time.
- Elsewhere expert after expert takes its tokens, works on them while they are in the cache, and adds its part to the
  output. Autograd's own way would hold every intermediate of all experts in fresh memory, and every weight gradient
  twice (measured in benchmarks/model.md).

Shapes: N tokens, E experts, k chosen per token, H hidden, I width of an expert.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .config import DecoderConfig


class StackedExperts(nn.Module):
    """All routed experts of a layer as two parameters.

    The released file holds them one by one; `model.convert` stacks and unstacks.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        experts, hidden, width = config.n_routed_experts, config.hidden_size, config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * width, hidden))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, width))

    def forward(self, tokens: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """The weighted sum of each token's experts, [N, H].

        Args:
            tokens: [N, H].
            chosen: int64 [N, k].
            weights: [N, k] of the choices; used in the dtype of the tokens.
        """
        weights = weights.to(tokens.dtype)
        expert_of = chosen.reshape(-1)
        order = expert_of.argsort(stable=True)
        # A one-hot sum, not bincount: bincount reads the maximum back to the host.
        counts = torch.zeros(len(self.down_proj), dtype=torch.int64, device=chosen.device)
        counts = counts.index_add(0, expert_of, torch.ones_like(expert_of))
        if tokens.is_cuda and tokens.dtype == torch.bfloat16:
            return self._grouped(tokens, weights, order, counts)
        return _ExpertByExpert.apply(
            tokens, weights, self.gate_up_proj, self.down_proj, order, counts.tolist()
        )

    def _grouped(self, tokens: Tensor, weights: Tensor, order: Tensor, counts: Tensor) -> Tensor:
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        ends = counts.cumsum(0).to(torch.int32)
        rows = _ToExperts.apply(tokens, order, place, weights.shape[1])
        gate, up = torch._grouped_mm(rows, self.gate_up_proj.transpose(1, 2), offs=ends).chunk(2, -1)
        outputs = torch._grouped_mm(F.silu(gate) * up, self.down_proj.transpose(1, 2), offs=ends)
        return _FromExperts.apply(outputs, weights, order, place)


class _ExpertByExpert(torch.autograd.Function):
    """Gather, SwiGLU, weight and add up, for one expert after the other."""

    @staticmethod
    def forward(
        ctx: Any,
        tokens: Tensor,
        weights: Tensor,
        gate_up: Tensor,
        down: Tensor,
        order: Tensor,
        counts: list[int],
    ) -> Tensor:
        output = torch.zeros_like(tokens)
        token_of, weight_of = order // weights.shape[1], weights.reshape(-1).index_select(0, order)
        both = []
        for expert, rows in _blocks(counts):
            taken = token_of[rows]
            both.append(tokens.index_select(0, taken) @ gate_up[expert].t())
            gate, up = both[-1].chunk(2, -1)
            inner = F.silu(gate).mul_(up).mul_(weight_of[rows, None])
            output.index_add_(0, taken, inner @ down[expert].t())
        ctx.save_for_backward(tokens, weights, gate_up, down, order, *both)
        ctx.counts = counts
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        tokens, weights, gate_up, down, order, *both = ctx.saved_tensors
        token_of, weight_of = order // weights.shape[1], weights.reshape(-1).index_select(0, order)
        _, _, trains_gate_up, trains_down, *_ = ctx.needs_input_grad
        to_tokens, to_weight_of = torch.zeros_like(tokens), torch.empty_like(weight_of)
        # Idle experts have a gradient of zero, not none.
        to_gate_up = torch.empty_like(gate_up) if trains_gate_up else None
        to_down = torch.empty_like(down) if trains_down else None
        for (expert, rows), projected in zip(_blocks(ctx.counts), both, strict=True):
            taken, weight = token_of[rows], weight_of[rows, None]
            upstream = gradients[0].index_select(0, taken)
            gate, up = projected.chunk(2, -1)
            sigmoid = gate.sigmoid()
            activated = gate * sigmoid
            to_inner = upstream @ down[expert]
            inner = activated * up
            to_weight_of[rows] = (to_inner * inner).sum(-1)
            if to_down is not None:
                torch.mm(upstream.t(), inner.mul_(weight), out=to_down[expert])
            to_inner.mul_(weight)
            to_both = torch.empty_like(projected)
            to_gate, to_up = to_both.chunk(2, -1)
            torch.mul(to_inner, activated, out=to_up)
            # d silu(g) / dg = sigmoid(g) + silu(g) · (1 - sigmoid(g))
            torch.addcmul(sigmoid, activated, 1 - sigmoid, out=to_gate).mul_(up).mul_(to_inner)
            to_tokens.index_add_(0, taken, to_both @ gate_up[expert])
            if to_gate_up is not None:
                torch.mm(to_both.t(), tokens.index_select(0, taken), out=to_gate_up[expert])
        to_weights = torch.empty_like(to_weight_of).index_copy_(0, order, to_weight_of).view_as(weights)
        return to_tokens, to_weights, to_gate_up, to_down, None, None


def _blocks(counts: list[int]) -> Iterator[tuple[int, slice]]:
    """Experts with their rows among the sorted choices."""
    start = 0
    for expert, count in enumerate(counts):
        yield expert, slice(start, start + count)
        start += count


class _ToExperts(torch.autograd.Function):
    """[N, H] -> [N·k, H], sorted by expert."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, order: Tensor, place: Tensor, top_k: int) -> Tensor:
        ctx.save_for_backward(place)
        ctx.shape = (len(tokens), top_k, tokens.shape[1])
        return tokens.index_select(0, order // top_k)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (place,) = ctx.saved_tensors
        return gradients[0].index_select(0, place).view(ctx.shape).sum(1), None, None, None


class _FromExperts(torch.autograd.Function):
    """[N·k, H] of the experts and weights [N, k] -> [N, H], the weighted sums."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, weights: Tensor, order: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(outputs, weights, order, place)
        restored = outputs.index_select(0, place).view(*weights.shape, -1)
        return torch.bmm(weights[:, None], restored)[:, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        outputs, weights, order, place = ctx.saved_tensors
        upstream = gradients[0].index_select(0, order // weights.shape[1])  # [N·k, H]
        to_outputs = upstream * weights.reshape(-1, 1).index_select(0, order)
        to_weights = (upstream * outputs).sum(-1).index_select(0, place)
        return to_outputs, to_weights.view_as(weights), None, None
