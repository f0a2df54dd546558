"""Groups of atoms that chemists write as letters: OMe, CO2H, Boc. Only what is drawn is shortened, never the label."""

from __future__ import annotations

import functools
import re
from typing import Any

from rdkit import Chem
from rdkit.Chem import rdAbbreviations

GROUPS: dict[str, tuple[str, str, str]] = {
    "Boc": ("*C(=O)OC(C)(C)C", "Boc", "Boc"),
    "Cbz": ("*C(=O)OCc1ccccc1", "Cbz", "Cbz"),
    "Ts": ("*S(=O)(=O)c1ccc(C)cc1", "Ts", "Ts"),
    "TBS": ("*[Si](C)(C)C(C)(C)C", "TBS", "TBS"),
    "TMS": ("*[Si](C)(C)C", "TMS", "TMS"),
    "CO2Et": ("*C(=O)OCC", "CO<sub>2</sub>Et", "EtO<sub>2</sub>C"),
    "CO2Me": ("*C(=O)OC", "CO<sub>2</sub>Me", "MeO<sub>2</sub>C"),
    "CO2H": ("*C(=O)O", "CO<sub>2</sub>H", "HO<sub>2</sub>C"),
    "CONH2": ("*C(=O)N", "CONH<sub>2</sub>", "H<sub>2</sub>NOC"),
    "NHAc": ("*NC(C)=O", "NHAc", "AcHN"),
    "OAc": ("*OC(C)=O", "OAc", "AcO"),
    "Ac": ("*C(C)=O", "Ac", "Ac"),
    "CHO": ("*C=O", "CHO", "OHC"),
    "SO3H": ("*S(=O)(=O)O", "SO<sub>3</sub>H", "HO<sub>3</sub>S"),
    "SO2NH2": ("*S(=O)(=O)N", "SO<sub>2</sub>NH<sub>2</sub>", "H<sub>2</sub>NO<sub>2</sub>S"),
    "NO2": ("*[N+](=O)[O-]", "NO<sub>2</sub>", "O<sub>2</sub>N"),
    "CN": ("*C#N", "CN", "NC"),
    "CF3": ("*C(F)(F)F", "CF<sub>3</sub>", "F<sub>3</sub>C"),
    "CCl3": ("*C(Cl)(Cl)Cl", "CCl<sub>3</sub>", "Cl<sub>3</sub>C"),
    "Bn": ("*Cc1ccccc1", "Bn", "Bn"),
    "Ph": ("*c1ccccc1", "Ph", "Ph"),
    "NMe2": ("*N(C)C", "NMe<sub>2</sub>", "Me<sub>2</sub>N"),
    "NEt2": ("*N(CC)CC", "NEt<sub>2</sub>", "Et<sub>2</sub>N"),
    "NHMe": ("*NC", "NHMe", "MeHN"),
    "SMe": ("*SC", "SMe", "MeS"),
    "OEt": ("*OCC", "OEt", "EtO"),
    "OMe": ("*OC", "OMe", "MeO"),
    "tBu": ("*C(C)(C)C", "<sup>t</sup>Bu", "<sup>t</sup>Bu"),
    "iPr": ("*C(C)C", "<sup>i</sup>Pr", "<sup>i</sup>Pr"),
    "nBu": ("*CCCC", "<sup>n</sup>Bu", "<sup>n</sup>Bu"),
    "nPr": ("*CCC", "<sup>n</sup>Pr", "<sup>n</sup>Pr"),
    "Et": ("*CC", "Et", "Et"),
}
"""Name -> SMILES with * where it is bound, what is written, what is written where the bond comes from the right. A
group that holds another stands before it."""
_HYDROCARBONS = ("Bn", "Ph", "tBu", "iPr", "nBu", "nPr", "Et")
_STEREO = re.compile(r"[@/\\]")
_LARGEST_SHARE = 0.6
"""Of the atoms of a molecule: what is nothing but letters is no drawing."""


def abbreviated(molecule: Chem.Mol, label: str, hydrocarbons: bool) -> Chem.Mol:
    """A copy with groups shortened, those of nothing but carbon if asked for; `label` is the molecule's SMILES.

    It is the molecule itself where letters would hide an isotope, a charge, a radical or the reason of a wedge.
    """
    groups = _abbreviations(hydrocarbons)
    shortened = rdAbbreviations.CondenseMolAbbreviations(molecule, groups, maxCoverage=_LARGEST_SHARE)
    if shortened.GetNumAtoms() == molecule.GetNumAtoms():
        return molecule
    # RDKit takes [13CH3]O and [CH2-]O for OMe too. The only charges that a group may hold are the two of NO2.
    names = [atom.GetProp("atomLabel") for atom in shortened.GetAtoms() if atom.HasProp("atomLabel")]
    if _peculiar(shortened) + 2 * names.count("NO2") != _peculiar(molecule):
        return molecule
    # Two groups on one centre are alike to RDKit, whatever they are called: it would draw no wedge there.
    if _STEREO.search(label) and _specified(shortened) != _specified(molecule):
        return molecule
    return shortened


def _specified(molecule: Chem.Mol) -> int:
    """Centres and double bonds of which it is said how they stand."""
    entries = Chem.FindPotentialStereo(molecule)
    return sum(entry.specified == Chem.StereoSpecified.Specified for entry in entries)


def _peculiar(molecule: Chem.Mol) -> int:
    """Atoms that are more than their element."""
    return sum(
        bool(
            atom.GetFormalCharge()
            or atom.GetIsotope()
            or atom.GetNumRadicalElectrons()
            or atom.GetAtomMapNum()
            or atom.GetChiralTag() != Chem.ChiralType.CHI_UNSPECIFIED
        )
        for atom in molecule.GetAtoms()
    )


@functools.cache
def _abbreviations(hydrocarbons: bool) -> Any:
    lines = (
        f"{name} {smiles} {written} {reverse}"
        for name, (smiles, written, reverse) in GROUPS.items()
        if hydrocarbons or name not in _HYDROCARBONS
    )
    return rdAbbreviations.ParseAbbreviations("\n".join(lines), False, False)
