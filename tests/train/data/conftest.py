"""A tokenizer trained on the samples of these tests."""

from __future__ import annotations

import pytest
from reading_samples import cards, pages, texts

from model.tokenizer import Tokenizer
from train.tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    directory = tmp_path_factory.mktemp("tokenizer") / "made"
    train_tokenizer({"card": cards(50), "page": pages(50), "text": texts(50)}, directory, 320)
    return Tokenizer.from_directory(directory)
