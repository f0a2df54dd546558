"""Texts of the user: one .txt file, or a .jsonl file with the text of one document per line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from data_engine.errors import ConfigError
from data_engine.files import sha256_of


class Texts:
    """Documents by number. Of a .jsonl file only the places of the lines are kept in memory."""

    def __init__(self, path: Path) -> None:
        """ConfigError when the file cannot be read or holds nothing."""
        self.path = path
        self._lines = path.suffix == ".jsonl"
        try:
            self._starts = self._line_starts() if self._lines else np.array([0, path.stat().st_size])
            self.sha256 = sha256_of(path)
        except OSError as error:
            raise ConfigError(f"options.text={path} cannot be read: {error.strerror}.") from error
        if len(self) == 0 or self._starts[-1] == 0:
            raise ConfigError(f"options.text={path} is empty: give a text, or one document per line.")

    def __len__(self) -> int:
        return len(self._starts) - 1

    def place(self, number: int) -> str:
        """Where a document stands, for people."""
        return f"line {number + 1} of {self.path.name}" if self._lines else self.path.name

    def read(self, number: int) -> str:
        """The text of a document. ValueError when it is no UTF-8, no JSON, or has no "text"."""
        start, end = int(self._starts[number]), int(self._starts[number + 1])
        with open(self.path, "rb") as file:
            file.seek(start)
            text = file.read(end - start).decode("utf-8-sig")
        if not self._lines:
            return text
        record = json.loads(text)
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise ValueError('it has no text under "text"')
        return str(record["text"])

    def _line_starts(self) -> np.ndarray:
        starts = [0]
        with open(self.path, "rb") as file:
            for line in file:
                starts.append(starts[-1] + len(line))
        return np.array(starts, np.int64)
