"""The decoder's attention: rotary positions, and samples packed into one sequence that never see each other.

Plain multi-head attention with rotate-half rotary positions (paper section 3.3; `use_mla` is false in the
released config).

Shapes: B rows, S tokens of a row, A heads, D width of a head, H = A·D.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .config import DecoderConfig

RUNS_FROM = 512
"""Row length from which samples are attended to one by one: below, one masked product costs less than many calls."""


def packed_mask(segment_ids: Tensor) -> Tensor:
    """int [B, S] -> bool [B, 1, S, S]: a token sees the earlier tokens of its own segment and itself."""
    length = segment_ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segment_ids.device).tril()
    same = segment_ids[:, :, None] == segment_ids[:, None, :]
    return (same & causal)[:, None]


class AttentionLayout:
    """What every decoder layer needs to know about a sequence besides its hidden states. Built once per pass.

    Args:
        cosine: [B, 1, S, D] of the rotary positions, fp32.
        sine: the same.
        segment_ids: int [B, S]; 0 = padding. The balance loss is taken per segment.
        mask: bool [B, 1, S, keys], true where a query may look; None: a token sees the earlier tokens of its own
            segment and itself (padding sees padding, so that no row of the softmax is empty).
    """

    def __init__(self, cosine: Tensor, sine: Tensor, segment_ids: Tensor, mask: Tensor | None = None) -> None:
        self.cosine = cosine
        self.sine = sine
        self.segment_ids = segment_ids
        self._given_mask = mask

    @cached_property
    def mask(self) -> Tensor:
        if self._given_mask is not None:
            return self._given_mask
        return packed_mask(self.segment_ids)

    @cached_property
    def starts(self) -> list[int] | None:
        """First place of every run of one segment in the flattened rows, and the end of the last one.

        None where the mask is the way. On a GPU this reads from the device, once per pass and not per layer.
        """
        if self._given_mask is not None or self.segment_ids.shape[1] < RUNS_FROM:
            return None
        begins = F.pad(self.segment_ids[:, 1:] != self.segment_ids[:, :-1], (1, 0), value=True)
        return [*begins.reshape(-1).nonzero()[:, 0].tolist(), begins.numel()]

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest run of `starts`."""
        assert self.starts is not None
        return max(end - start for start, end in pairwise(self.starts))

    @cached_property
    def cumulative_lengths(self) -> Tensor:
        """`starts` as int32 on the device."""
        return torch.tensor(self.starts, dtype=torch.int32, device=self.segment_ids.device)


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
        segment_ids: int [B, S]; 0 = padding; one sample's tokens stand together.
        position_ids: int [B, S]; restart at 0 in every segment.
    """
    return AttentionLayout(*rotary_tables(position_ids, config), segment_ids)


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
        if cache is not None or layout.starts is None:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=layout.mask)
        elif query.is_cuda and query.dtype in _VARLEN_DTYPES:
            mixed = _variable_length(query, key, value, layout)
        else:
            mixed = _run_by_run(query, key, value, layout.starts)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, size))


_VARLEN_DTYPES = (torch.bfloat16, torch.float16)


def _variable_length(query: Tensor, key: Tensor, value: Tensor, layout: AttentionLayout) -> Tensor:
    """Flash attention over all runs at once, [B, A, S, D] -> [B, A, S, D]."""
    from torch.nn.attention.varlen import varlen_attn

    batch, heads, length, width = query.shape
    tokens = (batch * length, heads, width)
    mixed = varlen_attn(
        query.transpose(1, 2).reshape(tokens),
        key.transpose(1, 2).reshape(tokens),
        value.transpose(1, 2).reshape(tokens),
        layout.cumulative_lengths,
        layout.cumulative_lengths,
        layout.longest,
        layout.longest,
        window_size=(-1, 0),  # causal
    )
    assert isinstance(mixed, Tensor)
    return mixed.view(batch, length, heads, width).transpose(1, 2)


def _run_by_run(query: Tensor, key: Tensor, value: Tensor, starts: list[int]) -> Tensor:
    """The same, one call per run: what other samples would add to a dense mask is never computed."""
    length = query.shape[2]
    mixed = []
    for start, end in pairwise(starts):
        row, columns = start // length, slice(start % length, start % length + end - start)
        mixed.append(
            F.scaled_dot_product_attention(
                query[row : row + 1, :, columns], key[row : row + 1, :, columns], value[row : row + 1, :, columns],
                is_causal=True,
            )
        )  # fmt: skip
    joined = torch.cat(mixed, 2)  # [1, A, B·S, D]
    return joined.unflatten(2, (-1, length)).squeeze(0).transpose(0, 1)
