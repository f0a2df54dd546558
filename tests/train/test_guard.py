"""The guard's decisions: what is a spike, what a resumed run decides, and where something broke first."""

from __future__ import annotations

import json

import pytest

from data_engine.errors import ConfigError
from train.guard import Guard, as_ranges
from train.run_settings import GuardSettings, check_ranges
from train.step_report import NonFiniteError, SpikeError, StageReport, StepReport

LOSSES = [4.0, 4.1, 3.9, 4.0, 40.0, 4.0, 3.8, 50.0, 3.9]


def step(loss: float, norm: float) -> StepReport:
    """Two stages of two replicas; the gradient is the second stage's, and of the loss, micro-batch 2 of replica 1."""
    first = StageReport(0.0, -1, -1, 0.0, (0.0, 0.0))
    last = [StageReport(loss, -1, 2, share * loss, (0.0, norm**2 / 2)) for share in (0.1, 0.4)]
    return StepReport((first, first, *last), 2)


def decisions(guard: Guard, first: int, losses: list[float]) -> list[bool]:
    return [guard.allows(first + number, step(loss, 1.0)) for number, loss in enumerate(losses)]


@pytest.mark.parametrize("cut", range(len(LOSSES)))
def test_a_resumed_guard_decides_as_an_uninterrupted_one(cut: int) -> None:
    settings = GuardSettings(spike_factor=3, window=3, action="skip")
    whole = Guard(settings)
    expected = decisions(whole, 1, LOSSES)
    assert [number + 1 for number, allowed in enumerate(expected) if not allowed] == [5, 8] == whole.skipped
    before, after = Guard(settings), Guard(settings)
    first = decisions(before, 1, LOSSES[:cut])
    after.restore(json.loads(json.dumps(before.state())))
    assert first + decisions(after, 1 + cut, LOSSES[cut:]) == expected
    assert after.state() == whole.state()


def test_a_gradient_that_jumps_is_a_spike_too_and_a_warning_changes_nothing() -> None:
    guard = Guard(GuardSettings(spike_factor=3, window=2, action="warn"))
    assert all(guard.allows(1 + number, step(4.0, norm)) for number, norm in enumerate([1.0, 1.0, 9.0]))
    (notice,) = guard.take_notices()
    assert notice.what == (
        "step 3 is a spike: its gradient norm 9 is above 3 × 1, the median of 2 steps, that of stage 1 alone is 9"
    )
    assert notice.step == 3 and notice.micro_batches == ()
    assert guard.take_notices() == [] and guard.skipped == []


def test_nothing_is_a_spike_before_the_window_is_full_or_without_a_factor() -> None:
    assert all(decisions(Guard(GuardSettings(spike_factor=3, window=100, action="stop")), 1, LOSSES))
    assert all(decisions(Guard(GuardSettings(window=1, action="stop")), 1, LOSSES))


def test_stop_and_endless_skipping_end_the_run_in_a_sentence() -> None:
    guard = Guard(GuardSettings(spike_factor=3, window=3, action="stop"))
    with pytest.raises(
        SpikeError, match=r"^step 5: its loss 40 is above 3 × 4, .*skip_steps=\[\[5,5\]\]\.$"
    ) as e:
        decisions(guard, 1, LOSSES)
    assert e.value.micro_batches == ((1, 2),)
    named = e.value.with_samples("; samples card/1")
    assert "micro-batch 2 of data-parallel rank 1; its gradient norm is 1, that of stage 1 alone 1" in str(
        named
    )
    assert "; samples card/1; nothing was changed" in str(named) and isinstance(named, SpikeError)
    guard = Guard(GuardSettings(spike_factor=3, window=3, action="skip", longest=2))
    with pytest.raises(SpikeError, match="step 5: 2 steps in a row were left out"):
        decisions(guard, 1, [1.0, 1.0, 1.0, 9.0, 9.0])


def test_ranges_of_steps_are_passed_over() -> None:
    guard = Guard(GuardSettings(), [[2, 3], [5, 5]])
    assert [number for number in range(1, 8) if guard.passes_over(number)] == [2, 3, 5] == guard.skipped
    said = [(notice.step, notice.what) for notice in guard.take_notices()]
    assert said == [
        (2, "passing over step 2-3, as skip_steps says"), (5, "passing over step 5, as skip_steps says")
    ]  # fmt: skip
    for wrong in ([5], [3, 2], [0, 1], ["a", "b"], 7):
        with pytest.raises(ConfigError, match=r"skip_steps: .* is no range of steps"):
            check_ranges("skip_steps", [wrong])  # type: ignore[list-item]


def report(**broken: tuple[float, float, int]) -> StepReport:
    """Two stages of two replicas; `rank1=(squared norm, loss, micro-batch)` replaces what is healthy."""
    rows = [(4.0, 0.0, -1), (5.0, 0.0, -1), (9.0, 2.0, -1), (7.0, 4.0, -1)]
    for name, row in broken.items():
        rows[int(name[4:])] = row
    return StepReport(
        tuple(StageReport.of((loss, batch, 0, loss, 1.0, n - 1.0)) for n, loss, batch in rows), 2
    )


def test_a_healthy_step_has_a_loss_and_norms() -> None:
    healthy = report()
    healthy.check_finite(1)
    assert healthy.loss == 3.0
    assert healthy.stage_norms == (3.0, 4.0) and healthy.norm == 5.0
    assert healthy.part_norms == (2.0, 21**0.5), "of four processes"
    assert healthy.largest_micro_batch == (1, 0)


def test_numbers_for_people() -> None:
    assert as_ranges([]) == "" and as_ranges([7]) == "7"
    assert as_ranges([4, 5, 6, 9, 11, 12]) == "4-6, 9, 11-12"


NAN = float("nan")
BROKEN = [
    (
        report(rank3=(NAN, NAN, 2), rank1=(NAN, 0, -1)),
        "stage 1 (micro-batch 2 of data-parallel rank 1)",
        (1, 2),
    ),
    (report(rank3=(7, NAN, 0), rank0=(4, 0, 5)), "stage 0 (micro-batch 5 of data-parallel rank 0)", (0, 5)),
]


@pytest.mark.parametrize(("broken", "place", "micro_batch"), BROKEN, ids=["last stage", "first stage"])
def test_the_first_stage_that_broke_is_named(
    broken: StepReport, place: str, micro_batch: tuple[int, int]
) -> None:
    with pytest.raises(NonFiniteError) as found:
        broken.check_finite(7)
    assert f"step 7: the loss is not finite, first in the output of {place}" in str(found.value)
    assert found.value.micro_batches == (micro_batch,)


def test_a_gradient_alone_that_is_not_finite_names_its_stage() -> None:
    with pytest.raises(
        NonFiniteError, match="a gradient is not; gradients of stage 0 are not finite"
    ) as found:
        report(rank1=(float("inf"), 0, -1)).check_finite(7)
    assert found.value.micro_batches == ()
    assert "; samples card/1;" in str(found.value.with_samples("; samples card/1"))
