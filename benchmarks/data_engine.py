"""CPU time per sample, written to the shard, of every kind, beside the usual way. Prints the table of data_engine.md.

python benchmarks/data_engine.py                        # all rows, some minutes
python benchmarks/data_engine.py kinds=pdf,document source=DIR rounds=7

All rows take turns in one process: a round makes `samples` samples of each, and the median round counts. What
counts is the processor's time, child processes included, not the clock: the machine is shared.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import pypdfium2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_engine_usual import chrome_chart, pillow_molecule, pyplot_chart, pyplot_figure

from data_engine.document_options import DegradeOptions
from data_engine.kinds import KINDS
from data_engine.run import Plan, close_renderer, make_shard

_USUAL = 20
"""Samples per round that are made the usual way."""
WARM_UP = 30
"""Samples that are made before the first round: caches of glyphs, a JavaScript engine that warms up."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    kind: str
    bar: float | None
    """CPU milliseconds per sample."""
    options: dict[str, Any] = field(default_factory=dict)
    degrade: float = 0.0
    """Share of degraded pictures."""
    usual: Callable[[Path, int], None] | None = None
    """The usual way to make the n-th sample, into a directory."""
    usual_name: str = ""
    usual_samples: int = _USUAL
    """Per round."""
    warm_up: int = WARM_UP
    """Samples before the first that counts. A JavaScript engine compiles for some hundred charts; a worker makes
    thousands."""


def pdftoppm_page(source: Path) -> Callable[[Path, int], None] | None:
    """Poppler, one process per page and a second one for its text; None where it is not installed."""
    if shutil.which("pdftoppm") is None or shutil.which("pdftotext") is None:
        return None
    files = sorted(source.rglob("*.pdf"))

    def make(directory: Path, number: int) -> None:
        page = ["-f", "1", "-l", "1"]
        file = str(files[number % len(files)])
        command = ["pdftoppm", *page, "-scale-to", "1024", "-png", file, str(directory / "page")]
        subprocess.run(command, check=True)
        subprocess.run(["pdftotext", *page, file, str(directory / "page.txt")], check=True)

    return make


def bare_pdfium(source: Path) -> Callable[[Path, int], None]:
    """What pypdfium2's own calls cost, without layout or shard: draw, text, JPEG. The yardstick of this machine."""
    files = sorted(source.rglob("*.pdf"))

    def make(directory: Path, number: int) -> None:
        document = pypdfium2.PdfDocument(files[number % len(files)])
        page = document[number % len(document)]
        pixels = page.render(scale=1024 / max(page.get_size())).to_numpy()
        text = page.get_textpage().get_text_bounded()
        (directory / "page.jpg").write_bytes(
            cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        )
        (directory / "page.txt").write_text(text)

    return make


def rows(source: Path | None) -> list[Row]:
    """All rows that can be measured here."""
    echarts, matplotlib = {"engine": "echarts"}, {"engine": "matplotlib"}
    chrome = chrome_chart()
    found = [
        Row("ECharts chart 512 px", "chart", 12.0, echarts, 0.0, chrome, "pyecharts, fresh Chromium", 2, 300),
        Row("matplotlib chart 512 px", "chart", 50.0, matplotlib, 0.0, pyplot_chart, "pyplot, savefig"),
        Row("molecule 512 px", "chemistry", 4.0, {}, 0.0, pillow_molecule, "MolToImage, Pillow"),
        Row("geometry 512 px", "geometry", 1.2, {}, 0.0, pyplot_figure, "pyplot, savefig"),
        Row("synthetic page 792 x 1024, figures by other kinds", "document", 8.0),
        Row("the same without figures", "document", 8.0, {"figures": 0.0}),
        Row("the same, all degraded", "document", None, {"figures": 0.0}, degrade=1.0),
        Row(
            "text page 792 x 1024, 500 words", "text_page", None, {"size": [792, 1024], "length": [500, 500]}
        ),
        Row("scene text on textures 512 px, English and Chinese", "scene_text", None),
        Row("page of words (kind page) 1024 px", "page", None, {"size": [792, 1024], "words": [300, 500]}),
    ]
    if source is not None:
        poppler, bare = pdftoppm_page(source), bare_pdfium(source)
        pdf = {"source": str(source)}
        found.append(
            Row(
                "PDF page 1024 px with text",
                "pdf",
                8.0,
                {**pdf, "grounding": 0.0},
                0.0,
                bare,
                "bare pypdfium2",
            )
        )
        found.append(
            Row(
                "PDF page 1024 px with boxes",
                "pdf",
                None,
                {**pdf, "grounding": 1.0},
                0.0,
                poppler,
                "pdftoppm",
            )
        )
    return found


def cpu_seconds() -> float:
    """Of this process and of its children that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def measure(row: Row, directory: Path, samples: int, number: int) -> float:
    """CPU milliseconds per sample of shard `number`."""
    plan = Plan(
        kind=row.kind,
        options=KINDS[row.kind].options(**row.options),
        samples=10**9,
        seed=1,
        shard_samples=samples,
        directory=directory,
        degrade=DegradeOptions(probability=row.degrade),
    )
    make_shard(replace(plan, shard_samples=row.warm_up, seed=2), 0)
    start = cpu_seconds()
    shard = make_shard(plan, 1 + number)
    return (cpu_seconds() - start) * 1e3 / max(1, shard.record.samples)


def main(arguments: list[str]) -> None:
    given = dict(argument.split("=", 1) for argument in arguments)
    source = Path(given["source"]) if "source" in given else None
    wanted = given["kinds"].split(",") if "kinds" in given else list(KINDS)
    rounds, samples = int(given.get("rounds", 5)), int(given.get("samples", 60))
    chosen = [row for row in rows(source) if row.kind in wanted]
    times: dict[str, list[float]] = {row.name: [] for row in chosen}
    usual: dict[str, list[float]] = {row.name: [] for row in chosen}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(rounds):
            for row in chosen:
                times[row.name].append(measure(row, Path(scratch), samples, number))
                close_renderer()
                if row.usual is not None:
                    start = cpu_seconds()
                    for sample in range(row.usual_samples):
                        row.usual(Path(scratch), number * row.usual_samples + sample)
                    usual[row.name].append((cpu_seconds() - start) * 1e3 / row.usual_samples)
    print("| kind | bar | median | least | usual way |")
    print("|---|---|---|---|---|")
    for row in chosen:
        bar = f"{row.bar:g}" if row.bar is not None else "-"
        other = f"{statistics.median(usual[row.name]):.0f} ({row.usual_name})" if usual[row.name] else "-"
        print(
            f"| {row.name} | {bar} | {statistics.median(times[row.name]):.1f} | {min(times[row.name]):.1f} | {other} |"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
