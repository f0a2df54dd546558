"""The one tokenizer interface: the `tokenizer.json` of a checkpoint directory.

The special tokens are those of the released model (facts of its tokenizer_config.json). Their ids differ
between vocabularies, so everything asks by name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as FastTokenizer

BEGIN = "<｜begin▁of▁sentence｜>"
END = "<｜end▁of▁sentence｜>"
PAD = "<｜▁pad▁｜>"
IMAGE = "<image>"
SPECIAL_TOKENS = (
    BEGIN, END, PAD, IMAGE, "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>",
    "<td>", "</td>", "<tr>", "</tr>", "<|User|>", "<|Assistant|>",
)  # fmt: skip


class TokenizerError(ValueError):
    """A directory without a usable tokenizer."""


class Tokenizer:
    """Text to ids and back.

    Special tokens written in a text (`<td>`, `<|ref|>`) become their own ids, except `<image>`: that one
    stands for placeholders only, so in a text it is spelled out (see `encode`).
    """

    def __init__(self, backend: FastTokenizer, fingerprint: str, origin: str) -> None:
        # A tokenizer.json may ask for either; a sequence is packed as long as it is, and a batch is no unit here.
        backend.no_padding()
        backend.no_truncation()
        self._backend = backend
        self.fingerprint = fingerprint
        """sha256 of tokenizer.json."""
        self.bos_id = _special_id(backend, BEGIN, origin)
        self.eos_id = _special_id(backend, END, origin)
        self.pad_id = _special_id(backend, PAD, origin)
        self.image_id = _special_id(backend, IMAGE, origin)
        self.vocab_size = backend.get_vocab_size(with_added_tokens=True)
        first, rest = IMAGE[:1], IMAGE[1:]
        self._spelled_image = self._encode(first) + self._encode(rest)

    @classmethod
    def from_directory(cls, directory: str | os.PathLike) -> Tokenizer:
        """Read `tokenizer.json`.

        Raises:
            TokenizerError: it is missing, unreadable, or lacks the special tokens.
        """
        path = Path(directory) / "tokenizer.json"
        if not path.is_file():
            raise TokenizerError(
                f"'{directory}' has no tokenizer.json; give the directory of a tokenizer or checkpoint."
            )
        content = path.read_bytes()
        try:
            backend = FastTokenizer.from_str(content.decode("utf-8"))
        except Exception as error:  # the library raises bare Exception
            raise TokenizerError(f"'{path}' is not a tokenizer file: {error}.") from error
        return cls(backend, hashlib.sha256(content).hexdigest(), f"'{path}'")

    def _encode(self, text: str) -> list[int]:
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode(self, text: str) -> list[int]:
        """Ids of a text, nothing added. The result never holds `image_id`."""
        if IMAGE not in text:
            return self._encode(text)
        pieces = text.split(IMAGE)
        ids = self._encode(pieces[0])
        for piece in pieces[1:]:
            ids += self._spelled_image + self._encode(piece)
        return ids

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """How many ids `encode` gives for each text; several times as fast as asking one by one."""
        plain = ["" if IMAGE in text else text for text in texts]
        encodings = self._backend.encode_batch_fast(plain, add_special_tokens=False)
        return [
            len(self.encode(text)) if IMAGE in text else len(encoding)
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def decode(self, ids: list[int], skip_special: bool = False) -> str:
        """Text of ids. Special tokens are kept by default: tables and boxes are made of them."""
        return self._backend.decode(ids, skip_special_tokens=skip_special)


def _special_id(backend: FastTokenizer, token: str, origin: str) -> int:
    number = backend.token_to_id(token)
    if number is None:
        raise TokenizerError(f"{origin} has no token {token}; it is not a DeepSeek-OCR tokenizer.")
    return number
