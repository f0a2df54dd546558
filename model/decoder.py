"""One decoder layer, the final norm, and how their parameters start.

Names of parameters are those of the released checkpoint (`model.layers.N.*`, `model.norm`).
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .attention import Attention, AttentionLayout, KeyValueCache
from .config import DecoderConfig
from .experts import StackedExperts
from .moe import GatedMlp, MixtureOfExperts


class RmsNorm(nn.Module):
    """Root-mean-square norm, computed in fp32 and cast before the weight, as released."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        normed = F.rms_norm(hidden.float(), hidden.shape[-1:], eps=self.eps)
        return self.weight * normed.to(hidden.dtype)


class DecoderLayer(nn.Module):
    """Pre-norm attention and feed-forward; dense in the first layers, a mixture of experts in the others."""

    def __init__(self, config: DecoderConfig, layer_index: int) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp: GatedMlp | MixtureOfExperts
        if config.is_dense(layer_index):
            self.mlp = GatedMlp(config.hidden_size, config.intermediate_size)
        else:
            self.mlp = MixtureOfExperts(config)

    def forward(self, hidden: Tensor, layout: AttentionLayout, cache: KeyValueCache | None = None) -> Tensor:
        """[B, S, H] -> [B, S, H]."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), layout, cache)
        normed = self.post_attention_layernorm(hidden)
        if isinstance(self.mlp, MixtureOfExperts):
            return hidden + self.mlp(normed, layout.segment_ids)
        return hidden + self.mlp(normed)


def initialise_language(module: nn.Module, config: DecoderConfig, generator: torch.Generator) -> None:
    """Random start of decoder layers, embeddings and head: normal with `initializer_range`, norms at one."""
    deviation = config.initializer_range
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                part.weight.normal_(0.0, deviation, generator=generator)
                if isinstance(part, nn.Linear) and part.bias is not None:
                    part.bias.zero_()
            elif isinstance(part, StackedExperts):
                part.gate_up_proj.normal_(0.0, deviation, generator=generator)
                part.down_proj.normal_(0.0, deviation, generator=generator)
