"""From a picture to the views that the encoder reads: resolution modes, tiling, resizing, padding.

Paper section 3.2.2 and table 1; the rules are those of the released processor, pixel for pixel.

What is special here:
- Two kinds of mode: native (one view: resized up to 640 px, padded above) and Gundam (tiles + global view).
- `view_plan` knows the views of an image from its size alone, so packing never decodes a picture.
- Bytes from outside are decoded with an allow-list of formats and a cap on pixels, read from the header.
"""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .layout import image_layout, tokens_per_view

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 100_000_000
PAD_COLOUR = (127, 127, 127)  # int(0.5 * 255), the released processor's mean colour


class ImageError(ValueError):
    """A picture that cannot be used: not an image, not an allowed format, truncated, or too large."""


@dataclass(frozen=True)
class ResolutionMode:
    """One way of turning an image into views."""

    name: str
    base_size: int
    """Side of the global view in pixels."""
    image_size: int
    """Side of a tile in pixels; equal to base_size where there are no tiles."""
    crop: bool
    """Cut large images into tiles (Gundam)."""
    pad: bool = True
    """Keep the aspect ratio of the global view and pad it; otherwise the image is resized to the square."""
    min_tiles: int = 2
    max_tiles: int = 9


MODES: dict[str, ResolutionMode] = {
    mode.name: mode
    for mode in (
        ResolutionMode("tiny", 512, 512, crop=False, pad=False),
        ResolutionMode("small", 640, 640, crop=False, pad=False),
        ResolutionMode("base", 1024, 1024, crop=False),
        ResolutionMode("large", 1280, 1280, crop=False),
        ResolutionMode("gundam", 1024, 640, crop=True),
        ResolutionMode("gundam_m", 1280, 1024, crop=True),
        # The same rules at the sizes of the nano model.
        ResolutionMode("nano_tiny", 128, 128, crop=False, pad=False),
        ResolutionMode("nano_small", 192, 192, crop=False, pad=False),
        ResolutionMode("nano_base", 256, 256, crop=False),
        ResolutionMode("nano_gundam", 256, 128, crop=True),
    )
}


def resolution_mode(name: str) -> ResolutionMode:
    """A mode by name.

    Raises:
        ValueError: no mode has that name.
    """
    if name not in MODES:
        raise ValueError(f"no resolution mode is called '{name}'; choose one of {', '.join(MODES)}.")
    return MODES[name]


@dataclass(frozen=True)
class ViewPlan:
    """The views of one image, known from its size: `columns * rows` tiles (or none), then the global view."""

    global_side: int
    tile_side: int
    """0 when the image has no tiles."""
    grid: tuple[int, int]
    """(columns, rows) of the tiles; (1, 1) when there are none."""

    @property
    def sides(self) -> list[int]:
        """Sides in pixels in the order of the wire: tiles row by row, then the global view."""
        tiles = self.grid[0] * self.grid[1] if self.tile_side else 0
        return [self.tile_side] * tiles + [self.global_side]

    @property
    def vision_tokens(self) -> int:
        return sum(tokens_per_view(side) for side in self.sides)

    def layout(self) -> np.ndarray:
        """Codes of the placeholders, see `model.layout.image_layout`."""
        return image_layout(self.global_side, self.tile_side, self.grid)


@dataclass(frozen=True)
class ViewArrays:
    """Views of one image as bytes: what a data loader moves."""

    global_view: np.ndarray
    """uint8 [3, S, S]"""
    tiles: np.ndarray | None
    """uint8 [n, 3, T, T], row by row"""
    grid: tuple[int, int]


@dataclass(frozen=True)
class ImageViews:
    """Views of one image as normalised floats: what `DeepseekOCR.forward` takes."""

    global_view: Tensor
    """[3, S, S], (value / 255 - 0.5) / 0.5"""
    tiles: Tensor | None
    """[n, 3, T, T], row by row"""
    grid: tuple[int, int]
    """(columns, rows)"""

    def in_order(self) -> list[Tensor]:
        """All views in the order of the layout: tiles, then the global view."""
        return [*([] if self.tiles is None else self.tiles.unbind(0)), self.global_view]

    def layout(self) -> np.ndarray:
        tile_side = 0 if self.tiles is None else int(self.tiles.shape[-1])
        return image_layout(int(self.global_view.shape[-1]), tile_side, self.grid)


def choose_grid(width: int, height: int, mode: ResolutionMode) -> tuple[int, int]:
    """(columns, rows) whose shape is nearest to the image's; on a tie the larger one if the image fills it."""
    candidates = sorted(
        (
            (columns, rows)
            for columns in range(1, mode.max_tiles + 1)
            for rows in range(1, mode.max_tiles // columns + 1)
            if columns * rows >= mode.min_tiles
        ),
        key=lambda grid: grid[0] * grid[1],
    )
    best, best_distance = (1, 1), float("inf")
    for columns, rows in candidates:
        distance = abs(width / height - columns / rows)
        fills = width * height > 0.5 * mode.image_size**2 * columns * rows
        if distance < best_distance or (distance == best_distance and fills):
            best, best_distance = (columns, rows), distance
    return best


def view_plan(width: int, height: int, mode: ResolutionMode) -> ViewPlan:
    """The views of an image of this size in this mode."""
    if not mode.crop or (width <= mode.image_size and height <= mode.image_size):
        return ViewPlan(mode.base_size, 0, (1, 1))
    return ViewPlan(mode.base_size, mode.image_size, choose_grid(width, height, mode))


def make_views(image: Image.Image, mode: ResolutionMode) -> ViewArrays:
    """The pixels of all views of an RGB image."""
    plan = view_plan(image.width, image.height, mode)
    tiles = None
    if plan.tile_side:
        columns, rows = plan.grid
        side = plan.tile_side
        stretched = _channels_first(image.resize((side * columns, side * rows), Image.Resampling.BICUBIC))
        tiles = stretched.reshape(3, rows, side, columns, side).transpose(1, 3, 0, 2, 4)
        tiles = np.ascontiguousarray(tiles.reshape(rows * columns, 3, side, side))
    if mode.pad:
        square = _contain(image, plan.global_side)
    else:
        square = image.resize((plan.global_side, plan.global_side), Image.Resampling.BICUBIC)
    return ViewArrays(_channels_first(square), tiles, plan.grid)


def normalise(pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 pixels to the encoder's range: (value / 255 - 0.5) / 0.5, computed in fp32."""
    return ((pixels.float() / 255 - 0.5) / 0.5).to(dtype)


def image_views(arrays: ViewArrays) -> ImageViews:
    """Normalised floats of the views."""
    tiles = None if arrays.tiles is None else normalise(torch.from_numpy(arrays.tiles))
    return ImageViews(normalise(torch.from_numpy(arrays.global_view)), tiles, arrays.grid)


def open_image(source: bytes | str | os.PathLike, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a picture as a viewer would show it: upright, on white where it is transparent, in RGB.

    Args:
        source: encoded bytes or a path.
        max_pixels: more than this is refused before anything is decoded.

    Raises:
        ImageError: in one sentence, what is wrong with it.
    """
    name = "image" if isinstance(source, bytes) else f"image '{os.fspath(source)}'"
    try:
        with warnings.catch_warnings():
            # Our own cap below decides; Pillow's warning would only repeat it.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
        if image.width * image.height > max_pixels:
            raise ImageError(
                f"{name} has {image.width} x {image.height} pixels, more than the cap of {max_pixels:,}; "
                "make it smaller or raise the cap."
            )
        image.load()
    except FileNotFoundError as error:
        raise ImageError(f"{name} does not exist.") from error
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} is larger than any cap allows: {error}") from error
    except UnidentifiedImageError as error:
        # Pillow's own sentence holds the address of the buffer, and so is another one every time.
        raise ImageError(
            f"{name} is not a readable {', '.join(FORMATS)} file: it is of no such format."
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{name} is not a readable {', '.join(FORMATS)} file: {error}.") from error
    return _to_rgb(ImageOps.exif_transpose(image))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # 16-bit grey: keep the upper byte, where a plain conversion would clip everything above 255.
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray(np.clip(values / 257, 0, 255).round().astype(np.uint8))
    if "transparency" in image.info or image.mode in ("LA", "PA", "RGBA", "La", "RGBa"):
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(paper, image)
    return image.convert("RGB")


def _contain(image: Image.Image, side: int) -> Image.Image:
    """Scale into the square and pad, centred; an extreme aspect ratio keeps at least one pixel."""
    if image.width >= image.height:
        size = (side, max(1, round(image.height / image.width * side)))
    else:
        size = (max(1, round(image.width / image.height * side)), side)
    scaled = image.resize(size, Image.Resampling.BICUBIC)
    if size == (side, side):
        return scaled
    square = Image.new("RGB", (side, side), PAD_COLOUR)
    square.paste(scaled, (round((side - size[0]) * 0.5), round((side - size[1]) * 0.5)))
    return square


def _channels_first(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))


def valid_tokens(width: int, height: int, mode: ResolutionMode) -> int:
    """Vision tokens that carry image rather than padding (paper equation 1)."""
    plan = view_plan(width, height, mode)
    tokens = tokens_per_view(plan.global_side)
    tiles = plan.vision_tokens - tokens
    if not mode.pad:
        return tokens + tiles
    long, short = max(width, height), min(width, height)
    return tiles + -(-tokens * short // long)
