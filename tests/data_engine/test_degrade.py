"""Degradation: what it may not touch, what it throws away, and that it follows from the sample alone."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_engine.dataset import Dataset
from data_engine.degrade_options import DEGRADATIONS, DegradeOptions
from data_engine.kinds import KINDS, make_renderer
from data_engine.markup import parse_grounded
from data_engine.random_stream import Draws, Stream
from data_engine.render.base import NoSampleError, Picture, Rendered, Renderer
from data_engine.render.degrade import ILLEGIBLE, DegradingRenderer, degrade
from data_engine.render.degrade_legibility import LEAST_CORRELATION, legibility, quad_legibility
from data_engine.render.jpeg import encode_jpeg
from data_engine.render.png import encode
from tests.data_engine.conftest import Command, make
from tests.data_engine.pdfs import column, text_at, write_pdf


def written_page() -> np.ndarray:
    """[360, 480] gray with lines of dark text."""
    page = np.full((360, 480), 245, np.uint8)
    for row in range(30, 350, 26):
        cv2.putText(
            page, f"line {row} of a page to be read 123", (12, row), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 20, 1, 16
        )
    return page


PAGE = written_page()


class OnePage(Renderer):
    """Always the same page, with a response of one's choice."""

    def __init__(self, response: str = "text", color: bool = False, encoded_only: bool = False) -> None:
        picture = encode(cv2.merge([PAGE] * 3) if color else PAGE)
        if encoded_only:
            picture = Picture(picture.data, picture.format, picture.width, picture.height)
        self.rendered = Rendered((picture,), "<image>\nFree OCR.", response, "one page")

    def render(self, draws: Draws) -> Rendered:
        return self.rendered


def applied_to(renderer: Renderer, samples: int = 30, **options: object) -> list[dict[str, float]]:
    stage = DegradingRenderer(renderer, DegradeOptions(**{"probability": 1.0, "count": [1, 4], **options}))
    found = []
    for index in range(samples):
        try:
            found += stage.render(Draws(1, "page", index)).details["degradation"]
        except NoSampleError as error:
            assert error.reason == "illegible after degradation"
    return found


@pytest.mark.parametrize("kind", DEGRADATIONS)
@pytest.mark.parametrize("color", [False, True])
def test_each_degradation_changes_the_picture_and_keeps_its_size(kind: str, color: bool) -> None:
    pixels = cv2.merge([PAGE] * 3) if color else PAGE
    options = DegradeOptions(probability=1.0, kinds=[kind], count=[1, 1], strength=0.6)
    degraded = degrade(pixels, Stream("x"), options, rigid=False)
    assert degraded.pixels.shape == pixels.shape
    assert degraded.pixels.dtype == np.uint8
    if color and kind == "binarisation":
        assert degraded.applied == {}
        return
    assert list(degraded.applied) == [kind]
    stored = cv2.imdecode(np.frombuffer(encode_jpeg(degraded.pixels, degraded.quality).data, np.uint8), 0)
    assert 0.5 < np.abs(stored.astype(int) - PAGE).mean() < 100
    again = degrade(pixels, Stream("x"), options, rigid=False)
    assert (again.pixels == degraded.pixels).all()


def test_nothing_moves_where_the_label_tells_places() -> None:
    assert any("perspective" in applied for applied in applied_to(OnePage()))
    grounded = OnePage("<|ref|>text<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>\nwords")
    assert not any("perspective" in applied for applied in applied_to(grounded))
    geometry = make_renderer("geometry", KINDS["geometry"].options(size=200))
    assert geometry.render(Draws(1, "geometry", 0)).tells_places


def test_colours_are_kept() -> None:
    assert any("binarisation" in applied for applied in applied_to(OnePage()))
    assert not any("binarisation" in applied for applied in applied_to(OnePage(color=True)))


def test_the_whole_page_stays_in_the_picture_under_perspective() -> None:
    framed = PAGE.copy()
    framed[:8], framed[-8:], framed[:, :8], framed[:, -8:] = 0, 0, 0, 0
    options = DegradeOptions(probability=1.0, kinds=["perspective"], count=[1, 1], strength=1.0)
    for number in range(10):
        pixels = degrade(framed, Stream(f"{number}"), options, rigid=False).pixels
        middle = pixels.shape[0] // 2, pixels.shape[1] // 2
        for line in (pixels[middle[0]], pixels[:, middle[1]]):  # the dark frame is met from all four sides
            assert line[: len(line) // 8].min() < 60
            assert line[-len(line) // 8 :].min() < 60


def test_where_nothing_is_possible_the_sample_stays_as_it_is() -> None:
    page = OnePage(color=True)
    options = DegradeOptions(probability=1.0, kinds=["binarisation"])
    assert DegradingRenderer(page, options).render(Draws(1, "page", 0)) is page.rendered
    grounded = OnePage("<|ref|>text<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>\nwords")
    still = DegradeOptions(probability=1.0, kinds=["perspective"])
    assert DegradingRenderer(grounded, still).render(Draws(1, "page", 0)) is grounded.rendered


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["kind=scene_text", "degrade.kinds=[binarisation]"], "leaves nothing to do for kind=scene_text"),
        (["kind=chart", "degrade.kinds=[binarisation]"], "leaves nothing to do for kind=chart"),
        (["kind=geometry", "degrade.kinds=[perspective]"], "leaves nothing to do for kind=geometry"),
        (["kind=chemistry", "options.color=1.0", "degrade.kinds=[binarisation]"], "all of them are in colour"),
        (["import=pages.jsonl"], "degrade.probability is for the pictures that kind=KIND draws"),
        (["kind=card", "degrade.strength={noise: 2}"], "degrade.strength.noise=2 is not possible"),
        (["kind=card", "degrade.strength={nose: 1}"], "degrade.strength=nose is not possible; did you mean 'noise'?"),
        (["kind=card", "degrade.strength=much"], "degrade.strength=much is not possible: give a number from 0 to 1"),
        (["kind=card", "degrade.kinds={noise: -1}"], "degrade.kinds.noise=-1 is not possible"),
        (["kind=card", "degrade.kinds=[]"], "degrade.kinds needs at least one of paper"),
    ],
)  # fmt: skip
def test_what_could_do_nothing_is_refused(
    data_engine: Command, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    ended = data_engine(*arguments, "degrade.probability=1.0", f"out={tmp_path / 'out'}")
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["kind=card", "degrade.strength=0.9"], "degrade.strength does nothing while degrade.probability is 0: give"),
        (["kind=card", "degrade.kinds=[jpeg]"], "degrade.kinds does nothing while degrade.probability is 0: give"),
        (["kind=card", "degrade.count=[1,1]", "degrade.probability=0"], "degrade.count does nothing while"),
        (["import=pages.jsonl", "degrade.strength=0.9"], "degrade.strength is for the pictures that kind=KIND draws"),
    ],
)  # fmt: skip
def test_what_is_said_of_degradation_without_any_is_refused(
    data_engine: Command, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    ended = data_engine(*arguments, f"out={tmp_path / 'out'}")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert sentence in ended.stderr
    assert not (tmp_path / "out").exists()


def test_degradations_have_weights_and_strengths_of_their_own() -> None:
    few = applied_to(OnePage(), 60, kinds={"noise": 20.0, "blur": 0}, count=[1, 1], strength={"noise": 0.1})
    names = [name for applied in few for name in applied]
    assert names.count("noise") > 0.6 * len(names)
    assert "blur" not in names
    assert all(applied["noise"] <= 0.1 for applied in few if "noise" in applied)
    assert max(amount for applied in few for name, amount in applied.items() if name == "paper") > 0.1
    usual = DegradeOptions(strength={"jpeg": 0.9}).strengths()
    assert usual == dict.fromkeys(DEGRADATIONS, 0.5) | {"jpeg": 0.9}


def boxes_follow(clean: Rendered, apart: int) -> None:
    """Every box, told again after a motion, is that of its moved ink, to so many pixels."""
    picture = clean.pictures[0]
    assert picture.pixels is not None
    assert clean.told_again is not None
    height, width = picture.pixels.shape[:2]
    shape = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    bent = np.array([[9, 4], [width - 30, 21], [width - 6, height - 3], [25, height - 18]], np.float32)
    motion = cv2.getPerspectiveTransform(shape, bent)
    response, details = clean.told_again(motion)
    assert details == clean.details
    before, after = parse_grounded(clean.response), parse_grounded(response)
    assert [(block.label, block.text) for block in before] == [(block.label, block.text) for block in after]
    assert len(before) > 0
    for old, new in zip(before, after, strict=True):
        filled = np.zeros((height, width), np.uint8)
        left, top, right, bottom = (
            round(value / 999 * side) for value, side in zip(old.boxes[0], (width, height) * 2, strict=True)
        )
        filled[top:bottom, left:right] = 255
        x, y, wide, high = cv2.boundingRect(cv2.warpPerspective(filled, motion, (width, height)))
        told = [value / 999 * side for value, side in zip(new.boxes[0], (width, height) * 2, strict=True)]
        assert np.abs(np.subtract(told, (x, y, x + wide, y + high))).max() < apart


def test_boxes_of_documents_follow_a_perspective() -> None:
    options = KINDS["document"].options(size=512, grounding=1.0, languages=["en"], figures=0.0)
    renderer = make_renderer("document", options)
    stage = DegradingRenderer(
        renderer, DegradeOptions(probability=1.0, kinds=["perspective"], strength=0.6, count=[1, 1])
    )
    for index in range(4):
        clean = renderer.render(Draws(4, "document", index))
        boxes_follow(clean, 4)
        moved = stage.render(Draws(4, "document", index))
        assert list(moved.details["degradation"][0]) == ["perspective"]
        assert moved.response != clean.response


def test_boxes_of_pdf_pages_follow_a_perspective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lines = [f"line {number} of a page with a text layer" for number in range(12)]
    write_pdf(tmp_path / "page.pdf", [text_at(72, 80, "A title", 24) + column(72, 140, lines)])
    renderer = make_renderer("pdf", KINDS["pdf"].options(source=str(tmp_path), grounding=1.0))
    try:
        boxes_follow(renderer.render(Draws(1, "pdf", 0)), 4)
    finally:
        renderer.close()


def test_the_share_of_degraded_pictures_is_the_probability() -> None:
    stage = DegradingRenderer(OnePage(), DegradeOptions(probability=0.3, kinds=["jpeg"]))
    degraded = sum("degradation" in stage.render(Draws(1, "page", index)).details for index in range(200))
    assert 40 < degraded < 80


def test_illegible_pictures_are_told_from_legible_ones() -> None:
    clean = legibility(PAGE, PAGE)
    assert clean[0] > 0.99
    softened = legibility(PAGE, cv2.GaussianBlur(PAGE, (0, 0), 0.7))
    smeared = legibility(PAGE, cv2.GaussianBlur(PAGE, (0, 0), 5))
    assert softened[0] > LEAST_CORRELATION > smeared[0]
    faded = legibility(PAGE, (235 + PAGE / 25).astype(np.uint8))
    assert faded[1] < 9 < clean[1]
    noise = np.random.default_rng(1).normal(0, 150, PAGE.shape)
    assert legibility(PAGE, np.clip(PAGE + noise, 0, 255).astype(np.uint8))[0] < LEAST_CORRELATION
    blank = np.full_like(PAGE, 255)
    assert legibility(blank, blank) == (1.0, 255.0)


def test_little_ink_is_judged_wherever_it_lies() -> None:
    """One word on a large picture, in bands of which only every second one is looked at where there is more."""
    for top in range(8, 480, 24):
        clean = np.full((512, 512), 245, np.uint8)
        cv2.putText(clean, "7315", (200, top + 18), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 20, 1, 16)
        assert legibility(clean, np.full_like(clean, 245))[0] < LEAST_CORRELATION, top
        assert legibility(clean, clean)[0] > 0.99


def test_a_letter_that_lost_a_stroke_is_illegible_beside_lines_that_are_whole() -> None:
    clean = np.full((512, 512), 245, np.uint8)
    cv2.rectangle(clean, (60, 60), (450, 450), 20, 2)
    cv2.line(clean, (60, 60), (450, 450), 20, 2)
    cv2.putText(clean, "E", (460, 50), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 20, 1, 16)
    quad = ((459.0, 35.0), (472.0, 35.0), (472.0, 52.0), (459.0, 52.0))
    speck, arm = clean.copy(), clean.copy()
    speck[35:48, 459:473] = 245
    arm[38:53, 465:473] = 245
    for damaged in (speck, arm):
        assert legibility(clean, damaged)[0] > LEAST_CORRELATION
        assert quad_legibility(clean, damaged, [quad])[0] < LEAST_CORRELATION
    softened = cv2.GaussianBlur(clean, (0, 0), 0.8)
    assert quad_legibility(clean, softened, [quad])[0] > LEAST_CORRELATION


@pytest.mark.parametrize(("index", "count"), [(63, [1, 3]), (38, [2, 4])])
def test_a_figure_whose_letters_vanished_is_thrown_away(index: int, count: list[int]) -> None:
    """Found by eye among figures that were kept for their lines, which are whole; their letters are not."""
    figures = make_renderer("geometry", KINDS["geometry"].options(letters=1.0))
    stage = DegradingRenderer(figures, DegradeOptions(probability=1.0, strength=1.0, count=count))
    with pytest.raises(NoSampleError, match=ILLEGIBLE):
        stage.render(Draws(3, "geometry", index))


def test_what_is_illegible_is_skipped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_engine.render.degrade.legibility", lambda clean, degraded: (0.2, 50.0))
    stage = DegradingRenderer(OnePage(), DegradeOptions(probability=1.0, kinds=["noise"]))
    with pytest.raises(
        NoSampleError, match=r"illegible after degradation: correlation 0.20, contrast 50 \(noise 0"
    ):
        stage.render(Draws(1, "page", 0))


def test_a_picture_that_came_encoded_is_degraded_alike() -> None:
    options = DegradeOptions(probability=1.0)
    plain, encoded = (
        DegradingRenderer(OnePage(encoded_only=only), options).render(Draws(1, "page", 3))
        for only in (False, True)
    )
    assert plain == encoded
    assert plain.pictures[0].format == "jpg"


def test_a_degraded_dataset_is_the_same_in_any_order_and_tells_what_was_done(tmp_path: Path) -> None:
    options = DegradeOptions(probability=0.6, strength=0.4)
    outcome = make("card", tmp_path / "one", degrade=options)
    again = make("card", tmp_path / "two", degrade=options, shard_samples=12)
    one, two = Dataset.open(tmp_path / "one"), Dataset.open(tmp_path / "two")
    assert [one.read(i) for i in range(len(one))] == [two.read(i) for i in range(len(two))]
    assert outcome.manifest["options"]["degrade"]["probability"] == 0.6
    assert len(one) == again.manifest["samples"]
    told = [one.read(i).provenance.get("degradation") for i in range(len(one))]
    assert any(told)
    assert not all(told)
    formats = [one.read(i).image_formats[0] for i in range(len(one))]
    assert formats == ["jpg" if applied else "png" for applied in told]


def test_without_degradation_a_shard_is_what_it_was(tmp_path: Path) -> None:
    make("card", tmp_path / "plain")
    make("card", tmp_path / "never", degrade=DegradeOptions(probability=0.0, strength=1.0))
    for path in sorted((tmp_path / "plain").iterdir()):
        assert path.read_bytes() == (tmp_path / "never" / path.name).read_bytes()


def test_the_order_of_the_degradations_is_that_of_the_world() -> None:
    for applied in applied_to(OnePage(), strength=0.2):
        places = [DEGRADATIONS.index(kind) for kind in applied]
        assert places == sorted(places)
        assert re.fullmatch(r"\w+( \w+)*", " ".join(applied))
