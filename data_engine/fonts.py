"""Font files, by path: the same bytes on every machine, whatever its fontconfig says."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

from data_engine.assets import asset_path

LATIN_FAMILIES = ("sans", "serif", "mono")
CHINESE_FAMILY = "chinese"
FONT_FAMILIES = (*LATIN_FAMILIES, CHINESE_FAMILY)
_DEJAVU = {"sans": "DejaVuSans", "serif": "DejaVuSerif", "mono": "DejaVuSansMono"}


@functools.cache
def font_file(family: str, bold: bool) -> Path:
    """The file of a family. ConfigError when it is the Chinese one and the assets were not fetched."""
    if family == CHINESE_FAMILY:
        return asset_path("NotoSansSC-Bold.ttf" if bold else "NotoSansSC-Regular.ttf")
    return latin_font_file(family, bold)


@functools.cache
def latin_font_file(family: str, bold: bool) -> Path:
    """The DejaVu file that matplotlib's wheel carries."""
    specification = importlib.util.find_spec("matplotlib")
    assert specification is not None and specification.origin is not None
    name = f"{_DEJAVU[family]}{'-Bold' if bold else ''}.ttf"
    return Path(specification.origin).parent / "mpl-data" / "fonts" / "ttf" / name
