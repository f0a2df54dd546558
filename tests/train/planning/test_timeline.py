"""The 1F1B timeline: known cases by hand, bounds that no schedule can beat, and DeepSpeed's own order."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.planning.timeline import (
    BACKWARD,
    FORWARD,
    StageTime,
    in_flight,
    one_forward_one_backward,
    simulate,
)

times = st.floats(0.01, 10)
stages_of = st.lists(st.builds(StageTime, times, times), min_size=1, max_size=6)


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("micro_batches", [1, 2, 3, 4, 16])
def test_equal_stages_take_exactly_the_formula(stages: int, micro_batches: int) -> None:
    timeline = simulate([StageTime(1, 2)] * stages, micro_batches)
    assert timeline.length == (micro_batches + stages - 1) * 3
    assert timeline.bubble == pytest.approx((stages - 1) / (micro_batches + stages - 1))
    assert timeline.balance == 1


def test_two_stages_by_hand() -> None:
    #  stage 0  F0 F1 .. .. .. B0 .. .. .. B1      forward 1, backward 1
    #  stage 1  .. F0 F0 B0 B0 F1 F1 B1 B1 ..      forward 2, backward 2
    timeline = simulate([StageTime(1, 1), StageTime(2, 2)], 2)
    at = {(p.stage, p.kind, p.micro_batch): (p.start, p.end) for p in timeline.passes}
    assert at[0, FORWARD, 1] == (1, 2)
    assert at[1, FORWARD, 0] == (1, 3) and at[1, BACKWARD, 0] == (3, 5)
    assert at[0, BACKWARD, 0] == (5, 6)
    assert at[1, FORWARD, 1] == (5, 7) and at[1, BACKWARD, 1] == (7, 9)
    assert at[0, BACKWARD, 1] == (9, 10) and timeline.length == 10
    assert timeline.busy == pytest.approx(12 / 20)
    assert timeline.balance == pytest.approx(6 / 8) and timeline.bubble == pytest.approx(2 / 10)


def test_a_frozen_first_stage_runs_forward_only_and_one_ahead() -> None:
    #  stage 0  F0 F1 .. .. F2     it begins F2 when stage 1 has taken F1
    #  stage 1  .. F0 B0 B0 F1 B1 B1 F2 B2 B2
    timeline = simulate([StageTime(1, 0), StageTime(1, 2)], 3)
    assert [p.start for p in timeline.passes if p.stage == 0] == [0, 1, 4]
    assert timeline.length == 1 + 3 * 3


def test_a_stage_in_the_middle_without_backward_work_passes_gradients_on() -> None:
    timeline = simulate([StageTime(1, 1), StageTime(1, 0), StageTime(1, 1)], 1)
    assert timeline.length == 5


def test_transfers_keep_the_sender_busy() -> None:
    timeline = simulate([StageTime(1, 1, send_forward=0.5), StageTime(1, 1, send_backward=0.25)], 1)
    assert timeline.length == 1 + 0.5 + 1 + 1 + 0.25 + 1


@settings(max_examples=40, deadline=None)
@given(stages_of, st.integers(1, 12))
def test_never_below_what_no_schedule_can_beat(stages: list[StageTime], micro_batches: int) -> None:
    length = simulate(stages, micro_batches).length
    one = sum(stage.compute for stage in stages)
    assert length >= one * (1 - 1e-9)
    for number, stage in enumerate(stages):
        # Its own work, after the first micro-batch has come to it and before the last has gone back to the start.
        around = sum(other.compute for other in stages[:number])
        assert length >= (around + micro_batches * stage.compute) * (1 - 1e-9)
    assert length <= micro_batches * one * (1 + 1e-9), "one micro-batch after the other is no slower"


@settings(max_examples=40, deadline=None)
@given(stages_of, st.integers(1, 10), st.integers(0, 5), st.floats(0, 3), st.booleans())
def test_more_work_never_makes_a_step_shorter(
    stages: list[StageTime], micro_batches: int, which: int, more: float, forward: bool
) -> None:
    which %= len(stages)
    old = stages[which]
    new = StageTime(old.forward + more * forward, old.backward + more * (not forward))
    slower = [*stages[:which], new, *stages[which + 1 :]]
    before, after = simulate(stages, micro_batches).length, simulate(slower, micro_batches).length
    assert after >= before * (1 - 1e-9)
    assert simulate(stages, micro_batches + 1).length >= before


@settings(max_examples=40, deadline=None)
@given(stages_of, st.integers(1, 10))
def test_passes_of_a_stage_do_not_overlap_and_wait_for_their_input(
    stages: list[StageTime], micro_batches: int
) -> None:
    timeline = simulate(stages, micro_batches)
    at = {(p.stage, p.kind, p.micro_batch): p for p in timeline.passes}
    assert len(at) == 2 * len(stages) * micro_batches
    for number in range(len(stages)):
        mine = sorted((p for p in timeline.passes if p.stage == number), key=lambda p: p.start)
        assert all(left.end <= right.start for left, right in pairwise(mine))
        held = highest = 0
        for item in mine:
            held += 1 if item.kind == FORWARD else -1
            highest = max(highest, held)
        assert highest == in_flight(number, len(stages), micro_batches)
        for micro_batch in range(micro_batches):
            if number:
                before = at[number - 1, FORWARD, micro_batch]
                assert at[number, FORWARD, micro_batch].start >= before.end
                assert at[number - 1, BACKWARD, micro_batch].start >= at[number, BACKWARD, micro_batch].end


def test_what_is_no_timeline_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        StageTime(-1, 0)
    with pytest.raises(ValueError, match="needs stages and micro-batches"):
        simulate([], 1)


@pytest.mark.slow  # DeepSpeed takes seconds to import
@pytest.mark.parametrize(("stages", "micro_batches"), [(4, 16), (4, 2), (2, 3), (8, 5), (1, 3)])
def test_the_order_is_the_engines(stages: int, micro_batches: int) -> None:
    from deepspeed.runtime.pipe.schedule import BackwardPass, ForwardPass, TrainSchedule

    for stage in range(stages):
        order: list[tuple[str, int]] = []
        counts = {FORWARD: 0, BACKWARD: 0}
        for commands in TrainSchedule(micro_batches, stages, stage).steps():
            for command in commands:
                for kind, instruction in ((FORWARD, ForwardPass), (BACKWARD, BackwardPass)):
                    if isinstance(command, instruction):
                        order.append((kind, counts[kind]))
                        counts[kind] += 1
        assert order == one_forward_one_backward(stage, stages, micro_batches)
