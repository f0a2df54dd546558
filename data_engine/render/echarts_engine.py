"""ECharts in an embedded V8: a chart's option goes in, the list of its paint operations comes out.

No browser and no node. The context must be closed by hand: left to the interpreter's exit, V8 hangs in one
run out of twenty.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from py_mini_racer import JSEvalException, MiniRacer

from data_engine.assets import asset_path
from data_engine.fonts import font_file
from data_engine.render.graphics import missing_characters, skia, typeface

_RECORDER = Path(__file__).with_name("canvas_recorder.js")
_ALWAYS = (
    "".join(chr(code) for code in range(32, 127)) + "…•国"
)  # ECharts measures 国 for the height of a line

_CHARTS_BEFORE_CLEANING = 250


class EChartsEngine:
    """One V8 with ECharts in it; made in a fifth of a second, warm after a few hundred charts."""

    def __init__(self, families: tuple[str, ...]) -> None:
        self._families = families
        self._known: set[str] = set()
        self._recorded = 0
        self._context = MiniRacer()
        self._context.eval("globalThis.setTimeout = globalThis.setTimeout || (() => 0); 0")
        self._context.eval(asset_path("echarts.min.js").read_text("utf-8") + ";0")
        self._context.eval(_RECORDER.read_text("utf-8") + ";0")
        self._context.eval("connectRecorder();0")
        self._measure(_ALWAYS)

    def record(self, option: str, width: int, height: int) -> list[list[Any]]:
        """The operations that paint the chart of an option (JSON) at this size in pixels."""
        self._measure(option)
        self._recorded += 1
        if self._recorded % _CHARTS_BEFORE_CLEANING == 0:
            # By itself V8 lets garbage pile up for thousands of charts; 7 MiB of its 80 are alive.
            self._context.low_memory_notification()
        try:
            operations: list[list[Any]] = self._context.call("recordChart", option, width, height)
        except JSEvalException as error:
            # The message quotes the failing source, which is all of ECharts on one line.
            lines = [line.strip() for line in str(error).splitlines() if re.match(r"\s*\w*Error: ", line)]
            raise ValueError(f"ECharts refused an option: {(lines or ['?'])[-1][:200]}") from None
        return operations

    def close(self) -> None:
        self._context.close()

    def _measure(self, text: str) -> None:
        """Tell the recorder how wide the characters of `text` are, those that it does not know yet."""
        new = "".join(sorted(set(text) - self._known - set("\n\t\r")))
        if not new:
            return
        self._known.update(new)
        for family in self._families:
            for bold in (False, True):
                table = _advances(font_file(family, bold), new)
                names = [family, "sans-serif"] if family == self._families[0] else [family]
                for name in names:
                    self._context.call("addAdvances", name + ("/bold" if bold else ""), table)


@functools.lru_cache(maxsize=256)
def _advances(path: Path, characters: str) -> dict[str, float]:
    """Advance of each character at a font size of one pixel; one em for those that the font lacks."""
    em = 1000.0
    face = skia.Font(typeface(path), em)
    face.setHinting(skia.FontHinting.kNone)
    face.setLinearMetrics(True)
    lacking = set(missing_characters(path, characters))
    widths = face.getWidths(face.textToGlyphs(characters))
    return {
        character: 1.0 if character in lacking else round(width / em, 5)
        for character, width in zip(characters, widths, strict=True)
    }
