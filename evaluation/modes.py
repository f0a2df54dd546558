"""Which resolution mode a task is seen in: what the command says, else what the checkpoint was trained with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from data_engine.command_line import ConfigError
from evaluation.predict import checkpoint_directory
from evaluation.questions import Modes
from model.views import MODES

RECORD, KEY = "processor_config.json", "resolution_modes"
"""File of an export and its key: {"default": mode, task: mode, ...}, the modes that the model was trained in."""


def modes_for(checkpoint: str, given: Mapping[str, str]) -> Modes:
    """The modes to use; ConfigError if neither the command nor the checkpoint names any, or names a wrong one."""
    by_task = {**recorded_modes(checkpoint_directory(checkpoint)), **given}
    if "default" not in by_task:
        raise ConfigError(
            f"{checkpoint} does not record its resolution modes; say which one to use, "
            f"modes.default=MODE (or mode=MODE for one page), with one of {', '.join(MODES)}."
        )
    for task, mode in by_task.items():
        if mode not in MODES:
            raise ConfigError(
                f"resolution mode {mode} of {task} is unknown; choose one of {', '.join(MODES)}."
            )
    return Modes({task: mode for task, mode in by_task.items() if task != "default"}, by_task["default"])


def recorded_modes(directory: Path) -> dict[str, str]:
    """The modes that a checkpoint records; none where its processor_config.json is missing or does not say."""
    path = directory / RECORD
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}.") from error
    modes = content.get(KEY, {}) if isinstance(content, dict) else None
    if not isinstance(modes, dict) or not all(isinstance(mode, str) for mode in modes.values()):
        raise ConfigError(f"{path} must map tasks to resolution modes under '{KEY}'.")
    return modes
