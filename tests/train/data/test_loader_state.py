"""A checkpoint's data state goes on with the same stream, or says in one sentence why it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from reading_samples import NANO_MODES, MemoryDataset, cards, texts

from data_engine.errors import ConfigError
from model.tokenizer import Tokenizer
from model.views import MODES
from train.data.block_order import SampleOrder
from train.data.loader import PackedLoader
from train.data.loader_settings import LoaderSettings
from train.data.micro_batch import MicroBatchShape
from train.data.mixture import Mixture, Phase
from train.data.modes import ModeShares
from train.tokenizer import train_tokenizer

SHAPE = MicroBatchShape(tokens=300, patches=3000, views=24, vision_tokens=200)
SHARES = {"default": ModeShares.of({"nano_tiny": 3, "nano_base": 1})}


SETTINGS = LoaderSettings(
    modes=NANO_MODES, shape=SHAPE, micro_batches_per_step=2, data_parallel_size=2, prefetch=0
)


def arguments(tokenizer: Tokenizer, **changed: Any) -> dict[str, Any]:
    """Of a loader; `changed` are settings."""
    return {
        "datasets": {"card": cards(60), "text": texts(20)},
        "tokenizer": tokenizer,
        "settings": replace(SETTINGS, **changed),
        "mixture": Mixture.of({"card": 3, "text": 1}, window=40),
        "seed": 4,
    }


def change(**changed: Any) -> Callable[[dict[str, Any]], None]:
    return lambda options: options.update(settings=replace(SETTINGS, **changed))


def change_dataset(options: dict[str, Any]) -> None:
    options["datasets"]["text"] = MemoryDataset("text", texts(20).samples, "0123456789abcdef")


def change_mixture(options: dict[str, Any]) -> None:
    options["mixture"] = Mixture.of({"card": 1, "text": 1}, window=40)


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    r"the seed changed from 4 to 5": lambda options: options.update(seed=5),
    r"the content of dataset text changed .its fingerprint was fingerprint .* and is 0123456789ab": change_dataset,
    r"the mixture changed from .*0.25|the mixture changed from .*3.0.* to .*1.0": change_mixture,
    r"the window of the mixture changed from 40 to 50": lambda options: options.update(
        mixture=Mixture.of({"card": 3, "text": 1}, window=50)
    ),
    r'the micro-batch shape .sequence.\*. changed from {"tokens": 300} to {"tokens": 310}': (
        change(shape=MicroBatchShape(310, 3000, 24, 200))
    ),
    r"the resolution modes .modes.\*. of phase 0 changed from .*nano_gundam.* to {}": change(
        modes={"default": MODES["nano_tiny"]}
    ),
    r"the resolution modes .modes.\*. of phase 0 changed from .*nano_tiny.* to .*0.75": change(modes=SHARES),
    r'the order of samples .* changed from {"block": 0, "kind": "global", .* to {"block": 8, "kind": "block"': (
        lambda options: options.update(order=SampleOrder("block", 8, 2))
    ),
    r"what becomes of too long texts .too_long. changed from drop to split": change(too_long="split"),
    r"the number of packs per step .* changed from 4 to 6; keep the product": change(
        micro_batches_per_step=3
    ),
}


@pytest.mark.parametrize("sentence", CHANGES)
def test_a_changed_stream_is_refused(tokenizer: Tokenizer, sentence: str) -> None:
    state = PackedLoader(**arguments(tokenizer)).state(7)
    changed = arguments(tokenizer)
    CHANGES[sentence](changed)
    with pytest.raises(ConfigError, match=f"cannot resume at step 7: {sentence}"):
        PackedLoader(**changed).check_state(state)


def test_modes_of_later_phases_may_change(tokenizer: Tokenizer) -> None:
    before = PackedLoader(**arguments(tokenizer))
    state = before.state(3)
    start = (state["window"] + 1) * 40
    weights = {"card": 3, "text": 1}

    def later(sample: int) -> dict[str, Any]:
        phases = (Phase(weights, sample), Phase(weights, modes=SHARES))
        return arguments(tokenizer) | {"mixture": Mixture(phases, window=40)}

    after = PackedLoader(**later(start))
    after.check_state(state)
    assert after.plan.identities(2)[-1] == before.plan.identities(2)[-1]
    window = state["window"]
    assert np.array_equal(after.stream.plan(window).costs.mode, before.stream.plan(window).costs.mode)
    assert len(np.unique(after.stream.plan(window + 1).costs.mode)) == 2
    with pytest.raises(ConfigError, match="cannot resume at step 3: the mixture changed"):
        PackedLoader(**later(start - 40)).check_state(state)


def test_a_changed_tokenizer_is_refused(tokenizer: Tokenizer, tmp_path: Any) -> None:
    train_tokenizer({"card": cards(50)}, tmp_path / "other", 280)
    state = PackedLoader(**arguments(tokenizer)).state(7)
    changed = arguments(Tokenizer.from_directory(tmp_path / "other"))
    with pytest.raises(ConfigError, match=r"the tokenizer changed from .* to .*; give the one"):
        PackedLoader(**changed).check_state(state)


def test_the_state_is_small_json_and_the_same_on_every_rank(tokenizer: Tokenizer) -> None:
    states = [PackedLoader(**arguments(tokenizer, data_parallel_rank=rank)).state(5) for rank in range(2)]
    assert states[0] == states[1] == json.loads(json.dumps(states[0]))
    assert states[0]["step"] == 5
    assert len(json.dumps(states[0])) < 2000


def test_another_data_parallel_size_goes_on(tokenizer: Tokenizer) -> None:
    before = PackedLoader(**arguments(tokenizer))
    other = {"micro_batches_per_step": 1, "data_parallel_size": 4, "data_parallel_rank": 3}
    after = PackedLoader(**arguments(tokenizer, **other))
    after.check_state(before.state(6))
    assert after.plan.identities(6) == before.plan.identities(6)


def test_weights_of_later_phases_may_change(tokenizer: Tokenizer) -> None:
    before = PackedLoader(**arguments(tokenizer))
    state = before.state(3)
    start = (state["window"] + 1) * 40
    options = arguments(tokenizer)
    options["datasets"]["more"] = cards(30, seed=8, name="more")  # a new dataset, for later
    now, then = Phase({"card": 3, "text": 1}, start), Phase({"more": 1})
    options["mixture"] = Mixture((now, then), window=40)
    after = PackedLoader(**options)
    after.check_state(state)
    assert after.plan.identities(2)[-1] == before.plan.identities(2)[-1]
    step = 3
    while after.plan.summary(step).window <= state["window"]:
        step += 1
    assert all(name.startswith("more/") for pack in after.plan.identities(step) for name in pack)
    options["mixture"] = Mixture((Phase({"card": 3, "text": 1}, start - 40), then), window=40)
    with pytest.raises(ConfigError, match=f"only phases that begin after sample {start} may change"):
        PackedLoader(**options).check_state(state)


@pytest.mark.parametrize("state", [{}, {"step": 3}, {"fingerprint": "x", "step": 1}])
def test_what_is_no_state_is_refused(tokenizer: Tokenizer, state: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="not one of this loader"):
        PackedLoader(**arguments(tokenizer)).check_state(state)


def test_a_state_of_other_rules_is_refused(tokenizer: Tokenizer) -> None:
    reader = PackedLoader(**arguments(tokenizer))
    state = reader.state(2)
    state["identity"]["schema"] = 0
    with pytest.raises(ConfigError, match="schema 0"):
        reader.check_state(state)
