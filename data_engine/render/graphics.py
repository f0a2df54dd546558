"""The one place where skia is imported, with what every renderer needs of it: surfaces and fonts.

RDKit's drawing is imported first, on purpose: when skia is loaded before it, the first molecule that RDKit
draws corrupts the heap and aborts the process (both carry a FreeType). The other order is sound.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import rdkit.Chem.Draw.rdMolDraw2D  # noqa: F401  isort:skip
import skia  # isort:skip

from data_engine.files import sha256_of
from data_engine.fonts import font_file


@functools.cache
def _font_manager() -> skia.FontMgr:
    return skia.FontMgr.New_Custom_Empty()  # the default one reads the machine's fontconfig


@functools.cache
def typeface(path: Path) -> skia.Typeface:
    face = _font_manager().makeFromFile(str(path))
    if face is None:
        raise ValueError(f"skia cannot read the font {path}.")
    return face


@functools.lru_cache(maxsize=512)
def font(path: Path, pixels: float) -> skia.Font:
    """A font at a size in pixels: anti-aliased, placed to a fraction of a pixel, no hinting."""
    made = skia.Font(typeface(path), pixels)
    made.setEdging(skia.Font.Edging.kAntiAlias)
    made.setSubpixel(True)
    made.setHinting(skia.FontHinting.kNone)
    return made


def missing_characters(path: Path, text: str) -> list[str]:
    """The characters of `text` for which the font has no shape: they would be drawn as empty boxes."""
    characters = sorted(set(text) - {" ", "\n"})
    glyphs = typeface(path).unicharsToGlyphs([ord(character) for character in characters])
    return [character for character, glyph in zip(characters, glyphs, strict=True) if glyph == 0]


def gray_surface(width: int, height: int) -> tuple[np.ndarray, skia.Surface]:
    """An 8-bit gray picture [H, W] and the surface that draws straight into it."""
    pixels = np.empty((height, width), np.uint8)
    info = skia.ImageInfo.Make(width, height, skia.kGray_8_ColorType, skia.kOpaque_AlphaType)
    return pixels, skia.Surface.MakeRasterDirect(info, pixels, width)


def color_surface(width: int, height: int) -> tuple[np.ndarray, skia.Surface]:
    """An RGBA picture [H, W, 4] (opaque) and the surface that draws straight into it."""
    pixels = np.empty((height, width, 4), np.uint8)
    info = skia.ImageInfo.Make(width, height, skia.kRGBA_8888_ColorType, skia.kOpaque_AlphaType)
    return pixels, skia.Surface.MakeRasterDirect(info, pixels, width * 4)


def graphics_versions() -> dict[str, str]:
    """Versions of the libraries that decide the pixels and bytes of every renderer."""
    return versions_of("skia-python", "isal", "opencv-python-headless", "numpy")


def versions_of(*distributions: str) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in distributions}


def font_versions(families: Iterable[str]) -> dict[str, str]:
    """Hashes of the font files that are drawn with."""
    return file_versions({font_file(family, bold) for family in families for bold in (False, True)})


def file_versions(files: Iterable[Path]) -> dict[str, str]:
    """The hash of every file by its name."""
    return {path.name: sha256_of(path)[:16] for path in sorted(files)}
