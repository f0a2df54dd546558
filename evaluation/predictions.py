"""One answer of a model, and how answers are read back from JSON lines (`parts` writes them).

A line is the answer to one question: *this prompt, on the images of this sample, in this resolution mode*.
The sample that lent the images (`image_key`) is usually the sample itself; in the shuffled-image control it
is another one. A side file remembers which checkpoint and which settings answered, so that answers of two models
never end up in one file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from data_engine.command_line import ConfigError
from data_engine.files import atomic_write_json

CONTEXT = "context"
"""Finish reason of a question that alone is as long as the model's context; it is not asked."""
PREDICTIONS_FILE = "predictions.jsonl"
SETTINGS_FILE = "predictions.settings.json"


@dataclass(frozen=True)
class Prediction:
    """One answer of the model."""

    dataset: str
    """Name of the dataset."""
    key: str
    """Sample whose prompt was asked."""
    image_key: str
    """Sample whose images were shown."""
    prompt: str
    """The prompt, with one `<image>` per image."""
    mode: str
    """Resolution mode the images were seen in."""
    text: str
    """What the model wrote, raw."""
    finish_reason: str
    """"stop" (end of text), "length" (cut off at max_new_tokens) or "context" (not asked: longer than the context)."""
    prompt_tokens: int
    """Tokens of the question, vision placeholders included."""
    vision_tokens: int
    """Placeholders among them."""
    generated_tokens: int
    """Tokens the model wrote."""
    seconds: float
    """This answer's share of its batch's time."""
    device: str = ""
    """Name of the GPU, or "cpu"; "" where it was not recorded."""

    @property
    def question(self) -> Question:
        """What it answers."""
        return Question(self.dataset, self.image_key, self.prompt, self.mode)


@dataclass(frozen=True)
class Question:
    """All that a greedy answer depends on, given checkpoint and settings."""

    dataset: str
    image_key: str
    prompt: str
    mode: str


def check_settings(directory: Path, settings: Mapping[str, Any], answered: bool) -> None:
    """Compares `settings` with the side file: what both know must agree, new ones (another dataset) join it.

    Raises:
        ConfigError: a setting differs, or there are answers (`answered`) without a side file.
    """
    path = directory / SETTINGS_FILE
    stored: dict[str, Any] = {}
    if path.exists():
        stored = json.loads(path.read_text(encoding="utf-8"))
    elif answered:
        raise ConfigError(
            f"the predictions in {directory} have no {SETTINGS_FILE} beside them: their origin is unknown; "
            "choose another out=."
        )
    changed = [key for key in settings if key in stored and stored[key] != settings[key]]
    if changed:
        raise ConfigError(
            f"{directory / PREDICTIONS_FILE} was made with another {', '.join(changed)}; "
            "choose another out=, or delete that directory to predict again."
        )
    if settings.keys() - stored.keys():
        atomic_write_json(path, stored | dict(settings))


def check_datasets(directory: Path, fingerprints: Mapping[str, str]) -> None:
    """ConfigError if the side file says that the predictions were made from other data of these names."""
    path = directory / SETTINGS_FILE
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, fingerprint in fingerprints.items():
        if stored.get(f"dataset {name}", fingerprint) != fingerprint:
            raise ConfigError(
                f"{directory / PREDICTIONS_FILE} was made with another dataset {name}; "
                "give the data that it was made from, or choose another out=."
            )


def read_predictions(path: Path) -> list[Prediction]:
    """Every whole line of a predictions file (none if there is no file); ConfigError names a wrong line."""
    if not path.exists():
        return []
    names = {field.name for field in fields(Prediction)}
    required = names - {"device"}  # files written before it was recorded are as good
    predictions = []
    for number, line in enumerate(
        path.read_bytes().split(b"\n")[:-1], start=1
    ):  # what follows the last "\n" is torn
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(record, dict) or not required <= set(record) <= names:
            raise ConfigError(
                f"{path}, line {number}: not a prediction; expected the keys {', '.join(sorted(names))}"
            )
        predictions.append(Prediction(**record))
    return predictions
