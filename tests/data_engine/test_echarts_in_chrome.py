"""ECharts recorded and painted by skia, against ECharts in a real Chrome: the same pictures."""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import data_engine
from data_engine.assets import asset_path
from data_engine.chart_options import CHART_FORMS, ChartOptions
from data_engine.fonts import font_file
from data_engine.random_stream import Draws
from data_engine.render.chart import is_legible, needed_texts
from data_engine.render.chart_content import random_content
from data_engine.render.chart_echarts import option_of
from data_engine.render.chart_layout import layout_of
from data_engine.render.chart_style import random_style
from tests.data_engine.conftest import needs_assets

SIZE, COUNT, EM = 512, 24, 14.0
FAMILIES = ("sans", "serif", "mono", "chinese")
RECORDER = Path(data_engine.__file__).parent / "render/canvas_recorder.js"
CHROME = next(
    (found for name in ("chromium", "google-chrome", "chrome") if (found := shutil.which(name))), None
)


def golden_charts() -> list[tuple[str, np.ndarray]]:
    """Options of legible charts of all forms, languages and effects, and our pictures of them [H, W, 3]."""
    from data_engine.render.canvas_player import play
    from data_engine.render.echarts_engine import EChartsEngine

    options = ChartOptions(size=SIZE, engine="echarts", effects=0.5, sides=[1.0, 1.0])
    engine = EChartsEngine(FAMILIES)
    found: list[tuple[str, np.ndarray]] = []
    index = 0
    while len(found) < COUNT:
        draws = Draws(20, "chart", index)
        index += 1
        content = random_content(
            draws.stream("content"), CHART_FORMS[len(found) % len(CHART_FORMS)], options, 16
        )
        style = random_style(draws.stream("style"), content, options, EM, SIZE, SIZE)
        layout = layout_of(content, style)
        if layout is None:
            continue
        option = option_of(content, style, layout)
        pixels, texts = play(engine.record(option, SIZE, SIZE), SIZE, SIZE)
        if is_legible(needed_texts(content, style), texts, SIZE, SIZE):
            found.append((option, pixels[..., :3].copy()))
    engine.close()
    return found


def page_of(options: list[str]) -> str:
    """All charts, one below the other, drawn when the fonts are there."""
    faces, loads = [], []
    for family in FAMILIES:
        for bold in (False, True):
            data = base64.b64encode(font_file(family, bold).read_bytes()).decode()
            weight = "bold" if bold else "normal"
            faces.append(
                f"@font-face{{font-family:our-{family};font-weight:{weight};src:url(data:font/ttf;base64,{data})}}"
            )
            loads.append(f"document.fonts.load('{weight} 16px our-{family}','A\\u56fd')")
    for family in FAMILIES:
        # "serif" by itself means a font of Chrome's choice. ECharts takes the width of one Chinese character for the
        # height of a line, so a Latin font needs a Chinese one behind it, as a desktop has.
        names = f"our-{family}" if family == "chinese" else f"our-{family},our-chinese"
        options = [
            option.replace(f'"fontFamily":"{family}"', f'"fontFamily":"{names}"') for option in options
        ]
    return f"""<!doctype html><meta charset=utf-8><style>body{{margin:0}}{"".join(faces)}</style>
<script>{asset_path("echarts.min.js").read_text("utf-8")}</script>
<script>{RECORDER.read_text("utf-8")}</script><body><script>
const charts = [{",".join(options)}];
Promise.all([{",".join(loads)}]).then(() => {{
  for (const option of charts) {{
    const place = document.createElement("div");
    place.style.cssText = "width:{SIZE}px;height:{SIZE}px";
    document.body.append(place);
    echarts.init(place, null, {{devicePixelRatio: 1}}).setOption(withoutCommas(option));
  }}
}});
</script>"""


@needs_assets
@pytest.mark.slow
@pytest.mark.skipif(CHROME is None, reason="no Chrome or Chromium is installed: nothing to compare with")
def test_our_pictures_are_those_of_chrome(tmp_path: Path) -> None:
    charts = golden_charts()
    (tmp_path / "charts.html").write_text(page_of([option for option, _ in charts]), "utf-8")
    command = [
        str(CHROME), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--font-render-hinting=none",
        "--force-device-scale-factor=1", "--virtual-time-budget=20000", f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={SIZE},{SIZE * COUNT}", f"--screenshot={tmp_path / 'charts.png'}",
        (tmp_path / "charts.html").as_uri(),
    ]  # fmt: skip
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    data = (tmp_path / "charts.png").read_bytes()
    theirs = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int16).reshape(COUNT, SIZE, SIZE, 3)
    differences = [float(np.abs(theirs[i] - ours).mean()) for i, (_, ours) in enumerate(charts)]
    assert np.mean(differences) <= 1.0, differences
    assert max(differences) <= 2.5, differences
    for i, (_, ours) in enumerate(charts):  # and no picture is empty in both
        assert ours.std() > 5, i
