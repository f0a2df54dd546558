"""The words of a page, and lines joined into paragraphs with their help."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from data_engine.render.pdf_text import HYPHENS, Piece

_NO_BLANK = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
_WORD = re.compile(r"[^\W_]+(?:[-‐][^\W_]+)*")
_LAST = re.compile(r"[^\W_]+(?:[-‐][^\W_]+)*$")
_FIRST = re.compile(r"[^\W_]+")
# First parts of compounds which hardly ever are the first syllables of a word.
_FIRST_PARTS = {
    *("self", "well", "cross", "half", "high", "low"),
    *("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "zero"),
}
_LEAST_FIRST, _LEAST_SECOND = 3, 4  # letters: shorter words are syllables of others


class Words:
    """The words of a page as they are written within its lines."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces

    @cached_property
    def _known(self) -> set[str]:
        return {word for piece in self._pieces for word in _WORD.findall(piece.text.lower())}

    def joined(self, lines: Sequence[str]) -> str:
        """Lines of a paragraph as one: blanks between, none between Chinese letters, hyphens of line ends gone."""
        text = ""
        for line in lines:
            line = line.strip()
            if not line:
                continue
            broken = len(text) > 1 and text[-1] in "-‐" and text[-2].islower() and line[0].islower()
            if broken or (text and text[-1] in HYPHENS):
                kept = text[-1] != "\xad" and self._is_compound(text[:-1], line)
                text = f"{text[:-1]}-{line}" if kept else text[:-1] + line
            elif text and _NO_BLANK.match(text[-1]) and _NO_BLANK.match(line[0]):
                text += line
            else:
                text = f"{text} {line}" if text else line
        for mark in HYPHENS:
            text = text.replace(mark, "-" if mark != "\xad" else "")
        return re.sub(r"\s+", " ", text)

    def _is_compound(self, before: str, behind: str) -> bool:
        """Whether a hyphen at the end of a line belongs to its word.

        pdfium marks it in either case, so the page is asked how it writes the word, or its parts, elsewhere.
        """
        last, first = _LAST.search(before.lower()), _FIRST.match(behind.lower())
        if last is None or first is None:
            return False
        if last[0] + first[0] in self._known:
            return False
        if f"{last[0]}-{first[0]}" in self._known or "-" in last[0] or last[0] in _FIRST_PARTS:
            return True
        long = len(last[0]) >= _LEAST_FIRST and len(first[0]) >= _LEAST_SECOND
        return long and self._stands_alone(last[0]) and self._stands_alone(first[0])

    def _stands_alone(self, word: str) -> bool:
        """Whether a word is written within a line, not only cut by its end."""
        return any(
            found[0] == word and found.end() < len(text.rstrip()) and found.start() > 0
            for piece in self._pieces
            for text in [piece.text.lower()]
            if word in text
            for found in _WORD.finditer(text)
        )
