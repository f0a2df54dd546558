"""The page itself: for every dataset some samples spread over it, and what many of them are like.

One file without references to others: pictures are small JPEGs inside it, nothing is loaded and no script runs.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_engine.dataset import Dataset, open_datasets
from data_engine.errors import ConfigError
from data_engine.files import atomic_write_text
from data_engine.image_header import FORMATS
from data_engine.look.coverage import coverage
from data_engine.look.histograms import histogram, shares
from data_engine.look.labels import boxes_over, quads_over, shown
from data_engine.sample import Sample
from data_engine.storage import is_url

_SAMPLES_SHOWN = 24
_SAMPLES_READ = 1000
_SAMPLES_COUNTED = 100_000
_THUMBNAIL = 420
_STYLE = """
body{font:14px/1.4 system-ui,sans-serif;margin:1.5em;background:#f4f4f6;color:#222}
h1{font-size:1.5em}h2{margin-top:2em;border-bottom:1px solid #bbb}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(430px,1fr));gap:14px}
.sample,figure{background:#fff;border:1px solid #ddd;border-radius:6px;padding:10px;margin:0;overflow:auto}
.counts{display:flex;flex-wrap:wrap;gap:14px;margin:1em 0}
.picture{position:relative;display:inline-block;max-width:100%}.picture img{display:block;max-width:100%}
.boxes{position:absolute;inset:0;width:100%;height:100%}
.boxes rect,.boxes polygon{fill:transparent;stroke-width:2;vector-effect:non-scaling-stroke}
.figure polyline,.figure circle{fill:none;stroke:#1c7ed6;stroke-width:.08}.figure .dot{fill:#d6336c;stroke:none}
.figure text{font-size:.9px;fill:#222}
.bars{width:300px;height:90px;display:block}.bars rect{fill:#4c6ef5}
pre{white-space:pre-wrap;overflow-wrap:anywhere;max-height:16em;overflow-y:auto;background:#f8f8f9;padding:6px}
table.label{border-collapse:collapse;margin:6px 0}table.label td{border:1px solid #999;padding:2px 6px}
small{color:#666;display:block}figcaption{font-weight:600}"""


def write_look(location: str, out: str | None, tokenizer: str | None) -> Path:
    """Write the page about a dataset, or all datasets of a directory, and return its path.

    `tokenizer` is a tokenizer.json, with which tokens are counted. Raises ConfigError when something is missing.
    """
    if out is None and is_url(location):
        raise ConfigError(f"out is required: give out=FILE.html, a local file for the page about {location}.")
    count = _token_counter(tokenizer)
    datasets = open_datasets(location)
    body = "".join(_dataset_html(dataset, count) for dataset in datasets.values())
    whole = Path(os.path.abspath(location))
    path = Path(out) if out is not None else whole.with_name(f"{whole.name}-look.html")
    title = html.escape(whole.name)
    head = f"<meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>"
    page = f"<!doctype html><html><head>{head}</head><body><h1>{title}</h1>{body}</body></html>\n"
    try:
        atomic_write_text(path, page)
    except FileNotFoundError as error:
        raise ConfigError(f"out={path} cannot be written: its directory does not exist.") from error
    return path


def _token_counter(tokenizer: str | None) -> Callable[[list[str]], list[int]] | None:
    if tokenizer is None:
        return None
    from tokenizers import Tokenizer

    if not Path(tokenizer).is_file():
        raise ConfigError(f"tokenizer={tokenizer} is no file: give a tokenizer.json.")
    try:
        loaded = Tokenizer.from_file(tokenizer)
    except Exception as error:  # the library raises nothing more precise
        raise ConfigError(f"tokenizer={tokenizer} cannot be read ({error}).") from error
    return lambda texts: [len(code) for code in loaded.encode_batch(texts, add_special_tokens=False)]


def spread(total: int, count: int) -> np.ndarray:
    """Up to `count` sample numbers, evenly spread over `total`, ascending."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(np.int64))


def _dataset_html(dataset: Dataset, count: Callable[[list[str]], list[int]] | None) -> str:
    numbers = spread(len(dataset), _SAMPLES_COUNTED)
    lengths = dataset.text_lengths_of(numbers)
    images, sizes = dataset.image_sizes_of(numbers)
    texts = [dataset.read_text(int(number)) for number in spread(len(dataset), _SAMPLES_READ)]
    drawings = [histogram("response, characters", lengths[:, 1].tolist())]
    if count is not None:
        drawings.append(histogram("response, tokens", count([sample.response for sample in texts])))
    drawings += [
        histogram("image width, pixels", sizes[:, 0].tolist()),
        histogram("image height, pixels", sizes[:, 1].tolist()),
    ]
    if len(set(images.tolist())) > 1:
        drawings.append(histogram("images per sample", images.tolist()))
    styles, measures = coverage(texts)
    drawings += [shares(name, values, len(texts)) for name, values in styles.items()]
    drawings += [histogram(name, values) for name, values in measures.items()]
    samples = "".join(
        _sample_html(dataset.read(int(number))) for number in spread(len(dataset), _SAMPLES_SHOWN)
    )
    manifest = dataset.manifest
    skipped = "".join(f", skipped {n} x {html.escape(reason)}" for reason, n in manifest["skipped"].items())
    facts = (
        f"{len(dataset)} samples in {len(dataset.shards)} shards{skipped}; fingerprint {dataset.fingerprint}"
    )
    return (
        f"<h2>{html.escape(dataset.name)}: {html.escape(str(manifest['kind']))}</h2><p>{facts}</p>"
        f"<div class='counts'>{''.join(drawings)}</div><div class='grid'>{samples}</div>"
    )


def _sample_html(sample: Sample) -> str:
    boxes = boxes_over(sample.response)
    if "quads" in sample.provenance and len(sample.image_sizes) == 1:
        boxes = quads_over(sample.provenance["quads"], *sample.image_sizes[0]) + boxes
    pictures = "".join(f"<div class='picture'>{_thumbnail(data)}{boxes}</div>" for data in sample.images)
    sizes = ", ".join(f"{width} x {height}" for width, height in sample.image_sizes)
    facts: dict[str, Any] = {"key": sample.key, "size": sizes, "prompt": sample.prompt}
    lines = "".join(
        f"<small>{name}: {html.escape(str(value)[:400])}</small>" for name, value in facts.items()
    )
    return f"<div class='sample'>{pictures}{lines}{shown(sample.prompt, sample.response)}</div>"


def _thumbnail(data: bytes) -> str:
    with Image.open(io.BytesIO(data), formats=list(FORMATS)) as picture:
        small = picture.convert("RGB")
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f"<img src='data:image/jpeg;base64,{encoded}' width='{small.width}' height='{small.height}' alt=''>"
    )
