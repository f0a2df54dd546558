from __future__ import annotations

import random

import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import AllChem

from evaluation.metrics.chemistry import MoleculeError, inchikey, read_smiles, score_molecule

SMILES = [
    "CCO",
    "c1ccccc1C(=O)O",
    "C[C@H](N)C(=O)O",
    "F/C=C/F",
    "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "O=C1CCCCC1",
    "*CC",
]


def test_other_spellings_of_a_molecule_are_exact_and_others_agree_with_a_plain_computation() -> None:
    generator = random.Random(4)
    molecules = [Chem.MolFromSmiles(smiles) for smiles in SMILES]
    for _ in range(200):
        i, j = generator.randrange(len(SMILES)), generator.randrange(len(SMILES))
        written = Chem.MolToRandomSmilesVect(molecules[i], 1, randomSeed=generator.randrange(1000))[0]
        score = score_molecule(written, SMILES[j])
        # Sub-structure search both ways is another road to "the same molecule".
        same = molecules[i].HasSubstructMatch(molecules[j], useChirality=True) and molecules[
            j
        ].HasSubstructMatch(molecules[i], useChirality=True)
        assert score.valid and score.exact == score.graph == same
        bits = [AllChem.GetMorganFingerprintAsBitVect(molecules[k], 2, 2048) for k in (i, j)]
        shared = len(set(bits[0].GetOnBits()) & set(bits[1].GetOnBits()))
        union = len(set(bits[0].GetOnBits()) | set(bits[1].GetOnBits()))
        assert score.tanimoto_morgan == pytest.approx(shared / union)
        paths = [Chem.RDKFingerprint(molecules[k]) for k in (i, j)]
        assert score.tanimoto_rdkit == pytest.approx(DataStructs.TanimotoSimilarity(*paths))


def test_stereochemistry_parts_exact_from_graph() -> None:
    score = score_molecule("C[C@@H](N)C(=O)O", "C[C@H](N)C(=O)O")
    assert (score.exact, score.graph, score.inchikey) == (False, True, False)
    assert score_molecule("F/C=C\\F", "F/C=C/F").graph
    assert not score_molecule("F/C=C\\F", "F/C=C/F").exact


def test_the_inchikey_is_the_known_one() -> None:
    assert inchikey(read_smiles("CCO")) == "LFQSCWFLJHTTHZ-UHFFFAOYSA-N"  # ethanol
    assert score_molecule("OCC", "CCO").inchikey


@pytest.mark.parametrize("text", ["", "not a molecule", "C(", "C1CC", "c1cccc1", "C" * 3000, "CN(C)(C)(C)C"])
def test_what_is_no_molecule_is_wrong_and_silent(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    score = score_molecule(text, "CCO")
    assert not (score.valid or score.exact or score.graph or score.inchikey)
    assert score.tanimoto_morgan == score.tanimoto_rdkit == 0.0
    assert capfd.readouterr() == ("", "")
    with pytest.raises(MoleculeError):
        score_molecule("CCO", text)


def test_the_released_wrapping_is_taken_off() -> None:
    assert score_molecule("<smiles>OCC</smiles>", "CCO").exact
