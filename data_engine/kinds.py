"""The kinds of samples that can be made: one line per kind, its renderer imported only when it is used."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from data_engine.chart_options import ChartOptions
from data_engine.chemistry_options import ChemistryOptions
from data_engine.document_options import DocumentOptions, PdfOptions, TextPageOptions
from data_engine.errors import ConfigError, nearest
from data_engine.geometry_options import GeometryOptions
from data_engine.options import CardOptions, PageOptions
from data_engine.scene_text_options import SceneTextOptions

if TYPE_CHECKING:
    from data_engine.render.base import Renderer


@dataclass(frozen=True)
class Kind:
    """One kind of sample."""

    options: type
    """The dataclass of its options."""
    renderer: str
    """"module:Class" of its renderer, which is constructed with the options."""


KINDS: dict[str, Kind] = {
    "card": Kind(CardOptions, "data_engine.render.card:CardRenderer"),
    "page": Kind(PageOptions, "data_engine.render.page:PageRenderer"),
    "document": Kind(DocumentOptions, "data_engine.render.document:DocumentRenderer"),
    "text_page": Kind(TextPageOptions, "data_engine.render.text_page:TextPageRenderer"),
    "scene_text": Kind(SceneTextOptions, "data_engine.render.scene_text:SceneTextRenderer"),
    "pdf": Kind(PdfOptions, "data_engine.render.pdf:PdfRenderer"),
    "chart": Kind(ChartOptions, "data_engine.render.chart:ChartRenderer"),
    "chemistry": Kind(ChemistryOptions, "data_engine.render.chemistry:ChemistryRenderer"),
    "geometry": Kind(GeometryOptions, "data_engine.render.geometry:GeometryRenderer"),
}


def kind_named(name: str) -> Kind:
    """The kind of this name, or ConfigError with the nearest one."""
    if name not in KINDS:
        raise ConfigError(f"kind={name} is not possible{nearest(name, KINDS)}")
    return KINDS[name]


def make_renderer(name: str, options: Any) -> Renderer:
    """The renderer of a kind. ConfigError when what it needs (a font, a file of SMILES) is missing."""
    module, _, attribute = kind_named(name).renderer.partition(":")
    renderer: Renderer = getattr(importlib.import_module(module), attribute)(options)
    return renderer
