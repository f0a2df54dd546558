"""Molecules: the label says what is drawn and nothing else, and what is drawn can be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem.Draw import rdMolDraw2D

from data_engine.chemistry_options import SHARES
from data_engine.errors import ConfigError
from data_engine.kinds import KINDS, make_renderer
from data_engine.random_stream import Draws
from data_engine.render import chemistry
from data_engine.render.base import NoSampleError, Rendered, Renderer
from data_engine.render.chemistry_abbreviations import GROUPS, abbreviated
from data_engine.render.chemistry_drawing import (
    BOND_NOT_DRAWN,
    CROWDED,
    STEREO_NOT_DRAWN,
    as_drawn,
    not_drawn,
)
from data_engine.render.chemistry_style import random_style
from data_engine.smiles import nci_file

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


STYLES = [
    {"abbreviations": 1.0},
    {"hydrogens": 1.0},
    {"numbers": 1.0},
    {"descriptors": 1.0},
    {"legends": 1.0},
    {"families": ["serif"], "bold": 1.0},
    {"families": ["mono"]},
    {"fixed_bonds": 1.0, "bond_pixels": [20, 20]},
    {"layouts": ["sampled"]},
    {"layouts": ["templates"]},
    {"methyl": 1.0, "deuterium": 1.0},
    {"palettes": ["avalon"], "color": 1.0},
    {"palettes": ["cdk"], "color": 1.0},
    {"rotated": 1.0},
    {"line_width": [5.0, 5.0]},
    {"font_pixels": [16, 16]},
]
NONE = {**dict.fromkeys(SHARES, 0.0), "layouts": ["plain"], "families": ["sans"]}


@pytest.mark.parametrize("style", STYLES, ids=str)
def test_every_style_shows_and_tells_the_same_molecule(style: dict, tmp_path: Path) -> None:
    smiles = "COc1ccc(/C=C/[C@H](C)O)cc1CCC(CC)CCOCCN.[2H]C"
    if "hydrogens" in style:
        smiles = "COC(/C=C/[C@H](C)O)C"
    usual, other = drawn(smiles, tmp_path, **NONE), drawn(smiles, tmp_path, **NONE | style)
    assert other.response == usual.response
    assert other.pictures[0].data != usual.pictures[0].data or "layouts" in style


@pytest.mark.parametrize(
    ("layout", "smiles"), [("templates", "C1CC2CCC1CC2"), ("sampled", "CCCC[CH](CC)C=CC1=NC2=C(C=CC=C2)C=C1")]
)
def test_layouts_differ_where_there_is_more_than_one(layout: str, smiles: str, tmp_path: Path) -> None:
    usual, other = (drawn(smiles, tmp_path, **NONE | {"layouts": [name]}) for name in ("plain", layout))
    assert usual.response == other.response
    assert usual.pictures[0].data != other.pictures[0].data


@pytest.mark.parametrize("style", STYLES, ids=str)
def test_a_sample_does_not_depend_on_those_before_it(style: dict) -> None:
    def one(index: int) -> bytes:
        try:
            return renderer.render(Draws(9, "chemistry", index)).pictures[0].data
        except NoSampleError as error:
            return str(error).encode()

    options = KINDS["chemistry"].options(size=192, **style)
    renderer = make_renderer("chemistry", options)
    forwards = [one(index) for index in range(8)]
    backwards = [one(index) for index in reversed(range(8))]
    renderer = make_renderer("chemistry", options)
    assert forwards == backwards[::-1]
    assert one(5) == forwards[5]


def written_out(molecule: Chem.Mol) -> str:
    """The SMILES of a molecule whose letters are replaced by the atoms that they stand for."""
    whole = Chem.RWMol(molecule)
    for letters in molecule.GetAtoms():
        if not letters.HasProp("atomLabel"):
            continue
        group = Chem.MolFromSmiles(GROUPS[letters.GetProp("atomLabel")][0])
        # In its place, so that the bonds around a centre keep their order.
        whole.ReplaceAtom(letters.GetIdx(), Chem.Atom(group.GetAtomWithIdx(1)))
        places = {1: letters.GetIdx()}
        places |= {atom.GetIdx(): whole.AddAtom(atom) for atom in list(group.GetAtoms())[2:]}
        for bond in group.GetBonds():
            if 0 not in (ends := (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())):
                whole.AddBond(places[ends[0]], places[ends[1]], bond.GetBondType())
    Chem.SanitizeMol(whole)
    return Chem.MolToSmiles(Chem.MolFromSmiles(Chem.MolToSmiles(whole)))


def read_again(molecule: Chem.Mol) -> Chem.Mol:
    """From its two coordinates and wedges alone: what a chemist sees."""
    read = Chem.MolFromMolBlock(Chem.MolToMolBlock(molecule, forceV3000=True), removeHs=False)
    for seen, atom in zip(read.GetAtoms(), molecule.GetAtoms(), strict=True):
        seen.ClearProp("atomLabel")
        if atom.HasProp("atomLabel"):
            seen.SetProp("atomLabel", atom.GetProp("atomLabel"))
    return read


LETTERED = [
    ("CC(C)(C)OC(=O)N[C@@H](Cc1ccccc1)C(=O)O", False),  # two groups at the centre: no wedge would be drawn
    ("CC[C@H](C)[C@@H](OC)C(=O)OC", False),
    (r"CC/C(OC)=C/C[N+](=O)[O-]", False),
    ("O[C@H](CCC#N)c1ccccc1", True),
    ("CC(=O)Oc1ccc(cc1)[N+](=O)[O-]", True),
    ("O=S(=O)(N1CCN(CCO)CC1)c1ccc(C)cc1", True),
    ("CCC(OC)=C(C)CC", True),
    ("[13CH3]Oc1ccc(C)cc1", False),
    ("[CH2-]Oc1ccc(C)cc1", False),
    ("[CH2]Oc1ccc(C)cc1", False),
    ("[CH3:1]Oc1ccc(C)cc1", False),
    ("CCCCOc1ccc(cc1)C(=O)[O-]", False),
    ("CCCCOc1ccc(cc1)[S-]", True),
]


@pytest.mark.parametrize(("smiles", "is_lettered"), LETTERED)
def test_letters_stand_for_the_atoms_of_the_label(smiles: str, is_lettered: bool) -> None:
    molecule = Chem.MolFromSmiles(smiles)
    label = Chem.MolToSmiles(molecule)
    shortened = abbreviated(molecule, label, hydrocarbons=True)
    assert (shortened.GetNumAtoms() < molecule.GetNumAtoms()) == is_lettered
    assert written_out(read_again(rdMolDraw2D.PrepareMolForDrawing(shortened))) == label


@pytest.mark.slow
@pytest.mark.parametrize("style", [{}, *STYLES[:2], *STYLES[8:10]], ids=str)
def test_a_drawing_reads_as_its_label(style: dict) -> None:
    """Over the NCI's molecules: what is laid out, and read again from the layout, is the label."""
    options = KINDS["chemistry"].options(**NONE | style)
    count = 0
    for number, line in enumerate(nci_file().read_text().splitlines()[::24]):
        molecule = Chem.MolFromSmiles(line.split()[0])
        label = "" if molecule is None else Chem.MolToSmiles(molecule)
        if not label or not_drawn(molecule, label):
            continue
        stream = Draws(1, "chemistry", number).stream("style")
        shown = as_drawn(molecule, label, random_style(stream, options, options.weights(), 512))
        assert written_out(Chem.RemoveHs(read_again(shown))) == label
        count += 1
    assert count > 190


def rendered_or_not(renderer: Renderer, count: int) -> Iterator[Rendered | NoSampleError]:
    for index in range(count):
        try:
            yield renderer.render(Draws(4, "chemistry", index))
        except NoSampleError as error:
            yield error


def test_the_label_is_of_the_line_that_is_named(tmp_path: Path) -> None:
    lines = nci_file().read_text().splitlines()
    renderer = make_renderer("chemistry", KINDS["chemistry"].options(size=128))
    samples = [sample for sample in rendered_or_not(renderer, 60) if isinstance(sample, Rendered)]
    assert len({sample.details["line"] for sample in samples}) == len(samples) > 30
    for sample in samples:
        source = lines[sample.details["line"] - 1].split()[0]
        assert sample.response == Chem.MolToSmiles(Chem.MolFromSmiles(source))


@pytest.mark.slow
@pytest.mark.parametrize("listed", [0, 10_000])
def test_long_files_are_parted_as_short_ones_are(
    listed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file is too long to be looked through, another molecule is drawn in place of one of the other part."""
    monkeypatch.setattr(chemistry, "_LISTED", listed)
    file = tmp_path / "some.smi"
    file.write_text("".join(nci_file().read_text().splitlines(keepends=True)[:1200]))
    parts = []
    for split in ("train", "heldout"):
        options = KINDS["chemistry"].options(smiles=str(file), split=split, max_atoms=12, size=128)
        renderer = make_renderer("chemistry", options)
        samples = list(rendered_or_not(renderer, 50))
        parts.append({sample.response for sample in samples if isinstance(sample, Rendered)})
        assert sum(isinstance(sample, NoSampleError) for sample in samples) < 12  # the invalid are in both
        again = list(rendered_or_not(renderer, 50))
        assert [str(sample) for sample in again] == [str(sample) for sample in samples]
        for label in parts[-1]:
            assert Chem.MolFromSmiles(label).GetNumHeavyAtoms() <= 12
    assert len(parts[0]) > 30
    assert len(parts[1]) > 20
    assert not parts[0] & parts[1]


def test_a_file_without_a_fitting_molecule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.smi"
    path.write_text("c1ccccc1C\nCCCCCCCCCC\n")
    options = KINDS["chemistry"].options(smiles=str(path), max_atoms=3)
    with pytest.raises(
        ConfigError, match=r"large.smi passes options.max_atoms and options.split: loosen them"
    ):
        make_renderer("chemistry", options)
    monkeypatch.setattr(chemistry, "_LISTED", 0)
    (error,) = rendered_or_not(make_renderer("chemistry", options), 1)
    assert isinstance(error, NoSampleError)
    assert error.reason == chemistry.NOT_FOUND


def test_lines_without_a_molecule_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.smi"
    path.write_bytes(b"CCO\nC\xef\n   \nC1CC\nN\n")
    renderer = make_renderer("chemistry", KINDS["chemistry"].options(smiles=str(path), size=128))
    told = sorted(str(sample) for sample in rendered_or_not(renderer, 5) if isinstance(sample, NoSampleError))
    assert told == [
        "invalid SMILES: line 4 of a.smi: C1CC",
        "line that is not UTF-8: line 2 of a.smi: C\ufffd",
        "line without a SMILES: line 3 of a.smi:    ",
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"legends": 2}, "options.legends=2 is not possible"),
        ({"palettes": ["avlon"]}, "options.palettes=avlon is not possible; did you mean 'avalon'?"),
        ({"families": {"sans": 0, "serif": 0, "mono": 0}}, "options.families needs at least one of"),
        ({"font_pixels": [9, 8]}, "options.font_pixels=[9,8] is not possible"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        KINDS["chemistry"].options(**options)
    assert str(caught.value).startswith(sentence)
