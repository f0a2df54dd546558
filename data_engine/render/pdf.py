"""Pages of real PDFs: pdfium draws them and reads their text layer; coarse or fine answers, as the paper has both.

Coarse: the text in reading order after "Free OCR". Fine: blocks with labels and boxes, headings in Markdown,
tables as HTML. A page whose text layer cannot be an answer (a scan, letters without Unicode) is skipped and
counted, and so is every file that pdfium refuses.
"""

from __future__ import annotations

import ctypes
import re
from collections import OrderedDict
from functools import partial

import cv2
import numpy as np
import pypdfium2

from data_engine.document_options import PdfOptions
from data_engine.errors import ConfigError
from data_engine.prompts import FREE_OCR
from data_engine.random_stream import Draws, permuted
from data_engine.render.base import NoSampleError, Rendered, Renderer
from data_engine.render.graphics import graphics_versions, versions_of
from data_engine.render.grounded import grounded_page
from data_engine.render.jpeg import encode_page
from data_engine.render.pdf_blocks import TextBlock, blocks_of, has_overlapping_text
from data_engine.render.pdf_formulas import label_formulas
from data_engine.render.pdf_frames import Frames
from data_engine.render.pdf_ink import is_seen
from data_engine.render.pdf_objects import pictures_of
from data_engine.render.pdf_text import Piece, TextLayer
from data_engine.sources.pdf_listing import Listing, PdfFile, open_listing, problem_of

NO_TEXT = "page without text layer"
NO_UNICODE = "text layer without Unicode"
BROKEN_PAGE = "broken page"
TOO_COMPLEX = "page too complex"
_OPEN_FILES = 8
# Controls, private use and the replacement character stand for letters whose Unicode the file does not tell.
_UNKNOWN = re.compile("[\x01\x03-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ue000-\uf8ff\ufffd]")
_UNKNOWN_SHARE = 0.03
_LEAST_PICTURE = 0.01  # of the page
_MOST_OBJECTS = 40_000  # drawn in seconds at the worst; an ordinary page has some hundreds
_LARGEST_ASPECT = 20.0


class PdfRenderer(Renderer):
    def __init__(self, options: PdfOptions) -> None:
        self._options = options
        if not options.source:
            raise ConfigError(
                "options.source is required: give a directory of PDFs, or a file that lists them."
            )
        self._listing: Listing = open_listing(options.source, options.largest_megabytes)
        self._documents: OrderedDict[str, pypdfium2.PdfDocument] = OrderedDict()
        # One buffer for all pages: a fresh one costs more than many a page's drawing.
        self._buffer = (ctypes.c_ubyte * (4 * (options.size + 1) ** 2))()

    def versions(self) -> dict[str, str]:
        pdfium_version = {"pdfium": str(pypdfium2.PDFIUM_INFO), "listing": self._listing.sha256()[:32]}
        return graphics_versions() | versions_of("pypdfium2") | pdfium_version

    def close(self) -> None:
        while self._documents:
            self._documents.popitem()[1].close()

    def render(self, draws: Draws) -> Rendered:
        count = len(self._listing)
        turn, place = divmod(draws.index, count)  # every page once before any comes again
        file, number = self._listing.place(permuted(place, count, f"{draws.seed}/{draws.kind}/{turn}"))
        where = f"{file.name}, page {number + 1}"
        if file.problem:
            raise NoSampleError(file.problem, file.name)
        page = self._page(file, number, where)
        grounded = draws.stream("prompt").chance(self._options.grounding)
        try:
            blocks, fine, pixels = self._read(page, grounded, where)
            width, height = page.get_size()
        finally:
            page.close()
        picture = encode_page(pixels, self._options.jpeg_quality)
        details = {
            "file": file.name,
            "page": number + 1,
            "file_sha256": file.sha256[:16],
            "blocks": len(blocks),
        }
        if not fine:
            text = "\n\n".join(block.plain for block in blocks if block.plain)
            return Rendered((picture,), FREE_OCR, text, "pdfium", details)
        told = [(b.label, (b.left, b.top, b.right, b.bottom), b.text) for b in blocks]
        scale = self._options.size / max(width, height)
        return grounded_page(picture, told, width, height, "pdfium", details, scale)

    def _page(self, file: PdfFile, number: int, where: str) -> pypdfium2.PdfPage:
        document = self._documents.pop(file.path, None)
        try:
            if document is None:
                document = pypdfium2.PdfDocument(self._listing.root / file.path)
                if len(self._documents) >= _OPEN_FILES:
                    self._documents.popitem(last=False)[1].close()
            self._documents[file.path] = document
            return document[number]
        except FileNotFoundError as error:
            raise NoSampleError("PDF that vanished", where) from error
        except (pypdfium2.PdfiumError, OSError, IndexError) as error:
            broken = (
                BROKEN_PAGE if document is not None else problem_of(error, self._listing.root / file.path)
            )
            raise NoSampleError(broken, where) from error

    def _read(
        self, page: pypdfium2.PdfPage, grounded: bool, where: str
    ) -> tuple[list[TextBlock], bool, np.ndarray]:
        """The blocks of a page, whether they can be told with boxes and in Markdown, and its picture."""
        width, height = page.get_size()
        if min(width, height) <= 0 or max(width, height) > _LARGEST_ASPECT * min(width, height):
            raise NoSampleError("page of an impossible shape", f"{where}: {width:.0f} x {height:.0f} points")
        frames = Frames(page)
        layer = TextLayer(page, frames)
        try:
            text = layer.text()
            visible = self._enough(text, where)
            unknown = len(_UNKNOWN.findall(text))
            if unknown > _UNKNOWN_SHARE * visible:
                raise NoSampleError(NO_UNICODE, f"{where}: {unknown} of {visible} characters")
            pictures = pictures_of(page, frames, _LEAST_PICTURE, _MOST_OBJECTS)
            if pictures is None:
                raise NoSampleError(TOO_COMPLEX, f"{where}: more than {_MOST_OBJECTS} lines and objects")
            pieces = [piece for piece in layer.pieces() if piece.text and _is_inside(piece, frames)]
            layer.close()  # drawing takes 10 % longer beside an open one, whose memory it cannot use
            pixels = self._draw(page, where)
            scale = self._options.size / max(width, height)
            pieces = [piece for piece in pieces if is_seen(pixels, frames.shown(piece), scale)]
            self._enough("".join(piece.text for piece in pieces), where)
            pictures = pictures if grounded else []
            blocks = blocks_of(pieces, pictures, frames)
            # Text across the page is read in any case, but a box around it would hold the ink of others.
            fine = grounded and not has_overlapping_text(blocks) and label_formulas(blocks, layer)
        finally:
            layer.close()
        for block in blocks:
            block.left, block.top = max(0.0, block.left), max(0.0, block.top)
            block.right, block.bottom = min(width, block.right), min(height, block.bottom)
        return blocks, fine, pixels

    def _enough(self, text: str, where: str) -> int:
        """The number of characters that are no blanks. NoSampleError when they are too few for an answer."""
        visible = len("".join(text.split()))
        if visible < max(1, self._options.least_characters):
            raise NoSampleError(NO_TEXT, f"{where}: {visible} characters")
        return visible

    def _draw(self, page: pypdfium2.PdfPage, where: str) -> np.ndarray:
        """The picture, without notes and form fields: what they show is not in the text layer."""
        try:
            bitmap = page.render(
                scale=self._options.size / max(page.get_size()),
                rev_byteorder=True,
                draw_annots=False,
                may_draw_forms=False,
                bitmap_maker=partial(pypdfium2.PdfBitmap.new_native, buffer=self._buffer),
            )
        except (pypdfium2.PdfiumError, ValueError, MemoryError) as error:
            raise NoSampleError(BROKEN_PAGE, where) from error
        pixels = bitmap.to_numpy()
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[..., 0]
        gray = _gray_of(pixels) if pixels.ndim == 3 else None
        # The next page is drawn into the same memory.
        pixels = np.array(pixels, order="C") if gray is None else gray
        bitmap.close()
        return pixels


def _gray_of(pixels: np.ndarray) -> np.ndarray | None:
    """An RGB picture as gray [H, W]; None when something in it has a colour. Every second row is looked at.

    Most pages are gray: a third of the samples to compress, and one channel to degrade.
    """
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    away = cv2.norm(pixels[::2], cv2.cvtColor(gray[::2], cv2.COLOR_GRAY2RGB), cv2.NORM_INF)
    return gray if away <= 2 else None


def _is_inside(piece: Piece, frames: Frames) -> bool:
    width, height = frames.size(piece.turn)
    inside = piece.right > 0 and piece.bottom > 0 and piece.left < width and piece.top < height
    return inside and piece.width > 0 and piece.height > 0
