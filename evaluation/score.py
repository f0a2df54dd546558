"""Predictions to numbers: scores.json (every sample) and the part of summary.json that is about reading.

Scoring needs no model and no image: only the predictions and the truths. A sample without a prediction counts as
wrong in everything and is named, never dropped; so is one with several predictions, since nobody can say which
of them counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.figures import DEVICE, aggregate
from evaluation.metrics.bootstrap import RESAMPLES
from evaluation.metrics.text import (
    TextScore,
    character_accuracy,
    exact_match,
    mean_normalised_edit_distance,
)
from evaluation.predictions import CONTEXT, Prediction, Question
from evaluation.questions import Benchmark, Case
from evaluation.score_sample import Job, Scored, score_jobs

NOT_IN_SUMMARY = frozenset(
    {"missing_keys", "duplicate_keys", "malformed_keys", "beyond_context_keys", "groups"}
)
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
    """As predicted ("stop", "length", "context"), or "missing", or "duplicate"."""
    character_accuracy: float
    edit_distance: int
    contributions: dict[str, tuple[float, float]]
    """Figure to (numerator, denominator) of this sample."""


@dataclass(frozen=True)
class Scoring:
    """How predictions are scored."""

    postprocess: str = "raw"
    """Version of post-processing, for predictions and truths."""
    resamples: int = RESAMPLES
    seed: int = 0
    workers: int = 1


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
    duplicates: int
    """Samples with several predictions, counted as wrong."""
    duplicate_keys: list[str]
    malformed_keys: list[str]
    """Samples whose answer is not of the form that its task needs."""
    beyond_context: int
    """Samples whose question alone is as long as the model's context, counted as wrong."""
    beyond_context_keys: list[str]
    devices: list[str]
    """What predicted, where it was recorded."""
    figures: dict[str, dict[str, Any]]
    """Figure to {"value", "low", "high", "samples"}: 95 % bootstrap intervals."""
    groups: dict[str, dict[str, dict[str, dict[str, Any]]]]
    """Kind of group to group to the same figures of its samples."""


@dataclass(frozen=True)
class _Pair:
    """All that is counted about one case."""

    case: Case
    prediction: Prediction | None
    duplicate: bool
    scored: Scored
    reused: bool


def unique_answers(predictions: Sequence[Prediction]) -> tuple[dict[Question, Prediction], set[Question]]:
    """Question to answer, and the questions that were answered several times (these have no answer)."""
    answers: dict[Question, Prediction] = {}
    duplicates: set[Question] = set()
    for prediction in predictions:
        if prediction.question in answers:
            duplicates.add(prediction.question)
        answers[prediction.question] = prediction
    return {question: a for question, a in answers.items() if question not in duplicates}, duplicates


def _jobs(cases: Sequence[Case], answers: Mapping[Question, Prediction]) -> list[Job]:
    """What is compared about every case of one dataset: as asked, and with shuffled images."""
    truths = {case.index: case.truth for case in cases}
    jobs = []
    for case in cases:
        shuffled = chance = None
        if case.shuffled is not None and case.shuffled_index is not None:
            answer = answers.get(case.shuffled)
            shuffled = answer.text if answer else ""
            chance = truths[case.shuffled_index]
        prediction = answers.get(case.question)
        jobs.append(Job(case.task, case.truth, prediction, shuffled, chance, case.benchmark or Benchmark()))
    return jobs


def summarise(pairs: Sequence[_Pair], scoring: Scoring) -> DatasetScore:
    """Aggregates the cases of one or several datasets."""
    own = [pair.scored.own for pair in pairs]
    shuffled = [pair.scored.shuffled for pair in pairs if pair.scored.shuffled is not None]
    chance = [pair.scored.chance for pair in pairs if pair.scored.chance is not None]
    missing = [pair.case.key for pair in pairs if pair.prediction is None and not pair.duplicate]
    duplicate = [pair.case.key for pair in pairs if pair.duplicate]
    told = [pair for pair in pairs if pair.prediction is not None]
    beyond = [p.case.key for p in told if p.prediction is not None and p.prediction.finish_reason == CONTEXT]
    answered = [
        p.prediction for p in told if p.prediction is not None and p.prediction.finish_reason != CONTEXT
    ]
    malformed = [pair.case.key for pair in pairs if pair.scored.contributions.get("malformed", (0.0,))[0] > 0]
    return DatasetScore(
        samples=len(pairs),
        characters=sum(score.reference_characters for score in own),
        character_accuracy=character_accuracy(own),
        normalised_edit_distance=mean_normalised_edit_distance(own),
        exact_match=exact_match(own),
        character_accuracy_shuffled=_accuracy(shuffled),
        chance=_accuracy(chance),
        control_reused=sum(pair.reused for pair in pairs) / len(shuffled) if shuffled else None,
        truncated=sum(p.finish_reason == "length" for p in answered) / max(1, len(answered)),
        generated_tokens=sum(p.generated_tokens for p in answered),
        missing=len(missing),
        missing_keys=missing[:MISSING_NAMED],
        duplicates=len(duplicate),
        duplicate_keys=duplicate[:MISSING_NAMED],
        malformed_keys=malformed[:MISSING_NAMED],
        beyond_context=len(beyond),
        beyond_context_keys=beyond[:MISSING_NAMED],
        devices=sorted({p.device for p in answered if p.device}),
        figures=_figures(pairs, scoring),
        groups=_groups(pairs, scoring),
    )


def _figures(pairs: Sequence[_Pair], scoring: Scoring) -> dict[str, dict[str, Any]]:
    return aggregate([pair.scored.contributions for pair in pairs], scoring.seed, scoring.resamples)


def _groups(pairs: Sequence[_Pair], scoring: Scoring) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """Figures by what a benchmark knows about its pages, and by device where several have predicted."""
    members: dict[str, dict[str, list[_Pair]]] = {}
    for pair in pairs:
        known = {**pair.case.benchmark.groups} if pair.case.benchmark else {}
        if pair.prediction is not None and pair.prediction.device:
            known[DEVICE] = pair.prediction.device
        for kind, group in known.items():
            members.setdefault(kind, {}).setdefault(group, []).append(pair)
    if len(members.get(DEVICE, {})) == 1:
        del members[DEVICE]
    return {
        kind: {group: _figures(found, scoring) for group, found in groups.items()}
        for kind, groups in members.items()
    }


def _accuracy(scores: Sequence[TextScore]) -> float | None:
    return character_accuracy(scores) if scores else None


def sample_scores(pairs: Sequence[_Pair]) -> list[SampleScore]:
    """What scores.json says about every sample, in dataset order."""
    return [
        SampleScore(
            dataset=pair.case.question.dataset,
            index=pair.case.index,
            key=pair.case.key,
            task=pair.case.task,
            mode=pair.case.question.mode,
            truth=pair.scored.truth,
            prediction=pair.scored.text,
            finish_reason=_finish(pair),
            character_accuracy=pair.scored.own.character_accuracy,
            edit_distance=pair.scored.own.edit_distance,
            contributions=pair.scored.contributions,
        )
        for pair in pairs
    ]


def _finish(pair: _Pair) -> str:
    if pair.prediction is not None:
        return pair.prediction.finish_reason
    return "duplicate" if pair.duplicate else "missing"


def score_all(
    cases: Mapping[str, Sequence[Case]],
    answers: Mapping[Question, Prediction],
    duplicates: set[Question] | frozenset[Question] = frozenset(),
    scoring: Scoring | None = None,
) -> dict[str, Any]:
    """scores.json: {"datasets": {name: DatasetScore}, "all": DatasetScore, "samples": [SampleScore]}.

    `duplicates` are the questions that were answered several times; `answers` does not hold them.
    """
    scoring = scoring or Scoring()
    jobs = [job for members in cases.values() for job in _jobs(members, answers)]
    results = iter(score_jobs(jobs, scoring.postprocess, scoring.workers))
    pairs: dict[str, list[_Pair]] = {}
    for name, members in cases.items():
        own_questions = {case.question for case in members}
        pairs[name] = [
            _Pair(
                case=case,
                prediction=answers.get(case.question),
                duplicate=case.question in duplicates,
                scored=next(results),
                reused=case.shuffled in own_questions,
            )
            for case in members
        ]
    together = [pair for members in pairs.values() for pair in members]
    return {
        "schema": 2,
        "postprocess": scoring.postprocess,
        "datasets": {name: asdict(summarise(members, scoring)) for name, members in pairs.items()},
        "all": asdict(summarise(together, scoring)),
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
            name: {key: value for key, value in score.items() if key not in NOT_IN_SUMMARY}
            for name, score in scores["datasets"].items()
        },
    }
