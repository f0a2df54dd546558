"""The released checkpoint's 2,710 tensors, written down from its published description and not by our code."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from pathlib import Path

from model import DeepseekOCRConfig
from model.convert import released_shapes

GOLDEN = Path(__file__).with_name("golden_names.json")
PINNED = "57fb4c022dd3ec49c78ee160aee5bbbdb29ece85b6abb27ccc5067d81869a727"


def expand(family: str) -> list[str]:
    """`a{0..1}.{x,y}` to a0.x, a0.y, a1.x, a1.y, as a shell does."""
    pieces = re.split(r"\{([^}]*)\}", family)
    choices = []
    for number, piece in enumerate(pieces):
        if number % 2 == 0:
            choices.append([piece])
        elif ".." in piece:
            first, last = map(int, piece.split(".."))
            choices.append([str(value) for value in range(first, last + 1)])
        else:
            choices.append(piece.split(","))
    return ["".join(parts) for parts in itertools.product(*choices)]


def golden() -> dict[str, tuple[int, ...]]:
    families = json.loads(GOLDEN.read_text(encoding="utf-8"))
    pairs = [(name, tuple(shape)) for family, shape in families.items() for name in expand(family)]
    assert len(pairs) == len(dict(pairs)), "a name is written down twice"
    return dict(sorted(pairs))


def test_names_shapes_and_order_are_those_of_the_released_file() -> None:
    ours = released_shapes(DeepseekOCRConfig())
    assert ours == golden()
    assert list(ours) == list(golden())


def test_the_list_itself_is_pinned() -> None:
    lines = "\n".join(f"{name} {list(shape)}" for name, shape in golden().items())
    assert len(golden()) == 2710
    assert sum(math.prod(shape) for shape in golden().values()) * 2 == 6_672_212_480  # the index's total_size
    assert hashlib.sha256(lines.encode()).hexdigest() == PINNED
