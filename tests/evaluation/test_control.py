from __future__ import annotations

import pytest

from evaluation.control import derangement, partners


@pytest.mark.parametrize("size", [2, 3, 10, 257])
def test_a_derangement_moves_everybody_and_loses_nobody(size: int) -> None:
    for seed in range(5):
        order = derangement(size, seed)
        assert sorted(order) == list(range(size))
        assert all(source != position for position, source in enumerate(order))


def test_the_seed_decides() -> None:
    assert derangement(50, 1) == derangement(50, 1)
    assert derangement(50, 1) != derangement(50, 2)


@pytest.mark.parametrize("size", [0, 1])
def test_too_few_samples_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        derangement(size, 1)
    with pytest.raises(ValueError, match="at least 2"):
        partners(["p"] * size, 1)


def test_partners_share_the_prompt_where_two_have_it() -> None:
    prompts = ["a", "b", "a", "b", "a", "only", "other"]
    partner = partners(prompts, seed=3)
    assert all(partner[index] != index for index in range(len(prompts)))
    assert [prompts[partner[index]] for index in range(5)] == prompts[:5]
    assert (partner[5], partner[6]) == (6, 5)


def test_a_single_lonely_prompt_borrows_an_image() -> None:
    assert partners(["a", "a", "only"], seed=1)[2] == 0
    assert partners(["only", "a", "a"], seed=1)[0] == 1
