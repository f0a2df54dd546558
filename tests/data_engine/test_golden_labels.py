"""Labels that must not change, and figures whose every stroke is told."""

from __future__ import annotations

import ast
import hashlib
import io
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from data_engine.kinds import KINDS, make_renderer
from data_engine.random_stream import Draws
from data_engine.render.geometry_figure import WINDOW
from tests.data_engine.conftest import needs_assets
from tests.data_engine.test_labels import points_of, samples

GOLDEN = [
    ("card", {}, "95f37aebee6db0cc"),
    ("page", {"size": 256}, "489c6c47b6c256e8"),
    ("chart", {"engine": "echarts", "size": 320}, "9240bb90190967cd"),
    (
        "chart",
        {"engine": "matplotlib", "size": 320},
        "9240bb90190967cd",
    ),  # the engine draws, it does not tell
    ("chemistry", {"size": 512}, "74d444f20d3284e9"),
    ("geometry", {"size": 128}, "7c34ee7667ba14ac"),
    ("scene_text", {"size": 256}, "5be3a48fad974239"),
]


@needs_assets
@pytest.mark.parametrize(("kind", "options", "golden"), GOLDEN)
def test_golden_labels(kind: str, options: dict, golden: str) -> None:
    """What is asked and answered must not change without a new ENGINE_VERSION."""
    renderer = make_renderer(kind, KINDS[kind].options(**options))
    digest = hashlib.sha256()
    for index in range(12):
        rendered = renderer.render(Draws(5, kind, index))
        told = re.sub(
            r"<\|det\|>.*?<\|/det\|>", "", rendered.response
        )  # boxes follow the rasteriser, to a pixel
        digest.update(f"{rendered.prompt}\n{told}\n".encode())
    renderer.close()
    assert digest.hexdigest()[:16] == golden


def test_every_stroke_of_a_figure_is_told() -> None:
    """The dictionary plotted again, a little thicker, covers all ink; without letters, which stand beside points."""
    size, unit = 400, 400 / WINDOW
    for rendered in samples("geometry", 60, size=size, translation=0.0, letters=0.0):
        ink = np.asarray(Image.open(io.BytesIO(rendered.pictures[0].data)).convert("L")) < 200
        told, centers = np.zeros((2, size, size), np.uint8)
        label = ast.literal_eval(rendered.response)

        def pixel(x: float, y: float) -> tuple[int, int]:
            return round((x + WINDOW / 2) * unit), round((WINDOW / 2 - y) * unit)

        for line in label["Line"]["line"]:
            ends = [pixel(*point) for point in points_of(line)]
            cv2.polylines(told, [np.array(ends)], False, 1, 7)
        circles = label.get("Circle", {"circle_center": [], "radius": []})
        for center, radius in zip(circles["circle_center"], circles["radius"], strict=True):
            middle = pixel(*ast.literal_eval(center.removeprefix("O: ")))
            cv2.circle(told, middle, round(radius * unit), 1, 7)
            cv2.circle(told, middle, 6, 1, -1)
            # A centre is called O even where the points have no letters.
            cv2.circle(centers, middle, 34, 1, -1)
        assert not (ink & (told == 0) & (centers == 0)).any(), rendered.response
        assert (ink & (told > 0)).sum() > 0.05 * told.sum()
