"""The label tells what the picture shows, and nothing else; a page that takes too long to draw is skipped."""

from __future__ import annotations

import time
import zlib
from pathlib import Path

import pytest

from data_engine.render.base import NoSampleError
from tests.data_engine.pdfs import column, stream, text_at, write_pdf
from tests.data_engine.test_pdf import LEFT, boxes_in_pixels, gray_pixels, read

BODY = column(72, 80, LEFT)
HIDDEN = text_at(72, 500, "this sentence cannot be seen at all")
BITMAP = stream(
    "/Type /XObject /Subtype /Image /Width 2 /Height 2 /BitsPerComponent 8 /ColorSpace /DeviceGray",
    "\x10\x90\xd0\x50",
)
PICTURE = "q 300 0 0 200 72 300 cm /I Do Q\n"  # its place on the page: 72..372, and 292..492 from the top


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("grounding", [0.0, 1.0])
@pytest.mark.parametrize(
    "hidden",
    [
        "3 Tr " + HIDDEN + "0 Tr ",
        "1 g " + HIDDEN + "0 g ",
        "q 0 0 10 10 re W n " + HIDDEN + "Q ",
        "0.9 g 60 280 400 30 re f 0.9 g " + HIDDEN + "0 g ",
    ],
    ids=["invisible", "white", "clipped", "as its ground"],
)
def test_text_that_is_not_seen_is_not_told(tmp_path: Path, hidden: str, grounding: float) -> None:
    write_pdf(tmp_path / "page.pdf", [hidden + BODY])
    response = read(tmp_path, grounding).response
    assert response.endswith(LEFT[-1])
    write_pdf(tmp_path / "page.pdf", [hidden])
    with pytest.raises(NoSampleError, match=r"page without text layer: page.pdf, page 1: 0 characters"):
        read(tmp_path, grounding)


def test_pale_and_coloured_text_is_told(tmp_path: Path) -> None:
    content = (
        "0.9 g " + HIDDEN + "0.5 1 0.5 rg 60 180 400 30 re f 1 1 0.5 rg " + text_at(72, 600, "red and yellow")
    )
    assert read_text(tmp_path, BODY + content)[-2:] == [
        "this sentence cannot be seen at all",
        "red and yellow",
    ]


def read_text(directory: Path, content: str) -> list[str]:
    write_pdf(directory / "page.pdf", [content])
    return read(directory, 0.0).response.split("\n\n")


def test_letters_that_a_machine_read_from_a_scan_are_told(tmp_path: Path) -> None:
    """The invisible layer lies over a bitmap that has ink where the letters are."""
    ink = BITMAP.replace("Width 2", "Width 40").replace("Height 2", "Height 1")
    ink = ink.replace("Length 4", "Length 40").replace("\x10\x90\xd0\x50", "\x10\xe0" * 20)
    scan = "q 612 0 0 792 0 0 cm /I Do Q "
    write_pdf(
        tmp_path / "page.pdf", [scan + "3 Tr " + BODY], resources="/XObject << /I 5 0 R >>", others=[ink]
    )
    assert read(tmp_path, 0.0).response == " ".join(LEFT)


def test_notes_and_form_fields_are_not_drawn(tmp_path: Path) -> None:
    look = stream(
        "/Type /XObject /Subtype /Form /BBox [0 0 300 20] /Resources << /Font << /F1 3 0 R >> >>",
        "BT /F1 14 Tf 2 5 Td (Jane Doe, as she filled in the field) Tj ET",
    )
    kinds = ["/Subtype /Widget /FT /Tx /T (name) /V (Jane)", "/Subtype /FreeText /Contents (x)"]
    notes = [
        f"<< /Type /Annot {kind} /Rect [72 {200 + 100 * place} 372 {220 + 100 * place}] /F 4 /AP << /N 5 0 R >> >>"
        for place, kind in enumerate(kinds)
    ]
    write_pdf(
        tmp_path / "page.pdf",
        [BODY],
        others=[look, *notes],
        page_entries="/Annots [6 0 R 7 0 R]",
        catalog_entries="/AcroForm << /Fields [6 0 R] >>",
    )
    rendered = read(tmp_path, jpeg_quality=None)
    assert "Jane" not in rendered.response
    ((_, (_, _, _, bottom)),) = boxes_in_pixels(rendered)
    assert (gray_pixels(rendered)[bottom:] == 255).all()


@pytest.mark.parametrize(
    ("outside", "matrix", "inside"),
    [
        ("", "", PICTURE),
        ("0.5 0 0 0.5 36 346 cm", "/Matrix [1 0 0 1 0 100]", "q 600 0 0 400 72 -192 cm /I Do Q\n"),
        ("0 1 -1 0 372 300 cm", "", "q 200 0 0 300 0 0 cm /I Do Q\n"),
    ],
    ids=["plain", "scaled", "turned"],
)
@pytest.mark.parametrize("deep", [0, 1, 3])
def test_pictures_inside_of_forms_have_boxes(
    tmp_path: Path, outside: str, matrix: str, inside: str, deep: int
) -> None:
    """Figures of LaTeX are forms, the bitmaps in them are theirs."""
    frame = "/Type /XObject /Subtype /Form /BBox [-2000 -2000 2000 2000] "
    frame += "/Resources << /XObject << /I 5 0 R /X {} 0 R >> >>"
    forms = [stream(frame.format(7) + matrix, inside)]
    forms += [stream(frame.format(5 + level), "/X Do\n") for level in range(1, deep + 1)]
    write_pdf(
        tmp_path / "page.pdf",
        [BODY + f"q {outside} /X Do Q"],
        resources=f"/XObject << /X {6 + deep} 0 R >>",
        others=[BITMAP, *forms],
    )
    rendered = read(tmp_path, jpeg_quality=None)
    ((_, box),) = [(block, box) for block, box in boxes_in_pixels(rendered) if block.label == "image"]
    scale = 1024 / 792
    assert box == pytest.approx([72 * scale, 292 * scale, 372 * scale, 492 * scale], abs=3)


@pytest.mark.parametrize("grounding", [0.0, 1.0])
def test_a_page_of_very_many_lines_is_skipped_and_not_drawn(tmp_path: Path, grounding: float) -> None:
    for lines in ("0 0 m 612 792 l S\n" * 45_000, "0 0 m " + "612 792 l 0 792 l\n" * 30_000 + "S"):
        write_pdf(tmp_path / "page.pdf", [BODY + lines])
        start = time.process_time()
        with pytest.raises(NoSampleError, match=r"page too complex: page.pdf, page 1: more than 40000 lines"):
            read(tmp_path, grounding)
        assert time.process_time() - start < 10


def test_forms_inside_of_forms_are_counted_each_time_they_are_drawn(tmp_path: Path) -> None:
    form = "/Type /XObject /Subtype /Form /BBox [0 0 612 792]"
    nested = [
        stream(f"{form} /Resources << /XObject << /X {6 + level} 0 R >> >>", "/X Do " * 10)
        for level in range(4)
    ]
    forms = [*nested, stream(form, "0 0 1 1 re f")]
    write_pdf(tmp_path / "page.pdf", [BODY + "/X Do " * 4], resources="/XObject << /X 5 0 R >>", others=forms)
    with pytest.raises(NoSampleError, match="page too complex"):
        read(tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_whose_forms_grow_tenfold_per_level_is_never_opened(tmp_path: Path, packed: bool) -> None:
    form = "/Type /XObject /Subtype /Form /BBox [0 0 612 792]"
    content, filtered = "/X Do " * 10, ""
    if packed:
        content, filtered = zlib.compress(content.encode()).decode("latin-1"), "/Filter /FlateDecode"
    nested = [
        stream(f"{form} {filtered} /Resources << /XObject << /X {6 + level} 0 R >> >>", content)
        for level in range(9)
    ]
    forms = [*nested, stream(form, "0 0 1 1 re f")]
    write_pdf(tmp_path / "page.pdf", [BODY + "/X Do "], resources="/XObject << /X 5 0 R >>", others=forms)
    start = time.process_time()
    with pytest.raises(NoSampleError, match=r"PDF too complex: page\.pdf"):
        read(tmp_path)
    assert time.process_time() - start < 5
