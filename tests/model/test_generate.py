from itertools import pairwise

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel

from model.generate import RepetitionBan, generate
from model.sampling import Sampling, TextStream
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
    together = generate(nano, words, prompts, pictures, mode, max_new_tokens=5)
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
        assert got.finish_reason == "stop" or len(got.token_ids) == 5


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
    free = generate(nano, words, ["w20"], [[]], MODES["nano_tiny"], max_new_tokens=24)[0].token_ids
    ban = RepetitionBan(size=2, window=200)
    banned = generate(nano, words, ["w20"], [[]], MODES["nano_tiny"], 24, ban)[0].token_ids
    pairs = list(pairwise(banned))
    assert len(pairs) == len(set(pairs))
    assert free != banned, "a random model repeats itself, or this test shows nothing"


def test_sampling_follows_the_probabilities_within_top_p():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().expand(20000, -1)
    generator = Sampling(seed=3).generator(torch.device("cpu"))

    def shares(sampling: Sampling) -> list[float]:
        return (sampling.choose(logits, generator).bincount(minlength=4) / 20000).tolist()

    assert shares(Sampling()) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.02)
    assert shares(Sampling(top_p=0.8)) == pytest.approx([0.625, 0.375, 0, 0], abs=0.02)
    assert shares(Sampling(top_p=0.4)) == [1, 0, 0, 0]
    assert shares(Sampling(temperature=0.5))[0] == pytest.approx(0.25 / 0.365, abs=0.02)
    for wrong in ({"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}):
        with pytest.raises(ValueError, match=r"=0\.0 must|=1\.1 must"):
            Sampling(**wrong)


def test_sampled_text_depends_on_the_seed_alone_and_respects_the_ban(nano, words):
    def read(seed: int, temperature: float, ban: RepetitionBan | None = None) -> tuple[int, ...]:
        sampling = Sampling(temperature=temperature, seed=seed)
        answers = generate(nano, words, ["w20"], [[]], MODES["nano_tiny"], 16, ban, sampling=sampling)
        return answers[0].token_ids

    first = read(1, 2.0)
    assert read(1, 2.0) == first
    assert read(2, 2.0) != first
    # So cold that without the ban it would write the same few words again and again.
    pairs = list(pairwise(read(1, 0.02, RepetitionBan(size=2, window=200))))
    assert len(pairs) == len(set(pairs))


def test_streamed_pieces_are_the_text(nano, words):
    pieces: dict[int, list[str]] = {0: [], 1: [], 2: []}
    results = generate(
        nano, words, ["w20", "w21 w22", "w23"], [[], [], []], MODES["nano_tiny"], max_new_tokens=12, batch_size=2,
        on_text=lambda row, text: pieces[row].append(text),
    )  # fmt: skip
    for row, result in enumerate(results):
        assert "".join(pieces[row]) == result.text
    assert len(pieces[0]) > 1


def test_a_character_of_several_tokens_is_streamed_whole(tmp_path):
    backend = FastTokenizer(
        BPE({character: n for n, character in enumerate(sorted(ByteLevel.alphabet()))}, [])
    )
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevelDecoder()
    text = "a 中é€ b"
    ids = backend.encode(text).ids
    assert len(ids) > len(text)
    pieces: list[str] = []
    stream = TextStream(backend, pieces.append)
    for token in ids[:-2]:
        stream.append(token)
    assert pieces == ["a", " ", "中", "é", "€"]
    stream.append(ids[-2])
    stream.append(ids[2])  # the first of the three bytes of a character, and then the end
    stream.end()
    assert "".join(pieces) == "a 中é€ \ufffd"
