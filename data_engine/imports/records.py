"""One record of the user's data, and the sample that it becomes. This is the documented form of a JSONL line:

    {"image": "scans/17.png", "prompt": "Read this.", "response": "..."}

    image, images   a path or a list of paths, relative to the file or to options.images; none for text alone
    prompt          null: prompt= of the command, else "Free OCR.", or "Convert the document to markdown." with boxes;
                    <image> stands where an image goes, and is put in front when it is nowhere
    response        what the model shall answer (also answer, markdown, text, caption)
    boxes           instead of a response: what stands where, which becomes grounding markup on the 0-999 grid.
                    [{"label": "title", "box": [left, top, right, bottom], "text": "# Tea"}, ...] in reading order;
                    "boxes": [[...], ...] inside of one is a label that several regions share
    phrase          with boxes [[left, top, right, bottom], ...]: "Locate PHRASE in the image." and where that is
    conversations   or messages, instead of prompt and response: turns of {"from", "value"} or {"role", "content"}
    task            a name that mixtures may use; null: task= of the command, else "import", or "text" without image
    key, place      kept in the provenance

What cannot be used is an UnusableError, whose message is short and countable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from typing import Any

from data_engine.errors import ConfigError, nearest
from data_engine.foreign import UnusableError, conversation
from data_engine.imports.options import ImportOptions
from data_engine.imports.pictures import LoadedImage, load_image
from data_engine.markup import GRID, Block, GridBox, grid_box, write_grounded
from data_engine.prompts import DOCUMENT_TO_MARKDOWN, FREE_OCR, locate
from data_engine.sample import IMAGE_PLACEHOLDER, Sample

ODD_CELL = (ArithmeticError, LookupError, ValueError)
"""What comes of a cell that Python has no value for: the year 10000, an unknown time zone, text that is no UTF-8."""
UNREADABLE_ROW = "row cannot be read"
_TURNS = ("conversations", "messages")
_KNOWN = {
    "image": ("images", "image"),
    "prompt": ("prompt", "question"),
    "response": ("response", "answer", "markdown", "text", "caption"),
    "task": ("task",),
    "key": ("key", "id"),
}


@dataclass(frozen=True)
class Fields:
    """Which fields of a record say what; the first that a record has counts."""

    image: tuple[str, ...]
    prompt: tuple[str, ...]
    response: tuple[str, ...]
    task: tuple[str, ...]
    key: tuple[str, ...]
    common_prompt: str | None = None
    """The prompt of records that have none."""
    common_task: str | None = None


def used_fields(options: ImportOptions) -> set[str]:
    """All fields that may ever be looked at."""
    used = {"boxes", "phrase", *_TURNS}
    for name, known in _KNOWN.items():
        wanted = getattr(options, name)
        used.update(known if wanted is None else (wanted,))
    return used


def choose_fields(
    found: Iterable[str], options: ImportOptions, prompt: str | None, task: str | None, where: str
) -> Fields:
    """The fields of a source whose first records have the fields `found`.

    Raises ConfigError when an option names none of them, or nothing could be a response.
    """
    found = set(found)
    chosen: dict[str, tuple[str, ...]] = {}
    for name, known in _KNOWN.items():
        wanted = getattr(options, name)
        if wanted is not None and wanted not in found:
            raise ConfigError(f"options.{name}={wanted} is no field of {where}{nearest(wanted, found)}")
        chosen[name] = known if wanted is None else (wanted,)
    if not found & {*chosen["response"], "boxes", *_TURNS}:
        raise ConfigError(
            f"{where} has no field for the response, only {', '.join(sorted(found)) or 'none at all'}: give "
            "options.response=FIELD."
        )
    return Fields(**chosen, common_prompt=prompt, common_task=task)


def sample_of(
    key: str,
    record: Any,
    fields: Fields,
    options: ImportOptions,
    root: Path,
    provenance: Mapping[str, Any],
) -> Sample:
    """The sample of one record. Raises UnusableError; the images are read from `root`."""
    if not isinstance(record, dict):
        raise UnusableError("record is no JSON object")
    images = tuple(load_image(source, root) for source in _image_sources(record, fields))
    prompt, response = _texts(record, fields, options, images)
    marks = prompt.count(IMAGE_PLACEHOLDER)
    if marks == 0 and images:
        prompt = f"{IMAGE_PLACEHOLDER * len(images)}\n{prompt}"
    elif marks != len(images):
        raise UnusableError("number of <image> marks is not that of the images")
    if not response.strip():
        raise UnusableError("empty response")
    task = _text(record, fields.task) or fields.common_task or ("import" if images else "text")
    name = _value(record, fields.key)
    if any(_has_surrogates(text) for text in (prompt, response, task, str(name))):
        raise UnusableError("text is not Unicode")
    return Sample(
        key=key,
        images=tuple(image.data for image in images),
        image_formats=tuple(image.format for image in images),
        image_sizes=tuple(image.size for image in images),
        prompt=prompt,
        response=response,
        task=task,
        provenance={**provenance, **({"key": name} if isinstance(name, (str, int)) else {})},
    )


def _has_surrogates(text: str) -> bool:
    """JSON can spell halves of characters that no file can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _image_sources(record: Mapping[str, Any], fields: Fields) -> list[str | bytes]:
    given = _value(record, fields.image)
    listed = given if isinstance(given, list) else [] if given is None else [given]
    sources = [_source(image) for image in listed]
    if any(not source for source in sources):
        raise UnusableError("image is neither a path nor an image")
    return sources


def _source(image: Any) -> str | bytes:
    """A path, or the bytes of an image, as datasets keep it: {"bytes": ..., "path": ...}."""
    if isinstance(image, dict):
        image = image.get("bytes") or image.get("path")
    return image if isinstance(image, (str, bytes)) else ""


def _texts(
    record: Mapping[str, Any], fields: Fields, options: ImportOptions, images: tuple[LoadedImage, ...]
) -> tuple[str, str]:
    if any(record.get(name) for name in _TURNS):
        return conversation(dict(record), len(images))
    prompt, response = _text(record, fields.prompt), _text(record, fields.response)
    prompt = fields.common_prompt if prompt is None else prompt
    boxes = record.get("boxes")
    if boxes is None:
        if response is None:
            raise UnusableError("no response")
        if prompt is None:
            prompt = FREE_OCR.replace(IMAGE_PLACEHOLDER, IMAGE_PLACEHOLDER * len(images)) if images else ""
        return prompt, response
    if response is not None:
        raise UnusableError("both a response and boxes")
    if len(images) != 1:
        raise UnusableError("boxes without one image")
    size = images[0].size
    phrase = record.get("phrase")
    if phrase is None:
        return prompt or DOCUMENT_TO_MARKDOWN, write_grounded(_blocks(boxes, options.units, size))
    if not isinstance(phrase, str) or not phrase.strip():
        raise UnusableError("phrase is no text")
    return prompt or locate(phrase), write_grounded([Block(phrase, _boxes(boxes, options.units, size), "")])


def _value(record: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)


def _text(record: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    value = _value(record, names)
    if value is not None and not isinstance(value, str):
        raise UnusableError(f"{' or '.join(names)} is no text")
    return value


def _blocks(blocks: Any, units: str, size: tuple[int, int]) -> list[Block]:
    if not isinstance(blocks, list) or not blocks or not all(isinstance(block, dict) for block in blocks):
        raise UnusableError("boxes are no list of objects with label and box")
    made = []
    for block in blocks:
        label, text = block.get("label"), block.get("text") or ""
        if not isinstance(label, str) or not label.strip() or not isinstance(text, str):
            raise UnusableError("label or text of a box is no text")
        # A table has every field in every row, null where there is none.
        regions = block["boxes"] if block.get("boxes") is not None else [block.get("box")]
        made.append(Block(label, _boxes(regions, units, size), text))
    return made


def _boxes(boxes: Any, units: str, size: tuple[int, int]) -> tuple[GridBox, ...]:
    if not isinstance(boxes, list) or not boxes:
        raise UnusableError("no box")
    return tuple(_box(box, units, size) for box in boxes)


def _box(box: Any, units: str, size: tuple[int, int]) -> GridBox:
    """On the grid. A box may leave its picture by a pixel, as rounded ones do."""
    if not isinstance(box, list) or len(box) != 4 or not all(type(side) in (int, float) for side in box):
        raise UnusableError("box is not [left, top, right, bottom]")
    width, height = {"pixels": size, "grid": (GRID, GRID), "shares": (1, 1)}[units]
    slack_x, slack_y = width / size[0], height / size[1]
    left, top, right, bottom = box
    inside = left >= -slack_x and top >= -slack_y and right <= width + slack_x and bottom <= height + slack_y
    if not inside:  # also when a side is NaN
        raise UnusableError("box leaves its image")
    if not (left < right and top < bottom):
        raise UnusableError("box is empty")
    if units == "grid":  # as it is: shares of 999 times 999 may miss a whole number by a rounding
        return max(0, floor(left)), max(0, floor(top)), min(GRID, ceil(right)), min(GRID, ceil(bottom))
    return grid_box(box, width, height)
