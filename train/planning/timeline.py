"""The 1F1B schedule as a timeline, computed from the forward and backward times of every stage.

Stage s of p runs p - s - 1 forward passes, then one forward and one backward pass in turn, then the backward passes
that are left (`deepspeed.runtime.pipe.schedule.TrainSchedule` gives the same order). A pass starts when its stage
is free and its input has come. Of p equal stages and m micro-batches the last pass ends at exactly
(m + p - 1) · (forward + backward).

What is special here:
- First stages without a backward pass (a frozen vision tokenizer) get no gradients and wait for none. Their sends
  block, as the engine's do: micro-batch i + 1 is begun when the next stage has taken micro-batch i.
- A transfer keeps its sender busy: the engine does not overlap messages with computation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FORWARD, BACKWARD = "forward", "backward"


@dataclass(frozen=True)
class StageTime:
    """Times of one stage and one micro-batch, all in the same unit."""

    forward: float
    backward: float
    send_forward: float = 0.0
    """To hand the activations to the next stage."""
    send_backward: float = 0.0
    """To hand the gradients back to the stage before."""

    def __post_init__(self) -> None:
        if min(self.forward, self.backward, self.send_forward, self.send_backward) < 0:
            raise ValueError(f"times of a stage must not be negative: {self}")

    @property
    def compute(self) -> float:
        return self.forward + self.backward


@dataclass(frozen=True)
class Pass:
    """One forward or backward pass on the timeline."""

    stage: int
    micro_batch: int
    kind: str
    start: float
    end: float
    """End of the computation; the message after it is not included."""


@dataclass(frozen=True)
class Timeline:
    """All passes of one optimizer step."""

    stages: tuple[StageTime, ...]
    micro_batches: int
    passes: tuple[Pass, ...]

    @property
    def length(self) -> float:
        """Time from the first pass's start to the last pass's end."""
        return max(item.end for item in self.passes)

    @property
    def busy(self) -> float:
        """Share of all stages' time in which they compute; 1 - busy is lost to bubble and imbalance."""
        if self.length == 0:
            return 1.0
        computed = self.micro_batches * sum(stage.compute for stage in self.stages)
        return computed / (len(self.stages) * self.length)

    @property
    def balance(self) -> float:
        """Mean over stages of time ÷ slowest stage: what would be left if there were no bubble."""
        slowest = max(stage.compute for stage in self.stages)
        return sum(stage.compute for stage in self.stages) / (len(self.stages) * slowest) if slowest else 1.0

    @property
    def bubble(self) -> float:
        """Share of the time in which the slowest stage waits; (p - 1) / (m + p - 1) for equal stages."""
        slowest = max(stage.compute for stage in self.stages)
        return max(0.0, 1 - self.micro_batches * slowest / self.length) if self.length else 0.0


def one_forward_one_backward(stage: int, stages: int, micro_batches: int) -> list[tuple[str, int]]:
    """The order of passes on one stage: (kind, micro-batch)."""
    warm_up = min(stages - stage - 1, micro_batches)
    order = [(FORWARD, number) for number in range(warm_up)]
    for number in range(micro_batches - warm_up):
        order += [(FORWARD, warm_up + number), (BACKWARD, number)]
    order += [(BACKWARD, number) for number in range(micro_batches - warm_up, micro_batches)]
    return order


def in_flight(stage: int, stages: int, micro_batches: int) -> int:
    """Micro-batches whose activations a stage holds at most."""
    return min(stages - stage, micro_batches)


def simulate(stages: Sequence[StageTime], micro_batches: int) -> Timeline:
    """When every pass of one step starts and ends.

    Raises:
        ValueError: no stage or no micro-batch.
    """
    count = len(stages)
    forward_only = 0  # so many stages from the first one on
    while forward_only < count and stages[forward_only].backward == 0:
        forward_only += 1
    if count < 1 or micro_batches < 1:
        raise ValueError(f"a timeline needs stages and micro-batches, not {count} and {micro_batches}")
    orders = [
        [
            item
            for item in one_forward_one_backward(number, count, micro_batches)
            if item[0] == FORWARD or number >= forward_only
        ]
        for number in range(count)
    ]
    done: dict[tuple[int, str, int], Pass] = {}
    arrived: dict[tuple[int, str, int], float] = {}
    free = [0.0] * count
    position = [0] * count
    left = sum(map(len, orders))
    while left:
        for number in range(count):
            while position[number] < len(orders[number]):
                kind, micro_batch = orders[number][position[number]]
                ready = _ready(count, forward_only, done, arrived, number, kind, micro_batch)
                if ready is None:
                    break
                start = max(free[number], ready)
                stage = stages[number]
                duration, send = (
                    (stage.forward, stage.send_forward)
                    if kind == FORWARD
                    else (stage.backward, stage.send_backward)
                )
                end = start + duration
                done[number, kind, micro_batch] = Pass(number, micro_batch, kind, start, end)
                arrived[number, kind, micro_batch] = free[number] = end + send
                position[number] += 1
                left -= 1
    return Timeline(tuple(stages), micro_batches, tuple(done.values()))


def _ready(
    stages: int,
    forward_only: int,
    done: dict[tuple[int, str, int], Pass],
    arrived: dict[tuple[int, str, int], float],
    number: int,
    kind: str,
    micro_batch: int,
) -> float | None:
    """When the input of a pass is there; None while that is not known."""
    last = stages - 1
    if kind == BACKWARD:
        if number == last:
            return arrived[number, FORWARD, micro_batch]
        return arrived.get((number + 1, BACKWARD, micro_batch))
    ready = 0.0
    if number > 0:
        came = arrived.get((number - 1, FORWARD, micro_batch))
        if came is None:
            return None
        ready = came
    if number < min(last, forward_only) and micro_batch > 0:
        taken = done.get((number + 1, FORWARD, micro_batch - 1))
        if taken is None:
            return None
        ready = max(ready, taken.start)
    return ready
