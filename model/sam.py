"""The vision tokenizer: SAM ViT-B (windowed and global attention), its neck and the 16× compressor.

Paper section 3.2. Names of parameters are those of the released checkpoint (`model.sam_model.*`).

What is special here:
- The decomposed relative-position bias never becomes a dense [heads, HW, HW] mask. Each query is extended
  by its two rows of bias, each key by one-hot indicators of its row and column, so that plain scaled-dot-
  product attention gives exactly the same sums and the fused kernels apply.
- Window padding is added after the first norm and is not masked, as in SAM: padded places are attended to.

Shapes: N views, G patches a side (pixels / 16), C channels, D width of a head, W window side.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .config import PATCH_SIZE, SamConfig


def resize_positions(grid: Tensor, side: int) -> Tensor:
    """[1, S, S, C] absolute positions to [1, side, side, C], bicubic with antialiasing in fp32, as released."""
    if grid.shape[1] == side:
        return grid
    resized = F.interpolate(
        grid.permute(0, 3, 1, 2).float(),
        size=(side, side),
        mode="bicubic",
        antialias=True,
        align_corners=False,
    )
    return resized.to(grid.dtype).permute(0, 2, 3, 1)


def relative_positions(table: Tensor, side: int) -> Tensor:
    """[2S-1, D] table to [side, side, D]: entry (i, j) is the vector for a query at i and a key at j."""
    if table.shape[0] != 2 * side - 1:
        resized = F.interpolate(table.float().t()[None], size=2 * side - 1, mode="linear")
        table = resized[0].t().to(table.dtype)
    index = torch.arange(side, device=table.device)
    return table[index[:, None] - index[None, :] + side - 1]


class SamAttention(nn.Module):
    """Multi-head attention over a square of tokens with decomposed relative positions."""

    def __init__(self, hidden_size: int, num_heads: int, side: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        head_dim = hidden_size // num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, head_dim))

    def forward(self, hidden: Tensor) -> Tensor:
        """[B, S, S, C] -> [B, S, S, C]; S is the window's or the image's side."""
        batch, side, _, channels = hidden.shape
        heads, head_dim = self.num_heads, channels // self.num_heads
        qkv = self.qkv(hidden).view(batch, side * side, 3, heads, head_dim).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # [B, heads, S*S, D]
        square = query.reshape(batch, heads, side, side, head_dim)
        # The bias is taken from the unscaled query, hence scale=1 below and the explicit factor here.
        by_row = torch.einsum("bnhwd,hkd->bnhwk", square, relative_positions(self.rel_pos_h, side))
        by_column = torch.einsum("bnhwd,wkd->bnhwk", square, relative_positions(self.rel_pos_w, side))
        bias = torch.cat([by_row, by_column], -1).reshape(batch, heads, side * side, 2 * side)
        one_hot = torch.eye(side, dtype=key.dtype, device=key.device)
        indicator = torch.cat([one_hot.repeat_interleave(side, 0), one_hot.repeat(side, 1)], -1)
        # Kernels want equal head widths for query, key and value, and multiples of 8.
        width = head_dim + 2 * side
        fill = -width % 8
        query = F.pad(torch.cat([query * head_dim**-0.5, bias], -1), (0, fill))
        key = F.pad(torch.cat([key, indicator.expand(batch, heads, -1, -1)], -1), (0, fill))
        mixed = F.scaled_dot_product_attention(
            query, key, F.pad(value, (0, width + fill - head_dim)), scale=1.0
        )
        mixed = mixed[..., :head_dim].transpose(1, 2).reshape(batch, side, side, channels)
        return self.proj(mixed)


class SamMlp(nn.Module):
    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(hidden_size, intermediate_size)
        self.lin2 = nn.Linear(intermediate_size, hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.lin2(F.gelu(self.lin1(hidden)))


class SamBlock(nn.Module):
    """Pre-norm transformer block; attention in windows of `window_size` patches, or global when it is 0."""

    def __init__(self, config: SamConfig, window_size: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=1e-6)
        self.attn = SamAttention(config.hidden_size, config.num_heads, window_size or config.grid_size)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=1e-6)
        self.mlp = SamMlp(config.hidden_size, int(config.hidden_size * config.mlp_ratio))

    def forward(self, hidden: Tensor) -> Tensor:
        """[N, G, G, C] -> [N, G, G, C]."""
        normed = self.norm1(hidden)
        mixed = self._windowed(normed) if self.window_size else self.attn(normed)
        hidden = hidden + mixed
        return hidden + self.mlp(self.norm2(hidden))

    def _windowed(self, hidden: Tensor) -> Tensor:
        views, grid, _, channels = hidden.shape
        window = self.window_size
        padded = grid + -grid % window
        hidden = F.pad(hidden, (0, 0, 0, padded - grid, 0, padded - grid))
        count = padded // window
        hidden = hidden.view(views, count, window, count, window, channels).transpose(2, 3)
        mixed = self.attn(hidden.reshape(-1, window, window, channels))
        mixed = mixed.view(views, count, count, window, window, channels).transpose(2, 3)
        return mixed.reshape(views, padded, padded, channels)[:, :grid, :grid]


class ChannelNorm(nn.Module):
    """Layer norm over the channels of [N, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, hidden: Tensor) -> Tensor:
        normed = F.layer_norm(hidden.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-6)
        return normed.permute(0, 3, 1, 2)


class PatchEmbedding(nn.Module):
    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, hidden_size, PATCH_SIZE, stride=PATCH_SIZE)

    def forward(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] -> [N, G, G, C]. Patches do not overlap, so the convolution is one matrix product."""
        views, _, side, _ = pixels.shape
        grid = side // PATCH_SIZE
        patches = pixels.view(views, 3, grid, PATCH_SIZE, grid, PATCH_SIZE).permute(0, 2, 4, 1, 3, 5)
        return F.linear(patches.reshape(views, grid, grid, -1), self.proj.weight.flatten(1), self.proj.bias)


class SamVisionTokenizer(nn.Module):
    """Pixels to compressed features: SAM ViT-B, neck, and the two stride-2 convolutions."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbedding(config.hidden_size)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.grid_size, config.grid_size, config.hidden_size))
        self.blocks = nn.ModuleList(
            SamBlock(config, 0 if index in config.global_attn_indexes else config.window_size)
            for index in range(config.num_layers)
        )
        channels = config.out_channels
        self.neck = nn.Sequential(
            nn.Conv2d(config.hidden_size, channels, 1, bias=False),
            ChannelNorm(channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            ChannelNorm(channels),
        )
        first, second = config.downsample_channels
        self.net_2 = nn.Conv2d(channels, first, 3, stride=2, padding=1, bias=False)
        self.net_3 = nn.Conv2d(first, second, 3, stride=2, padding=1, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] normalised pixels, S a multiple of 64, to features [N, C, S/64, S/64]."""
        hidden = self.patch_embed(pixels)
        hidden = hidden + resize_positions(self.pos_embed, hidden.shape[1])
        for block in self.blocks:
            hidden = block(hidden)
        return self.net_3(self.net_2(self.neck(hidden.permute(0, 3, 1, 2))))
