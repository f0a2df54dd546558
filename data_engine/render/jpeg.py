"""JPEG for pages and for whatever was degraded: a third of a PNG's time, and noise does not make it large."""

from __future__ import annotations

import cv2
import numpy as np

from data_engine.render.base import Picture
from data_engine.render.png import encode

cv2.setNumThreads(1)


def encode_jpeg(pixels: np.ndarray, quality: int) -> Picture:
    """Encode gray [H, W], RGB [H, W, 3] or RGBA [H, W, 4] uint8; an alpha channel is dropped."""
    height, width = pixels.shape[:2]
    turned = pixels
    if pixels.ndim == 3:
        turned = cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGR if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", turned, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of {width} x {height} pixels cannot be written as JPEG")
    return Picture(data.tobytes(), "jpg", width, height, pixels)


def encode_page(pixels: np.ndarray, jpeg_quality: int | None) -> Picture:
    """JPEG of this quality; without one PNG, which loses nothing and takes twice the time."""
    return encode(pixels) if jpeg_quality is None else encode_jpeg(pixels, jpeg_quality)
