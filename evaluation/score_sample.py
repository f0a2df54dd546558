"""One prediction against one truth: all that a sample contributes. Pure, so that many processes can do it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

from evaluation.benchmarks.omnidocbench_score import page_figures
from evaluation.figures import FIGURES, Contribution
from evaluation.metrics.health import PAPER_PAGES_PER_DAY, SECONDS_PER_DAY, ends_in_a_loop
from evaluation.metrics.text import TextScore, score_text
from evaluation.postprocess import VERSIONS
from evaluation.predictions import CONTEXT, Prediction
from evaluation.questions import Benchmark
from evaluation.tasks import field_figures, word_figures

POOL_FROM = 10.0  # seconds of work below which starting processes costs more than it gives
_SECONDS = {"chart": 0.08, "omnidocbench": 0.1}  # about what one sample takes; every other task:
_SECONDS_ELSE = 0.004


@dataclass(frozen=True)
class Job:
    """What is compared; everything is plain data."""

    task: str
    truth: str
    prediction: Prediction | None
    """None: no prediction, counted as an empty answer."""
    shuffled: str | None = None
    """The control: the answer to another sample's image; None where there is no control."""
    chance: str | None = None
    """The other sample's truth."""
    benchmark: Benchmark = field(default_factory=Benchmark)


@dataclass(frozen=True)
class Scored:
    """All that one sample contributes."""

    own: TextScore
    """The answer against the truth."""
    shuffled: TextScore | None
    """The control's answer against the truth."""
    chance: TextScore | None
    """The other sample's truth against the truth."""
    contributions: dict[str, Contribution]
    """Figure to (numerator, denominator)."""
    text: str
    """The prediction after post-processing."""
    truth: str
    """The truth after post-processing."""


def score_jobs(jobs: Sequence[Job], version: str, workers: int) -> list[Scored]:
    """Scores in order; on `workers` processes where there is enough to do."""
    expected = sum(_SECONDS.get(job.task, _SECONDS_ELSE) for job in jobs)
    if workers < 2 or expected < POOL_FROM:
        return [score_job(job, version) for job in jobs]
    # Spawned, not forked: this process may hold torch's threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(score_job, jobs, [version] * len(jobs), chunksize=16))


def score_job(job: Job, version: str) -> Scored:
    """Texts are compared after post-processing, fields (tables, boxes, ...) as they were predicted."""
    process = VERSIONS[version]
    raw = job.prediction.text if job.prediction else ""
    text, truth = process(raw), process(job.truth)
    own = score_text(text, truth)
    contributions: dict[str, Contribution] = {
        "character_accuracy": (own.reference_characters - own.edit_distance, own.reference_characters),
        "normalised_edit_distance": (own.normalised_edit_distance, 1.0),
        "exact_match": (float(own.exact), 1.0),
        **word_figures(job.task, text, truth, job.benchmark.fox_compat),
        **_health(job, raw),
    }
    if job.benchmark.page is None:
        contributions |= field_figures(job.task, raw, job.truth)
    else:
        contributions |= page_figures(text, job.benchmark.page)
    if job.prediction is None or job.prediction.finish_reason == CONTEXT:
        contributions = {name: _worst(name, part) for name, part in contributions.items()}
    contributions |= _tokens(job.benchmark)
    return Scored(
        own=own,
        shuffled=None if job.shuffled is None else score_text(process(job.shuffled), truth),
        chance=None if job.chance is None else score_text(process(job.chance), truth),
        contributions=contributions,
        text=text,
        truth=truth,
    )


def _worst(name: str, contribution: Contribution) -> Contribution:
    """What an answer that is missing contributes: nothing right, everything wrong, also where the truth is empty."""
    return (contribution[1] if FIGURES[name].lower_is_better else 0.0, contribution[1])


def _tokens(benchmark: Benchmark) -> dict[str, Contribution]:
    tokens: dict[str, Contribution] = {}
    if benchmark.truth_tokens and benchmark.vision_tokens:
        tokens["compression"] = (benchmark.truth_tokens, benchmark.vision_tokens)
    if benchmark.valid_tokens:
        tokens["valid_tokens"] = (benchmark.valid_tokens, 1.0)
    return tokens


def _health(job: Job, raw: str) -> dict[str, Contribution]:
    if job.prediction is None or job.prediction.finish_reason == CONTEXT:
        return {}
    health = {
        "repetition": (float(ends_in_a_loop(raw, job.truth)), 1.0),
        "truncation": (float(job.prediction.finish_reason == "length"), 1.0),
    }
    seconds = job.prediction.seconds
    if seconds > 0:
        health["tokens_per_second"] = (job.prediction.generated_tokens, seconds)
        health["pages_per_day"] = (SECONDS_PER_DAY, seconds)
        health["share_of_paper_speed"] = (SECONDS_PER_DAY / PAPER_PAGES_PER_DAY, seconds)
    return health
