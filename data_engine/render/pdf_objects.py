"""What lies on a PDF page besides its text: pictures, and how much there is to draw."""

from __future__ import annotations

import ctypes
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from data_engine.render.pdf_frames import Box, Frames

_Matrix = tuple[float, float, float, float, float, float]
_NEARLY_ALL = 0.6  # of the page: that is a scan, not a picture on it


def pictures_of(
    page: pypdfium2.PdfPage, frames: Frames, least_share: float, most_objects: int
) -> list[Box] | None:
    """The bitmaps of a page that take `least_share` of it or more, but not nearly all; None when it is too complex.

    Objects count, those inside of others too, and the pieces of their lines: a map of half a million lines is drawn
    for a minute, in which no signal is heard. One that holds more than `most_objects` is left as soon as this is known.
    """
    edges = tuple(ctypes.c_float() for _ in range(4))
    count = pdfium.FPDFPage_CountObjects(page)
    waiting: list[tuple[Any, int, _Matrix | None]] = [(None, count, None)]
    found = []
    while waiting:
        parent, inside, matrix = waiting.pop()
        if count > most_objects:
            return None
        for number in range(inside):
            if parent is None:
                item = pdfium.FPDFPage_GetObject(page, number)
            else:
                item = pdfium.FPDFFormObj_GetObject(parent, number)
            kind = pdfium.FPDFPageObj_GetType(item)
            if kind == pdfium.FPDF_PAGEOBJ_PATH:
                count += max(0, pdfium.FPDFPath_CountSegments(item))
            elif kind == pdfium.FPDF_PAGEOBJ_FORM:
                held = max(0, pdfium.FPDFFormObj_CountObjects(item))
                count += held
                waiting.append((item, held, _times(_matrix_of(item), matrix)))
            elif kind == pdfium.FPDF_PAGEOBJ_IMAGE and pdfium.FPDFPageObj_GetBounds(item, *edges):
                left, bottom, right, top = (edge.value for edge in edges)
                box = frames.box(0, *_bounds(matrix, left, bottom, right, top))
                clipped = _clipped(box, frames)
                if least_share <= _area(clipped) / (frames.width * frames.height) < _NEARLY_ALL:
                    found.append(clipped)
            if count > most_objects:
                return None
    return found


def _matrix_of(item: Any) -> _Matrix:
    matrix = pdfium.FS_MATRIX()
    pdfium.FPDFPageObj_GetMatrix(item, matrix)
    return matrix.a, matrix.b, matrix.c, matrix.d, matrix.e, matrix.f


def _times(inner: _Matrix, outer: _Matrix | None) -> _Matrix:
    """The map that applies `inner` first."""
    if outer is None:
        return inner
    a, b, c, d, e, f = inner
    p, q, r, s, t, u = outer
    return a * p + b * r, a * q + b * s, c * p + d * r, c * q + d * s, e * p + f * r + t, e * q + f * s + u


def _bounds(matrix: _Matrix | None, left: float, bottom: float, right: float, top: float) -> Box:
    """(left, bottom, right, top) of a box that a matrix moved."""
    if matrix is None:
        return left, bottom, right, top
    a, b, c, d, e, f = matrix
    xs = [a * x + c * y + e for x in (left, right) for y in (bottom, top)]
    ys = [b * x + d * y + f for x in (left, right) for y in (bottom, top)]
    return min(xs), min(ys), max(xs), max(ys)


def _clipped(box: Box, frames: Frames) -> Box:
    return max(0.0, box[0]), max(0.0, box[1]), min(frames.width, box[2]), min(frames.height, box[3])


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
