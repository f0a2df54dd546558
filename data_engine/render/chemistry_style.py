"""How a molecule is drawn: everything that the label does not tell, drawn before the molecule is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data_engine.chemistry_options import ChemistryOptions
from data_engine.fonts import latin_font_file
from data_engine.random_stream import Stream

_LINE_AT = 512
"""The side of an image, in pixels, for which widths of lines are given."""


@dataclass(frozen=True)
class ChemistryStyle:
    palette: str | None
    """The colours of atoms: "standard", "avalon" or "cdk"; None: black on a gray picture."""
    paper: int
    """Gray level of the ground."""
    family: str
    bold: bool
    least_letter: float
    """Pixels."""
    letter_share: float
    """Height of letters in units of RDKit's layout, whose bonds are 1.5 long."""
    letter_padding: float
    line_width: float
    """Pixels."""
    bond_offset: float
    """Between the lines of a double bond, in bonds."""
    bond_pixels: float | None
    """Length of bonds where it fits; None: the picture is filled."""
    padding: float
    """Share of the picture that stays empty at every side."""
    rotation: float
    """Degrees."""
    layout: str
    """ "plain", "sampled" or "templates"."""
    layout_seed: int
    methyl: bool
    deuterium: bool
    abbreviations: bool
    hydrocarbons: bool
    """Whether Ph, Et and their like are shortened as well."""
    hydrogens: bool
    numbers: bool
    descriptors: bool
    annotation_share: float
    """Height of numbers and descriptors, in letters of atoms."""
    legend: str
    """Below the molecule; "" for none."""

    def apply(self, options: Any) -> None:
        """Set RDKit's drawing options."""
        options.includeMetadata = False  # it would write the answer into the picture's file
        options.clearBackground = False
        options.prepareMolsBeforeDrawing = False
        options.padding = self.padding
        options.bondLineWidth = self.line_width
        options.scaleBondWidth = False
        options.multipleBondOffset = self.bond_offset
        options.rotate = self.rotation
        options.additionalAtomLabelPadding = self.letter_padding
        options.minFontSize = round(self.least_letter)
        options.baseFontSize = self.letter_share
        options.explicitMethyl = self.methyl
        options.atomLabelDeuteriumTritium = self.deuterium
        options.addAtomIndices = self.numbers
        options.addStereoAnnotation = self.descriptors
        options.annotationFontScale = self.annotation_share
        if self.bond_pixels is not None:
            options.fixedBondLength = self.bond_pixels
        if self.family != "sans" or self.bold:  # RDKit's own letters are DejaVu Sans
            options.fontFile = str(latin_font_file(self.family, self.bold))
        if self.palette is None:
            options.useBWAtomPalette()
        elif self.palette == "avalon":
            options.useAvalonAtomPalette()
        elif self.palette == "cdk":
            options.useCDKAtomPalette()


def random_style(
    stream: Stream, options: ChemistryOptions, weights: Mapping[str, Mapping[str, float]], side: int
) -> ChemistryStyle:
    """A style for a picture whose shorter side has `side` pixels; `weights` are those of the options."""
    palette = stream.weighted(weights["palettes"])
    rotation, bond_pixels = stream.uniform(0, 360), stream.uniform(*options.bond_pixels)
    legend = _legend(stream)
    return ChemistryStyle(
        palette=palette if stream.chance(options.color) else None,
        paper=stream.integer(240, 255),
        family=stream.weighted(weights["families"]),
        bold=stream.chance(options.bold),
        least_letter=stream.uniform(*options.font_pixels),
        letter_share=stream.uniform(0.5, 0.65),
        letter_padding=stream.uniform(0.02, 0.12),
        line_width=max(1.0, side / _LINE_AT * stream.uniform(*options.line_width)),
        bond_offset=stream.uniform(0.12, 0.2),
        bond_pixels=bond_pixels if stream.chance(options.fixed_bonds) else None,
        padding=stream.uniform(0.04, 0.12),
        rotation=rotation if stream.chance(options.rotated) else 0.0,
        layout=stream.weighted(weights["layouts"]),
        layout_seed=stream.integer(1, 1_000_000),
        methyl=stream.chance(options.methyl),
        deuterium=stream.chance(options.deuterium),
        abbreviations=stream.chance(options.abbreviations),
        hydrocarbons=stream.chance(0.5),
        hydrogens=stream.chance(options.hydrogens),
        numbers=stream.chance(options.numbers),
        descriptors=stream.chance(options.descriptors),
        annotation_share=stream.uniform(0.5, 0.75),
        legend=legend if stream.chance(options.legends) else "",
    )


def _legend(stream: Stream) -> str:
    """What stands below structures in papers and catalogues."""
    number, letter = stream.integer(1, 99), stream.choice("abcdefgh")
    form = stream.choice(
        ("{number}", "{number}{letter}", "({number})", "Compound {number}", "Fig. {number}", "CID {id}")
    )
    return form.format(number=number, letter=letter, id=number * 1009 + 17)
