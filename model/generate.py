"""Reading: batched generation from images and prompts, greedy or by chance.

What is special here: any mode, several images per prompt, rows of different lengths in one batch, and the
windowed n-gram ban of the released inference code (paper's repository, `no_repeat_ngram_size`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from .attention import AttentionLayout, KeyValueCache, packed_layout, rotary_tables
from .deepseek_ocr import DeepseekOCR
from .sampling import Sampling, TextStream
from .sequence import TokenSequence, build_sequence
from .tokenizer import Tokenizer
from .views import ImageViews, ResolutionMode, image_views, make_views


@dataclass(frozen=True)
class Generation:
    """What the model wrote for one prompt."""

    text: str
    token_ids: tuple[int, ...]
    """Generated ids, the end token not included."""
    finish_reason: str
    """`stop`: the model ended; `length`: it was cut at max_new_tokens or the model's length."""
    prompt_tokens: int
    """Tokens of the prompt, placeholders included."""


@dataclass(frozen=True)
class RepetitionBan:
    """Forbid the token that would repeat an n-gram seen within the last `window` tokens."""

    size: int
    """Length n of the n-grams; 0 = no ban."""
    window: int = 90
    allowed: frozenset[int] = frozenset()
    """Ids that may always follow (the released code allows `<td>` and `</td>`)."""

    def banned(self, ids: Sequence[int]) -> set[int]:
        """Tokens that may not follow `ids`."""
        if self.size < 1 or len(ids) < self.size:
            return set()
        last = tuple(ids[len(ids) - self.size + 1 :])
        start = max(0, len(ids) - self.window)
        found = {
            ids[i + self.size - 1]
            for i in range(start, len(ids) - self.size + 1)
            if tuple(ids[i : i + self.size - 1]) == last
        }
        return found - self.allowed


@torch.inference_mode()
def generate(
    model: DeepseekOCR,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    images: Sequence[Sequence[Image.Image]],
    mode: ResolutionMode,
    max_new_tokens: int = 8192,
    repetition_ban: RepetitionBan | None = None,
    batch_size: int = 16,
    sampling: Sampling | None = None,
    on_text: Callable[[int, str], None] | None = None,
) -> list[Generation]:
    """Read images.

    Args:
        prompts: each with one `<image>` per image of its row.
        images: per prompt, RGB images in order.
        max_new_tokens: per prompt; the model's `max_position_embeddings` bounds it as well.
        sampling: None is greedy: the most probable token.
        on_text: called with the number of a prompt and the text that was just added to its answer.

    Raises:
        ValueError: prompts and images do not match, or a prompt alone is longer than the model allows.
    """
    if len(prompts) != len(images):
        raise ValueError(
            f"{len(prompts)} prompts but {len(images)} lists of images; give one list per prompt."
        )
    chance = None
    if sampling is not None:
        generator = sampling.generator(model.lm_head.weight.device)
        chance = partial(sampling.choose, generator=generator)
    was_training = model.training
    model.eval()
    results: list[Generation] = []
    for start in range(0, len(prompts), batch_size):
        views = [
            [image_views(make_views(image, mode)) for image in row]
            for row in images[start : start + batch_size]
        ]
        sequences = [
            build_sequence(tokenizer, prompt, [image.layout() for image in row])
            for prompt, row in zip(prompts[start : start + batch_size], views, strict=True)
        ]
        streams = None
        if on_text is not None:
            streams = [TextStream(tokenizer, partial(on_text, start + row)) for row in range(len(sequences))]
        results += _generate_batch(
            model, tokenizer, sequences, views, max_new_tokens, repetition_ban, chance, streams
        )
    model.train(was_training)
    return results


def _generate_batch(
    model: DeepseekOCR,
    tokenizer: Tokenizer,
    sequences: list[TokenSequence],
    views: list[list[ImageViews]],
    max_new_tokens: int,
    repetition_ban: RepetitionBan | None,
    chance: Callable[[Tensor], Tensor] | None,
    streams: list[TextStream] | None,
) -> list[Generation]:
    config = model.config.language
    device = model.lm_head.weight.device
    lengths = torch.tensor([len(sequence) for sequence in sequences], device=device)
    longest = int(lengths.max())
    room = config.max_position_embeddings - longest
    if room < 1:
        raise ValueError(
            f"a prompt of {longest} tokens leaves no room in the model's {config.max_position_embeddings}; "
            "use a smaller resolution mode."
        )
    # Left padding: every row's last prompt token stands in the last column.
    input_ids = torch.full((len(sequences), longest), tokenizer.pad_id, dtype=torch.int64)
    for row, sequence in enumerate(sequences):
        input_ids[row, longest - len(sequence) :] = torch.from_numpy(sequence.input_ids)
    input_ids = input_ids.to(device)
    column = torch.arange(longest, device=device)
    segments = (column >= (longest - lengths)[:, None]).long()
    positions = (column - (longest - lengths)[:, None]).clamp(min=0)
    steps = min(max_new_tokens, room)
    capacity = longest + steps
    hidden = model.embed(input_ids, views)
    caches = [
        KeyValueCache(len(sequences), capacity, config, hidden.dtype, device)
        for _ in range(config.num_hidden_layers)
    ]
    hidden = model.decode(hidden, packed_layout(segments, positions, config), caches)
    keys_visible = torch.ones(len(sequences), capacity, dtype=torch.bool, device=device)
    keys_visible[:, :longest] = segments.bool()
    written: list[list[int]] = [[] for _ in sequences]
    stopped = [False] * len(sequences)
    for step in range(steps):
        logits = _next_logits(model, hidden[:, -1], sequences, written, repetition_ban)
        chosen = logits.argmax(-1) if chance is None else chance(logits)
        for row, token in enumerate(chosen.tolist()):
            if stopped[row]:
                continue
            if token == tokenizer.eos_id:
                stopped[row] = True
            else:
                written[row].append(token)
                if streams is not None:
                    streams[row].append(token)
        if all(stopped) or step == steps - 1:
            break
        tables = rotary_tables((lengths + step)[:, None], config)
        visible = keys_visible[:, None, None, : longest + step + 1]
        layout = AttentionLayout(*tables, torch.ones_like(chosen)[:, None], visible)
        hidden = model.decode(model.model.embed_tokens(chosen[:, None]), layout, caches)
    for stream in streams or ():
        stream.end()
    return [
        Generation(tokenizer.decode(ids), tuple(ids), "stop" if stop else "length", len(sequence))
        for ids, stop, sequence in zip(written, stopped, sequences, strict=True)
    ]


def _next_logits(
    model: DeepseekOCR,
    hidden: Tensor,
    sequences: list[TokenSequence],
    written: list[list[int]],
    repetition_ban: RepetitionBan | None,
) -> Tensor:
    """Logits of each row's next token, fp32 [B, vocabulary]; what may not follow has minus infinity."""
    logits = model.lm_head(hidden).float()
    # A placeholder is not text; the tokenizer may also be smaller than the vocabulary of the model.
    logits[:, model.config.image_token_id] = float("-inf")
    if repetition_ban is not None:
        for row, ids in enumerate(written):
            banned = repetition_ban.banned([*sequences[row].input_ids.tolist(), *ids])
            logits[row, list(banned)] = float("-inf")
    return logits
