"""What stands in the picture of a molecule: no more and no less than its label says, and readable.

RDKit lays out a double bond as E or as Z even where nothing says which: such bonds are drawn crossed. What it cannot
draw so that it is told from something else is refused, and so are drawings in which atoms or letters meet.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdDepictor
from rdkit.Chem.Draw import rdMolDraw2D

from data_engine.render.chemistry_abbreviations import abbreviated
from data_engine.render.chemistry_style import ChemistryStyle

BOND_NOT_DRAWN = "bond that cannot be drawn"
STEREO_NOT_DRAWN = "stereochemistry that cannot be drawn"
CROWDED = "molecule too crowded to read"

_UNDRAWN_STEREO = re.compile(r"@(?:SP|TB|OH|AL)\d")
"""Square planar, bipyramidal and octahedral centres have no wedges that tell them apart."""
_OTHER_DOUBLE_BOND = re.compile(r"(?<!O)=(?!O)")
"""A double bond that may be E or Z, if one looks closer; those to oxygen never are."""
_MOST_ATOMS = 1000
"""Laying out more takes seconds, and no letter of them could be read."""
_MOST_WITH_HYDROGENS = 16
"""Heavy atoms. Larger molecules have no room for their hydrogen."""
_LEAST_DISTANCE = 6.0
"""Pixels between two atoms."""
_BOND = 1.5
"""Length of bonds in RDKit's layouts."""
_LEAST_BONDS = 0.25
"""Distance of two atoms in bonds; the carbons of camphor come as near as 0.42, and can be told apart."""
_LETTERS = 1.5
"""Heights of a letter that a bond takes, and that lie between two molecules: a letter covers no bond then."""
_FARTHEST_CROSSING = 3
"""Bonds between two bonds that cross. Bridged rings cross with 1 or 2; more is a chain that runs over itself."""


_NO_CROSSING = 0.75
"""Where two bonds cross, ends of theirs are nearer than 0.71 of the longer one."""


def not_drawn(molecule: Chem.Mol, label: str) -> str | None:
    """Why no picture can say what this molecule is, whose canonical SMILES is `label`; None when one can."""
    if "$" in label:
        return BOND_NOT_DRAWN  # a quadruple bond is drawn as a single one
    if _UNDRAWN_STEREO.search(label):
        return STEREO_NOT_DRAWN
    if molecule.GetNumAtoms() > _MOST_ATOMS:
        return CROWDED
    return None


def cross_unknown_bonds(molecule: Chem.Mol, label: str) -> None:
    """Have every double bond drawn crossed that may be E or Z and is not said to be either."""
    if not _OTHER_DOUBLE_BOND.search(label):
        return
    for entry in Chem.FindPotentialStereo(molecule):
        is_bond = entry.type == Chem.StereoType.Bond_Double
        if is_bond and entry.specified == Chem.StereoSpecified.Unspecified:
            molecule.GetBondWithIdx(entry.centeredOn).SetStereo(Chem.BondStereo.STEREOANY)


def as_drawn(molecule: Chem.Mol, label: str, style: ChemistryStyle) -> Chem.Mol:
    """A copy, laid out and ready for RDKit's drawing, of a molecule whose canonical SMILES is `label`."""
    drawn = molecule
    if style.hydrogens and molecule.GetNumHeavyAtoms() <= _MOST_WITH_HYDROGENS:
        # After: a hydrogen that is drawn makes C=N-H an E or a Z.
        drawn = Chem.AddHs(drawn)
        cross_unknown_bonds(drawn, label)
    else:
        # Before: two groups written as letters are alike to RDKit, it would not find what may be E or Z.
        cross_unknown_bonds(drawn, label)
        if style.abbreviations:
            drawn = abbreviated(drawn, label, style.hydrocarbons)
    if style.layout == "sampled":
        rdDepictor.Compute2DCoords(
            drawn, nFlipsPerSample=3, nSample=20, sampleSeed=style.layout_seed, permuteDeg4Nodes=True
        )
    elif style.layout == "templates":
        rdDepictor.Compute2DCoords(drawn, useRingTemplates=True)
    return rdMolDraw2D.PrepareMolForDrawing(drawn)


def is_crowded(drawer: Any, drawn: Chem.Mol) -> bool:
    """Whether atoms, letters or chains of `drawn`, which `drawer` has just drawn, meet in the picture."""
    if drawn.GetNumAtoms() == 1:
        return False
    places = drawn.GetConformer().GetPositions()[:, :2]  # [atom, xy] in the units of the layout
    offsets = places[:, None] - places[None]
    squares = np.einsum("abx,abx->ab", offsets, offsets)
    np.fill_diagonal(squares, np.inf)
    nearest = math.sqrt(squares.min())
    if nearest == 0:
        return True
    unit = _pixels_per_unit(drawer, places)
    letter = drawer.FontSize() / unit
    if drawn.GetNumBonds():
        if _LETTERS * letter > _BOND or nearest < max(_LEAST_DISTANCE / unit, _LEAST_BONDS * _BOND):
            return True
        if nearest < _NO_CROSSING * _BOND and _runs_over_itself(drawn, places):
            return True
    # Between two molecules of one picture, a salt and its water, letters need room as well.
    molecules = Chem.GetMolFrags(drawn)
    if len(molecules) == 1:
        return False
    of_atom = np.empty(len(places), int)
    for number, atoms in enumerate(molecules):
        of_atom[list(atoms)] = number
    apart = of_atom[:, None] != of_atom[None]
    return bool(squares[apart].min() < (_LETTERS * letter) ** 2)


def _pixels_per_unit(drawer: Any, places: np.ndarray) -> float:
    """How large one unit of the layout was drawn."""
    other = int(np.abs(places - places[0]).sum(axis=1).argmax())
    first, second = drawer.GetDrawCoords(0), drawer.GetDrawCoords(other)
    drawn = math.hypot(first.x - second.x, first.y - second.y)
    return drawn / math.dist(places[0], places[other])


def _runs_over_itself(drawn: Chem.Mol, places: np.ndarray) -> bool:
    ends = np.argwhere(np.triu(Chem.GetAdjacencyMatrix(drawn)))  # [bond, 2]
    starts = places[ends[:, 0]]
    along = places[ends[:, 1]] - starts

    # [bond, atom]: on which side of a bond an atom lies.
    offsets = places[None] - starts[:, None]
    sides = along[:, None, 0] * offsets[..., 1] - along[:, None, 1] * offsets[..., 0]
    parts = (
        sides[:, ends[:, 0]] * sides[:, ends[:, 1]] < 0
    )  # [bond, bond]: the second's ends are on both sides
    first, second = np.nonzero(np.triu(parts & parts.T))
    if len(first) == 0:
        return False
    between = Chem.GetDistanceMatrix(drawn)
    apart = [between[ends[first, one], ends[second, other]] for one in (0, 1) for other in (0, 1)]
    return bool((np.min(apart, axis=0) > _FARTHEST_CROSSING).any())
