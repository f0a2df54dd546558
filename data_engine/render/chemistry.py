"""Molecules: RDKit lays out and draws (as SVG, whose letters are outlines), skia fills the outlines.

The label is the canonical SMILES of the molecule that is drawn. RDKit's comic mode and its CoordGen layout are left
alone: they are the two options that are not reproducible.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDepictor
from rdkit.Chem.Draw import rdMolDraw2D

from data_engine.chemistry_options import ChemistryOptions
from data_engine.errors import ConfigError
from data_engine.files import sha256_of
from data_engine.options import width_and_height
from data_engine.prompts import PARSE_FIGURE
from data_engine.random_stream import Draws, permuted
from data_engine.render.base import NoSampleError, Rendered, Renderer
from data_engine.render.chemistry_drawing import CROWDED, as_drawn, is_crowded, not_drawn
from data_engine.render.chemistry_style import ChemistryStyle, random_style
from data_engine.render.graphics import color_surface, graphics_versions, gray_surface, skia, versions_of
from data_engine.render.png import encode
from data_engine.smiles import Molecules, nci_file, read_smiles

INVALID = "invalid SMILES"
_HELD_OUT = 10  # one molecule in so many is held out


class ChemistryRenderer(Renderer):
    def __init__(self, options: ChemistryOptions) -> None:
        self._options = options
        self._width, self._height = width_and_height(options.size)
        self._file = nci_file() if options.smiles is None else Path(options.smiles)
        self._weights = options.weights()
        # Process-wide state of RDKit. Its other layout, CoordGen, depends on what was laid out before.
        rdDepictor.SetPreferCoordGen(False)
        rdBase.DisableLog("rdApp.*")  # what RDKit refuses is reported by us, with its line
        molecules = read_smiles(self._file)
        if options.max_atoms is not None or options.split != "all":
            molecules = Molecules(entry for entry in molecules if self._is_wanted(entry[1]))
        if not molecules:
            raise ConfigError(
                f"no molecule of {self._file} passes options.max_atoms and options.split: loosen them, or give "
                "another options.smiles=FILE."
            )
        self._molecules = molecules

    def versions(self) -> dict[str, str]:
        return graphics_versions() | versions_of("rdkit") | {"smiles": sha256_of(self._file)[:16]}

    def render(self, draws: Draws) -> Rendered:
        count = len(self._molecules)
        turn, place = divmod(draws.index, count)  # every molecule once before any comes again
        line, smiles = self._molecules[permuted(place, count, f"{draws.seed}/chemistry/{turn}")]
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is None or molecule.GetNumAtoms() == 0:
            raise NoSampleError(INVALID, f"line {line} of {self._file.name}: {smiles[:80]}")
        label = Chem.MolToSmiles(molecule)
        place_in_file = f"line {line} of {self._file.name}: {smiles[:80]}"
        if reason := not_drawn(molecule, label):
            raise NoSampleError(reason, place_in_file)
        style = random_style(
            draws.stream("style"), self._options, self._weights, min(self._width, self._height)
        )
        picture = self._draw(molecule, label, style)
        if picture is None:
            raise NoSampleError(CROWDED, place_in_file)
        return Rendered((encode(picture),), PARSE_FIGURE, label, "rdkit", {"line": line})

    def _is_wanted(self, smiles: str) -> bool:
        """Whether a molecule passes the options; an invalid one does, so that it is counted and reported."""
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is None:
            return True
        limit, split = self._options.max_atoms, self._options.split
        if limit is not None and molecule.GetNumHeavyAtoms() > limit:
            return False
        # By the canonical form: the same molecule, however written, is on the same side.
        digest = hashlib.blake2b(Chem.MolToSmiles(molecule).encode(), digest_size=8).digest()
        held_out = int.from_bytes(digest, "little") % _HELD_OUT == 0
        return split == "all" or (split == "heldout") == held_out

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
