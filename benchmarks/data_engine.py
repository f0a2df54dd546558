"""CPU time per sample, written to the shard, of every kind, beside the usual way. Prints the table of data_engine.md.

python benchmarks/data_engine.py                        # all rows, some minutes
python benchmarks/data_engine.py kinds=pdf,document source=DIR rounds=7

All rows take turns in one process: a round makes `samples` samples of each, and the median round counts. What
counts is the processor's time, child processes included, not the clock: the machine is shared. For the browsers'
rows: chromium and a chromedriver of its version on PATH, pip install selenium snapshot-selenium.
"""

from __future__ import annotations

import os
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
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "launch"))

from data_engine_usual import pillow_molecule, pyplot_chart, pyplot_figure, selenium_chart
from monitor import children_of

from data_engine.degrade_options import DegradeOptions
from data_engine.kinds import KINDS
from data_engine.run import Plan, close_renderer, make_shard

WARM_UP = 30
"""Samples that are made before the first round: caches of glyphs, a JavaScript engine that warms up."""


@dataclass(frozen=True)
class UsualWay:
    """How a sample is usually made."""

    name: str
    make: Callable[[Path, int], None] | None
    """Makes the n-th sample, into a directory; None where its programs are missing."""
    samples: int = 20
    """Per round."""


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
    usual: tuple[UsualWay, ...] = ()
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
    whole: dict[str, Any] = {"sides": [1.0, 1.0]}  # exactly 512 px, as the usual ways
    echarts, matplotlib = {"engine": "echarts", **whole}, {"engine": "matplotlib", **whole}
    browsers = (
        UsualWay("snapshot-selenium, fresh browser", selenium_chart(reused=False), 3),
        UsualWay("one browser for all", selenium_chart(reused=True)),
    )
    pyplot = UsualWay("pyplot, savefig", pyplot_chart)
    found = [
        Row("ECharts chart 512 px", "chart", 12.0, echarts, usual=browsers, warm_up=300),
        Row("matplotlib chart 512 px", "chart", 50.0, matplotlib, usual=(pyplot,)),
        Row("molecule 512 px", "chemistry", 4.0, usual=(UsualWay("MolToImage, Pillow", pillow_molecule),)),
        Row("geometry 512 px", "geometry", 1.2, usual=(UsualWay("pyplot, savefig", pyplot_figure),)),
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
        poppler = UsualWay("pdftoppm, pdftotext", pdftoppm_page(source))
        bare = UsualWay("bare pypdfium2", bare_pdfium(source))
        coarse, fine = ({"source": str(source), "grounding": share} for share in (0.0, 1.0))
        found += [
            Row("PDF page 1024 px with text", "pdf", 8.0, coarse, usual=(bare, poppler)),
            Row("PDF page 1024 px with boxes", "pdf", None, fine),
        ]
    return found


def cpu_seconds_of_all() -> float:
    """Of this process, of all processes that it or they started and that still run, and of those that ended;
    in steps of a hundredth of a second."""
    total = 0
    for process in children_of(os.getpid()):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile, and is now in its parent's sum
        total += sum(map(int, fields[11:15]))  # user and system, then those of children that were waited for
    return total / os.sysconf("SC_CLK_TCK")


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
    start = time.process_time()
    shard = make_shard(plan, 1 + number)
    return (time.process_time() - start) * 1e3 / max(1, shard.record.samples)


def measure_usual(way: UsualWay, make: Callable[[Path, int], None], directory: Path, number: int) -> float:
    """CPU milliseconds per sample of the usual way, after one that does not count: it imports, or starts a browser."""
    make(directory, number * way.samples)
    start = cpu_seconds_of_all()
    for sample in range(way.samples):
        make(directory, number * way.samples + sample)
    return (cpu_seconds_of_all() - start) * 1e3 / way.samples


def main(arguments: list[str]) -> None:
    given = dict(argument.split("=", 1) for argument in arguments)
    source = Path(given["source"]) if "source" in given else None
    wanted = given["kinds"].split(",") if "kinds" in given else list(KINDS)
    rounds, samples = int(given.get("rounds", 5)), int(given.get("samples", 60))
    chosen = [row for row in rows(source) if row.kind in wanted]
    times: dict[str, list[float]] = {row.name: [] for row in chosen}
    usual: dict[UsualWay, list[float]] = {way: [] for row in chosen for way in row.usual}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(rounds):
            for row in chosen:
                times[row.name].append(measure(row, Path(scratch), samples, number))
                close_renderer()
                for way in row.usual:
                    if way.make is not None:
                        usual[way].append(measure_usual(way, way.make, Path(scratch), number))
    print("| kind | bar | median | least | usual ways, median |")
    print("|---|---|---|---|---|")
    for row in chosen:
        bar = f"{row.bar:g}" if row.bar is not None else "-"
        seen = ((way.name, usual[way]) for way in row.usual)
        others = "; ".join(f"{statistics.median(found):.0f} ({name})" for name, found in seen if found) or "-"
        median, least = statistics.median(times[row.name]), min(times[row.name])
        print(f"| {row.name} | {bar} | {median:.1f} | {least:.1f} | {others} |")


if __name__ == "__main__":
    main(sys.argv[1:])
