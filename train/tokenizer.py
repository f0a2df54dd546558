"""A small byte-level BPE tokenizer, trained from the data that the nano model will read.

The real vocabulary comes with the released checkpoint; this one has the same special tokens, the same digits (one
token each) and the same interface at any size from 271 on, so everything downstream runs the code it runs there.

What is special here:
- Special tokens that occur in the texts are cut out before training: no merge ever learns a piece of `<td>`.
- Text in, bytes out: all 256 bytes are in the vocabulary, so there is no unknown token in any language.
- The same texts in the same order give the same bytes of tokenizer.json.

    python -m train tokenizer=true data=DIR out=DIR vocab_size=512
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from data_engine.errors import ConfigError
from data_engine.files import atomic_write_json, atomic_write_text
from model.convert import new_directory
from model.tokenizer import BEGIN, END, PAD, SPECIAL_TOKENS
from train.data.reader import SampleReader

SMALLEST = len(SPECIAL_TOKENS) + 256
MAX_LENGTH = 8192  # the released model's longest sequence

_SPECIAL = re.compile("|".join(re.escape(token) for token in SPECIAL_TOKENS))


def train_tokenizer(
    datasets: Mapping[str, SampleReader], out: str | os.PathLike[str], vocab_size: int
) -> FastTokenizer:
    """Train on all prompts and responses and write tokenizer.json, tokenizer_config.json, special_tokens_map.json.

    Args:
        out: the directory to make.
        vocab_size: ids in all, special tokens included; texts with little variety may give fewer.

    Raises:
        ConfigError: `out` exists, or `vocab_size` is less than the special tokens and bytes.
        DamagedSampleError: a sample cannot be read.
    """
    target = Path(os.path.abspath(out))
    if target.exists():
        raise ConfigError(f"out={target} exists already; give a new directory, or remove it first.")
    if vocab_size < SMALLEST:
        raise ConfigError(
            f"vocab_size={vocab_size} is less than {SMALLEST}: {len(SPECIAL_TOKENS)} special tokens and 256 bytes."
        )
    tokenizer = FastTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_texts(datasets), trainer)
    _write(tokenizer, target)
    return tokenizer


def training_texts(datasets: Mapping[str, SampleReader]) -> Iterator[str]:
    """All prompts and responses in a fixed order, without the special tokens in them."""
    for name in sorted(datasets):
        dataset = datasets[name]
        for i in range(len(dataset)):
            sample = dataset.read_text(i)
            for text in (sample.prompt, sample.response):
                yield from filter(None, _SPECIAL.split(text))


def _write(tokenizer: FastTokenizer, target: Path) -> None:
    """The files of a tokenizer directory, whole or not at all."""
    names = {"bos_token": BEGIN, "eos_token": END, "pad_token": PAD}
    config = {
        **names,
        "added_tokens_decoder": {
            str(number): {
                "content": token,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": True,
            }
            for number, token in enumerate(SPECIAL_TOKENS)
        },
        "clean_up_tokenization_spaces": False,
        "model_max_length": MAX_LENGTH,
        "padding_side": "left",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    content = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, indent=2)
    with new_directory(target) as made:
        atomic_write_text(made / "tokenizer.json", content + "\n")
        atomic_write_json(made / "tokenizer_config.json", config)
        atomic_write_json(
            made / "special_tokens_map.json",
            {**names, "additional_special_tokens": list(SPECIAL_TOKENS[3:])},
        )
