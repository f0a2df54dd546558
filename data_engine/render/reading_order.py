"""The order in which a person reads the pieces of a page: a cut along gutters, again and again (after XY-cut).

A gutter is an upright strip that nearly no piece crosses, with columns of text on both sides. Pieces that do
cross it (a title, a wide figure) part the page into bands; in a band the left column comes first, or the right
one where the script runs from right to left.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from data_engine.render.pdf_text import Piece

_CROSSING = 0.25  # at most so many of the pieces may cross a gutter ...
_SURE_CROSSING = 0.1  # ... or, where more of them do, of those beside it,
_SURE_LINES = 8  # and it has so many lines on either side
_FIRST_FILL = 0.55  # lines of a column fill its pitch; the cells of a table do not
_REST_FILL = 0.22  # there may be more columns behind the next one
LEAST_COLUMN = 4.0  # font sizes: what is narrower is a list mark or a line number


def strips(pieces: Sequence[Piece], right_to_left: bool) -> list[list[Piece]]:
    """The pieces in strips to be read one after the other, each from top to bottom."""
    if len(pieces) < 4:
        return [sorted(pieces, key=_top)] if pieces else []
    gutter = _gutter(pieces, right_to_left)
    if gutter is None:
        return [sorted(pieces, key=_top)]
    crossing = sorted((piece for piece in pieces if piece.left < gutter < piece.right), key=_top)
    others = [piece for piece in pieces if not piece.left < gutter < piece.right]
    found: list[list[Piece]] = []
    above = float("-inf")
    for bar in [*crossing, None]:
        below = _middle(bar) if bar is not None else float("inf")
        band = [piece for piece in others if above <= _middle(piece) < below]
        left = [piece for piece in band if piece.right <= gutter]
        right = [piece for piece in band if piece.right > gutter]
        for column in (right, left) if right_to_left else (left, right):
            found += strips(column, right_to_left)
        if bar is not None:
            if found and found[-1][-1] in crossing:
                found[-1].append(bar)  # bars that follow each other are one strip
            else:
                found.append([bar])
            above = below
    return found


def _gutter(pieces: Sequence[Piece], right_to_left: bool) -> float | None:
    """Where to cut, or None when there is one column."""
    size = median(piece.height for piece in pieces)
    lefts, rights = sorted(piece.left for piece in pieces), sorted(piece.right for piece in pieces)
    edges = sorted({*lefts, *rights})
    wide = [(low, high) for low, high in pairwise(edges) if high - low >= 0.8 * size]
    best: tuple[bool, int, float, float] | None = None
    for low, high in wide:
        at = (low + high) / 2
        before, after = bisect_left(rights, at), len(pieces) - bisect_left(lefts, at)
        crossing = len(pieces) - before - after
        often = crossing > _CROSSING * len(pieces)
        rank = (often, crossing, low - high, at)
        if min(before, after) < (_SURE_LINES if often else 2) or (best is not None and rank > best):
            continue
        left = [piece for piece in pieces if piece.right <= at]
        right = [piece for piece in pieces if piece.left >= at]
        if often:
            # Half a page of full width may stand above columns, which must be beyond doubt themselves then.
            top, bottom = _beside(left, right)
            left, right = _between(left, top, bottom), _between(right, top, bottom)
            if min(len(left), len(right)) < _SURE_LINES:
                continue
            crossing = len(_between(pieces, top, bottom)) - len(left) - len(right)
            if crossing > _SURE_CROSSING * (len(left) + len(right)):
                continue
        if _are_columns(left, right, size, right_to_left):
            best = rank
    return best[3] if best else None


def _are_columns(left: list[Piece], right: list[Piece], size: float, right_to_left: bool) -> bool:
    widths = [_written_width(side) for side in (left, right)]
    if min(widths) < LEAST_COLUMN * size:
        return False
    pitch = min(piece.left for piece in right) - min(piece.left for piece in left)
    extent = max(piece.right for piece in right) - min(piece.left for piece in right)
    first, last = (_REST_FILL, _FIRST_FILL) if right_to_left else (_FIRST_FILL, _REST_FILL)
    if widths[0] < first * pitch or widths[1] < last * extent:
        return False
    top, bottom = _beside(left, right)
    return bottom - top >= 0.3 * min(_bottom(side) - min(map(_top, side)) for side in (left, right))


def _beside(left: list[Piece], right: list[Piece]) -> tuple[float, float]:
    """The height that both sides share."""
    return max(min(map(_top, side)) for side in (left, right)), min(_bottom(side) for side in (left, right))


def _between(pieces: Sequence[Piece], top: float, bottom: float) -> list[Piece]:
    return [piece for piece in pieces if top <= _middle(piece) <= bottom]


def _bottom(side: list[Piece]) -> float:
    return max(piece.bottom for piece in side)


def _written_width(side: list[Piece]) -> float:
    """How much of a row is written on, gaps between its pieces left out; the median of all rows."""
    rows: list[tuple[float, float]] = []  # (middle, width)
    for piece in sorted(side, key=_middle):
        if rows and _middle(piece) - rows[-1][0] < 0.4 * piece.height:
            rows[-1] = (rows[-1][0], rows[-1][1] + piece.width)
        else:
            rows.append((_middle(piece), piece.width))
    return median(width for _, width in rows)


def _top(piece: Piece) -> float:
    return piece.top


def _middle(piece: Piece) -> float:
    return (piece.top + piece.bottom) / 2
