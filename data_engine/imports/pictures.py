"""The images of the user's data: PNG, JPEG and WebP stay the bytes that they are, others become PNG without loss.

Every image is decoded once on the way in: what a training would stumble over is found here.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from data_engine.foreign import UnusableError
from data_engine.image_header import MAXIMUM_PIXELS, ImageError, check_image, image_header

_CONVERTED = ("BMP", "TIFF", "GIF", "PPM")
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_LARGEST_FILE = 256 * 1024**2


@dataclass(frozen=True)
class LoadedImage:
    data: bytes
    format: str
    """"png", "jpg" or "webp"."""
    size: tuple[int, int]
    """(width, height) in pixels, as a viewer shows it."""


def load_image(source: str | bytes, root: Path) -> LoadedImage:
    """The image at a path (relative to `root`), or of these bytes. UnusableError when it cannot be used."""
    data = source if isinstance(source, bytes) else _read(source, root)
    try:
        name, size = image_header(data)
    except ImageError as error:
        if "not a readable" not in str(error):
            raise UnusableError(_countable(error)) from error
        data = _as_png(data)
        name, size = image_header(data)
    try:
        check_image(data, name, size)
    except ImageError as error:
        raise UnusableError(_countable(error)) from error
    return LoadedImage(data, name, size)


def _countable(error: ImageError) -> str:
    return str(error).partition(":")[0]


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
    """The same pixels as PNG. UnusableError where that is not possible without loss."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit decides
            with Image.open(io.BytesIO(data), formats=list(_CONVERTED)) as picture:
                if picture.width * picture.height > MAXIMUM_PIXELS:
                    raise UnusableError(f"image has more than {MAXIMUM_PIXELS:,} pixels")
                if getattr(picture, "n_frames", 1) > 1:
                    raise UnusableError("image has several frames")
                if picture.mode not in _PNG_MODES:
                    raise UnusableError("image has colours that PNG cannot hold")
                buffer = io.BytesIO()
                picture.save(buffer, "PNG", compress_level=6)
                return buffer.getvalue()
    except Image.UnidentifiedImageError as error:
        raise UnusableError("image is of no known format") from error
    except UnusableError:
        raise
    except (OSError, ValueError, SyntaxError, KeyError, IndexError, Image.DecompressionBombError) as error:
        raise UnusableError("image cannot be decoded") from error
