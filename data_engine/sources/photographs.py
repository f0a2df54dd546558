"""Photographs of the user to write on: found once, read and cropped one at a time.

The listing holds names and sizes, not contents: a million photographs are not read before the first sample. What a
sample was made from is pinned in its provenance, by the hash of the file.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from data_engine.errors import ConfigError
from data_engine.foreign import UnusableError
from data_engine.image_header import ImageError, image_header, opened_image
from data_engine.random_stream import Stream
from data_engine.sample import printable

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
LEAST_SIDE = 64
"""Pixels: a smaller picture shows nothing any more when it fills a sample."""
TOO_SMALL = f"photograph with a side of less than {LEAST_SIDE} pixels"
TRANSPARENT = "photograph that is transparent all over"
UNREADABLE = "photograph that cannot be read"
_LARGEST_FILE = 256 * 1024**2
TOO_LARGE = f"photograph larger than {_LARGEST_FILE // 1024**2} MiB"
_LEAST_CROP = 0.55  # of the largest part that has the right shape


@dataclass(frozen=True)
class Photograph:
    """A part of one photograph."""

    pixels: np.ndarray
    """RGB [H, W, 3] uint8."""
    file: str
    """Relative to the directory."""
    sha256: str
    """The first 16 digits of the hash of the file."""


class Photographs:
    """All pictures below a directory, in the order of their paths."""

    def __init__(self, directory: str) -> None:
        """ConfigError when it is no directory, cannot be read, or holds no picture."""
        self._root = Path(directory)
        try:
            if not self._root.is_dir():
                raise ConfigError(
                    f"options.photographs={directory} is no directory: give one with PNG, JPEG or WebP files."
                )
            found = [path for path in self._root.rglob("*") if path.suffix.lower() in SUFFIXES]
            sizes = {path.relative_to(self._root).as_posix(): _size(path) for path in found}
        except OSError as error:
            raise ConfigError(f"options.photographs={directory} cannot be read: {error.strerror}.") from error
        if not sizes:
            raise ConfigError(
                f"options.photographs={directory} holds no photograph: give a directory with PNG, JPEG or WebP files."
            )
        self._files = sorted(sizes)
        self._digest = hashlib.sha256(json.dumps(sorted(sizes.items())).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._files)

    def digest(self) -> str:
        """Of the names and sizes of all files: where they lie does not count."""
        return self._digest

    def read(self, number: int, width: int, height: int, stream: Stream) -> Photograph:
        """A random part of a photograph, `width` x `height` pixels. UnusableError when the file cannot be used."""
        data = self._bytes(self._root / self._files[number])
        part = _cropped(_decoded(data, width, height), width, height, stream)
        return Photograph(part, self.name(number), hashlib.sha256(data).hexdigest()[:16])

    def name(self, number: int) -> str:
        """The path of a file, relative to the directory; bytes of it that are no Unicode are spelled out."""
        return printable(self._files[number])

    def _bytes(self, path: Path) -> bytes:
        try:
            if path.stat().st_size > _LARGEST_FILE:
                raise UnusableError(TOO_LARGE)
            return path.read_bytes()
        except OSError as error:
            raise UnusableError(UNREADABLE) from error


def _size(path: Path) -> int:
    """In bytes; -1 of a file that cannot be looked at, which is told when its turn comes."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _decoded(data: bytes, width: int, height: int) -> np.ndarray:
    """RGB [H, W, 3], upright; a large JPEG is decoded at a half, a quarter or an eighth where that is enough."""
    try:
        _, size = image_header(data)
        if min(size) < LEAST_SIDE:
            raise UnusableError(TOO_SMALL)
        with opened_image(data) as picture:
            picture.draft("RGB", (2 * max(width, height), 2 * max(width, height)))
            pixels = _seen(ImageOps.exif_transpose(picture))
    except ImageError as error:
        raise UnusableError(str(error).partition(":")[0]) from error
    if pixels is None:
        raise UnusableError(TRANSPARENT)
    return pixels


def _seen(picture: Image.Image) -> np.ndarray | None:
    """RGB [H, W, 3] of what a viewer shows: 16 bits made 8, transparent parts laid over white; None of nothing.

    Pillow's own conversion clips 16 bits to white, and shows what transparency hides.
    """
    if picture.mode.startswith("I"):
        gray = np.asarray(picture).astype(np.float32) / 257  # 65,535 is 255 of 8 bits
        return cv2.cvtColor(np.clip(np.rint(gray), 0, 255).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("RGB"))
    layer = picture.convert("RGBA")
    if layer.getchannel("A").getextrema() == (0, 0):
        return None
    return np.asarray(Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"))


def _cropped(pixels: np.ndarray, width: int, height: int, stream: Stream) -> np.ndarray:
    """A part of the shape of the sample, as large as the photograph allows or somewhat smaller, scaled to its size."""
    high, wide = pixels.shape[:2]
    scale = min(wide / width, high / height) * stream.uniform(_LEAST_CROP, 1.0)
    across, down = (
        max(1, min(side, round(scale * wanted))) for side, wanted in ((wide, width), (high, height))
    )
    left, top = stream.integer(0, wide - across), stream.integer(0, high - down)
    part = pixels[top : top + down, left : left + across]
    smaller = across > width
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
