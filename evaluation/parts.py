"""Predictions of many processes in one directory: each appends to a part of its own, the parts become one file.

    OUT/predictions.jsonl              the answers that were joined, in the order of the data; only replaced whole
    OUT/predictions.part-1-of-3.jsonl  what process 1 of 3 has answered since then, appended line by line
    OUT/predictions.settings.json      which checkpoint and which settings answered

What was answered is the union of all of it, whatever number of processes wrote the parts; so a run goes on where
another was killed, with as many processes as there are now. A line is appended with one write, so a kill leaves at
most one torn line at the end of a part: readers pass over it, and its owner cuts it off. Appending and
reading exclude joining by a lock (flock) on OUT/.predictions.lock. On a file system without such locks a join that
meets an append may lose the answers of that one moment; they are asked again.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_engine.files import atomic_write_bytes
from data_engine.job import Share
from evaluation.predictions import PREDICTIONS_FILE, Prediction, Question, check_settings, read_predictions

PARTS = "predictions.part-*-of-*.jsonl"
LOCK = ".predictions.lock"


class PredictionFile:
    """The predictions of one checkpoint with one set of decoding settings, and the part that this process writes."""

    def __init__(self, directory: Path, settings: dict[str, Any], share: Share | None = None) -> None:
        """Opens or begins the predictions of `directory`.

        Raises:
            ConfigError: other settings made the answers that are there, or a line is no prediction.
        """
        share = share or Share()
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.path = directory / f"predictions.part-{share.rank}-of-{share.world}.jsonl"
        with _locked(directory, fcntl.LOCK_EX):
            check_settings(directory, settings, anything_answered(directory))
            _cut_torn_line(self.path)
        self.answers = read_answers(directory)

    def append(self, predictions: Iterable[Prediction]) -> None:
        """Adds answers at the end of this process's part: one write per line, one fsync per call."""
        with _locked(self.directory, fcntl.LOCK_SH):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                for prediction in predictions:
                    _write_whole(descriptor, _line(prediction))
                    self.answers[prediction.question] = prediction
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def reload(self) -> None:
        """Takes in what the other processes have answered by now."""
        self.answers = read_answers(self.directory)


def anything_answered(directory: Path) -> bool:
    """Whether there is a file of predictions, joined or in part."""
    return (directory / PREDICTIONS_FILE).exists() or bool(_parts(directory))


def read_answers(directory: Path) -> dict[Question, Prediction]:
    """Question to its first answer in the joined file, else in the parts. ConfigError names a wrong line."""
    with _locked(directory, fcntl.LOCK_SH):  # else a join may take the parts away that were just listed
        return _first_answers((directory / PREDICTIONS_FILE, *_parts(directory)))


def join(directory: Path, order: Sequence[Question]) -> bool:
    """Makes one predictions.jsonl of itself and all parts, and removes these; False where there is no part.

    Answers to questions of `order` stand in that order, after those of other evaluations. Processes may go on
    appending meanwhile and afterwards: what comes later stands in a new part.
    """
    with _locked(directory, fcntl.LOCK_EX):
        parts = _parts(directory)
        if not parts:
            return False
        path = directory / PREDICTIONS_FILE
        # Repeated lines in a file that people have edited stay: scoring names them.
        joined = read_predictions(path)
        known = {prediction.question for prediction in joined}
        joined += [answer for question, answer in _first_answers(parts).items() if question not in known]
        places = {question: place for place, question in enumerate(order)}
        joined.sort(key=lambda prediction: places.get(prediction.question, -1))
        atomic_write_bytes(path, b"".join(map(_line, joined)))
        for part in parts:
            part.unlink()
        return True


def _first_answers(paths: Iterable[Path]) -> dict[Question, Prediction]:
    answers: dict[Question, Prediction] = {}
    for path in paths:
        for prediction in read_predictions(path):
            answers.setdefault(prediction.question, prediction)
    return answers


def _parts(directory: Path) -> list[Path]:
    return sorted(directory.glob(PARTS))


def _line(prediction: Prediction) -> bytes:
    # A model may write half of a surrogate pair, which UTF-8 has not.
    return (json.dumps(asdict(prediction), ensure_ascii=False) + "\n").encode("utf-8", errors="replace")


def _write_whole(descriptor: int, data: bytes) -> None:
    # One write as a rule; a disk that is nearly full takes a part, and says "no space left" to the rest.
    while data:
        data = data[os.write(descriptor, data) :]


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        os.truncate(path, whole)


@contextmanager
def _locked(directory: Path, kind: int) -> Iterator[None]:
    """Holds the directory's lock, shared or exclusive, where its file system knows locks."""
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)
