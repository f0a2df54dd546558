"""Small PDFs written by hand, so that every fault is exactly the one that a test is about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

WIDTH, HEIGHT = 612, 792


def text_at(x: float, y: float, text: str, size: float = 12, font: str = "F1") -> str:
    """Content that writes a line; y from the top of the page, to the baseline."""
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT /{font} {size} Tf {x} {HEIGHT - y} Td ({escaped}) Tj ET\n"


def turned_text(x: float, y: float, text: str, degrees: float, size: float = 12, font: str = "F1") -> str:
    """Content that writes a line which rises by `degrees`; y from the top of the page."""
    along, up = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = f"{along:.6f} {up:.6f} {-up:.6f} {along:.6f} {x} {HEIGHT - y}"
    return f"BT /{font} {size} Tf {matrix} Tm ({text}) Tj ET\n"


def column(x: float, y: float, lines: Sequence[str], size: float = 10, leading: float = 13) -> str:
    return "".join(text_at(x, y + place * leading, line, size) for place, line in enumerate(lines))


def stream(entries: str, content: str) -> str:
    """An object that holds a stream."""
    return f"<< {entries} /Length {len(content.encode('latin-1'))} >>\nstream\n{content}\nendstream"


def unicode_map(codes: dict[str, str]) -> str:
    """An object that tells the Unicode of letters in a font: {letter in the content: four or eight hex digits}."""
    pairs = " ".join(f"<{ord(letter):02x}> <{digits}>" for letter, digits in codes.items())
    return stream(
        "",
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def "
        f"1 begincodespacerange <00> <FF> endcodespacerange {len(codes)} beginbfchar {pairs} endbfchar "
        "endcmap end end",
    )


def write_pdf(
    path: Path,
    pages: Sequence[str],
    *,
    encrypted: bool = False,
    font: str = "",
    rotate: int = 0,
    resources: str = "",
    page_entries: str = "",
    catalog_entries: str = "",
    others: Sequence[str] = (),
) -> Path:
    """A PDF with one content stream per page; F1 is Helvetica (or `font`), F2 its bold.

    `others` are objects 5, 6, ... for the entries of the catalog, of every page and of its resources to name.
    """
    first = 5 + len(others)
    kids = " ".join(f"{first + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R {catalog_entries} >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        font or "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold >>",
        *others,
    ]
    for number, content in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {WIDTH} {HEIGHT}] /Rotate {rotate} {page_entries} "
            f"/Resources << /Font << /F1 3 0 R /F2 4 0 R >> {resources} >> /Contents {first + 2 * number + 1} 0 R >>"
        )
        objects.append(stream("", content))
    security = ""
    if encrypted:
        key = "".join(f"{byte:02x}" for byte in range(32))
        security = f"/Encrypt << /Filter /Standard /V 1 /R 2 /O <{key}> /U <{key}> /P -4 >> /ID [<00> <00>]"
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    trailer = (
        f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R {security} >>\nstartxref\n{len(data)}\n%%EOF\n"
    )
    data += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{trailer}".encode("latin-1")
    path.write_bytes(data)
    return path
