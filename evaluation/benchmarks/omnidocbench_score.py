"""Our scorer of OmniDocBench pages: text, formulas, tables and reading order.

*Text edit*: paragraphs are assigned to true blocks by the smallest normalised edit distance (pairs above 0.7 are
no pairs); what is left over joins its neighbour wherever that brings both nearer, so that a paragraph cut in two is
not two mistakes. A page's figure is the sum of edit distances over the sum of the longer lengths, with
everything unmatched as fully wrong; figures are means over the pages that have text. Headers, captions and the
like are matched and left out.
*Reading order*: normalised edit distance between the matched blocks as predicted and as they are to be read.
*Formula edit, table edit*: the same sums for displayed formulas (LaTeX) and tables (HTML without attributes
other than spans). *TEDS*: mean over the true tables; one that was not found counts 0.

Known differences from the official tool: inline formulas are compared as LaTeX letters instead of being
turned into Unicode; its matching has more rules and a time limit; CDM, which needs a TeX installation, is not
computed, and with it the overall figure of v1.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein
from scipy.optimize import linear_sum_assignment

from evaluation.benchmarks.omnidocbench_truth import (
    PredictedPage,
    TruePage,
    comparable_formula,
    comparable_text,
    predicted_page,
    true_page,
)
from evaluation.figures import Contribution
from evaluation.metrics.table_tree import Node, TableError, read_table
from evaluation.metrics.teds import score_table

MATCHED_BELOW = 0.7


@dataclass
class Group:
    """True blocks and predicted blocks that tell the same."""

    true: list[int]
    predicted: list[int]


def page_figures(prediction: str, record: Mapping[str, Any]) -> dict[str, Contribution]:
    """What one page contributes to each figure that it has material for."""
    true, predicted = true_page(record), predicted_page(prediction)
    return {
        **_text_figures(predicted, true),
        **_formula_figures(predicted, true),
        **_table_figures(predicted, true),
    }


def part_figures(prediction: str, truth: str) -> dict[str, Contribution]:
    """Formula and table figures of two Markdown texts, for pages of our own."""
    parts = predicted_page(truth)
    true, predicted = TruePage([], parts.formulas, parts.tables), predicted_page(prediction)
    return {**_formula_figures(predicted, true), **_table_figures(predicted, true)}


def match_blocks(predicted: Sequence[str], true: Sequence[str]) -> list[Group]:
    """Groups of blocks of two lists of comparable texts; everything else is unmatched."""
    groups = [Group([t], [p]) for p, t in assigned(predicted, true, MATCHED_BELOW)]
    _adopt(groups, predicted, true, of_predicted=True)
    _adopt(groups, predicted, true, of_predicted=False)
    return groups


def assigned(predicted: Sequence[str], true: Sequence[str], below: float) -> list[tuple[int, int]]:
    """(predicted, true) indices of the one-to-one assignment with the smallest normalised edit distances."""
    if not predicted or not true:
        return []
    distances = process.cdist(predicted, true, scorer=Levenshtein.normalized_distance, dtype=np.float64)
    chosen = zip(*linear_sum_assignment(np.where(distances <= below, distances, 10.0)), strict=True)
    return [(int(p), int(t)) for p, t in chosen if distances[p, t] <= below]


def _adopt(groups: list[Group], predicted: Sequence[str], true: Sequence[str], of_predicted: bool) -> None:
    """Every unmatched block joins the group before or after it where that makes the group's texts more equal."""

    def members(group: Group) -> list[int]:
        return group.predicted if of_predicted else group.true

    def distance(group: Group) -> int:
        return Levenshtein.distance(
            "".join(predicted[i] for i in group.predicted), "".join(true[i] for i in group.true)
        )

    texts = predicted if of_predicted else true
    taken = {index for group in groups for index in members(group)}
    for index in range(len(texts)):
        if index in taken:
            continue
        best: tuple[int, Group] | None = None
        for group in groups:
            if index not in (members(group)[-1] + 1, members(group)[0] - 1):
                continue
            larger = sorted([*members(group), index])
            joined = Group(group.true, larger) if of_predicted else Group(larger, group.predicted)
            # Left alone, the block would cost its whole length; joining must beat that by bringing both nearer.
            gain = distance(group) - distance(joined)
            if gain > 0 and (best is None or gain > best[0]):
                best = gain, group
        if best is not None:
            members(best[1]).append(index)
            members(best[1]).sort()
            taken.add(index)


def _text_figures(predicted: PredictedPage, true: TruePage) -> dict[str, Contribution]:
    if not any(not block.set_aside for block in true.texts):
        return {}
    told = [comparable_text(text) for text in predicted.texts]
    right = [comparable_text(block.content) for block in true.texts]
    groups = match_blocks(told, right)
    counted = [group for group in groups if not all(true.texts[i].set_aside for i in group.true)]
    pairs = [("".join(told[i] for i in g.predicted), "".join(right[i] for i in g.true)) for g in counted]
    matched_true = {i for group in groups for i in group.true}
    matched_told = {i for group in groups for i in group.predicted}
    pairs += [("", right[i]) for i, b in enumerate(true.texts) if i not in matched_true and not b.set_aside]
    pairs += [(told[i], "") for i in range(len(told)) if i not in matched_told]
    as_told = sorted(counted, key=lambda group: group.predicted[0])
    as_read = sorted(counted, key=lambda group: group.true[0])
    order = (
        Levenshtein.normalized_distance([g.true[0] for g in as_told], [g.true[0] for g in as_read])
        if counted
        else 1.0
    )
    return {"text_edit": (edit_share(pairs), 1.0), "order_edit": (order, 1.0)}


def _formula_figures(predicted: PredictedPage, true: TruePage) -> dict[str, Contribution]:
    if not true.formulas:
        return {}
    told, right = ([comparable_formula(latex) for latex in page.formulas] for page in (predicted, true))
    pairs = assigned(told, right, 1.0)
    matched = [(told[p], right[t]) for p, t in pairs]
    return {"formula_edit": (edit_share(matched + _left_over(pairs, told, right)), 1.0)}


def _table_figures(predicted: PredictedPage, true: TruePage) -> dict[str, Contribution]:
    right = [table for table in true.tables if _is_table(table)]
    if not right:
        return {}
    told = predicted.tables
    pairs = assigned([_flat(table, _cells) for table in told], [_flat(table, _cells) for table in right], 1.0)
    scores = [score_table(told[p], right[t]) for p, t in pairs]
    spelled = [[_flat(table, _spelled) for table in tables] for tables in (told, right)]
    matched = [(spelled[0][p], spelled[1][t]) for p, t in pairs]
    return {
        "table_edit": (edit_share(matched + _left_over(pairs, *spelled)), 1.0),
        "teds": (sum(score.teds for score in scores), len(right)),
        "teds_structure": (sum(score.structure for score in scores), len(right)),
    }


def edit_share(pairs: Sequence[tuple[str, str]]) -> float:
    """Sum of edit distances / sum of the longer lengths, 0 to 1."""
    longer = sum(max(len(left), len(right)) for left, right in pairs)
    return sum(Levenshtein.distance(left, right) for left, right in pairs) / longer if longer else 0.0


def _left_over(
    pairs: Sequence[tuple[int, int]], told: Sequence[str], right: Sequence[str]
) -> list[tuple[str, str]]:
    matched_told, matched_right = {p for p, _ in pairs}, {t for _, t in pairs}
    return [(text, "") for i, text in enumerate(told) if i not in matched_told] + [
        ("", text) for i, text in enumerate(right) if i not in matched_right
    ]


def _flat(table: str, spell: Callable[[Node], str]) -> str:
    """A table as one text; a malformed one as it stands there."""
    try:
        return spell(read_table(table))
    except TableError:
        return table


def _cells(node: Node) -> str:
    return " ".join(cell.text for row in node.children for cell in row.children)


def _spelled(node: Node) -> str:
    inner = node.text + "".join(_spelled(child) for child in node.children)
    spans = (f" colspan={node.columns}" if node.columns > 1 else "") + (
        f" rowspan={node.rows}" if node.rows > 1 else ""
    )
    return f"<{node.tag}{spans}>{inner}</{node.tag}>"


def _is_table(text: str) -> bool:
    try:
        read_table(text)
    except TableError:
        return False
    return True
