"""Choosing the next token by chance, and handing text out while it is being written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .tokenizer import Tokenizer

UNFINISHED = "\ufffd"
"""What a tokenizer decodes the first bytes of a character to."""


@dataclass(frozen=True)
class Sampling:
    """Random choice among the probable tokens. Raises ValueError for values that choose nothing."""

    temperature: float = 1.0
    """Logits are divided by it; below 1 the probable becomes more probable."""
    top_p: float = 1.0
    """Only the most probable tokens that together have this probability are chosen from."""
    seed: int = 0
    """The same seed gives the same text for the same batch."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(
                f"temperature={self.temperature} must be positive; leave sampling out for greedy reading."
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p} must be above 0 and at most 1.")

    def generator(self, device: torch.device) -> torch.Generator:
        return torch.Generator(device).manual_seed(self.seed)

    def choose(self, logits: Tensor, generator: torch.Generator) -> Tensor:
        """fp32 [B, vocabulary] -> int64 [B]."""
        probabilities, tokens = (logits / self.temperature).softmax(-1).sort(-1, descending=True)
        before = probabilities.cumsum(-1) - probabilities
        # The most probable one always stays: nothing comes before it.
        kept = probabilities.masked_fill(before >= self.top_p, 0.0)
        return tokens.gather(-1, torch.multinomial(kept, 1, generator=generator))[:, 0]


class TextStream:
    """Text of a growing list of tokens, handed on piece by piece; a character is never handed on in halves.

    Args:
        emit: called with each piece; all pieces together are the text of the tokens.
    """

    def __init__(self, tokenizer: Tokenizer, emit: Callable[[str], None]) -> None:
        self._tokenizer = tokenizer
        self._emit = emit
        self._ids: list[int] = []
        # Tokens from `_context` on are decoded again with every new one: some tokenizers join neighbours.
        self._context = 0
        self._handed_on = 0

    def append(self, token: int) -> None:
        """Take one more token."""
        self._ids.append(token)
        self._hand_on(unfinished=False)

    def end(self) -> None:
        """Hand on what is left, even if it is an unfinished character."""
        self._hand_on(unfinished=True)

    def _hand_on(self, unfinished: bool) -> None:
        known = self._tokenizer.decode(self._ids[self._context : self._handed_on])
        text = self._tokenizer.decode(self._ids[self._context :])
        if len(text) <= len(known) or (text.endswith(UNFINISHED) and not unfinished):
            return
        self._emit(text[len(known) :])
        self._context, self._handed_on = self._handed_on, len(self._ids)
