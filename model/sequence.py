"""One sample as a sequence of tokens: text, placeholders of its images, target.

    [begin] text before <image>, placeholders, text after …, target, [end]

as the released code lays it out (template "plain": no roles, no separators; the prompt is stripped). The
loss falls on the target and the end token only; the released processor is for inference and masks nothing
but images, and the paper does not say what was masked in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .tokenizer import IMAGE, Tokenizer

TEXT = -3
"""Vision code of a text token; other codes are those of `model.layout`."""
IGNORE = -100
"""Label of a position without loss."""


@dataclass(frozen=True)
class TokenSequence:
    """Arrays of one sample, all of length n."""

    input_ids: np.ndarray
    """int32; `image_id` at placeholders"""
    vision_code: np.ndarray
    """int32; TEXT, or the layout code of this placeholder within its image"""
    image_number: np.ndarray
    """int32; which image of the sample a placeholder belongs to, -1 for text"""
    labels: np.ndarray
    """int32; already shifted: labels[i] is the token that position i should predict, IGNORE where none"""

    def __len__(self) -> int:
        return len(self.input_ids)

    def part(self, number: int, length: int) -> TokenSequence:
        """Stretch `number` of `length` tokens of a text; labels stay: its last one is the next stretch's first."""
        stretch = slice(number * length, (number + 1) * length)
        return TokenSequence(
            self.input_ids[stretch],
            self.vision_code[stretch],
            self.image_number[stretch],
            self.labels[stretch],
        )


def build_sequence(
    tokenizer: Tokenizer, prompt: str, layouts: Sequence[np.ndarray], response: str | None = None
) -> TokenSequence:
    """Lay out one sample.

    Args:
        prompt: text with one `<image>` per image; may be empty for text-only samples.
        layouts: per image, its `image_layout`.
        response: the target text; None for generation (no labels, no end token).

    Raises:
        ValueError: the prompt does not hold as many `<image>` as there are images.
    """
    texts = prompt.strip().split(IMAGE)
    if len(texts) - 1 != len(layouts):
        raise ValueError(
            f"the prompt holds {len(texts) - 1} {IMAGE} but the sample has {len(layouts)} images; "
            f"write one {IMAGE} per image."
        )
    ids: list[int] = [tokenizer.bos_id, *tokenizer.encode(texts[0])]
    codes: list[np.ndarray] = [np.full(len(ids), TEXT, np.int32)]
    numbers: list[np.ndarray] = [np.full(len(ids), -1, np.int32)]
    for number, (layout, text) in enumerate(zip(layouts, texts[1:], strict=True)):
        after = tokenizer.encode(text)
        ids += [tokenizer.image_id] * len(layout) + after
        codes += [layout, np.full(len(after), TEXT, np.int32)]
        numbers += [np.full(len(layout), number, np.int32), np.full(len(after), -1, np.int32)]
    prompt_length = len(ids)
    if response is not None:
        ids += [*tokenizer.encode(response), tokenizer.eos_id]
        target = len(ids) - prompt_length
        codes.append(np.full(target, TEXT, np.int32))
        numbers.append(np.full(target, -1, np.int32))
    input_ids = np.array(ids, dtype=np.int32)
    labels = np.full(len(ids), IGNORE, np.int32)
    labels[prompt_length - 1 : -1] = input_ids[prompt_length:]
    return TokenSequence(input_ids, np.concatenate(codes), np.concatenate(numbers), labels)
