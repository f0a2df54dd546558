"""The text layer of a PDF page as lines with boxes, read in bulk.

pdfium's Python helpers ask for one rectangle or one character at a time, which costs more than drawing the page.
Here the text is fetched at once and cut where pdfium ends its lines; a line's box takes a few calls, and only
lines with wide gaps (cells of a table, two columns on one baseline) are looked at letter by letter.
"""

from __future__ import annotations

import ctypes
import re
import unicodedata
from dataclasses import dataclass

import pypdfium2
import pypdfium2.raw as pdfium

from data_engine.render.pdf_frames import Box, Frames

_GAP = 1.1  # of the line's height: a wider gap parts two pieces of text
HYPHENS = "\ufffe\x02\xad"  # pdfium's marks for a hyphen that a line break put in, and the soft hyphen
# A line ends at a line break, or at pdfium's mark for a hyphen, after which it writes no line break.
_LINE = re.compile("[^\r\n\ufffe\x02]+[\ufffe\x02]?")
# Forms of letters that fonts name by mistake or for setting: radicals, ligatures, joined Arabic letters.
_FORMS = re.compile("[\u2e80-\u2fd5\ufb00-\ufb06\ufb50-\ufdff\ufe70-\ufefc]+")
_CONTROL = re.compile("[\x00-\x01\x03-\x08\x0b-\x1f\x7f]")
_HALVES = re.compile("[\ud800-\udfff]")
_FORCE_BOLD = 1 << 18  # a flag of the font descriptor (ISO 32000, 9.8.2)
_BOLD = re.compile(rb"bold|black|heavy|semibold|demi|cmbx|-bd", re.IGNORECASE)


@dataclass(frozen=True)
class Piece:
    """A run of text on one baseline, or a picture (with no text). Points from the upper left of its turn's frame."""

    text: str
    left: float
    top: float
    right: float
    bottom: float
    size: float = 0.0
    """Height of the font from its highest to its lowest letter."""
    baseline: float = 0.0
    bold: bool = False
    is_picture: bool = False
    characters: tuple[int, int] = (0, 0)
    """Its first and last + 1 character in pdfium's count."""
    turn: int = 0
    """Which frame it is upright in."""

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top


@dataclass(frozen=True)
class Letter:
    """One character for the reader of formulas. Points from the upper left."""

    text: str
    baseline: float
    size: float


class TextLayer:
    """The text of one open page. Close it before the page; asked for letters then, it opens again."""

    def __init__(self, page: pypdfium2.PdfPage, frames: Frames) -> None:
        self._page, self._frames = page, frames
        self._handle = pdfium.FPDFText_LoadPage(page)
        self._count = max(0, pdfium.FPDFText_CountChars(self._handle)) if self._handle else 0
        self._edges = tuple(
            ctypes.c_double() for _ in range(4)
        )  # left, top, right, bottom of the last answer
        self._loose, self._matrix = pdfium.FS_RECTF(), pdfium.FS_MATRIX()
        self._name, self._flags = ctypes.create_string_buffer(128), ctypes.c_int()

    def close(self) -> None:
        if self._handle:
            pdfium.FPDFText_ClosePage(self._handle)
            self._handle = None

    def text(self) -> str:
        """The whole layer as pdfium orders it."""
        if not self._count:
            return ""
        buffer = (ctypes.c_ushort * (2 * self._count + 1))()
        pdfium.FPDFText_GetText(self._handle, 0, self._count, buffer)
        return bytes(buffer).decode("utf-16-le", "replace").split("\0", 1)[0]

    def _units(self) -> str:
        """The whole layer with one character per unit of UTF-16, which is what pdfium's text indices count."""
        text = self.text()
        if text.isascii() or max(text) <= "\uffff":
            return text
        return "".join(map(chr, memoryview(text.encode("utf-16-le")).cast("H")))

    def pieces(self) -> list[Piece]:
        """All runs of text that can be seen as one, in pdfium's order."""
        found: list[Piece] = []
        for line in _LINE.finditer(self._units()):
            if text := line[0].strip():
                # Blanks that pdfium put in lie nowhere and run in no direction.
                begin = line.start() + line[0].index(text[0])
                first = pdfium.FPDFText_GetCharIndexFromTextIndex(self._handle, begin)
                last = pdfium.FPDFText_GetCharIndexFromTextIndex(self._handle, begin + len(text) - 1)
                if 0 <= first <= last:
                    found += self._of_line(text, first, last + 1)
        return found

    def letters(self, piece: Piece) -> list[Letter]:
        """The visible characters of a piece."""
        if not self._handle:
            self._handle = pdfium.FPDFText_LoadPage(self._page)
        x, y, box = ctypes.c_double(), ctypes.c_double(), pdfium.FS_RECTF()
        letters = []
        for index in range(*piece.characters):
            code = pdfium.FPDFText_GetUnicode(self._handle, index)
            if 0xDC00 <= code < 0xE000:
                continue  # the second half of a letter beyond U+FFFF, told with the first
            if code <= 32 or not pdfium.FPDFText_GetCharOrigin(self._handle, index, x, y):
                continue
            pdfium.FPDFText_GetLooseCharBox(self._handle, index, box)
            _, top, _, bottom = self._frames.box(piece.turn, box.left, box.bottom, box.right, box.top)
            baseline = self._frames.baseline(piece.turn, x.value, y.value)
            text = chr(code)
            if 0xD800 <= code < 0xDC00:
                text = whole_letters(text + chr(pdfium.FPDFText_GetUnicode(self._handle, index + 1)))[0]
            letters.append(Letter(text, baseline, bottom - top))
        return letters

    def _of_line(self, line: str, first: int, end: int) -> list[Piece]:
        turn = self._turn(first)
        if end - first > 1 and turn != self._turn(end - 1 - (line[-1] in HYPHENS)):
            return self._parted(first, end, float("inf"), mixed=True)
        rectangles = self._rectangles(turn, first, end - first)
        if not rectangles:
            return []
        height = max(bottom - top for _, top, _, bottom in rectangles)
        edge, gapped = rectangles[0][2], False
        for left, _, right, _ in sorted(rectangles):
            gapped |= left - edge > _GAP * height
            edge = max(edge, right)
        if not gapped or len(line) == 1:
            return [self._piece(line, rectangles, turn, first, end)]
        return self._parted(first, end, height, mixed=False)

    def _parted(self, first: int, end: int, height: float, *, mixed: bool) -> list[Piece]:
        """The pieces of a line that wide gaps part, or turns where its ends have `mixed` ones."""
        pieces: list[Piece] = []
        boxes: list[tuple[float, float, float, float]] = []
        text, begin, edge, turn = "", first, None, self._turn(first)
        for index in range(first, end):
            character = chr(pdfium.FPDFText_GetUnicode(self._handle, index) or 32)
            here = self._turn(index) if mixed and not character.isspace() else turn
            box = None if character.isspace() else self._character_box(here, index)
            if box is not None:
                away = 0.0 if edge is None else max(box[0] - edge[1], edge[0] - box[2])
                if away > _GAP * height or here != turn:
                    if boxes:
                        pieces.append(self._piece(text, boxes, turn, begin, index))
                    text, boxes, begin, turn = "", [], index, here
                edge = (box[0], box[2])
                boxes.append(box)
            text += character
        if boxes:
            pieces.append(self._piece(text, boxes, turn, begin, end))
        return pieces

    def _piece(self, text: str, boxes: list[Box], turn: int, first: int, end: int) -> Piece:
        loose = self._loose
        pdfium.FPDFText_GetLooseCharBox(self._handle, first, loose)
        _, over, _, under = self._frames.box(turn, loose.left, loose.bottom, loose.right, loose.top)
        x, y = self._edges[:2]
        pdfium.FPDFText_GetCharOrigin(self._handle, first, x, y)
        lefts, tops, rights, bottoms = zip(*boxes, strict=True)
        text = whole_letters(text)
        return Piece(
            _FORMS.sub(lambda form: unicodedata.normalize("NFKC", form[0]), _CONTROL.sub("", text)).strip(),
            min(lefts),
            min(tops),
            max(rights),
            max(bottoms),
            size=min(under - over, 3 * (max(bottoms) - min(tops))),
            baseline=self._frames.baseline(turn, x.value, y.value),
            bold=self._is_bold(first),
            characters=(first, end),
            turn=turn,
        )

    def _is_bold(self, index: int) -> bool:
        pdfium.FPDFText_GetFontInfo(self._handle, index, self._name, 128, self._flags)
        return bool(_BOLD.search(self._name.value)) or bool(self._flags.value & _FORCE_BOLD)

    def _turn(self, index: int) -> int:
        pdfium.FPDFText_GetMatrix(self._handle, index, self._matrix)
        return self._frames.turn_of(self._matrix.a, self._matrix.b)

    def _rectangles(self, turn: int, first: int, count: int) -> list[Box]:
        left, top, right, bottom = self._edges
        count = pdfium.FPDFText_CountRects(self._handle, first, count)
        return [
            self._frames.box(turn, left.value, bottom.value, right.value, top.value)
            for number in range(count)
            if pdfium.FPDFText_GetRect(self._handle, number, left, top, right, bottom)
        ]

    def _character_box(self, turn: int, index: int) -> Box | None:
        left, top, right, bottom = self._edges
        if not pdfium.FPDFText_GetCharBox(self._handle, index, left, right, bottom, top):
            return None
        return self._frames.box(turn, left.value, bottom.value, right.value, top.value)


def whole_letters(text: str) -> str:
    """Halves of letters beyond U+FFFF put together; a half without its other one becomes U+FFFD."""
    if text.isascii() or _HALVES.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
