"""Predictions that another program made: a folder of text files, or a JSONL file, instead of a checkpoint.

    DIR/KEY.md                     one dataset: one file per sample, named by its key
    DIR/DATASET/KEY.md             several datasets
    FILE.jsonl                     {"key": KEY, "text": ..., "dataset": DATASET (when there are several),
                                   "finish_reason", "generated_tokens", "seconds", "device"} (these optional)

A predictions.jsonl of our own is such a file, too. Predictions for samples that the data does not hold belong
to other data: they are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_engine.command_line import ConfigError
from evaluation.predictions import Prediction, read_predictions
from evaluation.questions import Case, Samples

MODE = "given"
"""Resolution mode of predictions whose mode is not known."""
SUFFIXES = (".md", ".txt")
_OPTIONAL: dict[str, type | tuple[type, ...]] = {
    "finish_reason": str,
    "generated_tokens": int,
    "seconds": (int, float),
    "device": str,
}


def read_given(
    path: Path, cases: Mapping[str, Sequence[Case]], sources: Mapping[str, Samples]
) -> list[Prediction]:
    """All predictions, several for one sample included. ConfigError for what does not fit the data."""
    if path.is_dir():
        told = list(_from_directory(path, list(sources)))
    elif path.is_file():
        told = list(_from_lines(path, list(sources)))
    else:
        raise ConfigError(
            f"predictions={path} does not exist; give a directory of .md files or a .jsonl file."
        )
    if not told:
        raise ConfigError(
            f"predictions={path} holds no prediction ({' or '.join(SUFFIXES)} files, or lines)."
        )
    refuse_foreign([(p.dataset, p.key) for p in told], sources, str(path))
    questions = {(name, case.key): case.question for name, members in cases.items() for case in members}
    modes = {name: case.question.mode for name, members in cases.items() for case in members[:1]}
    answers = []
    for prediction in told:
        if prediction.image_key != prediction.key:  # the control of a predictions.jsonl of our own
            answers.append(replace(prediction, mode=modes[prediction.dataset]))
        elif (question := questions.get((prediction.dataset, prediction.key))) is not None:
            answers.append(replace(prediction, prompt=question.prompt, mode=question.mode))
    return answers


def refuse_foreign(told: Sequence[tuple[str, str]], sources: Mapping[str, Samples], origin: str) -> None:
    """ConfigError if a (dataset, key) is of a dataset or a sample that the data does not hold."""
    known = {name: {source.key(i) for i in range(len(source))} for name, source in sources.items()}
    foreign = [(name, key) for name, key in told if key not in known.get(name, ())]
    if foreign:
        name, key = foreign[0]
        raise ConfigError(
            f"{origin} is of other data: {len(foreign)} of its {len(told)} predictions, such as {name}/{key}, "
            "are of no sample here; give the data that they were made from."
        )


def _from_directory(path: Path, names: Sequence[str]) -> Iterator[Prediction]:
    places = {name: path / name for name in names if (path / name).is_dir()}
    if not places:
        if len(names) > 1:
            raise ConfigError(
                f"predictions={path} has no sub-directory for any of {', '.join(names)}; "
                "several datasets need one each."
            )
        places = {names[0]: path}
    for name, place in places.items():
        for file in sorted(place.iterdir()):
            if file.suffix in SUFFIXES and file.is_file():
                yield _prediction(name, file.name.removesuffix(file.suffix), _content(file))


def _content(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}.") from error


def _from_lines(path: Path, names: Sequence[str]) -> Iterator[Prediction]:
    try:
        yield from read_predictions(path)
        return
    except ConfigError:
        pass  # not a file of our own; a line that is no prediction at all is named below
    for number, line in enumerate(_content(path).splitlines(), start=1):
        if line.strip():
            yield _from_record(_object(line, path, number), names, f"{path}, line {number}")


def _object(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}, line {number}: not JSON ({error}).") from error
    if not isinstance(record, dict):
        raise ConfigError(f"{path}, line {number}: not a JSON object.")
    return record


def _from_record(record: dict[str, Any], names: Sequence[str], place: str) -> Prediction:
    name = record.get("dataset", names[0] if len(names) == 1 else None)
    key, text = record.get("key"), record.get("text")
    if not all(isinstance(value, str) for value in (name, key, text)):
        raise ConfigError(f"{place}: needs the texts key, text and (with several datasets) dataset.")
    more = {field: record[field] for field in _OPTIONAL if field in record}
    for field, value in more.items():
        if not isinstance(value, _OPTIONAL[field]) or isinstance(value, bool):
            raise ConfigError(f"{place}: {field}={value} is not possible.")
    return replace(_prediction(str(name), str(key), str(text)), **more)


def _prediction(dataset: str, key: str, text: str) -> Prediction:
    return Prediction(
        dataset=dataset, key=key, image_key=key, prompt="", mode=MODE, text=text, finish_reason="stop",
        prompt_tokens=0, vision_tokens=0, generated_tokens=0, seconds=0.0,
    )  # fmt: skip
