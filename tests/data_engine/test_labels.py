"""Every label parses back into what was drawn, and nothing is in a label that the picture does not show."""

from __future__ import annotations

import io
from collections.abc import Iterator
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from data_engine.kinds import KINDS, make_renderer
from data_engine.random_stream import Draws
from data_engine.render.base import Rendered, Renderer
from tests.data_engine.conftest import needs_assets

COUNT = 40


def pixels_of(rendered: Rendered) -> np.ndarray:
    picture = rendered.pictures[0]
    image = Image.open(io.BytesIO(picture.data))
    assert image.size == (picture.width, picture.height)
    return np.asarray(image.convert("L")).astype(int)


def samples(kind: str, count: int = COUNT, **options: object) -> Iterator[Rendered]:
    renderer: Renderer = make_renderer(kind, KINDS[kind].options(**options))
    try:
        for index in range(count):
            yield renderer.render(Draws(11, kind, index))
    finally:
        renderer.close()


class Table(HTMLParser):
    """The rows of a plain table; anything but table, tr and td is an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        assert tag in ("table", "tr", "td")
        assert not attrs
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.rows[-1][-1] += data


def test_cards_hold_what_the_options_say() -> None:
    lengths = set()
    for rendered in samples("card", 200, alphabet="abc 1", length=[1, 6], lines=[1, 2], noise=8.0):
        text = rendered.response
        lengths.add(len(text))
        assert set(text) <= set("abc 1")
        assert text == text.strip()
        assert "  " not in text
        picture = pixels_of(rendered)
        assert picture.shape == (128, 128)
        assert picture.max() - picture.min() > 90
    assert lengths == set(range(1, 7))


def test_the_ink_of_a_card_stays_off_its_edges() -> None:
    for rendered in samples(
        "card", 100, alphabet="gjÅ|@W", lines=[1, 3], length=[1, 12], fonts=["serif", "mono"]
    ):
        picture = pixels_of(rendered)
        ground = np.median(picture)
        edge = np.concatenate(
            [picture[:2].ravel(), picture[-2:].ravel(), picture[:, :2].ravel(), picture[:, -2:].ravel()]
        )
        assert (np.abs(edge - ground) < 10).all(), rendered.response


@needs_assets
def test_pages_hold_the_words_that_they_tell() -> None:
    marks = 0
    for rendered in samples("page", 30, size=256, words=[10, 60], lists=0.8):
        text = rendered.response
        assert text
        assert text == text.strip()
        assert "\n\n\n" not in text
        marks += "• " in text or "1. " in text
        picture = pixels_of(rendered)
        assert (picture < picture.max() - 80).mean() > 0.005
    assert marks > 5


def test_molecules_are_canonical_and_drawn() -> None:
    from rdkit import Chem

    for rendered in samples("chemistry", 15, size=256, max_atoms=20):
        molecule = Chem.MolFromSmiles(rendered.response)
        assert molecule is not None
        assert Chem.MolToSmiles(molecule) == rendered.response
        assert molecule.GetNumHeavyAtoms() <= 20
        picture = pixels_of(rendered)
        assert (picture < picture.max() - 60).mean() > 0.002
        assert b"tEXt" not in rendered.pictures[0].data
