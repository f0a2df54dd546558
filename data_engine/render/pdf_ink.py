"""Whether the picture of a page shows what its text layer says.

A text layer also holds what nobody sees: invisible letters, white ones on white, ones that are clipped away. The
invisible layer of a scan that was read by machine is seen: its letters are in the bitmap behind it.
"""

from __future__ import annotations

import cv2
import numpy as np

from data_engine.render.pdf_frames import Box

_LEAST_CONTRAST = 12  # of 255; a pale watermark has 25


def is_seen(pixels: np.ndarray, box: Box, scale: float) -> bool:
    """Whether anything stands out in a box given in points; `pixels` are gray [H, W] or RGB [H, W, 3]."""
    left, top, right, bottom = (value * scale for value in box)
    part = pixels[max(0, int(top) - 1) : int(bottom) + 2, max(0, int(left) - 1) : int(right) + 2]
    if part.size == 0:
        return False
    # Green tells nearly all letters; the others are asked about those that it does not tell.
    for channel in (part,) if part.ndim == 2 else (part[..., 1], part[..., 0], part[..., 2]):
        least, most, _, _ = cv2.minMaxLoc(channel)
        if most - least >= _LEAST_CONTRAST:
            return True
    return False
