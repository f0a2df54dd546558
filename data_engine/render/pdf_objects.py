"""What lies on a PDF page besides its text: pictures."""

from __future__ import annotations

import ctypes

import pypdfium2
import pypdfium2.raw as pdfium

from data_engine.render.pdf_frames import Box, Frames


def pictures_of(page: pypdfium2.PdfPage, frames: Frames, least_share: float, most_objects: int) -> list[Box]:
    """The bitmaps of a page that take `least_share` of it or more, but not nearly all (that is a scan)."""
    width, height = frames.size(0)
    found = []
    for number in range(min(most_objects, pdfium.FPDFPage_CountObjects(page))):
        item = pdfium.FPDFPage_GetObject(page, number)
        if pdfium.FPDFPageObj_GetType(item) != pdfium.FPDF_PAGEOBJ_IMAGE:
            continue
        left, bottom, right, top = (ctypes.c_float() for _ in range(4))
        pdfium.FPDFPageObj_GetBounds(item, left, bottom, right, top)
        box = frames.box(0, left.value, bottom.value, right.value, top.value)
        clipped = max(0.0, box[0]), max(0.0, box[1]), min(width, box[2]), min(height, box[3])
        share = max(0.0, clipped[2] - clipped[0]) * max(0.0, clipped[3] - clipped[1]) / (width * height)
        if least_share <= share < 0.6:
            found.append(clipped)
    return found
