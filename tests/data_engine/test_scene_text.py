"""Scene text: quadrilaterals by pixels, both prompts, contrast, the user's photographs, and degradation that moves."""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data_engine.dataset import Dataset
from data_engine.degrade_options import DegradeOptions
from data_engine.errors import ConfigError
from data_engine.foreign import UnusableError
from data_engine.look.labels import quads_over
from data_engine.look.page import write_look
from data_engine.markup import GRID, grid_box, parse_grounded
from data_engine.random_stream import Draws, Stream
from data_engine.render.base import NoSampleError, Rendered
from data_engine.render.degrade import LEAST_CONTRAST, LEAST_CORRELATION, DegradingRenderer, quad_legibility
from data_engine.render.graphics import color_surface
from data_engine.render.scene_text import Answer, Scene, SceneTextRenderer
from data_engine.render.scene_text_paint import VISIBLE, paint_sign
from data_engine.render.scene_text_planes import Quad, bounds, in_reading_order, meet
from data_engine.render.textures import color_of, luma, texture
from data_engine.scene_text_options import TEXTURES, SceneTextOptions
from data_engine.sources.photographs import Photographs
from tests.data_engine.conftest import make, needs_assets

LATIN = {"languages": ["en", "de", "el"], "jpeg_quality": None}


def renderer_of(**options: object) -> SceneTextRenderer:
    return SceneTextRenderer(SceneTextOptions(**{**LATIN, "size": 320, **options}))


def scene_of(renderer: SceneTextRenderer, index: int) -> tuple[Scene, np.ndarray]:
    """A scene and its bare ground [H, W, 4]."""
    draws = Draws(5, "scene_text", index)
    ground, _ = renderer._ground(draws)
    return renderer.scene(draws, ground, "en"), cv2.cvtColor(ground, cv2.COLOR_RGB2RGBA)


def painted(scene: Scene, bare: np.ndarray, left_out: tuple[int, int] | None = None) -> np.ndarray:
    """The scene painted again, without one line of one sign where that is asked for."""
    height, width = bare.shape[:2]
    pixels, surface = color_surface(width, height)
    np.copyto(pixels, bare)
    for number, placed in enumerate(scene.signs):
        lines = [line for place, line in enumerate(placed.sign.lines) if (number, place) != left_out]
        paint_sign(
            pixels, surface.getCanvas(), replace(placed, sign=replace(placed.sign, lines=tuple(lines)))
        )
    return pixels


def changed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[N, 2] middles (x, y) of the pixels that differ visibly."""
    apart = cv2.absdiff(first, second).max(axis=2)
    return np.argwhere(apart > VISIBLE)[:, ::-1] + 0.5


def depth(quad: Quad, points: np.ndarray) -> np.ndarray:
    """[N] how far points lie inside of a quadrilateral, in pixels; below 0 outside."""
    corners = np.array(quad)
    sides = np.roll(corners, -1, axis=0) - corners
    away = points[:, None] - corners[None]
    return ((sides[:, 0] * away[..., 1] - sides[:, 1] * away[..., 0]) / np.hypot(*sides.T)).min(axis=1)


@pytest.mark.parametrize("shadows", [0.0, 1.0])
@pytest.mark.parametrize("indices", [range(2), pytest.param(range(2, 20), marks=pytest.mark.slow)])
def test_quads_hold_their_ink_and_nobody_elses(shadows: float, indices: range) -> None:
    """A line is left out: what changes lies in its own quadrilateral and in no other. A shadow stays in its sign."""
    renderer = renderer_of(shadows=shadows, outlines=0.4, blur=0.4, signs=[2, 5], lines=[1, 3], size=256)
    outlined = several = 0
    for index in indices:
        scene, bare = scene_of(renderer, index)
        assert (painted(scene, bare) == scene.pixels).all()
        quads = {(n, m): line.quad for n, lines in enumerate(scene.lines) for m, line in enumerate(lines)}
        for key, quad in quads.items():
            ink = changed(painted(scene, bare, key), scene.pixels)
            assert len(ink) > 20
            own = scene.signs[key[0]].quad if shadows else quad
            assert depth(own, ink).min() > 0, (index, key)
            for other, its in quads.items():
                if other[0] != key[0] or (other != key and not shadows):
                    assert depth(its, ink).max() < 0, (index, key, other)
            left, top, right, bottom = bounds(quad)
            assert 0 <= left < right <= 256
            assert 0 <= top < bottom <= 256
        outlined += sum(placed.style.outline is not None for placed in scene.signs)
        several += sum(len(lines) > 1 for lines in scene.lines)
    assert min(outlined, several) > 0


def test_boxes_of_the_label_hold_their_ink_and_nobody_elses() -> None:
    """A line is left out: what changes lies in the box that the response tells of it, and in no other one."""
    renderer = renderer_of(
        shadows=0.0, signs=[3, 5], lines=[1, 3], size=256, rotation=45.0, perspective=1.0, grounding=1.0,
        languages=["en"],
    )  # fmt: skip
    several = 0
    for index in range(6):
        scene, bare = scene_of(renderer, index)
        blocks = parse_grounded(renderer.render(Draws(5, "scene_text", index)).response)
        boxes = [np.array(block.boxes[0]) * 256 / GRID for block in blocks]
        places = [(n, m) for n, lines in enumerate(scene.lines) for m in range(len(lines))]
        assert len(places) == len(boxes)
        for number, place in enumerate(places):
            ink = changed(painted(scene, bare, place), scene.pixels)
            for other, (left, top, right, bottom) in enumerate(boxes):
                x, y = ink.T
                inside = (x > left) & (x < right) & (y > top) & (y < bottom)
                assert inside.all() if other == number else not inside.any(), (index, place, blocks[other])
        several += sum(len(lines) > 1 for lines in scene.lines)
    assert several > 4


def test_boxes_that_a_perspective_lets_meet_are_skipped() -> None:
    quads = [((10.0, 10.0), (90.0, 10.0), (90.0, 20.0), (10.0, 20.0)),
             ((10.0, 24.0), (90.0, 24.0), (90.0, 34.0), (10.0, 34.0))]  # fmt: skip
    slanted = np.array([[1.0, 0.0, 0.0], [0.2, 1.0, 0.0], [0.0, 0.0, 1.0]])
    for grounded in (False, True):
        answer = Answer(["one", "two"], quads, {}, grounded, 100, 100)
        answer.told_again(np.eye(3))
        if grounded:
            with pytest.raises(NoSampleError, match="boxes of two lines overlap"):
                answer.told_again(slanted)
        else:
            assert answer.told_again(slanted)[0] == "one\ntwo"


def test_a_quad_is_no_larger_than_its_ink() -> None:
    renderer = renderer_of(shadows=0.0, size=256)
    for index in range(2):
        scene, bare = scene_of(renderer, index)
        for number, lines in enumerate(scene.lines):
            for place, line in enumerate(lines):
                ink = changed(painted(scene, bare, (number, place)), scene.pixels)
                corners = np.array(line.quad)
                for side in range(4):  # ink comes near to each of the four sides
                    ends = corners[[side, (side + 1) % 4]]
                    along = (ends[1] - ends[0]) / np.hypot(*(ends[1] - ends[0]))
                    away = (ink - ends[0]) @ np.array([-along[1], along[0]])
                    assert away.min() < 3.5


def test_signs_never_overlap_and_lie_inside_of_the_picture() -> None:
    renderer = renderer_of(signs=[6, 9], size=[400, 300], grounding=1.0)
    counts = set()
    for index in range(3):
        scene, _ = scene_of(renderer, index)
        quads = [placed.quad for placed in scene.signs]
        counts.add(len(quads))
        for number, quad in enumerate(quads):
            assert not any(meet(quad, other) for other in quads[:number])
            left, top, right, bottom = bounds(quad)
            assert min(left, top) >= 0
            assert right <= 400
            assert bottom <= 300
    assert max(counts) >= 3


@pytest.mark.parametrize("contrast", [35.0, 90.0])
def test_ink_has_the_contrast_that_is_asked_for(contrast: float) -> None:
    """Measured here by other means: how much lighter or darker a line makes what its strokes cover, everywhere."""
    renderer = renderer_of(
        contrast=contrast, outlines=0.0, blur=0.0, size=256, textures=["stripes", "clouds", "shapes"]
    )
    for index in range(3):
        scene, bare = scene_of(renderer, index)
        for number, lines in enumerate(scene.lines):
            for place, line in enumerate(lines):
                assert line.contrast >= contrast
                without, with_it = (
                    cv2.cvtColor(picture, cv2.COLOR_RGBA2GRAY).astype(float)
                    for picture in (painted(scene, bare, (number, place)), scene.pixels)
                )
                change = with_it - without
                sign = np.sign(change[np.unravel_index(np.abs(change).argmax(), change.shape)])
                strokes = (sign * change)[np.abs(change) > 0.6 * np.abs(change).max()]
                assert np.median(strokes) > 0.9 * contrast
                assert strokes.min() > 0.5 * contrast


@pytest.mark.parametrize("period", [12, 90])
def test_a_ground_too_lively_for_any_ink_gets_a_plate(period: int) -> None:
    """Fine checks leave no level free; on coarse ones a letter here and there would vanish."""
    renderer = renderer_of(plates=0.0, contrast=60.0, outlines=0.0, font_pixels=[26.0, 30.0], words=[2, 2])
    checks = np.indices((320, 320)).sum(axis=0) // (period // 2) % 2 * 255
    ground = cv2.merge([checks.astype(np.uint8)] * 3)
    scene = renderer.scene(Draws(1, "scene_text", 0), ground, "en")
    assert all(placed.style.plate is not None for placed in scene.signs)
    assert min(line.contrast for lines in scene.lines for line in lines) >= 60


def rendered_by(renderer: SceneTextRenderer, index: int) -> Rendered:
    return renderer.render(Draws(3, "scene_text", index))


def test_both_prompts_tell_the_same_lines() -> None:
    plain, boxed = renderer_of(grounding=0.0), renderer_of(grounding=1.0)
    for index in range(3):
        free, grounded = rendered_by(plain, index), rendered_by(boxed, index)
        assert free.prompt == "<image>\nFree OCR."
        assert grounded.prompt == "<image>\n<|grounding|>OCR this image."
        assert free.pictures == grounded.pictures
        assert free.details["quads"] == grounded.details["quads"]
        blocks = parse_grounded(grounded.response)
        assert [block.label for block in blocks] == free.response.split("\n")
        assert {block.text for block in blocks} == {""}
        assert len(grounded.response.split("\n")) == len(blocks)
        for block, quad in zip(blocks, grounded.details["quads"], strict=True):
            assert np.abs(np.subtract(block.boxes[0], grid_box(bounds(quad), 320, 320))).max() <= 1
    mixed = renderer_of(grounding=0.3, size=64, signs=[1, 1], textures=["plain"])
    grounded_samples = sum("grounding" in rendered_by(mixed, index).prompt for index in range(40))
    assert 4 < grounded_samples < 22


@pytest.mark.parametrize("language", ["he", "ar", "ru"])
def test_other_scripts_are_set_whole(language: str) -> None:
    renderer = renderer_of(languages=[language], signs=[1, 2], size=200)
    for index in range(2):
        rendered = rendered_by(renderer, index)
        assert rendered.details["language"] == language
        assert len(
            rendered.response.split("\n" if rendered.prompt.endswith("Free OCR.") else "\n<|ref|>")
        ) == len(rendered.details["quads"])


def test_weights_choose_textures_languages_and_families() -> None:
    renderer = renderer_of(
        textures={"bricks": 3, "wood": 1, "plain": 0, "gradient": 0, "clouds": 0, "stripes": 0, "shapes": 0},
        languages={"en": 0, "zh": 0, "de": 0.2, "el": 1},
        families={"sans": 0, "serif": 0, "stix": 0},
        size=160,
        signs=[1, 1],
    )
    told = []
    for index in range(40):
        with contextlib.suppress(NoSampleError):
            told.append(rendered_by(renderer, index).details)
    grounds, languages = ([details[key] for details in told] for key in ("ground", "language"))
    assert grounds.count("bricks") > grounds.count("wood") > 0
    assert languages.count("el") > languages.count("de") > 0
    assert len(told) == grounds.count("bricks") + grounds.count("wood")
    assert renderer._writing.families == {"de": {"mono": 0.1}, "el": {"mono": 0.1}}
    with pytest.raises(ConfigError, match=r"options.families leaves none for language 'he': it needs sans"):
        renderer_of(languages=["he"], families={"sans": 0})


def test_what_is_on_signs_is_told() -> None:
    bare = {"plates": 0.0, "outlines": 0.0, "shadows": 0.0, "blur": 0.0, "textures": ["plain"], "size": 160}
    assert rendered_by(renderer_of(**bare), 0).details["effects"] == []
    full = dict.fromkeys(("plates", "outlines", "shadows", "blur"), 1.0)
    assert rendered_by(renderer_of(**bare | full), 0).details["effects"] == [
        "blur",
        "outline",
        "plate",
        "shadow",
    ]


@needs_assets
def test_chinese_signs_are_drawn() -> None:
    renderer = SceneTextRenderer(SceneTextOptions(languages=["zh"], grounding=0.0, size=256))
    texts = "".join(rendered_by(renderer, index).response for index in range(4))
    assert sum("\u4e00" <= character <= "\u9fff" for character in texts) > 10


def test_no_place_for_any_sign_is_counted() -> None:
    renderer = renderer_of(size=64, lines=[6, 6], languages=["de"])
    with pytest.raises(
        NoSampleError, match=r"no legible text fits on the picture: sample 0: make options.size"
    ):
        rendered_by(renderer, 0)


def moved_from(quad: list, other: list) -> np.ndarray:
    return cv2.getPerspectiveTransform(np.array(quad, np.float32), np.array(other, np.float32))


def test_boxes_and_quads_follow_a_perspective_of_the_whole_picture() -> None:
    """The motion that the quadrilaterals tell takes the clean picture to the degraded one."""
    renderer = renderer_of(grounding=1.0, signs=[2, 3])
    stage = DegradingRenderer(
        renderer, DegradeOptions(probability=1.0, kinds=["perspective"], strength=1.0, count=[1, 1])
    )
    for index in range(2):
        clean, degraded = rendered_by(renderer, index), stage.render(Draws(3, "scene_text", index))
        before, after = clean.details["quads"], degraded.details["quads"]
        assert np.abs(np.subtract(before, after)).max() > 2
        widest = max(range(len(before)), key=lambda n: np.ptp(np.array(before[n])[:, 0]))
        picture = cv2.cvtColor(clean.pictures[0].pixels, cv2.COLOR_RGBA2GRAY)
        expected = cv2.warpPerspective(picture, moved_from(before[widest], after[widest]), (320, 320))
        data = np.frombuffer(degraded.pictures[0].data, np.uint8)
        found = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
        mask = np.zeros((320, 320), np.uint8)
        cv2.fillConvexPoly(mask, np.round(np.array(after[widest])).astype(np.int32), 1)
        apart = np.abs(expected.astype(int) - found.astype(int))[mask > 0]
        still = np.abs(picture.astype(int) - found.astype(int))[mask > 0]
        assert apart.mean() < 0.4 * still.mean()
        for block, quad in zip(parse_grounded(degraded.response), after, strict=True):
            assert np.abs(np.subtract(block.boxes[0], grid_box(bounds(quad), 320, 320))).max() <= 1


def test_illegible_text_is_thrown_away_whatever_the_ground_looks_like() -> None:
    """A lively ground keeps its contrast under blur: the rule looks at the text alone."""
    rng = np.random.default_rng(1)
    page = np.kron(rng.integers(60, 200, (10, 10), dtype=np.uint8), np.ones((32, 32), np.uint8))
    cv2.rectangle(page, (30, 140), (290, 180), 230, -1)
    cv2.putText(page, "northern market 1234", (36, 166), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 20, 1, 16)
    quad = ((36.0, 148.0), (284.0, 148.0), (284.0, 172.0), (36.0, 172.0))
    for sigma, legible in ((0.7, True), (5.0, False)):
        correlation, contrast = quad_legibility(page, cv2.GaussianBlur(page, (0, 0), sigma), [quad])
        assert (correlation > LEAST_CORRELATION and contrast > LEAST_CONTRAST) == legible
    faded = cv2.addWeighted(page, 0.08, page, 0.0, 120)
    assert quad_legibility(page, faded, [quad])[1] < LEAST_CONTRAST


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Three good pictures and five that cannot be used."""
    directory = tmp_path / "photographs"
    (directory / "more").mkdir(parents=True)
    rng = np.random.default_rng(2)
    for name, size in (("a.jpg", (700, 500)), ("b.png", (90, 130)), ("more/c.webp", (300, 300))):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(directory / name)
    whole = (directory / "a.jpg").read_bytes()
    (directory / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (directory / "text.png").write_text("no picture")
    Image.new("RGB", (40, 300)).save(directory / "thin.png")
    (directory / "empty.jpg").touch()
    (directory / "gone.jpg").symlink_to(directory / "nowhere.jpg")
    return directory


def test_every_photograph_comes_once_and_bad_ones_are_counted(photographs: Path, tmp_path: Path) -> None:
    options = {"photographs": str(photographs), "size": 160, "languages": ["en"]}
    outcome = make("scene_text", tmp_path / "out", samples=16, **options)
    assert outcome.manifest["skipped"] == {
        "image is not a readable PNG, JPEG, WEBP": 4,
        "image ends before its end": 2,
        "photograph that cannot be read": 2,
        "photograph with a side of less than 64 pixels": 2,
    }
    dataset = Dataset.open(tmp_path / "out")
    files = [dataset.read_text(number).provenance["file"] for number in range(len(dataset))]
    assert sorted(files) == ["a.jpg", "a.jpg", "b.png", "b.png", "more/c.webp", "more/c.webp"]
    assert {len(dataset.read_text(n).provenance["file_sha256"]) for n in range(len(dataset))} == {16}


def test_a_file_name_that_is_no_unicode_can_be_told(tmp_path: Path) -> None:
    try:
        Image.new("RGB", (80, 80)).save(tmp_path / os.fsdecode(b"a\xff.png"))
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    assert Photographs(str(tmp_path)).read(0, 64, 64, Stream("crop")).file == "a\\udcff.png"


def test_a_photograph_is_shown_upright(tmp_path: Path) -> None:
    lying = np.zeros((200, 300, 3), np.uint8)
    lying[:, :150] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter: what is left in the file is up in the picture
    Image.fromarray(lying).save(tmp_path / "a.jpg", exif=exif.tobytes())
    pixels = Photographs(str(tmp_path)).read(0, 100, 150, Stream("crop")).pixels
    assert pixels.shape == (150, 100, 3)
    assert pixels[:20].mean() > 200
    assert pixels[-20:].mean() < 55


def pixels_of(directory: Path) -> np.ndarray:
    return Photographs(str(directory)).read(0, 80, 80, Stream("crop")).pixels


def test_a_photograph_of_16_bits_keeps_its_grey_levels(tmp_path: Path) -> None:
    Image.fromarray(np.full((80, 80), 100 * 257, np.uint16)).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "I;16"
    assert set(pixels_of(tmp_path).ravel().tolist()) == {100}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_of_a_photograph_lie_over_white(tmp_path: Path, mode: str) -> None:
    """What is hidden in them is not shown, and a photograph of nothing else is counted."""
    hidden = Image.new("P" if mode == "P" else mode[:-1], (80, 80))
    if mode == "P":
        hidden.putpalette([0, 0, 0, 90, 90, 90])
        hidden.save(tmp_path / "a.png", transparency=bytes([128, 255]))
    else:
        hidden.putalpha(128)
        hidden.save(tmp_path / "a.png")
    assert set(pixels_of(tmp_path).ravel().tolist()) == {127}
    Image.new("RGBA", (80, 80), (9, 9, 9, 0)).save(tmp_path / "a.png")
    with pytest.raises(UnusableError, match="photograph that is transparent all over"):
        pixels_of(tmp_path)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gone", "is no directory: give one with PNG, JPEG or WebP files."),
        ("file.txt", "is no directory"),
        ("empty", "holds no photograph: give a directory with PNG, JPEG or WebP files."),
    ],
)
def test_a_bad_directory_is_refused(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").touch()
    with pytest.raises(ConfigError, match=f"options.photographs=.*{sentence}"):
        renderer_of(photographs=str(tmp_path / name))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"textures": ["brick"]}, "options.textures=brick is not possible; did you mean 'bricks'?"),
        ({"languages": {"en": 0, "zh": 0}}, "options.languages needs at least one of en, zh"),
        ({"families": {"sans": -1}}, "options.families.sans=-1 is not possible"),
        ({"textures": []}, "options.textures needs at least one of plain, gradient"),
        ({"languages": ["xx"]}, "options.languages=xx is not possible"),
        (
            {"signs": [0, 3]},
            "options.signs=[0,3] is not possible: give [MIN,MAX] with 1 <= MIN <= MAX <= 50.",
        ),
        ({"words": [3, 2]}, "options.words=[3,2] is not possible"),
        ({"perspective": 1.5}, "options.perspective=1.5 is not possible: give a number from 0 to 1."),
        ({"contrast": 200.0}, "options.contrast=200.0 is not possible: give a number from 20 to 100."),
        ({"font_pixels": [5.0, 9.0]}, "options.font_pixels=[5.0,9.0] is not possible"),
        ({"jpeg_quality": 101}, "options.jpeg_quality=101 is not possible"),
    ],
)
def test_impossible_options_are_refused(options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SceneTextOptions(**options)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("family", TEXTURES)
def test_a_texture_follows_from_its_stream(family: str) -> None:
    one, again, other = (texture(family, Stream(name), 130, 90) for name in ("a", "a", "b"))
    assert one.shape == (90, 130, 3)
    assert one.dtype == np.uint8
    assert (one == again).all()
    assert (one != other).any()


def test_a_colour_is_as_light_as_asked_for() -> None:
    stream = Stream("colours")
    for light in (0.0, 30.0, 128.0, 255.0):
        for saturation in (0.0, 0.5, 1.0):
            assert abs(luma(color_of(stream, light, saturation)) - light) < 1.5


def square(x: float, y: float, side: float = 10) -> Quad:
    return ((x, y), (x + side, y), (x + side, y + side), (x, y + side))


def test_signs_are_read_in_bands_and_columns() -> None:
    tall = ((0.0, 0.0), (10.0, 0.0), (10.0, 40.0), (0.0, 40.0))
    assert in_reading_order([square(30, 2), square(0, 0), square(0, 20)], False) == [1, 0, 2]
    assert in_reading_order([square(0, 0), square(30, 2)], True) == [1, 0]
    assert in_reading_order([square(20, 26), square(22, 4), tall], False) == [2, 1, 0]
    assert in_reading_order([square(0, 9, 10), square(2, 0, 10)], False) == [1, 0]


def test_quadrilaterals_that_meet_are_told_from_those_that_do_not() -> None:
    diamond = ((20.0, 0.0), (40.0, 20.0), (20.0, 40.0), (0.0, 20.0))
    assert meet(square(0, 0), square(9, 9))
    assert not meet(square(0, 0), square(11, 0))
    assert meet(diamond, square(15, 15))
    assert not meet(diamond, square(0, 0, 9))  # inside of its upright box, beside its edge


def test_look_draws_the_quads_over_the_picture(tmp_path: Path) -> None:
    make("scene_text", tmp_path / "scenes", samples=4, size=128, languages=["en"])
    page = write_look(str(tmp_path / "scenes"), None, None).read_text()
    dataset = Dataset.open(tmp_path / "scenes")
    lines = sum(len(dataset.read_text(number).provenance["quads"]) for number in range(len(dataset)))
    assert page.count("<polygon") == lines > 3
    assert quads_over([[["x", 1]]], 9, 9) == quads_over(7, 9, 9) == ""


def test_a_dataset_is_the_same_however_it_is_cut(tmp_path: Path) -> None:
    options = {"size": 128, "languages": ["en"], "samples": 4, "degrade": DegradeOptions(probability=0.5)}
    make("scene_text", tmp_path / "one", shard_samples=2, **options)
    make("scene_text", tmp_path / "two", shard_samples=4, **options)
    one, two = Dataset.open(tmp_path / "one"), Dataset.open(tmp_path / "two")
    assert [one.read(n) for n in range(len(one))] == [two.read(n) for n in range(len(two))]
    assert all(Image.open(io.BytesIO(one.read(n).images[0])).size == (128, 128) for n in range(len(one)))
