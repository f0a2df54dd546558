"""A page of OmniDocBench's ground truth as blocks, and a predicted page as blocks, ready to be compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

TEXT = frozenset({"text_block", "title", "code_txt", "code_txt_caption", "reference"})
SET_ASIDE = frozenset(
    {
        "header", "footer", "page_number", "page_footnote", "figure_caption", "figure_footnote", "table_caption",
        "table_footnote", "equation_caption", "equation_explanation", "code_algorithm", "code_algorithm_caption",
    }
)  # fmt: skip
"""Texts that a prediction may hold or not: they are matched, so that nobody else is, and then left out."""
FORMULA, TABLE = "equation_isolated", "table"


@dataclass(frozen=True)
class TrueBlock:
    """A block of text of the ground truth."""

    content: str
    """Its text."""
    set_aside: bool = False
    """Of a kind that a prediction may hold or not (`SET_ASIDE`)."""


@dataclass(frozen=True)
class TruePage:
    """Blocks by kind, each in reading order."""

    texts: list[TrueBlock]
    formulas: list[str]
    """LaTeX of the displayed ones."""
    tables: list[str]
    """HTML."""


@dataclass(frozen=True)
class PredictedPage:
    """The same of a prediction: paragraphs, LaTeX, and tables as HTML, each in the order in which they stand."""

    texts: list[str]
    formulas: list[str]
    tables: list[str]


def true_page(record: Mapping[str, Any]) -> TruePage:
    """The blocks that count, in reading order; what is marked `ignore` does not exist."""
    blocks = [block for block in record["layout_dets"] if not block.get("ignore")]
    blocks.sort(key=_order)
    texts = _joined(blocks, record)
    return TruePage(
        texts=[block for block in texts if block.content],
        formulas=[_text(block, "latex") for block in blocks if block.get("category_type") == FORMULA],
        tables=[_text(block, "html") for block in blocks if block.get("category_type") == TABLE],
    )


def reading_text(record: Mapping[str, Any]) -> str:
    """The page as one text in reading order, for plain text figures and for the report."""
    blocks = [block for block in record["layout_dets"] if not block.get("ignore")]
    blocks.sort(key=_order)
    fields = {FORMULA: "latex", TABLE: "html"}
    parts = [
        _text(block, fields.get(str(block.get("category_type")), "text"))
        for block in blocks
        if block.get("category_type") in TEXT | {FORMULA, TABLE}
    ]
    return "\n\n".join(part for part in parts if part)


_TABLE = re.compile(r"<table\b.*?(?:</table>|$)", re.DOTALL | re.IGNORECASE)
_FORMULA = re.compile(r"\\\[(.*?)\\\]|\$\$(.*?)\$\$", re.DOTALL)
_PIPES = re.compile(
    r"(?:^[ \t]*\|.*\|[ \t]*\n)[ \t]*\|[ \t:|-]+\|[ \t]*(?:\n[ \t]*\|.*\|[ \t]*)*", re.MULTILINE
)
_IMAGE = re.compile(r"!\[[^\]\n]*\]\([^)\n]*\)")


def predicted_page(text: str) -> PredictedPage:
    """Cuts a Markdown page into tables (HTML or pipes), displayed formulas and paragraphs."""
    tables = [*_TABLE.findall(text)]
    text = _TABLE.sub("\n\n", text)
    tables += [_pipe_table(piece) for piece in _PIPES.findall(text)]
    text = _PIPES.sub("\n\n", text)
    formulas = [left or right for left, right in _FORMULA.findall(text)]
    text = _IMAGE.sub("", _FORMULA.sub("\n\n", text))
    paragraphs: list[str] = []
    for piece in re.split(r"\n[ \t]*\n", text):
        # A heading is a block of its own, even where no blank line sets it off.
        paragraphs += [part.strip() for part in re.split(r"(?m)^(#.*)$", piece) if part and part.strip()]
    return PredictedPage(paragraphs, [formula.strip() for formula in formulas], tables)


def comparable_text(text: str) -> str:
    """Letters and digits of all scripts alone: spaces, punctuation and Markdown are no one's merit."""
    return re.sub(r"[\W_]", "", text)


def comparable_formula(latex: str) -> str:
    """LaTeX without white space, delimiters, equation numbers and a final full stop or comma."""
    latex = re.sub(r"\\tag\s*\{[^{}]*\}|\\label\s*\{[^{}]*\}", "", latex)
    latex = re.sub(r"\\q?quad\s*\([^()\n]{1,20}\)", "", latex)
    latex = latex.strip().removeprefix("$$").removesuffix("$$").removeprefix("\\[").removesuffix("\\]")
    return re.sub(r"\s+", "", latex).rstrip(".,")


def _order(block: Mapping[str, Any]) -> float:
    order = block.get("order")
    return float(order) if isinstance(order, (int, float)) else float("inf")


def _text(block: Mapping[str, Any], key: str) -> str:
    value = block.get(key)
    return value if isinstance(value, str) else ""


def _joined(blocks: list[dict[str, Any]], record: Mapping[str, Any]) -> list[TrueBlock]:
    """Text blocks; parts of one paragraph that a column or a page cut apart ("truncated") are one."""
    extra = record.get("extra")
    relations = extra.get("relation", []) if isinstance(extra, dict) else []
    continues = {
        relation.get("target_anno_id"): relation.get("source_anno_id")
        for relation in relations
        if isinstance(relation, dict) and relation.get("relation_type") == "truncated"
    }
    texts: dict[Any, list[str]] = {}
    aside: dict[Any, bool] = {}
    for place, block in enumerate(blocks):
        category = block.get("category_type")
        if category not in TEXT | SET_ASIDE:
            continue
        name = block.get("anno_id", f"block {place}")
        owner = continues.get(name)
        if owner in texts:
            continues[name] = owner
            texts[owner].append(_text(block, "text"))
            texts[name] = texts[owner]
        else:
            texts[name] = [_text(block, "text")]
            aside[name] = category in SET_ASIDE
    return [TrueBlock("".join(texts[name]), aside[name]) for name in aside]


def _pipe_table(text: str) -> str:
    """A Markdown table as HTML; the line of dashes goes."""
    rows = [line.strip().strip("|").split("|") for line in text.strip().splitlines()]
    del rows[1]
    cells = ("".join(f"<td>{escape(cell.strip())}</td>" for cell in row) for row in rows)
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"
