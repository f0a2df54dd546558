"""Shares of resolution modes are exact, and every use of a sample has its own mode."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading_samples import NANO_MODES

from data_engine.errors import ConfigError
from model.views import MODES
from train.data.draws import MixtureDraws
from train.data.mixture import Mixture, Phase
from train.data.modes import SLOTS, ModePlan, ModeShares, every_mode, mode_slots

PAPER = ModeShares.of({"tiny": 0.15, "small": 0.25, "base": 0.3, "large": 0.1, "gundam": 0.2})


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**40), st.integers(0, 50), st.text(max_size=5))
def test_every_slot_comes_once_in_a_thousand_uses(seed: int, block: int, name: str) -> None:
    slots = mode_slots(seed, name, np.arange(block * SLOTS, (block + 1) * SLOTS))
    assert np.array_equal(np.sort(slots), np.arange(SLOTS))
    some = np.array([block * SLOTS + 17, block * SLOTS])
    assert mode_slots(seed, name, some).tolist() == slots[[17, 0]].tolist()


def test_shares_of_the_paper_configuration_are_exact() -> None:
    plan = ModePlan({"default": PAPER})
    modes = plan.of(0, "page", mode_slots(1, "pages", np.arange(5 * SLOTS)))
    names = [plan.modes[number].name for number in modes.tolist()]
    assert {name: names.count(name) for name in set(names)} == {
        "tiny": 750, "small": 1250, "base": 1500, "large": 500, "gundam": 1000,
    }  # fmt: skip
    assert len(set(names[:40])) == 5  # mixed, not one after the other


@settings(deadline=None, max_examples=20)
@given(st.dictionaries(st.sampled_from(sorted(MODES)), st.floats(0.01, 1), min_size=1), st.integers(0, 10**6))
def test_any_weights_give_their_shares(weights: dict[str, float], first: int) -> None:
    shares = ModeShares.of(weights)
    assert sum(shares.slots) == SLOTS
    for mode, slots in zip(shares.modes, shares.slots, strict=True):
        assert abs(slots - SLOTS * weights[mode.name] / sum(weights.values())) < 1


def test_a_sample_comes_back_in_other_modes() -> None:
    draws = MixtureDraws(Mixture.of({"a": 1}, window=100), {"a": 50}, seed=1)
    plan = ModePlan({"default": PAPER})
    seen: dict[int, set[int]] = {}
    for window in range(10):
        table = draws.window(window)
        for sample, mode in zip(
            table.sample.tolist(), plan.of(0, "t", table.mode_slot).tolist(), strict=True
        ):
            seen.setdefault(sample, set()).add(mode)
    assert min(map(len, seen.values())) >= 3


def test_a_phase_may_have_modes_of_its_own() -> None:
    mixture = Mixture((Phase(until_sample=40, modes={"default": ModeShares.of("nano_base")}), Phase()), 40)
    draws = MixtureDraws(mixture, {"a": 50}, seed=1)
    plan = ModePlan(NANO_MODES, [phase.modes for phase in mixture.phases])
    for window, task, expected in (
        (0, "card", "nano_base"),
        (0, "page", "nano_base"),
        (1, "page", "nano_gundam"),
    ):
        table = draws.window(window)
        chosen = {plan.modes[number].name for number in plan.of(table.phase, task, table.mode_slot).tolist()}
        assert chosen == {expected}


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ("huge", "no resolution mode is called 'huge'"),
        ({"tiny": 1, "huge": 2}, "no resolution mode is called 'huge'"),
        ({"tiny": -1}, "the weight of mode tiny is -1"),
        ({"tiny": "much"}, "the weight of mode tiny is much; it must be a number"),
        ({"tiny": 0}, "no mode has a positive weight"),
        ({"tiny": 1, "base": 1e-5}, "less than one use in 1000"),
        (["tiny"], "neither a mode nor weights"),
    ],
)
def test_impossible_shares_are_refused(choice: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ModeShares.of(choice)  # type: ignore[arg-type]


def test_some_mode_must_serve_the_other_tasks() -> None:
    with pytest.raises(ConfigError, match="lacks the key default"):
        list(every_mode({"page": PAPER}))
