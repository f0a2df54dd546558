"""Predictions to numbers: scores.json (every sample) and the part of summary.json that is about reading.

Scoring needs no model and no image: only predictions.jsonl and the truths. A sample without a prediction
counts as an empty answer and is named, never dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.metrics.text import (
    TextScore,
    character_accuracy,
    exact_match,
    mean_normalised_edit_distance,
    score_text,
)
from evaluation.predictions import Prediction, Question
from evaluation.questions import Case

MISSING_NAMED = 20  # keys of missing predictions that scores.json lists; the count is always exact


@dataclass(frozen=True)
class SampleScore:
    """One sample in scores.json."""

    dataset: str
    index: int
    key: str
    task: str
    mode: str
    truth: str
    prediction: str
    finish_reason: str
    """As predicted, or "missing"."""
    character_accuracy: float
    edit_distance: int


@dataclass(frozen=True)
class DatasetScore:
    """One dataset, or several together, in scores.json and in the report's table."""

    samples: int
    characters: int
    """Characters of all truths together."""
    character_accuracy: float
    normalised_edit_distance: float
    exact_match: float
    character_accuracy_shuffled: float | None
    """The same with shuffled images; None where the control was impossible (no image, or one sample)."""
    chance: float | None
    """What a perfect reader would get on the shuffled images."""
    control_reused: float | None
    """Share of the control's answers taken from ordinary predictions, since the prompts are equal."""
    truncated: float
    """Share of answers cut off at max_new_tokens."""
    generated_tokens: int
    missing: int
    """Samples without a prediction, counted as empty answers."""
    missing_keys: list[str]


@dataclass(frozen=True)
class _Pair:
    """All that is counted about one case."""

    case: Case
    prediction: Prediction | None
    own: TextScore
    shuffled: TextScore | None
    chance: TextScore | None
    reused: bool


def score_cases(cases: Sequence[Case], answers: Mapping[Question, Prediction]) -> list[_Pair]:
    """Scores every case of one dataset against its truth, as asked and with shuffled images."""
    own_questions = {case.question for case in cases}
    truths = {case.index: case.truth for case in cases}
    pairs = []
    for case in cases:
        prediction = answers.get(case.question)
        shuffled = chance = None
        if case.shuffled is not None and case.shuffled_index is not None:
            answer = answers.get(case.shuffled)
            shuffled = score_text(answer.text if answer else "", case.truth)
            chance = score_text(truths[case.shuffled_index], case.truth)
        pairs.append(
            _Pair(
                case=case,
                prediction=prediction,
                own=score_text(prediction.text if prediction else "", case.truth),
                shuffled=shuffled,
                chance=chance,
                reused=case.shuffled in own_questions,
            )
        )
    return pairs


def summarise(pairs: Sequence[_Pair]) -> DatasetScore:
    """Aggregates the cases of one or several datasets."""
    own = [pair.own for pair in pairs]
    controlled = [pair for pair in pairs if pair.shuffled is not None]
    missing = [pair.case.key for pair in pairs if pair.prediction is None]
    answered = [pair.prediction for pair in pairs if pair.prediction is not None]
    return DatasetScore(
        samples=len(pairs),
        characters=sum(score.reference_characters for score in own),
        character_accuracy=character_accuracy(own),
        normalised_edit_distance=mean_normalised_edit_distance(own),
        exact_match=exact_match(own),
        character_accuracy_shuffled=_accuracy([pair.shuffled for pair in controlled]),
        chance=_accuracy([pair.chance for pair in controlled]),
        control_reused=sum(pair.reused for pair in controlled) / len(controlled) if controlled else None,
        truncated=sum(p.finish_reason == "length" for p in answered) / len(pairs) if pairs else 0.0,
        generated_tokens=sum(p.generated_tokens for p in answered),
        missing=len(missing),
        missing_keys=missing[:MISSING_NAMED],
    )


def _accuracy(scores: Sequence[TextScore | None]) -> float | None:
    return character_accuracy([score for score in scores if score is not None]) if scores else None


def sample_scores(pairs: Sequence[_Pair]) -> list[SampleScore]:
    """What scores.json says about every sample, in dataset order."""
    return [
        SampleScore(
            dataset=pair.case.question.dataset,
            index=pair.case.index,
            key=pair.case.key,
            task=pair.case.task,
            mode=pair.case.question.mode,
            truth=pair.case.truth,
            prediction=pair.prediction.text if pair.prediction else "",
            finish_reason=pair.prediction.finish_reason if pair.prediction else "missing",
            character_accuracy=pair.own.character_accuracy,
            edit_distance=pair.own.edit_distance,
        )
        for pair in pairs
    ]


def score_all(cases: Mapping[str, Sequence[Case]], answers: Mapping[Question, Prediction]) -> dict[str, Any]:
    """scores.json: {"datasets": {name: DatasetScore}, "all": DatasetScore, "samples": [SampleScore]}."""
    pairs = {name: score_cases(members, answers) for name, members in cases.items()}
    together = [pair for members in pairs.values() for pair in members]
    return {
        "schema": 1,
        "datasets": {name: asdict(summarise(members)) for name, members in pairs.items()},
        "all": asdict(summarise(together)),
        "samples": [asdict(score) for score in sample_scores(together)],
    }


def reading_summary(scores: Mapping[str, Any], headline: str) -> dict[str, Any]:
    """The reading part of summary.json; the headline falls back to all datasets together."""
    chosen = headline if headline in scores["datasets"] else "all"
    main = scores["datasets"].get(headline, scores["all"])
    return {
        "headline": chosen,
        "character_accuracy": main["character_accuracy"],
        "character_accuracy_shuffled": main["character_accuracy_shuffled"],
        "chance": main["chance"],
        "exact_match": main["exact_match"],
        "datasets": {
            name: {key: value for key, value in score.items() if key != "missing_keys"}
            for name, score in scores["datasets"].items()
        },
    }
