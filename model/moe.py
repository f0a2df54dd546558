"""Mixture of experts: the router, routed and shared experts, and the balance loss.

Paper section 3.3 (DeepSeek-3B-MoE): softmax over all experts, the best `num_experts_per_tok` are taken with
their probabilities as weights (not renormalised), plus shared experts that every token passes.

What is special here: the balance loss reaches the model through its gradient only. It is injected at the output of
the layer in the backward pass and never added to the reported loss, so it crosses no pipeline boundary.

Shapes: N tokens, E experts, k chosen per token, H hidden, I width of an expert.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .config import DecoderConfig
from .experts import StackedExperts


class GatedMlp(nn.Module):
    """SwiGLU feed-forward: the dense layer, and the shared experts fused into one."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(hidden)) * self.up_proj(hidden))


class _InjectGradient(torch.autograd.Function):
    """Identity on `hidden`; in the backward pass the side loss receives `scale` as its gradient."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, side_loss: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        ctx.save_for_backward(side_loss)
        return hidden.view_as(hidden)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (side_loss,) = ctx.saved_tensors
        return gradients[0], torch.full_like(side_loss, ctx.scale), None


def balance_loss(
    probabilities: Tensor, chosen: Tensor, segment_ids: Tensor, include_padding: bool = False
) -> Tensor:
    """The released sequence-wise balance loss, not yet multiplied by alpha.

    Per segment: sum over experts of (share of the segment's choices that fell on the expert, times E) times
    (mean probability of the expert in the segment); then the mean over segments. Counts carry no gradient.

    Args:
        probabilities: fp32 [B, S, E], the router's softmax.
        chosen: int64 [B, S, k].
        segment_ids: int [B, S]; 0 = padding.
        include_padding: count padding as one more segment of its row, as the released code does.
    """
    batch, length, experts = probabilities.shape
    top_k = chosen.shape[-1]
    # One bucket per (row, segment): at most `length` segments and the padding in a row, so the shape is
    # fixed and nothing has to be read back to the host.
    buckets = length + 1
    row = torch.arange(batch, device=segment_ids.device)[:, None] * buckets
    bucket = (row + segment_ids).reshape(-1).long()
    tokens = torch.zeros(batch * buckets, device=probabilities.device)
    tokens = tokens.index_add(0, bucket, torch.ones_like(bucket, dtype=tokens.dtype))
    zeros = torch.zeros(batch * buckets, experts, device=probabilities.device)
    mean_probability = zeros.index_add(0, bucket, probabilities.reshape(-1, experts))
    hits = torch.zeros_like(probabilities).scatter_(-1, chosen, 1.0).reshape(-1, experts)
    share = zeros.index_add(0, bucket, hits)
    filled = tokens.clamp(min=1.0)[:, None]
    per_segment = ((share / filled * (experts / top_k)) * (mean_probability / filled)).sum(-1)
    counted = tokens > 0
    if not include_padding:
        counted = counted & (torch.arange(batch * buckets, device=counted.device) % buckets != 0)
    return (per_segment * counted).sum() / counted.sum().clamp(min=1)


class MixtureOfExperts(nn.Module):
    """Router, routed experts and shared experts of one layer."""

    balance_scale: float
    """Gradient of the injected balance loss. Under gradient accumulation: 1 / micro-batches."""
    include_padding_in_balance: bool
    last_balance_loss: Tensor | None
    """Value of the balance loss (times alpha) of the last training pass, detached; for the log."""
    last_expert_load: Tensor | None
    """int64 [E]: choices per expert in the last pass, padding not counted; for the log."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.gate = nn.Linear(config.hidden_size, config.n_routed_experts, bias=False)
        self.experts = StackedExperts(config)
        self.shared_experts = GatedMlp(
            config.hidden_size, config.n_shared_experts * config.moe_intermediate_size
        )
        self.balance_scale = 1.0
        self.include_padding_in_balance = False
        self.last_balance_loss = None
        self.last_expert_load = None

    def forward(self, hidden: Tensor, segment_ids: Tensor) -> Tensor:
        """[B, S, H] -> [B, S, H]."""
        config = self.config
        # The router decides in fp32: in bf16, near ties between experts would flip.
        probabilities = F.linear(hidden.float(), self.gate.weight.float()).softmax(-1)
        weights, chosen = probabilities.topk(config.num_experts_per_tok, dim=-1)
        if config.norm_topk_prob:
            weights = weights / weights.sum(-1, keepdim=True)
        weights = weights * config.routed_scaling_factor
        tokens, top_k = hidden.reshape(-1, hidden.shape[-1]), chosen.shape[-1]
        routed = self.experts(tokens, chosen.reshape(-1, top_k), weights.reshape(-1, top_k))
        output = routed.view_as(hidden) + self.shared_experts(hidden)
        if self.training and torch.is_grad_enabled():
            loss = config.aux_loss_alpha * balance_loss(
                probabilities, chosen, segment_ids, self.include_padding_in_balance
            )
            output = _InjectGradient.apply(output, loss, self.balance_scale)
            self._record(loss, chosen, segment_ids)
        return output

    @torch.no_grad()
    def _record(self, loss: Tensor, chosen: Tensor, segment_ids: Tensor) -> None:
        real = (segment_ids != 0)[..., None].expand_as(chosen).reshape(-1).long()
        load = torch.zeros(self.config.n_routed_experts, dtype=torch.int64, device=chosen.device)
        self.last_expert_load = load.index_add(0, chosen.reshape(-1), real)
        self.last_balance_loss = loss.detach()
