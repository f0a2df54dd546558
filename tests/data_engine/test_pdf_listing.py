"""What is kept of a listing, and what is looked at again."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_engine.sources import pdf_listing
from data_engine.sources.pdf_listing import UNREADABLE, open_listing
from tests.data_engine.pdfs import text_at, write_pdf


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data_engine"


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A list of two PDFs."""
    for name in ("a", "b"):
        write_pdf(tmp_path / f"{name}.pdf", [text_at(72, 60, name)])
    (tmp_path / "list.txt").write_text("a.pdf\nb.pdf\n")
    return tmp_path / "list.txt"


def problems(listed: Path) -> list[str]:
    return [file.problem for file in open_listing(str(listed), 100).files]


def test_a_read_error_that_passes_is_not_kept(
    listed: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path) -> str:
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as context:
        context.setattr(pdf_listing, "sha256_of", failing)
        assert problems(listed) == [UNREADABLE, UNREADABLE]
    assert problems(listed) == ["", ""]
    assert len(list(cache.iterdir())) == 1


def test_a_file_that_is_not_there_does_not_keep_the_others_from_being_kept(listed: Path, cache: Path) -> None:
    content = (listed.parent / "b.pdf").read_bytes()
    (listed.parent / "b.pdf").unlink()
    assert problems(listed) == ["", UNREADABLE]
    assert len(list(cache.iterdir())) == 1
    (listed.parent / "b.pdf").write_bytes(content)
    assert problems(listed) == ["", ""]


def test_what_another_version_found_out_is_not_used(
    listed: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems(listed)
    monkeypatch.setattr(pdf_listing, "_VERSION", pdf_listing._VERSION + 1)
    problems(listed)
    assert len(list(cache.iterdir())) == 2
