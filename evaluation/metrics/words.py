"""Which words were read: precision, recall and F1 over sets and over multisets of words.

Words are what stands between white space; a run of Chinese or Japanese characters is cut into characters,
since no dictionary is needed for that (the Fox script cuts Chinese with jieba; scores of Chinese pages
therefore differ from its own). Precision is the share of the predicted words that are right, recall the share
of the true words that were read.

The public script of the Fox benchmark calls its scorer with truth and prediction exchanged: what it reports
as precision is recall, and the reverse. `fox_compat` gives its numbers. The DeepSeek-OCR paper (table 2) says
"precision" without defining it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

_WORD = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\u3040-\u30ff]|[^\s\u3400-\u9fff\uf900-\ufaff\u3040-\u30ff]+")


@dataclass(frozen=True)
class Overlap:
    """How two collections agree; every number from 0 to 1."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 when both are 0."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    @property
    def fox_compat(self) -> Overlap:
        """The same as the public Fox script reports it: precision and recall exchanged."""
        return Overlap(self.recall, self.precision)


def overlap(agreeing: float, predicted: float, true: float) -> Overlap:
    """Precision and recall from counts; 1 when both sides are empty, 0 when only one is."""
    if not predicted and not true:
        return Overlap(1.0, 1.0)
    return Overlap(agreeing / predicted if predicted else 0.0, agreeing / true if true else 0.0)


def words(text: str) -> list[str]:
    """The words of a text, in order (see the top of this file)."""
    return _WORD.findall(text)


def set_overlap(prediction: list[str], truth: list[str]) -> Overlap:
    """Every different word counts once, however often it stands there."""
    predicted, true = set(prediction), set(truth)
    return overlap(len(predicted & true), len(predicted), len(true))


def multiset_overlap(prediction: list[str], truth: list[str]) -> Overlap:
    """Every occurrence counts: a word that is read three times and stands there twice agrees twice."""
    agreeing = (Counter(prediction) & Counter(truth)).total()
    return overlap(agreeing, len(prediction), len(truth))
