"""Molecules: RDKit lays out and draws (as SVG, whose letters are outlines), skia fills the outlines.

The label is the canonical SMILES of the molecule that is drawn. RDKit's comic mode and its CoordGen layout are left
alone: they are the two options that are not reproducible.
"""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import replace
from pathlib import Path

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDepictor
from rdkit.Chem.Draw import rdMolDraw2D

from data_engine.chemistry_options import ChemistryOptions
from data_engine.errors import ConfigError
from data_engine.options import width_and_height
from data_engine.prompts import PARSE_FIGURE
from data_engine.random_stream import Draws, permuted
from data_engine.render.base import NoSampleError, Rendered, Renderer
from data_engine.render.chemistry_drawing import CROWDED, as_drawn, is_crowded, not_drawn
from data_engine.render.chemistry_style import ChemistryStyle, random_style
from data_engine.render.graphics import color_surface, graphics_versions, gray_surface, skia, versions_of
from data_engine.render.png import encode
from data_engine.smiles import Molecules, nci_file

INVALID = "invalid SMILES"
NOT_FOUND = "no molecule found that options.max_atoms and options.split let through"
_HELD_OUT = 10  # one molecule in so many is held out
_LISTED = 10_000
"""Molecules of a file that are all looked at before the first is drawn, where not all of them may be."""
_TRIES = 1000


class ChemistryRenderer(Renderer):
    def __init__(self, options: ChemistryOptions) -> None:
        self._options = options
        self._weights = options.weights()
        self._width, self._height = width_and_height(options.size)
        # Process-wide state of RDKit. Its other layout, CoordGen, depends on what was laid out before.
        rdDepictor.SetPreferCoordGen(False)
        rdBase.DisableLog("rdApp.*")  # what RDKit refuses is reported by us, with its line
        self._molecules = Molecules(nci_file() if options.smiles is None else Path(options.smiles))
        self._takes_all = options.max_atoms is None and options.split == "all"
        self._listed: array[int] | None = None
        if not self._takes_all and len(self._molecules) <= _LISTED:
            self._listed = array("Q", (n for n in range(len(self._molecules)) if self._may_be_drawn(n)))
            if not self._listed:
                raise ConfigError(
                    f"no molecule of {self._molecules.path} passes options.max_atoms and options.split: loosen them, "
                    "or give another options.smiles=FILE."
                )

    def versions(self) -> dict[str, str]:
        return graphics_versions() | versions_of("rdkit") | {"smiles": self._molecules.sha256[:16]}

    def render(self, draws: Draws) -> Rendered:
        number, molecule, label = self._choose(draws)
        if reason := not_drawn(molecule, label):
            raise self._no_sample(reason, number)
        style = random_style(
            draws.stream("style"), self._options, self._weights, min(self._width, self._height)
        )
        picture = self._draw(molecule, label, style)
        if picture is None:  # perhaps there is room for smaller letters
            picture = self._draw(molecule, label, replace(style, least_letter=self._options.font_pixels[0]))
        if picture is None:
            raise self._no_sample(CROWDED, number)
        line, _ = self._molecules.line(number)
        return Rendered((encode(picture),), PARSE_FIGURE, label, "rdkit", {"line": line})

    def close(self) -> None:
        self._molecules.close()

    def _choose(self, draws: Draws) -> tuple[int, Chem.Mol, str]:
        """(its number in the file, molecule, canonical SMILES) of a sample.

        Every molecule comes once before any comes again. Only of a long file in which some may not be drawn, another
        is drawn by lot in their place: which those are is not known without reading all of it.
        """
        count = len(self._molecules) if self._listed is None else len(self._listed)
        turn, place = divmod(draws.index, count)
        number = permuted(place, count, f"{draws.seed}/chemistry/{turn}")
        if self._listed is not None:
            number = self._listed[number]
        again = draws.stream("again")
        for _ in range(_TRIES):
            molecule, label = self._parse(number)
            if self._takes_all or self._listed is not None or self._lets_through(molecule, label):
                return number, molecule, label
            number = again.integer(0, count - 1)
        raise self._no_sample(NOT_FOUND, number)

    def _parse(self, number: int) -> tuple[Chem.Mol, str]:
        """(molecule, canonical SMILES). NoSampleError for a line that holds none."""
        try:
            molecule = Chem.MolFromSmiles(self._molecules.smiles(self._molecules.line(number)[1]))
        except ValueError as error:
            raise self._no_sample(str(error), number) from error
        if molecule is None or molecule.GetNumAtoms() == 0:
            raise self._no_sample(INVALID, number)
        return molecule, Chem.MolToSmiles(molecule)

    def _may_be_drawn(self, number: int) -> bool:
        try:
            return self._lets_through(*self._parse(number))
        except NoSampleError:
            return True  # so that it is counted and reported

    def _lets_through(self, molecule: Chem.Mol, label: str) -> bool:
        limit, split = self._options.max_atoms, self._options.split
        if limit is not None and molecule.GetNumHeavyAtoms() > limit:
            return False
        # By the canonical form: the same molecule, however written, is on the same side.
        digest = hashlib.blake2b(label.encode(), digest_size=8).digest()
        held_out = int.from_bytes(digest, "little") % _HELD_OUT == 0
        return split == "all" or (split == "heldout") == held_out

    def _no_sample(self, reason: str, number: int) -> NoSampleError:
        line, data = self._molecules.line(number)
        try:
            text = self._molecules.smiles(data)
        except ValueError:
            text = data.decode(errors="replace")
        return NoSampleError(reason, f"line {line} of {self._molecules.path.name}: {text[:80]}")

    def _draw(self, molecule: Chem.Mol, label: str, style: ChemistryStyle) -> np.ndarray | None:
        """The pixels; None where they cannot be read."""
        drawer = rdMolDraw2D.MolDraw2DSVG(self._width, self._height)
        style.apply(drawer.drawOptions())
        drawn = as_drawn(molecule, label, style)
        drawer.DrawMolecule(drawn, legend=style.legend)
        drawer.FinishDrawing()
        if is_crowded(drawer, drawn):
            return None
        surface_of = gray_surface if style.palette is None else color_surface
        pixels, surface = surface_of(self._width, self._height)
        canvas = surface.getCanvas()
        canvas.clear(skia.ColorSetRGB(style.paper, style.paper, style.paper))
        # RDKit writes letters as outlines and nothing but paths and ellipses: skia's reader of SVG needs no font.
        drawing = skia.SVGDOM.MakeFromStream(skia.MemoryStream.MakeCopy(drawer.GetDrawingText().encode()))
        drawing.render(canvas)
        return pixels
