"""PNG for training data: written once, so quickly; lossless.

What is drawn here is lines and letters on an even ground. For that, unfiltered rows and the quickest level of ISA-L's
deflate make files as small as zlib does in a fifth of its time (benchmarks/data_engine.md).
"""

from __future__ import annotations

import functools
import struct
import zlib

import cv2
import numpy as np
from isal import isal_zlib

from data_engine.render.base import Picture

cv2.setNumThreads(1)  # one process per core does the work; threads inside it only get in each other's way

_GRAY, _RGB = 0, 2  # as the header of a PNG names them
_LEVEL = 1  # 0 makes files a quarter larger in nearly the same time; 2 and 3 gain nothing


def encode(pixels: np.ndarray) -> Picture:
    """Encode gray [H, W], RGB [H, W, 3] or RGBA [H, W, 4] uint8; an alpha channel is dropped."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else 3
    rows, content = _scratch(height, width, channels)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB, dst=content)
    else:
        content[...] = pixels.reshape(height, width, channels)
    color = _GRAY if channels == 1 else _RGB
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)  # 8 bits per channel, not interlaced
    data = isal_zlib.compress(rows.data, _LEVEL)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    return Picture(b"\x89PNG\r\n\x1a\n" + chunks, "png", width, height, pixels)


@functools.lru_cache(maxsize=4)
def _scratch(height: int, width: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Room for the rows of one picture, used again and again: fresh memory costs more than what is written to it.

    All of it [H, 1 + W * channels], where each row opens with its filter (0, none); and the pixels in it
    [H, W, channels].
    """
    rows = np.zeros((height, 1 + width * channels), np.uint8)
    shape, strides = (height, width, channels), (rows.strides[0], channels, 1)
    return rows, np.lib.stride_tricks.as_strided(rows[:, 1:], shape, strides)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
