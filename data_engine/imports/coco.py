"""COCO's JSON, captions and instances, as records of the documented form.

Boxes become [left, top, right, bottom]; crowds, whose box holds many objects, are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_engine.errors import ConfigError
from data_engine.imports.options import ImportOptions
from data_engine.prompts import DESCRIBE_IMAGE, DETECT_ALL


def is_coco(content: Any) -> bool:
    """Whether this is what a file of COCO's annotations holds."""
    return isinstance(content, dict) and {"images", "annotations"} <= set(content)


def coco_records(content: dict[str, Any], path: Path, options: ImportOptions) -> Iterator[dict[str, Any]]:
    """The records of a COCO file, in the order of its images. ConfigError when an entry is not what it should be."""
    try:
        categories = {entry["id"]: str(entry["name"]) for entry in content.get("categories", [])}
        of_image: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
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
    captions = [annotation["caption"] for annotation in annotations if "caption" in annotation]
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
            left, top, width, height = annotation["bbox"]
            category = categories[annotation["category_id"]]
            boxes.setdefault(category, []).append([left, top, left + width, top + height])
    if boxes and "detect" in options.objects:
        blocks = [{"label": name, "boxes": regions} for name, regions in boxes.items()]
        yield {**base, "prompt": DETECT_ALL, "boxes": blocks, "task": "detection"}
    if "locate" in options.objects:
        for name, regions in boxes.items():
            yield {**base, "phrase": name, "boxes": regions, "task": "grounding"}
