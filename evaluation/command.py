"""Evaluating: predict, post-process, score, report."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_engine.command_line import ConfigError
from data_engine.files import atomic_write_json, atomic_write_text
from evaluation import tables
from evaluation.comparison import compare_scores
from evaluation.config import EvaluationConfig
from evaluation.given import read_given, refuse_foreign
from evaluation.inputs import Inputs, open_inputs, without_unasked_controls
from evaluation.parts import anything_answered, join
from evaluation.plots import plots
from evaluation.postprocess import VERSIONS
from evaluation.predict import Progress, predict
from evaluation.predictions import PREDICTIONS_FILE, Prediction, check_datasets, read_predictions
from evaluation.processes import Process
from evaluation.questions import questions_of
from evaluation.report import render
from evaluation.score import Scoring, reading_summary, score_all, unique_answers

SCORES_FILE = "scores.json"
SUMMARY_FILE = "summary.json"
REPORT_FILE = "index.html"
MARKDOWN_FILE, LATEX_FILE = "tables.md", "tables.tex"
TEXTS, PLOTS = "texts", "plots"


def evaluate(config: EvaluationConfig, progress: Progress, process: Process | None = None) -> dict[str, Any]:
    """Does the steps that `config` names, as one of several processes where `process` says so.

    Returns:
        The summary; empty when only predicting, and in all but one of several processes.

    Raises:
        ConfigError: what is wrong; everything is checked before the first step begins.
    """
    process = process or Process()
    out = Path(config.out)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"out={config.out} is a file; give a directory.")
    runs = [_run_directory(run) for run in config.runs]
    measured = _read_json(Path(config.measured), "measured") if config.measured else {}
    inputs = open_inputs(config)
    summary: dict[str, Any] = {}
    if "predict" in config.steps and not config.predictions:
        goes_on = predict(config, inputs.sources, inputs.cases, process, progress)
    else:
        goes_on = process.share.rank == 0
    if not goes_on:
        return {}
    if "postprocess" in config.steps:
        _write_texts(config, _predictions(config, inputs, out), out)
    if "score" in config.steps:
        summary = _score(config, inputs, out, measured)
    if "report" in config.steps:
        scores = _read_json(out / SCORES_FILE, "the report needs the score step first")
        summary = _summary(config, scores, measured)
        atomic_write_json(out / SUMMARY_FILE, summary)
        drawn = plots(scores)
        (out / PLOTS).mkdir(exist_ok=True)
        for name, svg in drawn.items():
            atomic_write_text(out / PLOTS / f"{name}.svg", svg)
        page = render(scores, summary, inputs.sources, runs, config.report_samples, list(drawn.values()))
        atomic_write_text(out / REPORT_FILE, page)
    return summary


def _predictions(config: EvaluationConfig, inputs: Inputs, out: Path) -> list[Prediction]:
    """All predictions that are there, given or made by the predict step, for this data."""
    if config.predictions:
        return read_given(Path(config.predictions), inputs.cases, inputs.sources)
    path = out / PREDICTIONS_FILE
    if not anything_answered(out):
        raise ConfigError(f"{path} does not exist; this step needs the predict step first.")
    check_datasets(out, {name: source.fingerprint for name, source in inputs.sources.items()})
    join(out, [ask.question for ask in questions_of(inputs.cases)])  # what a killed run has left
    told = read_predictions(path)
    # Another evaluation may have added its datasets to the file; of these here, all keys must be known.
    ours = [p for p in told if p.dataset in inputs.sources] or told
    refuse_foreign([(p.dataset, p.key) for p in ours], inputs.sources, str(path))
    return ours


def _write_texts(config: EvaluationConfig, predictions: list[Prediction], out: Path) -> None:
    """One Markdown file per answer: out/texts/VERSION/DATASET/KEY.md; the control's answers are left out."""
    version = config.postprocess_version
    answers, duplicates = unique_answers([p for p in predictions if p.key == p.image_key])
    if duplicates:
        first = next(iter(duplicates))
        raise ConfigError(
            f"{len(duplicates)} samples have several predictions, such as {first.dataset}/{first.image_key}; "
            "remove all but one of each before writing texts."
        )
    for prediction in answers.values():
        directory = out / TEXTS / version / prediction.dataset
        directory.mkdir(parents=True, exist_ok=True)
        atomic_write_text(directory / f"{prediction.key}.md", VERSIONS[version](prediction.text))


def _score(
    config: EvaluationConfig, inputs: Inputs, out: Path, measured: Mapping[str, Any]
) -> dict[str, Any]:
    answers, duplicates = unique_answers(_predictions(config, inputs, out))
    cases = without_unasked_controls(inputs.cases) if config.predictions else inputs.cases
    scoring = Scoring(
        config.postprocess_version, config.resamples, config.seed, config.workers or os.cpu_count() or 1
    )
    scores = {**score_all(cases, answers, duplicates, scoring), **inputs.facts}
    if config.compare:
        other = _read_json(Path(config.compare) / SCORES_FILE, f"compare={config.compare}")
        scores["comparison"] = compare_scores(scores, other, config.compare, config.seed, config.resamples)
    summary = _summary(config, scores, measured)
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_json(out / SCORES_FILE, scores)
    atomic_write_json(out / SUMMARY_FILE, summary)
    made = tables.all_tables(scores)
    atomic_write_text(out / MARKDOWN_FILE, tables.markdown(made))
    atomic_write_text(out / LATEX_FILE, tables.latex(made))
    return summary


def _summary(
    config: EvaluationConfig, scores: Mapping[str, Any], measured: Mapping[str, Any]
) -> dict[str, Any]:
    """summary.json; what was not measured stands there as null."""
    return {
        "schema": 1,
        **reading_summary(scores, config.headline),
        "seconds": None,
        "peak_memory_gib": None,
        **measured,
        "checkpoint": str(Path(config.checkpoint).resolve()) if config.checkpoint else None,
        "predictions": str(Path(config.predictions).resolve()) if config.predictions else None,
        "heldout": str(Path(config.data).resolve()),
    }


def _run_directory(run: str) -> Path:
    path = Path(run)
    if not path.is_dir():
        raise ConfigError(f"runs: {run} is no run directory.")
    return path


def _read_json(path: Path, purpose: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist ({purpose}).") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} does not hold a JSON object.")
    return content
