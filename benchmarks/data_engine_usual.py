"""The usual ways to make a chart, a molecule and a figure, for data_engine.py: the n-th sample, into a directory.

Their charts have the contents of ours, drawn with the defaults of the tools; their molecules and figures are the
same ones.
"""

from __future__ import annotations

import atexit
import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_engine.assets import asset_path
from data_engine.chart_options import CHART_FORMS, ChartOptions
from data_engine.geometry_options import GeometryOptions
from data_engine.random_stream import Draws
from data_engine.render.chart_content import ChartContent, random_content
from data_engine.render.geometry_figure import WINDOW, random_figure
from data_engine.smiles import nci_file

Usual = Callable[[Path, int], None]
_STEPS = 20


def _content(number: int) -> ChartContent:
    draws = Draws(1, "usual", number)
    form = draws.stream("form").choice(CHART_FORMS)
    return random_content(draws.stream("content"), form, ChartOptions(languages=["en"]), _STEPS)


def selenium_chart(reused: bool) -> Usual | None:
    """pyecharts' page in headless Chromium through snapshot-selenium, at one pixel per pixel.

    As documented, with a fresh browser and two seconds of patience per chart; or with one browser for all of them, the
    script from the disk, no animation and no patience. None where selenium, chromium or chromedriver is missing.
    """
    if shutil.which("chromedriver") is None or shutil.which("chromium") is None:
        return None
    try:
        from selenium import webdriver
        from snapshot_selenium import snapshot
    except ImportError:
        return None
    from pyecharts.render import make_snapshot

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("headless", "no-sandbox", "disable-gpu"):
        options.add_argument(argument)

    def browser() -> Any:
        return webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))

    kept: list[Any] = []

    def make(directory: Path, number: int) -> None:
        page = _pyecharts_page(directory, number)
        if reused:
            if not kept:
                kept.append(browser())
                atexit.register(kept[0].quit)
            make_snapshot(snapshot, page, str(directory / "chart.png"), 0, 1, driver=kept[0])
        else:
            driver = browser()
            make_snapshot(snapshot, page, str(directory / "chart.png"), 2, 1, driver=driver)
            driver.quit()

    return make


def _pyecharts_page(directory: Path, number: int) -> str:
    """The page of the n-th chart."""
    from pyecharts import options as opts
    from pyecharts.charts import Bar, Line, Pie
    from pyecharts.globals import CurrentConfig

    CurrentConfig.ONLINE_HOST = asset_path("echarts.min.js").parent.as_uri() + "/"
    content = _content(number)
    start = opts.InitOpts("512px", "512px", animation_opts=opts.AnimationOpts(animation=False))
    if content.is_round:
        values = [float(value) for value in content.series[0].values]
        chart = Pie(start).add("", list(zip(content.categories, values, strict=True)))
    else:
        drawn_as = Line if content.series[0].drawn_as != "bar" else Bar
        chart = drawn_as(start).add_xaxis(list(content.categories))
        for series in content.series:
            chart.add_yaxis(series.name, [float(value) for value in series.values])
    chart.set_global_opts(title_opts=opts.TitleOpts(title=content.title or ""))
    chart.render(str(directory / "chart.html"))
    return str(directory / "chart.html")


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
    return [line.split()[0] for line in nci_file().read_text().splitlines()]


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
