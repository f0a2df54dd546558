import numpy as np
import pytest

from model.layout import image_layout
from model.sequence import IGNORE, TEXT, build_sequence
from model.tokenizer import Tokenizer, TokenizerError

from .test_generate import words  # noqa: F401 - a fixture


def test_one_image_prompt_and_target(words):  # noqa: F811
    layout = image_layout(64)
    sequence = build_sequence(words, "<image>w20 ", [layout], "w30")
    assert sequence.input_ids.tolist() == [0, 3, 3, 3, 20, 30, 1]
    assert sequence.vision_code.tolist() == [TEXT, *layout.tolist(), TEXT, TEXT, TEXT]
    assert sequence.image_number.tolist() == [-1, 0, 0, 0, -1, -1, -1]
    assert sequence.labels.tolist() == [IGNORE] * 4 + [30, 1, IGNORE]
    assert sequence.input_ids.dtype == sequence.labels.dtype == np.int32


def test_several_images_and_text_only(words):  # noqa: F811
    layout = image_layout(64)
    two = build_sequence(words, "<image>w20<image>", [layout, layout], "w30")
    assert two.image_number.tolist() == [-1, 0, 0, 0, -1, 1, 1, 1, -1, -1]
    text = build_sequence(words, "", [], "w30")
    assert text.input_ids.tolist() == [0, 30, 1]
    assert text.labels.tolist() == [30, 1, IGNORE]


def test_images_and_placeholders_must_agree(words):  # noqa: F811
    with pytest.raises(ValueError, match="holds 1 <image> but the sample has 0 images"):
        build_sequence(words, "<image>", [], "w30")


def test_an_image_tag_in_a_target_is_text(words):  # noqa: F811
    sequence = build_sequence(words, "", [], "w30<image>w31")
    assert words.image_id not in sequence.input_ids


def test_a_directory_without_a_usable_tokenizer_is_refused(tmp_path):
    with pytest.raises(TokenizerError, match=r"has no tokenizer\.json"):
        Tokenizer.from_directory(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match="not a tokenizer file"):
        Tokenizer.from_directory(tmp_path)
