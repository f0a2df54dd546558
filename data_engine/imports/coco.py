"""COCO's JSON, captions and instances, as records of the documented form.

Boxes become [left, top, right, bottom]; crowds, whose box holds many objects, are left out. Expressions for single
objects, as RefCOCO and its like have them, become questions for their places. Three ways to tell them are understood:

    {"image_id": 1, "bbox": [...], "caption": "the left dog"}             in the annotation, a text or a list of them
    "refs": [{"ann_id": 7, "sentences": [{"raw": "the left dog"}]}]       RefCOCO's own, beside the annotations
    "tokens_positive": [[0, 12]]                                          MDETR's: which part of the image's caption
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_engine.errors import ConfigError
from data_engine.imports.options import ImportOptions
from data_engine.prompts import DESCRIBE_IMAGE, DETECT_ALL

_EXPRESSIONS = (
    "caption",
    "captions",
    "expression",
    "expressions",
    "phrase",
    "phrases",
    "sentence",
    "sentences",
)


def is_coco(content: Any) -> bool:
    """Whether this is what a file of COCO's annotations holds."""
    return isinstance(content, dict) and {"images", "annotations"} <= set(content)


def coco_records(content: dict[str, Any], path: Path, options: ImportOptions) -> Iterator[dict[str, Any]]:
    """The records of a COCO file, in the order of its images. ConfigError when an entry is not what it should be."""
    try:
        categories = {entry["id"]: str(entry["name"]) for entry in content.get("categories", [])}
        of_image: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
        referred: dict[Any, list[str]] = {}
        for reference in content.get("refs", []):
            referred.setdefault(reference["ann_id"], []).extend(_texts(reference["sentences"]))
        for annotation in content["annotations"]:
            of_image.setdefault(annotation["image_id"], []).append(annotation)
        for image in content["images"]:
            annotations = of_image.pop(image["id"])
            base = {
                "image": image["file_name"],
                "key": image["id"],
                "place": f"image {image['id']} of {path.name}",
            }
            yield from _captions(base, annotations, options)
            yield from _objects(base, annotations, categories, options)
            if "locate" in options.objects:
                yield from _expressions(base, annotations, image, referred)
            if not annotations:
                yield {"place": base["place"]}  # counted as a record without anything
        for image_id, annotations in of_image.items():
            yield from (
                {"place": f"annotation of image {image_id}, which is not listed"} for _ in annotations
            )
    # ValueError: a box of other than four numbers.
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"import={path} is not COCO's JSON (an entry lacks or confuses {error})."
        ) from error


def _captions(
    base: dict[str, Any], annotations: list[dict[str, Any]], options: ImportOptions
) -> Iterator[dict[str, Any]]:
    captions = [
        annotation["caption"]
        for annotation in annotations
        if "caption" in annotation and "bbox" not in annotation
    ]
    for caption in captions[:1] if options.captions == "first" else captions:
        response = caption.strip() if isinstance(caption, str) else caption
        yield {**base, "prompt": DESCRIBE_IMAGE, "response": response, "task": "caption"}


def _objects(
    base: dict[str, Any],
    annotations: list[dict[str, Any]],
    categories: dict[Any, str],
    options: ImportOptions,
) -> Iterator[dict[str, Any]]:
    boxes: dict[str, list[Any]] = {}
    for annotation in annotations:
        if "bbox" in annotation and not annotation.get("iscrowd"):
            box = _corners(annotation["bbox"])
            # A file of expressions may have no categories, or one that says nothing.
            if (
                categories
                or "category_id" in annotation
                or not set(annotation) & {*_EXPRESSIONS, "tokens_positive"}
            ):
                boxes.setdefault(categories[annotation["category_id"]], []).append(box)
    if boxes and "detect" in options.objects:
        blocks = [{"label": name, "boxes": regions} for name, regions in boxes.items()]
        yield {**base, "prompt": DETECT_ALL, "boxes": blocks, "task": "detection"}
    if "locate" in options.objects:
        for name, regions in boxes.items():
            yield {**base, "phrase": name, "boxes": regions, "task": "grounding"}


def _expressions(
    base: dict[str, Any],
    annotations: list[dict[str, Any]],
    image: dict[str, Any],
    referred: dict[Any, list[str]],
) -> Iterator[dict[str, Any]]:
    """A question per expression; one that stands at several boxes means all of them."""
    boxes: dict[str, list[Any]] = {}
    for annotation in annotations:
        if "bbox" not in annotation:
            continue
        found = [text for name in _EXPRESSIONS for text in _texts(annotation.get(name))]
        found += referred.get(annotation.get("id"), [])
        if annotation.get("tokens_positive") and isinstance(image.get("caption"), str):
            found.append(
                " ".join(image["caption"][start:end] for start, end in annotation["tokens_positive"])
            )
        for text in dict.fromkeys(text.strip() for text in found):
            boxes.setdefault(text, []).append(_corners(annotation["bbox"]))
    for text, regions in boxes.items():
        yield {**base, "phrase": text, "boxes": regions, "task": "grounding"}


def _texts(value: Any) -> list[str]:
    """A text, or a list of texts or of {"raw": ...} or {"sent": ...}."""
    if value is None:
        return []
    listed = value if isinstance(value, list) else [value]
    return [str(text.get("raw") or text["sent"]) if isinstance(text, dict) else str(text) for text in listed]


def _corners(box: Any) -> list[Any]:
    left, top, width, height = box
    return [left, top, left + width, top + height]
