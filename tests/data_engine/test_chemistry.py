"""Molecules: the label says what is drawn and nothing else, and what is drawn can be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem

from data_engine.kinds import KINDS, make_renderer
from data_engine.random_stream import Draws
from data_engine.render.base import NoSampleError, Rendered
from data_engine.render.chemistry_drawing import BOND_NOT_DRAWN, CROWDED, STEREO_NOT_DRAWN

GLYCINES = "NCC(=O)" * 40 + "O"


def drawn(smiles: str, directory: Path, **options: object) -> Rendered:
    """The first sample of a file with one molecule: every molecule in the same style."""
    path = directory / "one.smi"
    path.write_text(f"{smiles}\n")
    renderer = make_renderer("chemistry", KINDS["chemistry"].options(smiles=str(path), **options))
    return renderer.render(Draws(3, "chemistry", 0))


@pytest.mark.parametrize(
    "spellings",
    [
        ["CC=CC", "C/C=C/C", r"C/C=C\C"],
        ["CC=NO", "C/C=N/O", r"C/C=N\O"],
        ["CN=NC", "C/N=N/C", r"C/N=N\C"],
        ["C1CCCCCCC=C1", "C1CCCCCC/C=C/1", r"C1CCCCCC/C=C\1"],
        ["F/C=C/C(O)C=CF", "F/C=C/[C@H](O)C=CF", "F/C=C/[C@@H](O)C=CF", r"F/C=C/[C@H](O)/C=C\F"],
        ["CC(N)C(=O)O", "C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"],
        ["OC1CCC(C)CC1", "O[C@H]1CC[C@H](C)CC1", "O[C@H]1CC[C@@H](C)CC1"],
        ["CC(O)C(O)C", "C[C@H](O)[C@@H](O)C", "C[C@H](O)[C@H](O)C", "C[C@H](O)C(O)C"],
        ["CS(=O)CC", "C[S@](=O)CC", "C[S@@](=O)CC"],
        ["CC", "[CH2]C", "[CH2-]C", "[CH2+]C", "[13CH3]C", "[CH3:1]C", "[2H]CC", "C=C", "C#C", "C~C"],
        ["CN[Cu]", "CN->[Cu]", "C[NH-]->[Cu+]"],
        ["[Na]Cl", "[Na+].[Cl-]"],
        ["*C", "[*:1]C", "[1*]C"],
    ],
)
def test_different_labels_have_different_pictures(spellings: list[str], tmp_path: Path) -> None:
    """What says neither E nor Z is drawn as neither, what says nothing of a centre without wedges."""
    samples = [drawn(smiles, tmp_path, size=256) for smiles in spellings]
    assert len({sample.response for sample in samples}) == len(spellings)
    assert len({sample.pictures[0].data for sample in samples}) == len(spellings)
    for smiles, sample in zip(spellings, samples, strict=True):
        assert sample.response == Chem.MolToSmiles(Chem.MolFromSmiles(smiles))


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("C$C", BOND_NOT_DRAWN),
        ("C[Pt@SP1](F)(Cl)Br", STEREO_NOT_DRAWN),
        ("F[Co@OH1](Cl)(Br)(N)(O)S", STEREO_NOT_DRAWN),
        ("C" * 120, CROWDED),
        (GLYCINES, CROWDED),
        ("C" * 3000, CROWDED),
        # Two phenyls of benzpinacol lie on one another.
        ("OC(C1=CC=CC=C1)(C2=CC=CC=C2)C(O)(C3=CC=CC=C3)C4=CC=CC=C4", CROWDED),
        ("C1CN[Ni]23(N1)(NCCN2)NCCN3", CROWDED),
        # The letters of water would stand on the chain.
        (f"O=C(O)c1ccc(C(=O)N{'C' * 30})cc1.O.O.[Cl-].[Na+]", CROWDED),
    ],
)
def test_what_no_picture_can_say_is_skipped(smiles: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(NoSampleError) as caught:
        drawn(smiles, tmp_path)
    assert caught.value.reason == reason
    assert caught.value.place.startswith(f"line 1 of one.smi: {smiles[:40]}")


@pytest.mark.parametrize(
    "smiles", ["C", "[Na+].[Cl-]", "CC1(C)C2CCC1(C)C(=O)C2", "O.O.[Cl-].[Na+].c1ccncc1", "C" * 30]
)
def test_what_can_be_read_is_kept(smiles: str, tmp_path: Path) -> None:
    picture = drawn(smiles, tmp_path).pictures[0].pixels
    assert picture is not None
    assert np.ptp(picture[..., 0] if picture.ndim == 3 else picture) > 100
