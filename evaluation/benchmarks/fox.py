"""Fox, the compression study of the paper (arXiv 2510.18234, section 4.1 and table 2).

Protocol: the English pages; their texts counted with the model's own tokenizer; pages of 600 to 1,300 tokens (100
pages with the released tokenizer); the prompt `Free OCR.`; the modes Tiny (64 vision tokens) and Small (100);
groups of 100 text tokens. Compression is text tokens / vision tokens. The paper does not define its "precision"
and notes that the output format does not match Fox's fully, so that true accuracy is higher: this room
reports precision over word sets and multisets, the edit distance, and what Fox's own script would say.

Files, as the benchmark ships them (research use only, so bring your own):

    data/en_page_ocr.json     [{"image": "en_1.png", "conversations": [{...}, {"from": "gpt", "value": TEXT}]}, ...]
    data/en_pdf_png/en_1.png
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data_engine.command_line import ConfigError
from data_engine.prompts import FREE_OCR
from evaluation.benchmarks.pages import BenchmarkPage, BenchmarkPages, image_size, read_json_list, safe_name

TRUTH_FILE, IMAGE_DIRECTORY = "en_page_ocr.json", "en_pdf_png"
LEAST_TOKENS, MOST_TOKENS, BUCKET = 600, 1300, 100
GROUP = "text tokens"
MODES = ("tiny", "small")

PAPER: dict[str, tuple[float, float, float, float, int]] = {
    "600-700": (0.965, 10.5, 0.985, 6.7, 7),
    "700-800": (0.938, 11.8, 0.973, 7.5, 28),
    "800-900": (0.838, 13.2, 0.968, 8.5, 28),
    "900-1000": (0.859, 15.1, 0.968, 9.7, 14),
    "1000-1100": (0.793, 16.5, 0.915, 10.6, 11),
    "1100-1200": (0.764, 17.7, 0.898, 11.3, 8),
    "1200-1300": (0.591, 19.7, 0.871, 12.6, 4),
}
"""Table 2: bucket to (precision Tiny, compression Tiny, precision Small, compression Small, pages)."""


def read_fox(directory: Path, encode: Callable[[str], list[int]]) -> BenchmarkPages:
    """The pages within the protocol's range; `encode` is the model's own tokenizer.

    ConfigError for a file that is not Fox's.
    """
    path = directory / TRUTH_FILE
    pages = []
    for number, record in enumerate(read_json_list(path, "Fox"), start=1):
        text = truth_of(record)
        name = record.get("image")
        if text is None or not isinstance(name, str):
            raise ConfigError(f"{path}, entry {number}: expected an image and a conversation with its text.")
        tokens = len(encode(text))
        if not LEAST_TOKENS <= tokens <= MOST_TOKENS:
            continue
        image = directory / IMAGE_DIRECTORY / safe_name(name, path)
        groups = {GROUP: bucket_of(tokens)}
        pages.append(BenchmarkPage(image.stem, image, image_size(image), text, groups, tokens))
    return BenchmarkPages("fox", FREE_OCR, pages, path)


def truth_of(record: Mapping[str, Any]) -> str | None:
    """The text of a page: the second turn of its conversation, or `label` as Fox's result files call it."""
    turns = record.get("conversations")
    if isinstance(turns, list) and len(turns) > 1 and isinstance(turns[1], dict):
        value = turns[1].get("value")
    else:
        value = record.get("label")
    return value if isinstance(value, str) else None


def bucket_of(tokens: int) -> str:
    """950 as "900-1000"; 1,300 belongs to the last bucket."""
    start = min(tokens, MOST_TOKENS - 1) // BUCKET * BUCKET
    return f"{start}-{start + BUCKET}"
