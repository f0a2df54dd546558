"""A small held-out directory and a small checkpoint with random weights, both made by the project's own code."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers

import model
from data_engine.prompts import FREE_OCR, PARSE_FIGURE
from data_engine.sample import Sample
from data_engine.shards import write_manifest, write_shard
from model.config import DeepseekOCRConfig
from model.tokenizer import IMAGE, SPECIAL_TOKENS, Tokenizer

MODE = "nano_tiny"
torch.set_num_threads(1)  # the model is tiny: threads that wait for each other cost more than they give


def png(text: str) -> bytes:
    image = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(image).text((8, 40), text, fill="black", font_size=32)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def make_dataset(directory: Path, kind: str, count: int, seed: int) -> Path:
    """A dataset of `count` samples of random digits; kind "figure" gives every third sample another prompt."""
    generator = random.Random(seed)
    samples = []
    for index in range(count):
        text = "".join(generator.choices("0123456789", k=4))
        prompt = PARSE_FIGURE if kind == "figure" and index % 3 == 0 else FREE_OCR
        samples.append(
            Sample(
                f"{kind}-{index:04d}",
                (png(text),),
                ("png",),
                ((128, 128),),
                prompt,
                text,
                kind,
                {"seed": seed},
            )
        )
    directory.mkdir(parents=True)
    record = write_shard(directory, f"{kind}-000000", samples, {"test": True})
    write_manifest(directory, kind=kind, seed=seed, shards=[record], skipped=[], options={}, versions={})
    return directory


@pytest.fixture(scope="session")
def heldout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets: card (6 samples, one prompt) and figure (4 samples, two prompts)."""
    directory = tmp_path_factory.mktemp("heldout")
    make_dataset(directory / "card", "card", 6, seed=1)
    make_dataset(directory / "figure", "figure", 4, seed=2)
    return directory


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nano model with random weights and a byte-level tokenizer, in the released layout."""
    directory = tmp_path_factory.mktemp("checkpoint") / "export"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = FastTokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    torch.manual_seed(0)
    config = DeepseekOCRConfig.preset("nano").with_vocabulary(
        backend.get_vocab_size(), backend.token_to_id(IMAGE)
    )
    model.save(model.DeepseekOCR(config), directory)
    backend.save(str(directory / "tokenizer.json"))
    Tokenizer.from_directory(directory)
    return directory
