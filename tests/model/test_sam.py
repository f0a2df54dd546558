"""The widened-query form of SAM's attention against the dense form, and interpolation of positions."""

import torch
import torch.nn.functional as F

from model.sam import SamAttention, SamBlock, relative_positions, resize_positions


def dense_attention(module: SamAttention, hidden: torch.Tensor) -> torch.Tensor:
    """Decomposed relative positions as a dense mask, as SAM publishes them."""
    batch, side, _, channels = hidden.shape
    heads, width = module.num_heads, channels // module.num_heads
    query, key, value = (
        module.qkv(hidden).view(batch, side * side, 3, heads, width).permute(2, 0, 3, 1, 4).unbind(0)
    )
    square = query.reshape(batch, heads, side, side, width)
    by_row = torch.einsum("bnhwd,hkd->bnhwk", square, relative_positions(module.rel_pos_h, side))
    by_column = torch.einsum("bnhwd,wkd->bnhwk", square, relative_positions(module.rel_pos_w, side))
    bias = (by_row[..., :, None] + by_column[..., None, :]).reshape(batch, heads, side * side, side * side)
    scores = query @ key.transpose(-1, -2) * width**-0.5 + bias
    mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, side, side, channels)
    return module.proj(mixed)


def test_attention_equals_the_dense_mask_also_where_positions_interpolate():
    torch.manual_seed(0)
    module = SamAttention(32, 4, side=6)
    torch.nn.init.normal_(module.rel_pos_h)
    torch.nn.init.normal_(module.rel_pos_w)
    for side in (6, 4, 9):
        hidden = torch.randn(2, side, side, 32)
        torch.testing.assert_close(module(hidden), dense_attention(module, hidden), rtol=1e-5, atol=1e-5)


def test_windows_pad_below_and_right_and_attend_to_the_padding(nano_config):
    torch.manual_seed(0)
    block = SamBlock(nano_config.sam, window_size=4)
    hidden = torch.randn(1, 6, 6, 64)
    padded = F.pad(block.norm1(hidden), (0, 0, 0, 2, 0, 2))
    corner = block.attn(padded[:, 4:8, 4:8])[:, :2, :2]
    mixed = block._windowed(block.norm1(hidden))
    torch.testing.assert_close(mixed[:, 4:, 4:], corner)


def test_absolute_positions_keep_their_values_at_the_stored_size():
    grid = torch.randn(1, 8, 8, 4)
    assert resize_positions(grid, 8) is grid
    assert resize_positions(grid, 12).shape == (1, 12, 12, 4)
    assert resize_positions(grid.bfloat16(), 5).dtype == torch.bfloat16
