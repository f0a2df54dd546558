"""Pages answered with boxes, which follow the picture when it is moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_engine.markup import Block, grid_box, write_grounded
from data_engine.prompts import DOCUMENT_TO_MARKDOWN
from data_engine.render.base import Picture, Rendered
from data_engine.render.degrade_boxes import Box, moved_box


def grounded_page(
    picture: Picture,
    blocks: Sequence[tuple[str, Box, str]],
    width: float,
    height: float,
    renderer: str,
    details: dict[str, Any],
    scale: float = 1.0,
) -> Rendered:
    """A page and its blocks (label, box, text) in reading order.

    Boxes, `width` and `height` of the page are in one unit, of which `scale` pixels of the picture make one.
    """

    def answer(motion: np.ndarray | None = None) -> str:
        """The blocks with their boxes, moved by a homography of the picture where there is one."""
        return write_grounded(
            Block(
                label,
                (grid_box(box if motion is None else moved_box(motion, box, scale), width, height),),
                text,
            )
            for label, box, text in blocks
        )

    return Rendered(
        (picture,),
        DOCUMENT_TO_MARKDOWN,
        answer(),
        renderer,
        details,
        tells_places=True,
        told_again=lambda motion: (answer(motion), details),
    )
