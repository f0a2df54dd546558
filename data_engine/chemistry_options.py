"""What a user may set for molecules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from data_engine.errors import in_range, one_of
from data_engine.options import width_and_height


@dataclass
class ChemistryOptions:
    """A molecule as chemists draw it; the label is its canonical SMILES."""

    size: Any = 512
    """Side of the square image in pixels, or [WIDTH,HEIGHT]."""
    smiles: str | None = None
    """File of molecules, plain or .gz: .csv or .tsv with a column smiles; else a molecule per line, the SMILES first or
    after a number, as in PubChem's CID-SMILES; null: the NCI list inside RDKit."""
    max_atoms: int | None = None
    """Leave out molecules with more heavy atoms; null: draw all. Reads the whole file first."""
    split: str = "all"
    """all; or train and heldout: nine tenths and the last tenth of the molecules, no molecule in both."""
    color: float = 0.5
    """Share of drawings with coloured atoms, 0 to 1."""

    def __post_init__(self) -> None:
        width_and_height(self.size)
        one_of("options.split", self.split, ("all", "train", "heldout"))
        in_range("options.color", self.color, 0, 1)
        if self.max_atoms is not None:
            in_range("options.max_atoms", self.max_atoms, 1, 10_000)
