"""The images of the user's data: PNG, JPEG and WebP stay the bytes that they are, others become PNG without loss.

Every image is decoded once on the way in: what a training would stumble over is found here.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from data_engine.foreign import UnusableError
from data_engine.image_header import (
    ImageError,
    UnknownFormatError,
    check_image,
    image_header,
    opened_image,
)

_CONVERTED = ("BMP", "TIFF", "GIF", "PPM")
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_LARGEST_FILE = 256 * 1024**2


@dataclass(frozen=True)
class LoadedImage:
    """An image as a sample holds it."""

    data: bytes
    format: str
    """"png", "jpg" or "webp"."""
    size: tuple[int, int]
    """(width, height) in pixels, as a viewer shows it."""


def load_image(source: str | bytes, root: Path) -> LoadedImage:
    """The image at a path (relative to `root`), or of these bytes. UnusableError when it cannot be used."""
    data = source if isinstance(source, bytes) else _read(source, root)
    try:
        try:
            name, size = image_header(data)
        except UnknownFormatError:
            data = _as_png(data)
            name, size = image_header(data)
        check_image(data, name, size)
    except ImageError as error:
        raise UnusableError(str(error).partition(":")[0]) from error
    return LoadedImage(data, name, size)


def _read(path: str, root: Path) -> bytes:
    if "://" in path:
        raise UnusableError("image is a URL and not a file")
    try:
        file = root / path
        if file.stat().st_size > _LARGEST_FILE:
            raise UnusableError(f"image is larger than {_LARGEST_FILE} bytes")
        return file.read_bytes()
    except FileNotFoundError as error:
        raise UnusableError("image is missing") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        raise UnusableError("image file cannot be read") from error


def _as_png(data: bytes) -> bytes:
    """The same pixels as PNG. ImageError where that is not possible without loss."""
    try:
        with opened_image(data, _CONVERTED) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise ImageError("image has several frames")
            if picture.mode not in _PNG_MODES:
                raise ImageError("image has colours that PNG cannot hold")
            buffer = io.BytesIO()
            picture.save(buffer, "PNG", compress_level=6)
            return buffer.getvalue()
    except UnknownFormatError as error:
        raise ImageError("image is of no known format") from error
