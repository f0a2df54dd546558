"""Labels that must not change."""

from __future__ import annotations

import hashlib
import re

import pytest

from data_engine.kinds import KINDS, make_renderer
from data_engine.random_stream import Draws
from tests.data_engine.conftest import needs_assets

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
    ("geometry", {"size": 128}, "36b770e6dfb98877"),
    ("text_page", {"size": 300, "length": [20, 60]}, "68178904b52c586e"),
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
