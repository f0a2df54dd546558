from __future__ import annotations

import functools
import random

import pytest
from apted import APTED
from rapidfuzz.distance import Levenshtein

from evaluation.metrics.table_tree import Node, TableError, grid, read_table
from evaluation.metrics.teds import _Costs, _Labelled, score_table, teds, tree_edit_distance

Frozen = tuple[tuple[str, int, int], str, tuple]  # label, text, children


def frozen(node: Node) -> Frozen:
    return (node.tag, node.columns, node.rows), node.text, tuple(frozen(child) for child in node.children)


def brute_force(left: Node, right: Node) -> float:
    """The recurrence over forests by their rightmost roots, straight from the definition."""

    def rename(a: Frozen, b: Frozen) -> float:
        return 1.0 if a[0] != b[0] else Levenshtein.normalized_distance(a[1], b[1])

    def size(forest: tuple[Frozen, ...]) -> int:
        return sum(1 + size(node[2]) for node in forest)

    @functools.cache
    def distance(one: tuple[Frozen, ...], two: tuple[Frozen, ...]) -> float:
        if not one or not two:
            return size(one) + size(two)
        a, b = one[-1], two[-1]
        return min(
            1 + distance(one[:-1] + a[2], two),
            1 + distance(one, two[:-1] + b[2]),
            rename(a, b) + distance(a[2], b[2]) + distance(one[:-1], two[:-1]),
        )

    return distance((frozen(left),), (frozen(right),))


def random_table(generator: random.Random) -> Node:
    def cell() -> Node:
        return Node(
            "td", "".join(generator.choices("ab", k=generator.randrange(3))), generator.choice((1, 1, 2))
        )

    rows = [
        Node("tr", children=[cell() for _ in range(generator.randrange(4))])
        for _ in range(generator.randrange(4))
    ]
    return Node("table", children=rows)


def test_the_tree_edit_distance_equals_brute_force() -> None:
    generator = random.Random(11)
    for _ in range(220):
        left, right = random_table(generator), random_table(generator)
        assert tree_edit_distance(left, right) == pytest.approx(brute_force(left, right))
        expected = 1 - brute_force(left, right) / max(left.size(), right.size())
        assert teds(left, right) == pytest.approx(expected)


def test_where_the_bounds_meet_they_are_what_apted_says() -> None:
    generator = random.Random(3)
    for _ in range(15):
        rows = [[str(generator.randrange(10**4)) for _ in range(3)] for _ in range(4)]
        read = [[cell.replace("1", generator.choice("17")) for cell in row] for row in rows]
        del read[generator.randrange(4)][generator.randrange(3)]
        for texts in (True, False):
            left, right = (_Labelled(read_table(html(table)), texts) for table in (read, rows))
            expected = float(APTED(left, right, _Costs(left, right)).compute_edit_distance())
            assert tree_edit_distance(read_table(html(read)), read_table(html(rows)), texts) == pytest.approx(
                expected
            )


def html(rows: list[list[str]]) -> str:
    return (
        "<table>" + "".join(f"<tr>{''.join(f'<td>{c}</td>' for c in row)}</tr>" for row in rows) + "</table>"
    )


def test_known_similarities() -> None:
    truth = html([["a", "b"], ["c", "d"]])  # 7 nodes
    assert score_table(truth, truth).teds == 1.0
    assert score_table(html([["x", "b"], ["c", "d"]]), truth).teds == pytest.approx(1 - 1 / 7)
    assert score_table(html([["x", "b"], ["c", "d"]]), truth).structure == 1.0
    assert score_table(html([["a", "b"]]), truth).teds == pytest.approx(1 - 3 / 7)
    disjoint, transposed = html([["w", "x"], ["y", "z"]]), html([["a", "c"], ["b", "d"]])
    assert score_table(disjoint, truth).teds == pytest.approx(1 - 4 / 7)
    assert score_table(transposed, truth).teds == pytest.approx(1 - 2 / 7)
    assert score_table(disjoint, truth).structure == score_table(transposed, truth).structure == 1.0
    # A duplicate row is three nodes too many, of ten.
    assert score_table(html([["a", "b"], ["c", "d"], ["c", "d"]]), truth).teds == pytest.approx(1 - 3 / 10)
    spanning = "<table><tr><td colspan=2>a</td></tr><tr><td>c</td><td>d</td></tr></table>"
    assert score_table(spanning, truth).structure == pytest.approx(1 - 2 / 7)


def test_head_cells_and_wrappers_do_not_matter_and_entities_are_read() -> None:
    plain = html([["a &amp; b", "2"], ["c", "4"]])
    dressed = (
        "Table 1\n<table border=1><thead><tr><th> a  &amp;\nb</th><th><b>2</b></th></tr></thead>"
        "<tbody><tr><td>c<td>4</tbody></table> after"
    )
    assert read_table(plain) == read_table(dressed)


@pytest.mark.parametrize(
    "text", ["", "no table", "<table></table>", "<table><tr></tr></table>", "<tr><td>1</td></tr>"]
)
def test_malformed_predictions_are_wrong_and_malformed_truths_an_error(text: str) -> None:
    truth = html([["a"]])
    score = score_table(text, truth)
    assert (score.teds, score.structure, score.malformed) == (0.0, 0.0, True)
    with pytest.raises(TableError):
        score_table(truth, text)


def test_a_table_without_end_is_bounded() -> None:
    endless = "<table>" + "<tr><td>1</td>" * 4_000
    assert score_table(endless, html([["1"]])).malformed
    wide = "<table><tr><td colspan='999999999999' rowspan='-3'>1</td><td colspan='x'>2</td></tr></table>"
    assert len(grid(read_table(wide))[0]) == 201


def test_a_grid_fills_spans() -> None:
    table = "<table><tr><td rowspan=2>a</td><td>b</td></tr><tr><td>c</td></tr></table>"
    assert grid(read_table(table)) == [["a", "b"], ["a", "c"]]


def test_a_table_cut_off_keeps_what_is_there() -> None:
    truth = html([["a", "b"], ["c", "d"]])
    assert score_table(truth[: truth.index("c")], truth).teds == pytest.approx(1 - 2 / 7)
