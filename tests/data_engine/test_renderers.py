from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_engine.kinds import KINDS, make_renderer
from data_engine.random_stream import Draws
from data_engine.render import png
from tests.data_engine.conftest import SELF_CONTAINED, make, needs_assets


@pytest.mark.parametrize("shape", [(5, 9), (64, 64), (1, 1), (33, 7, 3), (33, 7, 4)])
def test_png_keeps_every_pixel(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    picture = png.encode(pixels)
    assert (picture.height, picture.width) == shape[:2]
    read = np.asarray(Image.open(io.BytesIO(picture.data), formats=["PNG"]))
    assert (read == (pixels[..., :3] if len(shape) == 3 else pixels)).all()


IMPORT_ORDER = """
from contextlib import suppress
from data_engine.kinds import KINDS, make_renderer
from data_engine.random_stream import Draws
from data_engine.render.base import NoSampleError
for kind in ("card", "geometry", "chemistry", "card"):
    renderer = make_renderer(kind, KINDS[kind].options(size=256))
    for index in range(20):
        with suppress(NoSampleError):  # of a molecule too large for the picture
            renderer.render(Draws(1, kind, index))
print("done")
"""


def test_skia_before_rdkit_does_not_corrupt_the_heap() -> None:
    """Whichever renderer comes first: RDKit's drawing is loaded before skia, or the first molecule aborts."""
    result = subprocess.run([sys.executable, "-c", IMPORT_ORDER], capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "done\n"


def test_skia_is_imported_in_one_place_only() -> None:
    root = Path(__file__).resolve().parents[2] / "data_engine"
    importers = [path.name for path in root.rglob("*.py") if "\nimport skia" in path.read_text("utf-8")]
    assert importers == ["graphics.py"]


@needs_assets
@pytest.mark.slow
@pytest.mark.parametrize("kind", SELF_CONTAINED)
def test_every_kind_makes_equal_bytes_with_one_and_two_workers(kind: str, tmp_path: Path) -> None:
    options = {"size": 160, "samples": 8, "shard_samples": 4}
    make(kind, tmp_path / "one", workers=1, **options)
    make(kind, tmp_path / "two", workers=2, **options)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


@needs_assets
@pytest.mark.parametrize("kind", SELF_CONTAINED)
def test_a_sample_does_not_depend_on_those_before_it(kind: str) -> None:
    renderer = make_renderer(kind, KINDS[kind].options(size=200))
    try:
        forward = [renderer.render(Draws(3, kind, index)) for index in range(6)]
        backward = [renderer.render(Draws(3, kind, index)) for index in reversed(range(6))]
    finally:
        renderer.close()
    assert forward == backward[::-1]


def red_and_green() -> str:
    pixels = np.zeros((4, 8, 4), np.uint8)
    pixels[:, :4, 0] = pixels[:, 4:, 1] = 255
    return "data:image/png;base64," + base64.b64encode(png.encode(pixels).data).decode()


Play = Callable[[dict], tuple[np.ndarray, list]]


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    """Option -> picture of 200 x 200 pixels and its texts, by one engine for all tests."""
    from data_engine.render import canvas_player
    from data_engine.render.echarts_engine import EChartsEngine

    engine = EChartsEngine(("sans",))

    def record_and_play(option: dict) -> tuple[np.ndarray, list]:
        operations = engine.record(json.dumps({"animation": False, **option}), 200, 200)
        return canvas_player.play(operations, 200, 200)

    yield record_and_play
    engine.close()


def rectangle(**style: object) -> dict:
    shape = {"x": 50, "y": 50, "width": 100, "height": 100}
    return {"graphic": [{"type": "rect", "shape": shape, "style": style}]}


@needs_assets
class TestRecorder:
    def test_linear_gradient(self, play: Play) -> None:
        stops = [{"offset": 0, "color": "#ff0000"}, {"offset": 1, "color": "#0000ff"}]
        fill = {"type": "linear", "x": 0, "y": 0, "x2": 0, "y2": 1, "colorStops": stops}
        pixels, _ = play(rectangle(fill=fill))
        top, middle, bottom = pixels[53, 100, :3], pixels[100, 100, :3], pixels[146, 100, :3]
        assert (np.abs(top.astype(int) - (247, 0, 8)) < 6).all()
        assert (np.abs(middle.astype(int) - (127, 0, 128)) < 6).all()
        assert (np.abs(bottom.astype(int) - (9, 0, 246)) < 6).all()

    def test_radial_gradient(self, play: Play) -> None:
        stops = [{"offset": 0, "color": "#ffffff"}, {"offset": 1, "color": "#000000"}]
        fill = {"type": "radial", "x": 0.5, "y": 0.5, "r": 0.5, "colorStops": stops}
        pixels, _ = play(rectangle(fill=fill))
        assert pixels[100, 100, 0] > 245
        assert abs(int(pixels[100, 125, 0]) - 128) < 8
        assert pixels[53, 53, 0] == 0

    def test_shadow(self, play: Play) -> None:
        style = {
            "fill": "#00ff00",
            "shadowColor": "#000000",
            "shadowOffsetX": 20,
            "shadowOffsetY": 10,
            "shadowBlur": 0,
        }
        pixels, _ = play(rectangle(**style))
        assert tuple(pixels[100, 100, :3]) == (0, 255, 0)
        assert tuple(pixels[100, 165, :3]) == (0, 0, 0)
        assert tuple(pixels[165, 165, :3]) == (255, 255, 255)
        blurred, _ = play(rectangle(**{**style, "shadowBlur": 20}))
        edge = blurred[100, 155:190, 0].astype(int)
        assert (np.diff(edge) >= 0).all()
        assert 60 < edge[15] < 200

    def test_rounded_corners(self, play: Play) -> None:
        option = rectangle(fill="#000000")
        option["graphic"][0]["shape"]["r"] = [30, 0, 30, 0]
        pixels, _ = play(option)
        assert tuple(pixels[53, 53, :3]) == (255, 255, 255)
        assert tuple(pixels[53, 146, :3]) == (0, 0, 0)
        assert tuple(pixels[146, 146, :3]) == (255, 255, 255)

    def test_image_and_pattern(self, play: Play) -> None:
        image = {
            "type": "image",
            "style": {"image": red_and_green(), "x": 20, "y": 20, "width": 160, "height": 80},
        }
        pixels, _ = play({"graphic": [image]})
        assert tuple(pixels[60, 50, :3]) == (255, 0, 0)
        assert tuple(pixels[60, 150, :3]) == (0, 255, 0)
        pixels, _ = play(rectangle(fill={"image": red_and_green(), "repeat": "repeat"}))
        inside = pixels[60:140, 60:140, :3].reshape(-1, 3)
        colors = Counter(map(tuple, inside.tolist()))
        assert colors[255, 0, 0] > 2000
        assert colors[0, 255, 0] > 2000

    def test_hatching_is_drawn(self, play: Play) -> None:
        axes = {
            "xAxis": {"type": "category", "data": ["a"]},
            "yAxis": {},
            "series": [{"type": "bar", "data": [5]}],
        }
        plain, _ = play(axes)
        hatched, _ = play({**axes, "aria": {"enabled": True, "decal": {"show": True}}})
        assert (plain != hatched).any()

    def test_texts_are_reported_where_they_are(self, play: Play) -> None:
        text = {"type": "text", "style": {"text": "Hello", "x": 100, "y": 50, "font": "bold 20px sans"}}
        pixels, texts = play({"graphic": [text]})
        (drawn,) = texts
        ink = np.argwhere(pixels[..., 0] < 128)
        assert drawn.text == "Hello"
        assert abs(ink[:, 0].min() - drawn.top) < 2
        assert abs(ink[:, 0].max() + 1 - drawn.bottom) < 2
        assert abs(ink[:, 1].min() - drawn.left) < 2
        assert abs(ink[:, 1].max() + 1 - drawn.right) < 2

    def test_what_the_recorder_cannot_do_fails_aloud(self, play: Play) -> None:
        with pytest.raises(ValueError, match="ECharts refused an option"):
            play(
                {
                    "graphic": [
                        {
                            "type": "image",
                            "style": {"image": "https://example.org/a.png", "width": 9, "height": 9},
                        }
                    ]
                }
            )


def test_css_colors() -> None:
    from data_engine.render.canvas_player import css_color

    assert (
        css_color("#f00")
        == css_color("#ff0000")
        == css_color("rgb(255,0,0)")
        == css_color("red")
        == 0xFFFF0000
    )
    assert css_color("rgba(0, 0, 255, 0.5)") == 0x800000FF
    assert css_color("transparent") == 0
    with pytest.raises(ValueError, match="unknown color"):
        css_color("reddish")


V8_EXIT = """
from data_engine.kinds import KINDS
from data_engine.run import Plan, make_shard
from pathlib import Path
import sys
plan = Plan("chart", KINDS["chart"].options(engine="echarts", size=200), 2, 1, 2, Path(sys.argv[1]))
make_shard(plan, 0)
"""


@needs_assets
@pytest.mark.slow
def test_the_process_ends_with_v8_in_it(tmp_path: Path) -> None:
    """Left open, V8 hangs at exit now and then; the renderer of a process is closed for it."""
    for _ in range(3):
        result = subprocess.run(
            [sys.executable, "-c", V8_EXIT, str(tmp_path)], capture_output=True, timeout=60
        )
        assert result.returncode == 0
