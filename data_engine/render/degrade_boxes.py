"""Boxes of a picture after a homography moved its pixels."""

from __future__ import annotations

import cv2
import numpy as np

Box = tuple[float, float, float, float]
"""(left, top, right, bottom)."""


def moved_box(motion: np.ndarray, box: Box, scale: float = 1.0) -> Box:
    """The upright box around a moved box; `motion` [3, 3] is that of pixels, `scale` pixels per unit of the box."""
    left, top, right, bottom = box
    corners = np.array([[(left, top), (right, top), (right, bottom), (left, bottom)]], np.float64)
    moved = cv2.perspectiveTransform(corners * scale, motion)[0] / scale
    (left, top), (right, bottom) = moved.min(axis=0), moved.max(axis=0)
    return float(left), float(top), float(right), float(bottom)
