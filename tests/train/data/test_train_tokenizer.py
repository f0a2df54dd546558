"""The trained tokenizer: the released special tokens, digits one by one, nothing lost, the same every time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading_samples import cards, make_sample, pages, texts

from data_engine.errors import ConfigError
from model.tokenizer import SPECIAL_TOKENS, Tokenizer
from train.tokenizer import train_tokenizer, training_texts

DATASETS = {"card": cards(60), "page": pages(40), "text": texts(60)}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("tokenizers") / "new" / "tokenizer"
    train_tokenizer(DATASETS, target, 300)
    return target


@pytest.fixture(scope="module")
def made(directory: Path) -> Tokenizer:
    return Tokenizer.from_directory(directory)


def test_special_tokens_have_the_first_ids(made: Tokenizer) -> None:
    assert (made.bos_id, made.eos_id, made.pad_id, made.image_id) == (0, 1, 2, 3)
    for number, token in enumerate(SPECIAL_TOKENS):
        if token != "<image>":
            assert made.encode(token) == [number]
    assert 271 < made.vocab_size <= 300


def test_digits_are_single_tokens(made: Tokenizer) -> None:
    assert len(made.encode("0123456789")) == 10
    assert len(made.encode("words 42")) == len(made.encode("words ")) + 2


@settings(deadline=None)
@given(st.text(max_size=60))
def test_every_text_comes_back(made: Tokenizer, text: str) -> None:
    assert made.decode(made.encode(text)) == text


def test_words_of_the_data_are_merged_but_special_tokens_never(made: Tokenizer) -> None:
    assert len(made.encode("plain words plain words")) <= 12
    table = [made.decode([number]) for number in range(len(SPECIAL_TOKENS), made.vocab_size)]
    assert not any("<td" in piece or "td>" in piece or "image>" in piece for piece in table)


def test_special_tokens_are_cut_out_of_the_texts() -> None:
    sample = make_sample("a", "page", [(10, 10)], "<td>1</td>")
    assert list(training_texts({"x": type(DATASETS["card"])("x", [sample])})) == ["\nFree OCR.", "1"]


def test_the_same_texts_give_the_same_bytes(directory: Path, tmp_path: Path) -> None:
    train_tokenizer(dict(reversed(DATASETS.items())), tmp_path / "again", 300)
    names = ["special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(path.name for path in directory.iterdir()) == names
    for name in names:
        assert (directory / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_transformers_reads_it(directory: Path, made: Tokenizer) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(directory)
    text = "plain words 17 <td>字</td>"
    assert theirs(text, add_special_tokens=False)["input_ids"] == made.encode(text)
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (0, 1, 2)


def test_what_is_not_possible_is_refused_and_leaves_nothing(directory: Path, tmp_path: Path) -> None:
    before = (directory / "tokenizer.json").stat().st_mtime_ns
    with pytest.raises(ConfigError, match="exists already"):
        train_tokenizer(DATASETS, directory, 300)
    assert (directory / "tokenizer.json").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="vocab_size=100 is less than 271"):
        train_tokenizer(DATASETS, tmp_path / "small", 100)
    assert not list(tmp_path.iterdir())
