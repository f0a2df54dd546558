"""Versions of post-processing: what is done to an answer before it is scored. A version never changes.

`raw`: nothing.

`released`: what the released OmniDocBench script does before scoring (DeepSeek-OCR's evaluation batch), as
its behaviour is described: the end-of-sentence mark is cut off; spans of label and boxes are dropped; `<center>`
goes, its content stays; equation numbers `\\quad (3)` go; runs of blank lines become one; `\\coloneqq` and
`\\eqqcolon` are spelled out.
"""

from __future__ import annotations

import re
from collections.abc import Callable

END_OF_SENTENCE = "<｜end▁of▁sentence｜>"
_SPAN = re.compile(r"<\|ref\|>.*?<\|/ref\|>\s?<\|det\|>.*?<\|/det\|>[ \t]*\n?", re.DOTALL)
_EQUATION_NUMBER = re.compile(r"\\quad\s*\([^()\n]{1,20}\)")
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")


def raw(text: str) -> str:
    """The text as it is."""
    return text


def released(text: str) -> str:
    """What the released script makes of an answer (see the top of this file)."""
    text = text.removesuffix(END_OF_SENTENCE)
    text = _SPAN.sub("", text)
    text = text.replace("<center>", "").replace("</center>", "")
    text = _EQUATION_NUMBER.sub("", text)
    text = text.replace("\\coloneqq", ":=").replace("\\eqqcolon", "=:")
    return _BLANK_LINES.sub("\n\n", text).strip()


VERSIONS: dict[str, Callable[[str], str]] = {"raw": raw, "released": released}
