"""How much the forms of a PDF hold once every form inside of them is written out, found without opening it.

A form that draws ten forms, each of which draws ten others, grows tenfold per level: two kilobytes keep pdfium busy
for hours before it hands over the page, and no signal is heard meanwhile. What lies in plain objects is seen here,
which is where forms themselves must lie; resources of theirs in compressed objects are not followed.
"""

from __future__ import annotations

import mmap
import re
import zlib
from collections import Counter
from pathlib import Path

_FORM = re.compile(rb"/Subtype\s*/Form\b")
_NUMBER = re.compile(rb"(\d{1,9})\s+\d{1,5}\s+obj\s*$")
_CHILDREN = re.compile(rb"/XObject\s*<<([^>]*)>>")
_CHILD = re.compile(rb"/([^\s/<>\[\]()]+)\s+(\d{1,9})\s+\d{1,5}\s+R")
_DRAWN = re.compile(rb"/([^\s/<>\[\]()]+)\s+Do\b")
_HEAD = 4096  # bytes: the dictionary of a form is shorter
_LONGEST = 1 << 22  # bytes of a form that are looked at
_LEVELS = 40
_OPERATION = 16  # bytes


def drawn_by_forms(file: Path, most: int) -> int:
    """Operations in the largest form, or at once any number above `most`. OSError where the file cannot be read."""
    with file.open("rb") as opened:
        if not opened.seek(0, 2):
            return 0
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            forms = dict(_forms(data))
    size = {number: own for number, (own, _) in forms.items()}
    for _ in range(_LEVELS):
        grown = {
            number: own + sum(times * size.get(child, 0) for child, times in children.items())
            for number, (own, children) in forms.items()
        }
        if grown == size or max(grown.values()) > most:
            size = grown
            break
        size = grown
    return max(size.values(), default=0)


def _forms(data: mmap.mmap) -> list[tuple[int, tuple[int, Counter[int]]]]:
    """(number, (operations, how often it draws which object)) of every form."""
    found = []
    end = 0
    for match in _FORM.finditer(data):
        if match.start() < end:
            continue  # inside of the stream before: nothing is read twice
        begin = data.rfind(b"obj", max(0, match.start() - _HEAD), match.start())
        stream = data.find(b"stream", match.end(), match.end() + _HEAD)
        if begin < 0 or stream < 0:
            continue
        number = _NUMBER.search(data[max(0, begin - 20) : begin + 3])
        head = data[begin:stream]
        end = data.find(b"endstream", stream + 6)
        if end < 0:
            break
        content = data[stream + 6 : min(end, stream + 6 + _LONGEST)].lstrip(b"\r\n")
        names = dict(_CHILD.findall(b"".join(_CHILDREN.findall(head))))
        if names and b"/FlateDecode" in head:
            try:
                content = zlib.decompressobj().decompress(content, _LONGEST)
            except zlib.error:
                continue
        drawn = Counter(int(names[name]) for name in _DRAWN.findall(content) if name in names)
        if number is not None:
            found.append((int(number[1]), (1 + len(content) // _OPERATION, drawn)))
    return found
