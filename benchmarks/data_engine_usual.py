"""The usual ways to make a chart, a molecule and a figure, for data_engine.py: the n-th sample, into a directory.

Their charts have the contents of ours, drawn with the defaults of the tools; their molecules and figures are the
same ones.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from data_engine.assets import asset_path
from data_engine.options import CHART_FORMS, ChartOptions, GeometryOptions
from data_engine.random_stream import Draws
from data_engine.render.chart_content import ChartContent, random_content
from data_engine.render.geometry_figure import WINDOW, random_figure
from data_engine.smiles import nci_file, read_smiles

Usual = Callable[[Path, int], None]
_STEPS = 20


def _content(number: int) -> ChartContent:
    draws = Draws(1, "usual", number)
    form = draws.stream("form").choice(CHART_FORMS)
    return random_content(draws.stream("content"), form, ChartOptions(languages=["en"]), _STEPS)


def chrome_chart() -> Usual | None:
    """pyecharts' HTML in a fresh headless Chromium, as snapshot tools do it; None where it is not installed."""
    chrome = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None)
    if chrome is None:
        return None
    from pyecharts import options as opts
    from pyecharts.charts import Bar, Line, Pie
    from pyecharts.globals import CurrentConfig

    CurrentConfig.ONLINE_HOST = asset_path("echarts.min.js").parent.as_uri() + "/"

    def make(directory: Path, number: int) -> None:
        content = _content(number)
        start = opts.InitOpts("512px", "512px", animation_opts=opts.AnimationOpts(animation=False))
        if content.is_round:
            values = [float(value) for value in content.series[0].values]
            pairs = list(zip(content.categories, values, strict=True))
            chart = Pie(start).add("", pairs)
        else:
            chart = (Line if content.series[0].drawn_as != "bar" else Bar)(start).add_xaxis(
                list(content.categories)
            )
            for series in content.series:
                chart.add_yaxis(series.name, [float(value) for value in series.values])
        chart.set_global_opts(title_opts=opts.TitleOpts(title=content.title or ""))
        page = directory / "chart.html"
        chart.render(str(page))
        command = [
            chrome, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=512,512",
            "--virtual-time-budget=500", f"--user-data-dir={directory / 'profile'}",
            f"--screenshot={directory / 'chart.png'}", page.as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)

    return make


def pyplot_chart(directory: Path, number: int) -> None:
    """pyplot and savefig."""
    import matplotlib.pyplot as plt
    import numpy as np

    content = _content(number)
    plt.figure(figsize=(5.12, 5.12), dpi=100)
    if content.is_round:
        plt.pie([float(v) for v in content.series[0].values], labels=list(content.categories), autopct="%.1f")
    else:
        places, bars = np.arange(len(content.categories)), len(content.series)
        for turn, series in enumerate(content.series):
            values = [float(value) for value in series.values]
            if series.drawn_as == "bar":
                container = plt.bar(places + turn * 0.8 / bars, values, 0.8 / bars, label=series.name)
                plt.bar_label(container)
            else:
                plt.plot(places, values, marker="o", label=series.name)
        plt.xticks(places, list(content.categories))
        plt.legend()
    plt.title(content.title or "")
    plt.savefig(directory / "chart.png")
    plt.close()


@functools.cache
def _molecules() -> list[str]:
    return [smiles for _, smiles in read_smiles(nci_file())]


def pillow_molecule(directory: Path, number: int) -> None:
    """RDKit's MolToImage, saved by Pillow."""
    from rdkit import Chem
    from rdkit.Chem import Draw

    molecules = _molecules()
    molecule = Chem.MolFromSmiles(molecules[number * 37 % len(molecules)]) or Chem.MolFromSmiles("CCO")
    Draw.MolToImage(molecule, size=(512, 512)).save(directory / "molecule.png")


def pyplot_figure(directory: Path, number: int) -> None:
    """A figure as Slow Perception's released code draws it, with matplotlib."""
    import matplotlib.pyplot as plt

    figure = random_figure(Draws(1, "geometry", number), GeometryOptions())
    plt.figure(figsize=(5.12, 5.12), dpi=100)
    for segment in figure.segments:
        start, end = figure.points[segment.start], figure.points[segment.end]
        plt.plot([start[0], end[0]], [start[1], end[1]], "k--" if segment.dashed else "k-", linewidth=0.8)
    for circle in figure.circles:
        plt.gca().add_patch(plt.Circle(circle.center, circle.radius, fill=False))
    for name, (x, y) in figure.points.items():
        plt.text(x, y, name)
    plt.xlim(-WINDOW / 2, WINDOW / 2)
    plt.ylim(-WINDOW / 2, WINDOW / 2)
    plt.axis("off")
    plt.savefig(directory / "figure.png")
    plt.close()
