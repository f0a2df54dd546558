"""How the vision tokens of one image lie in the text sequence (paper figure 3; released forward pass).

An image is, in this order: the tiles stitched into one large grid, row by row, each row closed by the
newline embedding; the global view, likewise; one separator. The stitching is nothing but an order of
indices, so it is computed here once, and the model gathers.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .config import TOKEN_SIZE

NEWLINE = -1
"""Code of the learned embedding `image_newline` at the end of each row."""
SEPARATOR = -2
"""Code of the learned embedding `view_seperator` (the released spelling) at the end of an image."""


def tokens_per_view(side: int) -> int:
    """Vision tokens of one square view of `side` pixels, newlines and separator not counted."""
    return (side // TOKEN_SIZE) ** 2


@lru_cache(maxsize=4096)
def image_layout(global_side: int, tile_side: int = 0, grid: tuple[int, int] = (1, 1)) -> np.ndarray:
    """Codes of one image's placeholders in sequence order.

    Args:
        global_side: side of the global view in pixels.
        tile_side: side of a tile in pixels; 0 when the image has no tiles.
        grid: (columns, rows) of the tiles.

    Returns:
        int32 [placeholders], read-only: an index >= 0 into this image's feature tokens (all tiles first, row-
        major, then the global view), or NEWLINE, or SEPARATOR. With q = global_side / 64, t = tile_side / 64
        there are (columns·t + 1)·rows·t + q·(q + 1) + 1 of them.
    """
    parts = []
    first_global = 0
    if tile_side:
        columns, rows = grid
        side = tile_side // TOKEN_SIZE
        tiles = np.arange(columns * rows * side * side).reshape(rows, columns, side, side)
        parts.append(_close_rows(tiles.transpose(0, 2, 1, 3).reshape(rows * side, columns * side)))
        first_global = columns * rows * side * side
    side = global_side // TOKEN_SIZE
    parts.append(_close_rows(first_global + np.arange(side * side).reshape(side, side)))
    parts.append(np.array([SEPARATOR]))
    codes = np.concatenate(parts).astype(np.int32)
    codes.setflags(write=False)
    return codes


def _close_rows(square: np.ndarray) -> np.ndarray:
    return np.pad(square, ((0, 0), (0, 1)), constant_values=NEWLINE).reshape(-1)
