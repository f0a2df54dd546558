"""How long the text of each sample is, to the token.

What is special here:
- Lengths are exact: the prompt is laid out by the `build_sequence` that makes the training sequence, the target
  is counted by the same tokenizer, in batches.
- Memory is bounded whatever the dataset's size: a table of at most 2**20 samples remembers what was measured
  last; a sample that has lost its place is measured again.
- A cache file per (dataset, tokenizer) spares measuring at scale. `python -m train data_report=true
  lengths_cache=DIR` writes it; training maps it into memory and reads only what a window needs, 12 bytes a sample.
"""

from __future__ import annotations

import hashlib
import json
import threading
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_engine.files import atomic_write_json, atomic_writer
from model.sequence import build_sequence
from model.tokenizer import Tokenizer
from train.data.damage import UNUSABLE, Damage, damage_of
from train.data.reader import SampleReader, read_patiently

CACHE_SCHEMA = 2
REMEMBERED = 1 << 20
"""Samples of one dataset that are remembered at most: 20 bytes each."""
BATCH = 256
"""Texts that are read and tokenised together."""

TOKENS, LABELLED, TASK = range(3)
"""Columns: all tokens but the placeholders of images; positions with a label; number of the task in `tasks`."""

DAMAGED = -1
"""In column TOKENS: the text cannot be read."""

_NO_PLACEHOLDERS = np.zeros(0, dtype=np.int32)


class _Text(NamedTuple):
    prompt_tokens: int
    response: str
    task: str


_UNREADABLE = _Text(0, "", "")


class TextLengths:
    """Text tokens, labelled positions and task of the samples of one dataset.

    Safe to use from several threads: measuring a sample twice gives the same numbers.

    Args:
        cache_directory: where `save` leaves what was measured and where it is looked for; None: nowhere.
        remembered: samples that are kept in memory at most.
        keep_going: note samples that cannot be used in `damaged`, and give them the length DAMAGED.
    """

    def __init__(
        self,
        dataset: SampleReader,
        tokenizer: Tokenizer,
        cache_directory: Path | None = None,
        remembered: int = REMEMBERED,
        keep_going: bool = False,
    ) -> None:
        self._dataset = dataset
        self._tokenizer = tokenizer
        self._prompt_length = lru_cache(maxsize=4096)(self._measure_prompt)
        self._keep_going = keep_going
        self.damaged: dict[int, Damage] = {}
        """Those met so far whose text cannot be measured."""
        self._lock = threading.Lock()
        self.tasks: list[str] = []
        # Sample i has place i modulo the size of the table; `_owner` says which sample holds the place.
        places = min(len(dataset), remembered)
        self._owner = np.full(places, -1, dtype=np.int64)
        self._rows = np.zeros((places, 3), dtype=np.int32)
        self._cached: NDArray[np.int32] | None = None
        self.cache_path: Path | None = None
        if cache_directory is not None:
            identity = f"{CACHE_SCHEMA} {dataset.fingerprint} {tokenizer.fingerprint}".encode()
            self.cache_path = cache_directory / f"lengths-{hashlib.sha256(identity).hexdigest()[:24]}.npy"
            self._load()

    def of(self, samples: NDArray[np.int64]) -> NDArray[np.int32]:
        """[n, 3] of these samples, columns as above.

        Raises:
            DamagedDataError: a sample that is not known cannot be used, unless told to keep going.
        """
        if self._cached is not None:
            return np.asarray(self._cached[samples])
        places = samples % max(1, len(self._owner))
        with self._lock:
            rows = self._rows[places]
            missing = np.flatnonzero(self._owner[places] != samples)
        for start in range(0, len(missing), BATCH):
            some = missing[start : start + BATCH]
            rows[some] = self._measure(samples[some].tolist())
            with self._lock:
                self._rows[places[some]], self._owner[places[some]] = rows[some], samples[some]
        return rows

    def _measure(self, samples: list[int]) -> NDArray[np.int32]:
        texts = [self._text(i) for i in samples]
        targets = self._tokenizer.lengths([text.response for text in texts])
        rows = np.empty((len(samples), 3), dtype=np.int32)
        rows[:, LABELLED] = np.array(targets) + 1  # the end token
        rows[:, TOKENS] = [text.prompt_tokens for text in texts] + rows[:, LABELLED]
        with self._lock:
            for row, text in enumerate(texts):
                if text.task not in self.tasks:
                    self.tasks.append(text.task)
                rows[row, TASK] = self.tasks.index(text.task)
        unreadable = [row for row, text in enumerate(texts) if text is _UNREADABLE]
        rows[unreadable, TOKENS], rows[unreadable, LABELLED] = DAMAGED, 0
        return rows

    def _text(self, i: int) -> _Text:
        try:
            sample = read_patiently(self._dataset.read_text, i)
            length = self._prompt_length(sample.prompt, len(sample.image_sizes))
        except UNUSABLE as error:
            damage = damage_of(self._dataset, i, error)
            if not self._keep_going:
                raise damage.as_error() from error
            self.damaged[i] = damage
            return _UNREADABLE
        return _Text(length, sample.response, sample.task)

    def _measure_prompt(self, prompt: str, images: int) -> int:
        return len(build_sequence(self._tokenizer, prompt, [_NO_PLACEHOLDERS] * images))

    def save(self) -> None:
        """Measure every sample and write the cache file. Does nothing without a cache directory."""
        path = self.cache_path
        if path is None or self._cached is not None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        count = len(self._dataset)
        with atomic_writer(path) as file:
            layout = {"descr": "<i4", "fortran_order": False, "shape": (count, 3)}
            np.lib.format.write_array_header_1_0(file, layout)
            for start in range(0, count, BATCH):
                rows = self.of(np.arange(start, min(start + BATCH, count)))
                file.write(rows.astype("<i4").tobytes())
        # Last: it says that the table is whole.
        atomic_write_json(path.with_suffix(".json"), {**self._description(), "tasks": self.tasks})
        self._load()

    def _description(self) -> dict[str, str | int]:
        return {
            "schema": CACHE_SCHEMA,
            "dataset": self._dataset.fingerprint,
            "tokenizer": self._tokenizer.fingerprint,
            "samples": len(self._dataset),
        }

    def _load(self) -> None:
        """Take up the cache file; one that is missing, cut short or not ours is as good as none."""
        assert self.cache_path is not None
        try:
            description = json.loads(self.cache_path.with_suffix(".json").read_text(encoding="utf-8"))
            tasks = description.pop("tasks")
            table = np.load(self.cache_path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, KeyError, AttributeError):
            return
        if description == self._description() and table.shape == (len(self._dataset), 3):
            self._cached, self.tasks = table, tasks
