"""What an encoded image says of itself before it is decoded, and whether it decodes.

Three formats are let in, and nothing else that Pillow knows: some of its other decoders start programs or unpack
without limit. The number of pixels is limited before anything is decoded.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from PIL import Image

MAXIMUM_PIXELS = 100_000_000
FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
"""Pillow's name -> ours."""
_ORIENTATION = 0x0112
_LYING = (5, 6, 7, 8)
_TAIL = 4096


class ImageError(ValueError):
    """The image cannot be used. The message is short and countable, without the numbers of this image."""


class UnknownFormatError(ImageError):
    """It is none of the formats that were asked for."""


def image_header(data: bytes) -> tuple[str, tuple[int, int]]:
    """Format ("png", "jpg", "webp") and (width, height) as a viewer would show it, turned upright by its EXIF.

    Raises ImageError when it is none of the formats, too large, or ends before its end.
    """
    with opened_image(data) as picture:
        name, size = FORMATS[str(picture.format)], picture.size
        # Pillow looks for the EXIF of a PNG behind its pixels, and would decode them all to get there.
        if name != "png" or b"eXIf" in data:
            size = size[::-1] if picture.getexif().get(_ORIENTATION) in _LYING else size
    if not _has_end(name, data):
        raise ImageError("image ends before its end")
    return name, size


def check_image(data: bytes, name: str, size: tuple[int, int]) -> None:
    """Decode an image and compare it with what an index says. Raises ImageError."""
    found = image_header(data)
    if found != (name, size):
        raise ImageError(
            f"it is a {found[0]} of {found[1][0]} x {found[1][1]} pixels, not a {name} of {size[0]} x {size[1]}"
        )
    with opened_image(data) as picture:
        picture.load()


@contextmanager
def opened_image(data: bytes, formats: Collection[str] = FORMATS) -> Iterator[Image.Image]:
    """The image in `data`, in one of these formats of Pillow's; its pixels are decoded when they are asked for.

    Raises:
        UnknownFormatError: it is none of the formats.
        ImageError: it is too large, or decoding it fails before the block ends.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit decides
            with Image.open(io.BytesIO(data), formats=list(formats)) as picture:
                if picture.width * picture.height > MAXIMUM_PIXELS:
                    raise ImageError(f"image has more than {MAXIMUM_PIXELS:,} pixels")
                yield picture
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"image has more than {MAXIMUM_PIXELS:,} pixels") from error
    except Image.UnidentifiedImageError as error:
        raise UnknownFormatError(f"image is not a readable {', '.join(formats)}") from error
    except (OSError, ValueError, SyntaxError, KeyError, IndexError) as error:
        raise ImageError(f"image cannot be decoded: {error}") from error


def _has_end(name: str, data: bytes) -> bool:
    """Whether the file has the mark of its end; some programs append a little to it."""
    if name == "png":
        return b"IEND" in data[-_TAIL:]
    if name == "jpg":
        return b"\xff\xd9" in data[-_TAIL:]
    return len(data) >= int.from_bytes(data[4:8], "little") + 8
