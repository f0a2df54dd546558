"""HTML tables as trees and as grids: the one reader of tables, lenient like a browser and bounded.

A table is the first `<table>` of a text. Head cells count as cells (`th` is read as `td`) and the wrappers
`thead`, `tbody` and `tfoot` vanish, since writers disagree about them and readers do not see them. The text
of a cell is all text in it with white space collapsed. What holds no table, no cell, or more than anyone
could have drawn on a page is malformed: TableError.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lxml import etree, html

MAX_CHARACTERS = 500_000
MAX_NODES = 3_000
MAX_SPAN = 200
MAX_GRID = 50_000


class TableError(ValueError):
    """A text without a usable table."""


@dataclass
class Node:
    """A node of the tree: the table, a row or a cell."""

    tag: str
    """"table", "tr" or "td"."""
    text: str = ""
    """Text of a cell, white space collapsed; "" elsewhere."""
    columns: int = 1
    rows: int = 1
    """How many columns and rows a cell spans."""
    children: list[Node] = field(default_factory=list)

    def size(self) -> int:
        """Nodes of this tree, itself included."""
        return 1 + sum(child.size() for child in self.children)


def read_table(text: str) -> Node:
    """The first table of `text` as table -> tr -> td. Raises TableError."""
    if len(text) > MAX_CHARACTERS:
        raise TableError(f"{len(text)} characters are no table of one page")
    start = text.find("<table")
    if start < 0:
        raise TableError("there is no <table>")
    try:
        found = html.fragment_fromstring(text[start:], create_parent="div").find(".//table")
    except (etree.LxmlError, ValueError) as error:  # ValueError: control characters that XML has not
        raise TableError(f"not HTML ({error})") from error
    if found is None:
        raise TableError("there is no <table>")
    table = Node("table", children=[_row(row) for row in _below(found, ("tr",))])
    if not any(row.children for row in table.children):
        raise TableError("the table has no cell")
    if table.size() > MAX_NODES:
        raise TableError(f"a table of more than {MAX_NODES} nodes")
    return table


def grid(table: Node) -> list[list[str]]:
    """Texts by row and column, as wide as the widest row; a spanning cell fills every place that it covers."""
    places: dict[tuple[int, int], str] = {}
    for r, row in enumerate(table.children):
        c = 0
        for cell in row.children:
            while (r, c) in places:
                c += 1
            for down in range(min(cell.rows, len(table.children) - r)):
                for right in range(cell.columns):
                    places[r + down, c + right] = cell.text
            c += cell.columns
            if len(places) > MAX_GRID:
                raise TableError(f"a grid of more than {MAX_GRID} places")
    width = 1 + max((c for _, c in places), default=-1)
    return [[places.get((r, c), "") for c in range(width)] for r in range(len(table.children))]


def _below(parent: html.HtmlElement, tags: tuple[str, ...]) -> list[html.HtmlElement]:
    """Children with one of the tags, also through thead, tbody and tfoot, never into a table in a table."""
    found = []
    for child in parent:
        if child.tag in tags:
            found.append(child)
        elif child.tag in ("thead", "tbody", "tfoot"):
            found += _below(child, tags)
    return found


def _row(row: html.HtmlElement) -> Node:
    return Node("tr", children=[_cell(cell) for cell in _below(row, ("td", "th"))])


def _cell(cell: html.HtmlElement) -> Node:
    text = " ".join("".join(cell.itertext()).split())
    return Node("td", text, _span(cell.get("colspan")), _span(cell.get("rowspan")))


def _span(value: str | None) -> int:
    """A span as browsers take it: what is no positive number is 1, and there is an end."""
    text = (value or "").strip()
    if not (text.isascii() and text.isdigit()):
        return 1
    return MAX_SPAN if len(text) > 9 else min(MAX_SPAN, max(1, int(text)))
