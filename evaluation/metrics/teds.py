"""TEDS, the similarity of two tables by tree edit distance (Zhong et al. 2020, arXiv 1911.10683).

    TEDS = 1 - tree edit distance / nodes of the larger tree

Adding or removing a node costs 1. Changing a node into another costs 1 when the tags or the spans differ, and
else the normalised edit distance of the two cell texts. The structure score (TEDS-S) ignores the texts. The
tree edit distance is apted's, except where two cheap bounds already meet; the trees are those of `table_tree`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    # Two cheap bounds, which meet for most tables that were read at all well: then they are the distance.
    # Below: a tree mapping keeps the order of opening tags, so aligning these costs no more than the trees do.
    # Above: rows to rows and cells to cells is one of the mappings.
    below = _aligned(list(left.in_order()), list(right.in_order()), costs.rename, _one)
    above = costs.rename(left, right) + _aligned(
        left.children, right.children, _row_distance(costs), _Labelled.size
    )
    if above - below < 1e-9:
        return above
    return float(APTED(left, right, costs).compute_edit_distance())


def _one(_node: _Labelled) -> float:
    return 1.0


def _row_distance(costs: _Costs) -> Callable[[_Labelled, _Labelled], float]:
    def distance(left: _Labelled, right: _Labelled) -> float:
        cells = _aligned(left.children, right.children, costs.rename, _Labelled.size)
        return costs.rename(left, right) + cells

    return distance


def _aligned(
    left: Sequence[_Labelled],
    right: Sequence[_Labelled],
    change: Callable[[_Labelled, _Labelled], float],
    weight: Callable[[_Labelled], float],
) -> float:
    """The cheapest way from one sequence to another, in order; `weight` is what adding or removing costs."""
    added = [weight(node) for node in right]
    row = [0.0]
    for cost in added:
        row.append(row[-1] + cost)
    for node in left:
        removed = weight(node)
        previous, row = row, [row[0] + removed]
        for j, other in enumerate(right):
            row.append(min(previous[j + 1] + removed, row[j] + added[j], previous[j] + change(node, other)))
    return row[-1]


class _Labelled:
    """A node whose label is a number, so that a rename is one look-up."""

    __slots__ = ("children", "key", "label")

    def __init__(self, node: Node, texts: bool) -> None:
        self.key = (node.tag, node.columns, node.rows, node.text if texts else "")
        self.children = [_Labelled(child, texts) for child in node.children]
        self.label = -1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Labelled) and self.key == other.key and self.children == other.children

    def in_order(self) -> Iterator[_Labelled]:
        """The nodes in the order of their opening tags."""
        yield self
        for child in self.children:
            yield from child.in_order()

    def size(self) -> float:
        """Nodes of this tree: what it costs to add or remove it."""
        return 1.0 + sum(child.size() for child in self.children)

    def labelled(self, numbers: dict[tuple[str, int, int, str], int]) -> None:
        """Numbers the nodes: equal ones alike, in the order in which they come."""
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
        """What changing one node into the other costs, 0 to 1 (apted asks)."""
        return self._table[node1.label][node2.label]

    def children(self, node: _Labelled) -> list[_Labelled]:
        """The nodes below (apted asks)."""
        return node.children
