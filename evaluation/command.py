"""The two commands: `evaluate` (predict, score, report) and `read_page`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_engine.command_line import ConfigError
from data_engine.dataset import Dataset, open_datasets
from data_engine.files import atomic_write_json, atomic_write_text
from evaluation.config import EvaluationConfig, ReadConfig
from evaluation.modes import modes_for
from evaluation.predict import Progress, Reader, missing_answers, predict, prediction_settings
from evaluation.predictions import PREDICTIONS_FILE, PredictionFile, read_predictions
from evaluation.questions import Case, cases_of
from evaluation.report import render
from evaluation.score import reading_summary, score_all
from model.views import ImageError, open_image

SCORES_FILE = "scores.json"
SUMMARY_FILE = "summary.json"
REPORT_FILE = "index.html"

Cases = Mapping[str, list[Case]]


def evaluate(config: EvaluationConfig, progress: Progress) -> dict[str, Any]:
    """Does the steps that `config` names; returns the summary (empty when only predicting).

    Everything is checked before the first step begins. ConfigError says what is wrong.
    """
    out = Path(config.out)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"out={config.out} is a file; give a directory.")
    runs = [_run_directory(run) for run in config.runs]
    measured = _read_json(Path(config.measured), "measured") if config.measured else {}
    modes = modes_for(config.checkpoint, config.modes)
    datasets = open_datasets(config.data)
    cases = {
        name: cases_of(name, dataset, config.samples, modes, config.seed)
        for name, dataset in datasets.items()
    }
    summary: dict[str, Any] = {}
    if "predict" in config.steps:
        _predict(config, datasets, cases, out, progress)
    if "score" in config.steps:
        summary = _score(config, cases, out, measured)
    if "report" in config.steps:
        scores = _read_json(out / SCORES_FILE, "the report needs the score step first")
        summary = _summary(config, scores, measured)
        atomic_write_json(out / SUMMARY_FILE, summary)
        atomic_write_text(out / REPORT_FILE, render(scores, summary, datasets, runs, config.report_samples))
    return summary


def read_page(config: ReadConfig) -> str:
    """The text that the checkpoint reads on one page; ConfigError if there is no such page or checkpoint."""
    modes = modes_for(config.checkpoint, {"default": config.mode} if config.mode else {})
    try:
        image = open_image(config.read)
    except ImageError as error:
        raise ConfigError(f"read={config.read}: {error}") from error
    if config.prompt.count("<image>") != 1:
        raise ConfigError(f"prompt={config.prompt} must hold <image> once: it stands for the page.")
    reader = Reader.load(config)
    return reader.answer([config.prompt], [[image]], modes.default)[0].text


def _predict(
    config: EvaluationConfig, datasets: Mapping[str, Dataset], cases: Cases, out: Path, progress: Progress
) -> None:
    file = PredictionFile(out, prediction_settings(config, datasets))
    if missing_answers(cases, file):
        predict(Reader.load(config), datasets, cases, file, config.batch_size, progress)


def _score(config: EvaluationConfig, cases: Cases, out: Path, measured: Mapping[str, Any]) -> dict[str, Any]:
    path = out / PREDICTIONS_FILE
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; the score step needs the predict step first.")
    scores = score_all(cases, {prediction.question: prediction for prediction in read_predictions(path)})
    summary = _summary(config, scores, measured)
    atomic_write_json(out / SCORES_FILE, scores)
    atomic_write_json(out / SUMMARY_FILE, summary)
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
        "checkpoint": str(Path(config.checkpoint).resolve()),
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
