"""OmniDocBench: its pages from its ground-truth JSON, and the predictions in the form of its own tool.

Files, as the benchmark ships them (research use only, so bring your own):

    data/OmniDocBench.json    a list of pages: {"layout_dets": [...], "page_info": {...}, "extra": {...}}
    data/images/NAME.jpg

v1.0 (981 pages), v1.5 (1,355) and v1.6 (1,651) share this layout; they differ in pages and in the headline
figure. The paper's table 3 uses v1.0: edit distances, English and Chinese apart. Our own scorer
(`omnidocbench_score`) follows the benchmark's definitions where they are known to us and says where it
does not; published comparisons need the official tool, which runs in an environment of its own:

    python -m evaluation benchmark=omnidocbench data=DIR checkpoint=CKPT out=OUT steps=[predict,postprocess]
    docker run --rm -v DIR:/truth -v OUT/texts/released/omnidocbench-base:/predictions \\
        sunyuefeng/omnidocbench-env:v1.5 python pdf_validation.py --config CONFIG

where CONFIG is the tool's `configs/end2end.yaml` with /truth/OmniDocBench.json as ground truth and /predictions
as prediction directory. There is one Markdown file per page, named like its image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_engine.command_line import ConfigError
from data_engine.prompts import DOCUMENT_TO_MARKDOWN
from evaluation.benchmarks.omnidocbench_truth import reading_text
from evaluation.benchmarks.pages import BenchmarkPage, BenchmarkPages, image_size, read_json_list, safe_name
from model.views import resolution_mode, valid_tokens, view_plan

TRUTH_FILE, IMAGE_DIRECTORY = "OmniDocBench.json", "images"
MODES = ("base",)
TOKEN_MODES = ("tiny", "small", "base", "large", "gundam", "gundam_m")
VERSIONS = {981: "v1.0", 1355: "v1.5", 1651: "v1.6"}
"""Pages to version: a file does not say which one it is."""

PAPER: dict[str, tuple[str, tuple[float, ...], tuple[float, ...]]] = {
    "tiny": ("64", (0.386, 0.373, 0.469, 0.422, 0.283), (0.361, 0.307, 0.635, 0.266, 0.236)),
    "small": ("100", (0.221, 0.142, 0.373, 0.242, 0.125), (0.284, 0.240, 0.530, 0.159, 0.205)),
    "base": ("256 (182)", (0.137, 0.054, 0.267, 0.163, 0.064), (0.240, 0.205, 0.474, 0.100, 0.181)),
    "large": ("400 (285)", (0.138, 0.054, 0.277, 0.152, 0.067), (0.208, 0.143, 0.461, 0.104, 0.123)),
    "gundam": ("795", (0.127, 0.043, 0.269, 0.134, 0.062), (0.181, 0.097, 0.432, 0.089, 0.103)),
    "gundam_m": ("1853", (0.123, 0.049, 0.242, 0.147, 0.056), (0.157, 0.087, 0.377, 0.080, 0.085)),
}
"""Table 3 (v1.0): mode to (tokens (valid), English, Chinese), each overall, text, formula, table, order."""


def read_omnidocbench(directory: Path) -> BenchmarkPages:
    """Every page of the ground truth. ConfigError for a file that is not OmniDocBench's."""
    path = directory / TRUTH_FILE
    pages = []
    for number, record in enumerate(read_json_list(path, "OmniDocBench"), start=1):
        info, layout = record.get("page_info"), record.get("layout_dets")
        info = info if isinstance(info, dict) else {}
        name = info.get("image_path")
        if not isinstance(name, str) or not _is_list_of_objects(layout):
            raise ConfigError(f"{path}, page {number}: expected layout_dets and page_info with image_path.")
        image = directory / IMAGE_DIRECTORY / safe_name(Path(name).name, path)
        size = image_size(image)
        if size == (0, 0):
            size = _size_told(info)
        page = BenchmarkPage(
            key=image.name.rpartition(".")[0] or image.name,
            image=image,
            size=size,
            truth=reading_text(record),
            groups=groups_of(info),
            reference=record,
        )
        pages.append(page)
    return BenchmarkPages("omnidocbench", DOCUMENT_TO_MARKDOWN, pages, path)


def groups_of(info: Mapping[str, Any]) -> dict[str, str]:
    """Language and page type of a page, "unknown" where the file does not say."""
    attributes = info.get("page_attribute")
    attributes = attributes if isinstance(attributes, dict) else {}
    return {
        "language": str(attributes.get("language", "unknown")),
        "page type": str(attributes.get("data_source", "unknown")),
    }


def vision_tokens_by_mode(sizes: Sequence[tuple[int, int]]) -> dict[str, dict[str, float]]:
    """Mode to mean vision tokens of a page, all of them and those that carry image (paper, equation 1)."""
    known = [size for size in sizes if min(size) > 0]
    if not known:
        return {}
    table = {}
    for name in TOKEN_MODES:
        mode = resolution_mode(name)
        table[name] = {
            "tokens": sum(view_plan(*size, mode).vision_tokens for size in known) / len(known),
            "valid": sum(valid_tokens(*size, mode) for size in known) / len(known),
        }
    return table


def _size_told(info: Mapping[str, Any]) -> tuple[int, int]:
    width, height = info.get("width"), info.get("height")
    if isinstance(width, int) and isinstance(height, int) and 0 < width < 100_000 and 0 < height < 100_000:
        return width, height
    return 0, 0


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)
