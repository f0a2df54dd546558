"""TEDS, the similarity of two tables by tree edit distance (Zhong et al. 2020, arXiv 1911.10683).

    TEDS = 1 - tree edit distance / nodes of the larger tree

Adding or removing a node costs 1. Changing a node into another costs 1 when the tags or the spans differ, and
else the normalised edit distance of the two cell texts. The structure score (TEDS-S) ignores the texts. The
tree edit distance is apted's; the trees are those of `table_tree`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from apted import APTED, Config
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from evaluation.metrics.table_tree import Node, TableError, read_table


@dataclass(frozen=True)
class TableScore:
    """One predicted table against the true one; a malformed prediction scores 0 twice."""

    teds: float
    structure: float
    malformed: bool
    """The prediction holds no usable table."""


def score_table(prediction: str, truth: str) -> TableScore:
    """TEDS and TEDS-S of two texts that hold a table each. TableError when the truth holds none."""
    true = read_table(truth)
    try:
        predicted = read_table(prediction)
    except TableError:
        return TableScore(0.0, 0.0, malformed=True)
    if predicted == true:
        return TableScore(1.0, 1.0, malformed=False)
    structure = teds(predicted, true, texts=False)
    return TableScore(teds(predicted, true), structure, malformed=False)


def teds(prediction: Node, truth: Node, texts: bool = True) -> float:
    """Similarity of two trees, 0 to 1; without `texts` of their structure alone."""
    larger = max(prediction.size(), truth.size())
    return max(0.0, 1.0 - tree_edit_distance(prediction, truth, texts) / larger)


def tree_edit_distance(prediction: Node, truth: Node, texts: bool = True) -> float:
    """The distance that `teds` is made of."""
    left, right = _Labelled(prediction, texts), _Labelled(truth, texts)
    if left == right:
        return 0.0
    costs = _Costs(left, right)
    return float(APTED(left, right, costs).compute_edit_distance())


class _Labelled:
    """A node whose label is a number, so that a rename is one look-up."""

    __slots__ = ("children", "key", "label")

    def __init__(self, node: Node, texts: bool) -> None:
        self.key = (node.tag, node.columns, node.rows, node.text if texts else "")
        self.children = [_Labelled(child, texts) for child in node.children]
        self.label = -1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Labelled) and self.key == other.key and self.children == other.children

    def labelled(self, numbers: dict[tuple[str, int, int, str], int]) -> None:
        self.label = numbers.setdefault(self.key, len(numbers))
        for child in self.children:
            child.labelled(numbers)


class _Costs(Config):
    """apted asks for the same pair of labels thousands of times: all costs are computed beforehand, in C."""

    def __init__(self, left: _Labelled, right: _Labelled) -> None:
        rows: dict[tuple[str, int, int, str], int] = {}
        columns: dict[tuple[str, int, int, str], int] = {}
        left.labelled(rows)
        right.labelled(columns)
        table = process.cdist(
            [key[3] for key in rows],
            [key[3] for key in columns],
            scorer=Levenshtein.normalized_distance,
            dtype=np.float64,
        )
        kinds = {key[:3]: number for number, key in enumerate({key[:3]: None for key in [*rows, *columns]})}
        differ = np.array([kinds[key[:3]] for key in rows])[:, None] != np.array(
            [kinds[key[:3]] for key in columns]
        )
        table[differ] = 1.0
        self._table: list[list[float]] = table.tolist()

    def rename(self, node1: _Labelled, node2: _Labelled) -> float:
        return self._table[node1.label][node2.label]

    def children(self, node: _Labelled) -> list[_Labelled]:
        return node.children
