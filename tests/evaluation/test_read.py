from pathlib import Path

import pytest
from PIL import Image

from data_engine.command_line import ConfigError, compose
from data_engine.markup import Block, write_grounded
from evaluation.config import ReadConfig
from evaluation.read import write_boxes


def test_boxes_are_drawn_where_the_text_says(tmp_path: Path) -> None:
    blocks = [Block("title", ((100, 50, 900, 150),), "# T"), Block("text", ((100, 500, 900, 900),), "words")]
    write_boxes(Image.new("RGB", (999, 1998), "white"), write_grounded(blocks), tmp_path / "boxes.png")
    drawn = Image.open(tmp_path / "boxes.png")
    title, text = drawn.getpixel((500, 101)), drawn.getpixel((500, 1001))
    assert len({title, text, (255, 255, 255)}) == 3, "each label has its colour"
    assert drawn.getpixel((101, 1500)) == text and drawn.getpixel((899, 200)) == title
    assert drawn.getpixel((500, 400)) == (255, 255, 255), "between the boxes nothing is drawn"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("no box at all", "wrote no boxes; ask for them"),
        ("<|ref|>text<|/ref|><|det|>[[5, 5, 2000, 9]]<|/det|>", "cannot be drawn"),
        ("<|ref|>text<|/ref|><|det|>__import__('os')<|/det|>", "is not a list of boxes"),
    ],
)
def test_what_cannot_be_drawn_is_told(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        write_boxes(Image.new("RGB", (50, 50)), text, tmp_path / "boxes.png")
    assert not list(tmp_path.iterdir())


def test_impossible_sampling_is_refused() -> None:
    for argument in ("temperature=-1", "top_p=0", "top_p=1.5"):
        with pytest.raises(ConfigError, match=argument.split("=")[0]):
            compose(ReadConfig, ["read=a.png", "checkpoint=b", argument])
