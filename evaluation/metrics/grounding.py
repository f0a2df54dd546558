"""Boxes in an answer: `<|ref|>label<|/ref|><|det|>[[x1, y1, x2, y2], ...]<|/det|>`, matched by overlap.

The markup is read by `data_engine.markup`, span by span, so that one wrong span does not spoil the rest. Boxes
with the same label are assigned one to one so that the sum of their intersections over union (IoU) is largest.
F1 counts the assigned pairs with an IoU of 0.5 or more; the mean IoU is over the true boxes, an unmatched one
counting 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from data_engine.markup import GridBox, parse_grounded
from evaluation.metrics.words import Overlap, overlap

IOU_THRESHOLD = 0.5
MAX_BOXES = 5_000

_SPAN = re.compile(r"<\|ref\|>.*?<\|/det\|>", re.DOTALL)


@dataclass(frozen=True)
class Box:
    """A labelled box."""

    label: str
    corners: GridBox
    """(left, top, right, bottom) on the grid of the markup, 0 to 999."""


@dataclass(frozen=True)
class GroundingScore:
    """One answer."""

    boxes: Overlap
    """Pairs with an IoU of 0.5 or more."""
    mean_iou: float
    """Over the true boxes; one without a partner counts 0."""
    malformed: int
    """Spans of the prediction that hold no box; each counts as a wrong box."""


def read_boxes(text: str) -> tuple[list[Box], int]:
    """The boxes of an answer and the number of spans whose coordinates cannot be read."""
    boxes: list[Box] = []
    malformed = 0
    for span in _SPAN.findall(text):
        try:
            blocks = parse_grounded(span)
        except (ValueError, RecursionError):
            blocks = []
        if not blocks or len(boxes) >= MAX_BOXES:
            malformed += 1
        boxes += [Box(block.label.strip(), corners) for block in blocks for corners in block.boxes]
    return boxes[:MAX_BOXES], malformed


def score_grounding(prediction: str, truth: str) -> GroundingScore:
    """Compares the boxes of two answers; two answers without any box agree."""
    predicted, malformed = read_boxes(prediction)
    true, _ = read_boxes(truth)
    agreeing, total = 0, 0.0
    for label in {box.label for box in true}:
        overlaps = iou([b for b in predicted if b.label == label], [b for b in true if b.label == label])
        chosen = overlaps[linear_sum_assignment(overlaps, maximize=True)]
        agreeing += int((chosen >= IOU_THRESHOLD).sum())
        total += float(chosen.sum())
    nothing = not true and not predicted and not malformed
    return GroundingScore(
        boxes=overlap(agreeing, len(predicted) + malformed, len(true)),
        mean_iou=total / len(true) if true else float(nothing),
        malformed=malformed,
    )


def iou(predicted: list[Box], true: list[Box]) -> np.ndarray:
    """Intersection over union of every pair, [predicted, true]; 0 where both have no area."""
    left = np.array([box.corners for box in predicted], dtype=np.float64).reshape(-1, 1, 4)
    right = np.array([box.corners for box in true], dtype=np.float64).reshape(1, -1, 4)
    size = np.minimum(left[..., 2:], right[..., 2:]) - np.maximum(left[..., :2], right[..., :2])
    shared = np.clip(size, 0, None).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (left, right)]
    union = areas[0] + areas[1] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
