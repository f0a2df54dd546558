"""Font files of the user: refused at once where they are broken, and told by their hashes."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from pathlib import Path

from data_engine.errors import ConfigError
from data_engine.files import sha256_of
from data_engine.render.graphics import typeface
from data_engine.sample import printable

_OUTLINES = (b"\x00\x01\x00\x00", b"true", b"OTTO")


def font_paths(files: Iterable[str]) -> tuple[str, ...]:
    """The different files of `options.fonts`, each by its whole path: no family of ours is called like that.

    Raises:
        ConfigError: one cannot be read, is no font, or ends before its end.
    """
    paths = tuple(dict.fromkeys(os.path.abspath(file) for file in files))
    for path in paths:
        try:
            with open(path, "rb") as file:
                if _ends_early(file.read(_LONGEST_HEAD), os.fstat(file.fileno()).st_size):
                    raise ConfigError(f"options.fonts={path} ends before its end: fetch the font again.")
            typeface(Path(path))
        except OSError as error:
            raise ConfigError(f"options.fonts={path} cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise ConfigError(
                f"options.fonts={path} is no font that can be read: give TTF or OTF."
            ) from error
    return paths


def font_name(family: str) -> str:
    """A family of ours, or a file of the user without its directory: where it lies tells nothing."""
    return printable(Path(family).stem)


def font_hashes(paths: Iterable[str]) -> dict[str, str]:
    """By number, in the order that decides which font is asked first; two files may have the same name."""
    return {f"font {number}": sha256_of(Path(path))[:16] for number, path in enumerate(paths)}


_LONGEST_HEAD = 12 + 16 * 256  # bytes: a table directory of more tables than any font has


def _ends_early(head: bytes, size: int) -> bool:
    """Whether a table of a TrueType or OpenType font lies beyond the end of its file.

    FreeType leaves such tables out without a word, and letters without outlines are drawn as nothing.
    """
    if head[:4] not in _OUTLINES or len(head) < 12:
        return False
    (tables,) = struct.unpack_from(">H", head, 4)
    entries = head[12 : 12 + 16 * tables]
    ends = [
        start + length
        for _, _, start, length in struct.iter_unpack(">4sLLL", entries[: len(entries) // 16 * 16])
    ]
    return len(entries) < 16 * tables or max(ends, default=0) > size
