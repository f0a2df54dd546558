"""Which questions an evaluation asks: every held-out sample once, and once with another sample's image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from data_engine.sample import Sample
from evaluation.control import partners
from evaluation.predictions import Question


class Samples(Protocol):
    """What is evaluated: a dataset of our own, or the pages of a benchmark."""

    fingerprint: str
    """Changes when the content does."""

    def __len__(self) -> int: ...

    def key(self, i: int) -> str:
        """The name of sample `i`, unique in its dataset."""

    def read(self, i: int) -> Sample:
        """Sample `i` with its encoded images."""

    def read_text(self, i: int) -> Sample:
        """Sample `i` without its images, whose sizes are known."""


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark knows about one of its pages."""

    groups: Mapping[str, str] = field(default_factory=dict)
    """Kind of group to group: figures are reported for each group too."""
    truth_tokens: int = 0
    """Tokens of the true text in the model's own tokenizer; 0 where they were not counted."""
    vision_tokens: int = 0
    """Vision tokens of the page in its mode; 0 where they depend on an unknown size."""
    valid_tokens: int = 0
    """Vision tokens that carry image rather than padding; 0 where the size is unknown."""
    page: dict[str, Any] | None = None
    """A page of OmniDocBench's ground truth."""
    fox_compat: bool = False
    """Also report what Fox's own script would."""


@dataclass(frozen=True)
class Case:
    """One held-out sample: its truth, the question about it, and the control's question."""

    index: int
    """Position in its dataset."""
    key: str
    task: str
    truth: str
    question: Question
    """Own prompt, own images."""
    shuffled: Question | None = None
    """Own prompt, images of another sample; None where there is no image or no other sample."""
    shuffled_index: int | None = None
    """Position of the sample that lends its images."""
    benchmark: Benchmark | None = None
    """None for data of our own."""


@dataclass(frozen=True)
class Asked:
    """A question and what it takes to ask it."""

    question: Question
    key: str
    """Sample whose prompt is asked."""
    image_index: int
    """Position of the sample whose images are shown."""


def questions_of(cases: Mapping[str, Sequence[Case]]) -> list[Asked]:
    """All questions of an evaluation, each once: dataset by dataset its own, in order, then the control's."""
    asked: dict[Question, Asked] = {}
    for members in cases.values():
        for case in members:
            asked.setdefault(case.question, Asked(case.question, case.key, case.index))
        for case in members:
            if case.shuffled is not None and case.shuffled_index is not None:
                asked.setdefault(case.shuffled, Asked(case.shuffled, case.key, case.shuffled_index))
    return list(asked.values())


@dataclass(frozen=True)
class Modes:
    """Resolution mode of each task."""

    by_task: Mapping[str, str]
    """Task to mode name."""
    default: str
    """Mode of every other task."""

    def of(self, task: str) -> str:
        """The mode in which samples of a task are seen."""
        return self.by_task.get(task, self.default)


def cases_of(name: str, dataset: Samples, samples: int, modes: Modes, seed: int) -> list[Case]:
    """The first `samples` samples of a dataset (0: all) as cases; reads texts only, no image."""
    count = min(samples, len(dataset)) if samples else len(dataset)
    records = [dataset.read_text(index) for index in range(count)]
    lenders = _lenders([(record.prompt, len(record.image_sizes)) for record in records], seed)
    cases = []
    for index, record in enumerate(records):
        mode = modes.of(record.task)
        other = lenders.get(index)
        cases.append(
            Case(
                index=index,
                key=record.key,
                task=record.task,
                truth=record.response,
                question=Question(name, record.key, record.prompt, mode),
                shuffled=None if other is None else Question(name, records[other].key, record.prompt, mode),
                shuffled_index=other,
            )
        )
    return cases


def _lenders(records: Sequence[tuple[str, int]], seed: int) -> dict[int, int]:
    """Sample to image lender, among samples with equally many images (a prompt names each of its images)."""
    lender: dict[int, int] = {}
    for images in sorted({images for _, images in records if images}):
        members = [index for index, record in enumerate(records) if record[1] == images]
        if len(members) >= 2:
            partner = partners([records[index][0] for index in members], seed)
            lender.update((member, members[other]) for member, other in zip(members, partner, strict=True))
    return lender
