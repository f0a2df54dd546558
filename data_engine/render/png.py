"""PNG for training data: written once, so quickly; lossless; the same bytes for the same pixels.

Colour goes through fpng, which writes 24-bit pictures ten times faster than the rest. It has no gray, and the
gray pictures here are lines and letters on an even ground, for which run lengths alone (zlib's RLE strategy)
are both quicker and smaller than a search for matches.
"""

from __future__ import annotations

import functools
import struct
import zlib

import cv2
import fpng
import numpy as np

from data_engine.render.base import Picture

cv2.setNumThreads(1)  # one process per core does the work; threads inside it only get in each other's way


def encode(pixels: np.ndarray) -> Picture:
    """Encode gray [H, W], RGB [H, W, 3] or RGBA [H, W, 4] uint8; an alpha channel is dropped."""
    height, width = pixels.shape[:2]
    if pixels.ndim == 2:
        return Picture(_gray(pixels), "png", width, height, pixels)
    if pixels.shape[2] == 3:
        return Picture(fpng.from_ndarray(pixels), "png", width, height, pixels)
    opaque = cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB, dst=_scratch(height, width))
    return Picture(fpng.from_ndarray(opaque), "png", width, height, pixels)


@functools.lru_cache(maxsize=4)
def _scratch(height: int, width: int) -> np.ndarray:
    """Room for one RGB picture [H, W, 3], used again and again: fresh memory costs more than what is written to it."""
    return np.empty((height, width, 3), np.uint8)


def _gray(pixels: np.ndarray) -> bytes:
    height, width = pixels.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row opens with its filter: 0, none
    rows[:, 1:] = pixels
    compressor = zlib.compressobj(level=1, strategy=zlib.Z_RLE)
    data = compressor.compress(rows.data) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits, gray, not interlaced
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
