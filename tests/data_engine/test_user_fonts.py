"""Fonts and words of the user: any language in documents, pages and scenes; bad files are refused in one sentence."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

from data_engine.document_options import DocumentOptions, TextPageOptions
from data_engine.errors import ConfigError
from data_engine.fonts import latin_font_file
from data_engine.markup import parse_grounded
from data_engine.random_stream import Draws
from data_engine.render.base import NoSampleError
from data_engine.render.document import DocumentRenderer
from data_engine.render.scene_text import SceneTextRenderer
from data_engine.render.text_page import TextPageRenderer
from data_engine.render.writing import writing
from data_engine.scene_text_options import SceneTextOptions

LATIN = "abcdefgh"
HANGUL = "가나다라마바사아"
WORDS = ["가나", "다라마", "바사아가", "나다", "라바", "마사다"]


def font_of(path: Path, letters: str, shapes: str = "") -> str:
    """A font file that has these letters alone, drawn as DejaVu Sans draws the `shapes`."""
    shapes = shapes or letters
    font = TTFont(latin_font_file("sans", False))
    options = Options()
    options.notdef_outline = True
    subsetter = Subsetter(options)
    subsetter.populate(text=shapes)
    subsetter.subset(font)
    names = font.getBestCmap()
    mapped = {ord(letter): names[ord(shape)] for letter, shape in zip(letters, shapes, strict=True)}
    for table in font["cmap"].tables:
        table.cmap = dict(mapped) if table.isUnicode() else {}
    path.parent.mkdir(exist_ok=True)
    font.save(path)
    return str(path)


@pytest.fixture
def korean(tmp_path: Path) -> str:
    return font_of(tmp_path / "korean" / "font.ttf", HANGUL, LATIN)


@pytest.fixture
def words_file(tmp_path: Path) -> str:
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    return str(tmp_path / "words.txt")


def page(tmp_path: Path, text: str, **options: object) -> np.ndarray:
    (tmp_path / "text.txt").write_text(text)
    count = len(text.split())
    values = {"text": str(tmp_path / "text.txt"), "length": [count, count], "size": 256, "family": "sans"}
    renderer = TextPageRenderer(
        TextPageOptions(**values | {"margin_points": [9.0, 9.0], "font_points": [24.0, 24.0]} | options)
    )
    rendered = renderer.render(Draws(1, "text_page", 0))
    assert rendered.response == text
    assert rendered.pictures[0].pixels is not None
    return rendered.pictures[0].pixels


def same_shapes(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two pages show the same letters; those of a font made here lie half a pixel beside, without hints."""
    one, other = (cv2.GaussianBlur(255.0 - picture, (0, 0), 1.2).ravel() for picture in (first, second))
    return bool(np.corrcoef(one, other)[0, 1] > 0.97)


def test_a_font_of_the_user_writes_what_ours_cannot(tmp_path: Path, korean: str) -> None:
    with pytest.raises(NoSampleError, match=r"characters that the font sans cannot draw: text.txt: '가'"):
        page(tmp_path, "가나다 라마바사아")
    drawn = page(tmp_path, "가나다 라마바사아", fonts=[korean])
    assert same_shapes(drawn, page(tmp_path, "abc defgh"))
    assert not same_shapes(drawn, page(tmp_path, "abc dhgfe"))


def test_what_a_font_lacks_is_looked_for_in_the_next_and_in_ours(tmp_path: Path, korean: str) -> None:
    chinese = font_of(tmp_path / "chinese" / "font.ttf", "漢字書", "xyz")
    expected = page(tmp_path, "abc xyz 123")
    for fonts in ([korean, chinese], [chinese, korean]):
        assert same_shapes(page(tmp_path, "가나다 漢字書 123", fonts=fonts), expected)
    with pytest.raises(NoSampleError, match=r"characters that none of the fonts can draw: text.txt: '漢'"):
        page(tmp_path, "가나다 漢", fonts=[korean])


def test_words_of_the_user_fill_documents_pages_and_scenes(korean: str, words_file: str) -> None:
    given = {"fonts": [korean], "words_file": words_file, "grounding": 1.0, "jpeg_quality": None}
    document = DocumentRenderer(DocumentOptions(**given, figures=0.0, formulas=0.0, size=[420, 560]))
    scene = SceneTextRenderer(SceneTextOptions(**given, size=256))
    told = ""
    for index in range(3):
        rendered = document.render(Draws(1, "document", index))
        assert rendered.details["language"] == "words"
        told += " ".join(block.text for block in parse_grounded(rendered.response))
        told += " ".join(block.label for block in parse_grounded(scene.render(Draws(1, "", index)).response))
    found = re.findall("[가-힣]+", told)
    assert len(found) > 100
    assert set(found) == set(WORDS)
    text_page = TextPageRenderer(
        TextPageOptions(fonts=[korean], words_file=words_file, length=[20, 20], size=300)
    )
    text = text_page.render(Draws(1, "text_page", 0)).response
    assert set(re.findall("[가-힣]+", text)) <= set(WORDS)
    assert len(text.split()) == 20


def test_words_that_no_font_writes_are_left_out(tmp_path: Path, korean: str) -> None:
    (tmp_path / "words.txt").write_text("가나\n漢字\nגן\n" + 50 * "가")
    found = writing({}, {}, [korean], str(tmp_path / "words.txt"))
    assert found.scripts["words"].language.words == ("가나", "גן")  # DejaVu Sans has Hebrew
    (tmp_path / "words.txt").write_text("漢字\n")
    with pytest.raises(
        ConfigError, match=r"options.words_file=.* holds no word of up to 40 characters that a font"
    ):
        writing({}, {}, [korean], str(tmp_path / "words.txt"))


@pytest.mark.parametrize(
    ("words", "separator", "backwards"),
    [
        (["ไทย", "น้ำ"], "", False),
        (["漢", "字"], "", False),
        (["שלום", "גן"], " ", True),
        (["가나"], " ", False),
    ],
)
def test_blanks_and_direction_follow_the_letters(words: list[str], separator: str, backwards: bool) -> None:
    from data_engine.languages import given_script

    script = given_script(tuple(words))
    assert (script.language.separator, script.right_to_left) == (separator, backwards)


def test_a_font_draws_the_languages_whose_letters_it_has(tmp_path: Path, korean: str) -> None:
    whole = str(tmp_path / "whole.ttf")
    Path(whole).write_bytes(latin_font_file("serif", False).read_bytes())
    found = writing(
        {"en": 1.0, "he": 1.0}, {"sans": 1.0, "serif": 1.0, "mono": 0.0, "stix": 0.0}, [korean, whole]
    )
    assert found.families == {"en": {whole: 1.0}, "he": {"sans": 1.0}}


def test_fonts_and_words_are_told_by_their_hashes(tmp_path: Path, korean: str, words_file: str) -> None:
    other = font_of(tmp_path / "other" / "font.ttf", "xyz")
    for renderer in (
        TextPageRenderer(TextPageOptions(fonts=[korean, other], words_file=words_file)),
        DocumentRenderer(DocumentOptions(fonts=[korean, other], words_file=words_file, figures=0.0)),
        SceneTextRenderer(SceneTextOptions(fonts=[korean, other], words_file=words_file)),
    ):
        versions = renderer.versions()
        assert versions["font 0"] != versions["font 1"]
        assert "words.txt" in versions


def test_bad_fonts_are_refused(tmp_path: Path, korean: str) -> None:
    whole = Path(korean).read_bytes()
    sentences = {
        "gone.ttf": (None, "cannot be read: No such file or directory."),
        "empty.ttf": (b"", "is no font that can be read: give TTF or OTF."),
        "text.ttf": (b"no font" * 99, "is no font that can be read: give TTF or OTF."),
        "half.ttf": (whole[: len(whole) // 2], "ends before its end: fetch the font again."),
        "last.ttf": (whole[:-50], "ends before its end: fetch the font again."),
    }
    for name, (data, sentence) in sentences.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        for renderer, options in (
            (TextPageRenderer, TextPageOptions),
            (DocumentRenderer, DocumentOptions),
            (SceneTextRenderer, SceneTextOptions),
        ):
            with pytest.raises(ConfigError) as caught:
                renderer(options(fonts=[str(tmp_path / name)]))
            assert str(caught.value) == f"options.fonts={tmp_path / name} {sentence}"
    with pytest.raises(ConfigError, match=r"options.text and options.words_file cannot be given both"):
        TextPageOptions(text="a.txt", words_file="b.txt")


def test_families_weigh_for_words_of_the_user_too(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("haus\nbaum\n", "utf-8")
    weights = {"sans": 0.0, "serif": 1.0, "mono": 3.0, "stix": 0.0}
    (found,) = writing({"en": 1.0}, weights, [], str(path)).families.values()
    assert found == {"serif": 1.0, "mono": 3.0}
    with pytest.raises(ConfigError, match=r"options.families leaves none"):
        writing({"en": 1.0}, dict.fromkeys(weights, 0.0), [], str(path))
