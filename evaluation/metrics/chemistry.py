"""Was the molecule read? Validity, exact matches and similarity of SMILES, by RDKit.

A prediction that RDKit cannot parse is invalid and counts 0 in every figure, never dropped. Four notions of
"the same", from strict to soft: the canonical SMILES with stereochemistry; the InChIKey, which also sees
through tautomers written differently; the molecular graph without any stereochemistry; and the Tanimoto
similarity of fingerprints (Morgan of radius 2 with 2,048 bits; RDKit's path fingerprint as in MolScribe).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

from rdkit import Chem, DataStructs, rdBase
from rdkit.Chem import inchi, rdFingerprintGenerator

MAX_CHARACTERS = 2_000
_WRAPPED = re.compile(r"<smiles>(.*?)(?:</smiles>|$)", re.DOTALL)


class MoleculeError(ValueError):
    """A text that is no molecule."""


@dataclass(frozen=True)
class MoleculeScore:
    """One molecule; an invalid prediction is 0 in everything."""

    valid: bool = False
    """RDKit can parse it."""
    exact: bool = False
    """Canonical SMILES equal, stereochemistry included."""
    graph: bool = False
    """Canonical SMILES equal without stereochemistry."""
    inchikey: bool = False
    """InChIKeys equal."""
    tanimoto_morgan: float = 0.0
    tanimoto_rdkit: float = 0.0
    """Similarities of the fingerprints, 0 to 1."""


def score_molecule(prediction: str, truth: str) -> MoleculeScore:
    """Compares two SMILES. MoleculeError when the truth is none."""
    true = read_smiles(truth)
    try:
        predicted = read_smiles(prediction)
    except MoleculeError:
        return MoleculeScore()
    key = inchikey(true)
    return MoleculeScore(
        valid=True,
        exact=Chem.MolToSmiles(predicted) == Chem.MolToSmiles(true),
        graph=_graph(predicted) == _graph(true),
        inchikey=key != "" and inchikey(predicted) == key,
        tanimoto_morgan=_tanimoto(_generators()[0], predicted, true),
        tanimoto_rdkit=_tanimoto(_generators()[1], predicted, true),
    )


def read_smiles(text: str) -> Chem.Mol:
    """The molecule of a text; `<smiles>` around it and white space are taken off. MoleculeError if none."""
    wrapped = _WRAPPED.search(text)
    smiles = (wrapped[1] if wrapped else text).strip()
    if not smiles or len(smiles) > MAX_CHARACTERS or len(smiles.split()) != 1:
        raise MoleculeError("not one SMILES")
    with rdBase.BlockLogs():  # its complaint is the score, not news for the terminal
        molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or not molecule.GetNumAtoms():
        raise MoleculeError("RDKit cannot parse it")
    return molecule


def inchikey(molecule: Chem.Mol) -> str:
    """The InChIKey, "" where InChI cannot say (wildcard atoms)."""
    with rdBase.BlockLogs():
        return inchi.MolToInchiKey(molecule)


@functools.cache
def _generators() -> tuple[Any, Any]:
    return (
        rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048),
        rdFingerprintGenerator.GetRDKitFPGenerator(),
    )


def _graph(molecule: Chem.Mol) -> str:
    plain = Chem.Mol(molecule)
    Chem.RemoveStereochemistry(plain)
    return Chem.MolToSmiles(plain, isomericSmiles=False)


def _tanimoto(generator: Any, first: Chem.Mol, second: Chem.Mol) -> float:
    return float(
        DataStructs.TanimotoSimilarity(generator.GetFingerprint(first), generator.GetFingerprint(second))
    )
