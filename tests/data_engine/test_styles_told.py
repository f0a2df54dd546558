"""Cards and pages tell their style, so that look= can show how often each occurs."""

from __future__ import annotations

import numpy as np
import pytest

from data_engine.fonts import LATIN_FAMILIES
from data_engine.kinds import KINDS, make_renderer
from data_engine.random_stream import Draws
from data_engine.render.base import Rendered


def rendered(kind: str, count: int, **options: object) -> list[Rendered]:
    renderer = make_renderer(kind, KINDS[kind].options(**options))
    return [renderer.render(Draws(7, kind, index)) for index in range(count)]


def test_cards_tell_family_weight_and_inversion() -> None:
    for card in rendered("card", 40):
        assert card.details["family"] in LATIN_FAMILIES
        assert card.pictures[0].pixels is not None
        assert card.details["inverted"] == (np.median(card.pictures[0].pixels) < 128)
    for share in (0.0, 1.0):
        assert {card.details["bold"] for card in rendered("card", 5, bold=share)} == {bool(share)}


@pytest.mark.parametrize("columns", [1, 2])
def test_pages_tell_columns_titles_and_lists(columns: int) -> None:
    for page in rendered("page", 12, languages=["en"], columns=[columns, columns], size=300, words=[30, 60]):
        assert page.details["columns"] == columns
        assert page.details["family"] in LATIN_FAMILIES
        assert page.details["alignment"] in ("left", "justified")
        assert page.details["list"] == ("\n• " in page.response or "\n1. " in page.response)
    assert {page.details["title"] for page in rendered("page", 4, languages=["en"], titles=0.0)} == {"none"}
    titles = {page.details["title"] for page in rendered("page", 20, languages=["en"], titles=1.0)}
    assert titles == {"left", "centred"}
