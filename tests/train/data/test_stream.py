"""The stream of packs: one stream, from wherever it is entered."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading_samples import NANO_MODES

from data_engine.errors import ConfigError
from train.data.costs import Costs
from train.data.draws import DrawTable, MixtureDraws, OnePassDraws
from train.data.mixture import Mixture
from train.data.modes import ModePlan
from train.data.order import derive_key
from train.data.stream import PackStream

CAPACITY = (100, 64, 8, 32)
SIZES = {"a": 70, "b": 33}


class MadeUpCosts:
    """Costs as a function of the sample; a tenth of `b` fits no pack."""

    modes = ModePlan(NANO_MODES)

    def of(self, draws: DrawTable) -> Costs:
        rows = []
        for source, sample in zip(draws.source.tolist(), draws.sample.tolist(), strict=True):
            value = derive_key(source, sample)
            tokens = 200 if source == 1 and sample % 10 == 0 else 3 + value % 60
            rows.append((tokens, value % 17, value % 3, value % 5))
        budgets = np.array(rows, dtype=np.int64)
        return Costs(
            budgets, budgets[:, 0] // 2, budgets[:, 2], budgets[:, 1], np.zeros(len(rows), dtype=np.int64)
        )


def make_stream(seed: int = 1, ahead: bool = False) -> PackStream:
    draws = MixtureDraws(Mixture.of({"a": 2, "b": 1}, window=50), SIZES, seed)
    return PackStream(draws, MadeUpCosts(), CAPACITY, seed, ahead)


def members(stream: PackStream, number: int) -> list[tuple[int, int]]:
    pack = stream.pack(number)
    assert pack is not None
    return list(zip(pack.source.tolist(), pack.sample.tolist(), strict=True))


@settings(deadline=None, max_examples=10)
@given(st.lists(st.integers(0, 100), min_size=1, max_size=4), st.booleans())
def test_packs_do_not_depend_on_how_they_are_reached(numbers: list[int], ahead: bool) -> None:
    walked = make_stream(ahead=ahead)
    for number in numbers:
        fresh = make_stream()
        anchored = make_stream()
        window, first_pack = fresh.anchor(number)
        anchored.set_anchor(window, first_pack)
        assert members(walked, number) == members(fresh, number) == members(anchored, number)
        # From an anchor, what lies before it is still there, by walking from the beginning.
        assert members(anchored, 0) == members(walked, 0)


def test_every_epoch_is_whole_but_for_the_dropped() -> None:
    stream = make_stream()
    seen: Counter[tuple[int, int]] = Counter()
    number = 0
    while (place := stream.locate(number)) is not None and place[
        0
    ] < 70:  # 70 windows: 33 epochs of a, 35 of b
        pack = stream.pack(number)
        assert pack is not None and (pack.budgets <= CAPACITY).all()
        seen.update(zip(pack.source.tolist(), pack.sample.tolist(), strict=True))
        number += 1
    uses = stream.draws.epochs(70)
    for (source, sample), count in seen.items():
        assert int(uses["ab"[source]]) <= count <= int(uses["ab"[source]]) + 1
        assert not (source == 1 and sample % 10 == 0)
    assert len(seen) == 70 + 33 - 4


def test_seeds_give_other_streams() -> None:
    assert members(make_stream(1), 0) != members(make_stream(2), 0)


def test_a_finite_order_ends() -> None:
    stream = PackStream(OnePassDraws(SIZES, 40), MadeUpCosts(), CAPACITY, None)
    count = stream.count()
    assert stream.pack(count) is None and stream.pack(count + 5) is None
    seen = Counter(member for number in range(count) for member in members(stream, number))
    assert set(seen.values()) == {1}
    assert len(seen) == 70 + 33 - 4


def test_a_micro_batch_that_holds_no_sample_is_refused() -> None:
    draws = MixtureDraws(Mixture.of({"a": 1}, window=10), SIZES, 1)
    stream = PackStream(draws, MadeUpCosts(), (2, 64, 8, 32), 1)
    with pytest.raises(ConfigError, match="none of the 10 samples of window 0 fits"):
        stream.pack(0)
    with pytest.raises(ConfigError, match="none of the 10 samples"):  # not remembered as something else
        stream.pack(0)
