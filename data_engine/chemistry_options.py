"""What a user may set for molecules: every way in which drawings differ has a share or weights.

A share is a number from 0 to 1. Weights are names, [serif,mono], each then as likely as the others; or a dictionary,
{serif: 0}, that changes some of the usual weights and leaves the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from data_engine.errors import in_range, one_of, span, weights_of_options
from data_engine.options import width_and_height

USUAL: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "palettes": MappingProxyType({"standard": 4.0, "avalon": 1.0, "cdk": 1.0}),
        "families": MappingProxyType({"sans": 8.0, "serif": 1.5, "mono": 0.3}),
        "layouts": MappingProxyType({"plain": 17.0, "sampled": 2.0, "templates": 1.0}),
    }
)
"""The usual weights of all that is chosen by name."""
SHARES = (
    "color", "bold", "rotated", "fixed_bonds", "methyl", "deuterium", "abbreviations", "hydrogens", "numbers",
    "descriptors", "legends",
)  # fmt: skip


@dataclass
class ChemistryOptions:
    """A molecule as chemists draw it; the label is its canonical SMILES."""

    size: Any = 512
    """Side of the square image in pixels, or [WIDTH,HEIGHT]."""
    smiles: str | None = None
    """File of molecules, plain or a .gz of at most 256 MB unpacked: .csv or .tsv with a column smiles; else a molecule
    per line, the SMILES first or after a number, as in PubChem's CID-SMILES; null: the NCI list inside RDKit."""
    max_atoms: int | None = None
    """Leave out molecules with more heavy atoms; null: draw all."""
    split: str = "all"
    """all; or train and heldout: nine tenths and the last tenth of the molecules, no molecule in both."""
    color: float = 0.5
    """Share of drawings with coloured atoms, 0 to 1."""
    palettes: Any = None
    """Weights of the colours of coloured atoms; null: {standard: 4, avalon: 1, cdk: 1}, RDKit's and two others'."""
    families: Any = None
    """Weights of the fonts; null: {sans: 8, serif: 1.5, mono: 0.3}."""
    bold: float = 0.07
    """Share of drawings with bold letters."""
    font_pixels: list[float] = field(default_factory=lambda: [8, 11])
    """[MIN,MAX] least height of letters in pixels; they grow with the bonds, and a drawing whose bonds have no room for
    its letters is skipped."""
    line_width: list[float] = field(default_factory=lambda: [1.2, 3.0])
    """[MIN,MAX] width of bonds, in pixels where the shorter side of the image has 512; never thinner than a pixel."""
    layouts: Any = None
    """Weights of where atoms are laid; null: {plain: 17, sampled: 2, templates: 1}: as RDKit does it, the best of some
    random ones, and with bridged rings in perspective."""
    rotated: float = 0.5
    """Share of drawings turned by any angle."""
    fixed_bonds: float = 0.2
    """Share of drawings whose bonds have a length of bond_pixels where that fits: small molecules stay small."""
    bond_pixels: list[float] = field(default_factory=lambda: [26, 50])
    """[MIN,MAX] length of such bonds in pixels."""
    methyl: float = 0.2
    """Share of drawings that write CH3 at the ends of chains."""
    deuterium: float = 0.3
    """Share of drawings that write D and T instead of 2H and 3H."""
    abbreviations: float = 0.08
    """Share of drawings with groups as letters (OMe, CO2H, Ph); the label is written out all the same."""
    hydrogens: float = 0.02
    """Share of drawings of small molecules that show every hydrogen atom."""
    numbers: float = 0.01
    """Share of drawings with a number at every atom."""
    descriptors: float = 0.05
    """Share of drawings with R, S, E and Z written beside."""
    legends: float = 0.06
    """Share of drawings with a number or name of the molecule below; it is no part of the label."""

    def __post_init__(self) -> None:
        width, height = width_and_height(self.size)
        one_of("options.split", self.split, ("all", "train", "heldout"))
        for key in SHARES:
            in_range(f"options.{key}", getattr(self, key), 0, 1)
        span("options.font_pixels", self.font_pixels, 6, 40)
        span("options.line_width", self.line_width, 0.5, 10)
        span("options.bond_pixels", self.bond_pixels, 10, min(width, height))
        self.weights()
        if self.max_atoms is not None:
            in_range("options.max_atoms", self.max_atoms, 1, 10_000)

    def weights(self) -> dict[str, dict[str, float]]:
        """The weight of every choice of the fields in USUAL. ConfigError where what the user gave makes none."""
        return weights_of_options(self, USUAL)
