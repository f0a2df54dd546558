from itertools import pairwise

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import WordLevel

from model.generate import RepetitionBan, generate
from model.sequence import build_sequence
from model.tokenizer import SPECIAL_TOKENS, Tokenizer
from model.views import MODES, image_views, make_views


@pytest.fixture
def words() -> Tokenizer:
    """One id per word, the special tokens first (so that `<image>` is 3, as in the nano config)."""
    vocabulary = {token: number for number, token in enumerate(SPECIAL_TOKENS)}
    backend = FastTokenizer(
        WordLevel({**vocabulary, "?": 15, **{f"w{n}": n for n in range(16, 512)}}, unk_token="?")
    )
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    return Tokenizer(backend, "test", "test")


def test_batched_reading_with_a_cache_equals_one_forward_pass_per_token(nano, words):
    nano.eval()
    pictures = [
        [Image.new("RGB", (40, 30), (200, 10, 10))],
        [],
        [Image.new("RGB", (300, 200), (0, 90, 0)), Image.effect_noise((64, 64), 80).convert("RGB")],
    ]
    prompts = ["<image>w20", "w30", "<image>w21<image>"]
    mode = MODES["nano_gundam"]
    together = generate(nano, words, prompts, pictures, mode, max_new_tokens=10)
    for prompt, row, got in zip(prompts, pictures, together, strict=True):
        views = [image_views(make_views(image, mode)) for image in row]
        ids = build_sequence(words, prompt, [view.layout() for view in views]).input_ids.tolist()
        assert got.prompt_tokens == len(ids)
        with torch.no_grad():
            for token in got.token_ids:
                logits = nano(torch.tensor([ids]), [views]).logits[0, -1]
                logits[nano.config.image_token_id] = float("-inf")
                assert int(logits.argmax()) == token
                ids.append(token)
        assert got.finish_reason in ("stop", "length")
        assert got.finish_reason == "stop" or len(got.token_ids) == 10


def test_a_prompt_without_room_is_refused(nano, words):
    picture = Image.new("RGB", (8, 8))
    with pytest.raises(ValueError, match="1051 tokens leaves no room in the model's 1024"):
        generate(nano, words, ["<image>" * 50], [[picture] * 50], MODES["nano_base"])
    with pytest.raises(ValueError, match="give one list per prompt"):
        generate(nano, words, ["w20"], [], MODES["nano_tiny"])


def test_repetition_ban_forbids_the_continuation_of_a_seen_ngram():
    ban = RepetitionBan(size=3, window=8)
    assert ban.banned([1, 2, 9, 4, 1, 2]) == {9}
    assert ban.banned([1, 2, 9, 4, 4, 4, 4, 4, 4, 1, 2]) == set(), "outside the window"
    assert RepetitionBan(3, 8, frozenset({9})).banned([1, 2, 9, 4, 1, 2]) == set()
    assert RepetitionBan(0).banned([1, 1, 1, 1]) == set()
    assert ban.banned([1, 2]) == set()


def test_the_ban_takes_effect_in_generation(nano, words):
    nano.eval()
    free = generate(nano, words, ["w20"], [[]], MODES["nano_tiny"], max_new_tokens=60)[0].token_ids
    ban = RepetitionBan(size=2, window=200)
    banned = generate(nano, words, ["w20"], [[]], MODES["nano_tiny"], 60, ban)[0].token_ids
    pairs = list(pairwise(banned))
    assert len(pairs) == len(set(pairs))
    assert free != banned, "a random model repeats itself, or this test shows nothing"
