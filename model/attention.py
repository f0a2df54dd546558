"""The decoder's attention: rotary positions, and samples packed into one sequence that never see each other.

Plain multi-head attention with rotate-half rotary positions (paper section 3.3; `use_mla` is false in the
released config).

Shapes: B rows, S tokens of a row, A heads, D width of a head, H = A·D.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .config import DecoderConfig


@dataclass(frozen=True)
class AttentionLayout:
    """What every decoder layer needs to know about a sequence besides its hidden states. Built once per pass."""

    cosine: Tensor
    """[B, 1, S, D] of the rotary positions, fp32"""
    sine: Tensor
    mask: Tensor | None
    """bool [B, 1, S, keys], true where a query may look; None for plain causal attention over one sample"""
    segment_ids: Tensor
    """int [B, S]; 0 = padding. The balance loss is taken per segment."""


def rotary_tables(position_ids: Tensor, config: DecoderConfig) -> tuple[Tensor, Tensor]:
    """Cosine and sine [B, 1, S, D] in fp32: in bf16, positions beyond 256 would collide."""
    exponent = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=position_ids.device)
    frequency = config.rope_theta ** (-exponent / config.head_dim)
    angle = position_ids[:, None, :, None].float() * frequency
    angle = torch.cat([angle, angle], -1)
    return angle.cos(), angle.sin()


def packed_layout(segment_ids: Tensor, position_ids: Tensor, config: DecoderConfig) -> AttentionLayout:
    """Layout of packed rows: a token sees earlier tokens of its own segment, itself included.

    Args:
        segment_ids: int [B, S]; 0 = padding (padding sees padding, so no row of the softmax is empty).
        position_ids: int [B, S]; restart at 0 in every segment.
    """
    length = segment_ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segment_ids.device).tril()
    same = segment_ids[:, :, None] == segment_ids[:, None, :]
    return AttentionLayout(*rotary_tables(position_ids, config), (same & causal)[:, None], segment_ids)


def rotate(vectors: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Apply rotary positions to [B, A, S, D], computed in fp32, returned in the dtype of `vectors`."""
    first, second = vectors.chunk(2, -1)
    turned = torch.cat([-second, first], -1)
    return (vectors * cosine + turned * sine).to(vectors.dtype)


class KeyValueCache:
    """Keys and values of one layer during generation, in buffers of fixed length."""

    def __init__(
        self, batch: int, capacity: int, config: DecoderConfig, dtype: torch.dtype, device: torch.device
    ):
        shape = (batch, config.num_attention_heads, capacity, config.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.length = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store [B, A, new, D]; returns everything stored so far."""
        end = self.length + keys.shape[2]
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class Attention(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        size = config.hidden_size
        self.q_proj = nn.Linear(size, size, bias=False)
        self.k_proj = nn.Linear(size, size, bias=False)
        self.v_proj = nn.Linear(size, size, bias=False)
        self.o_proj = nn.Linear(size, size, bias=False)

    def forward(self, hidden: Tensor, layout: AttentionLayout, cache: KeyValueCache | None = None) -> Tensor:
        """[B, S, H] -> [B, S, H]. With a cache, keys and values of earlier calls are attended to as well."""
        batch, length, size = hidden.shape
        heads = (batch, length, self.num_heads, size // self.num_heads)
        query = rotate(self.q_proj(hidden).view(heads).transpose(1, 2), layout.cosine, layout.sine)
        key = rotate(self.k_proj(hidden).view(heads).transpose(1, 2), layout.cosine, layout.sine)
        value = self.v_proj(hidden).view(heads).transpose(1, 2)
        if cache is not None:
            key, value = cache.append(key, value)
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=layout.mask, is_causal=layout.mask is None
        )
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, size))
