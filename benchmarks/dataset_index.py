"""Opening a dataset of 50 million samples, and reading samples beside stock webdataset: see loading.md.

    python benchmarks/dataset_index.py directory=/tmp/loading [samples=50000000] [shards=10000] [rounds=8]

The big dataset is synthetic: a real manifest and a real dataset.index (5 GB on the disk), sparse tars. Every
measurement of it runs in a process of its own. The rates are measured on 4,000 real samples from page cache, the
two readers in turn; what counts is the CPU time, and the best round of each. Decoding takes so much longer than reading
that the machine's own changes of speed are larger than the difference: there the ratio within each round counts.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_engine.dataset import Dataset
from data_engine.files import atomic_write_json
from data_engine.index_file import COLUMNS, INDEX_NAME, XXH3, IndexHead, spans, write_index
from data_engine.index_run import Wishes, index_dataset
from data_engine.manifest import MANIFEST_NAME, fingerprint_of, manifest_content, shards_of
from data_engine.sample import SCHEMA, Sample
from data_engine.shards import write_manifest, write_shard

KEY = 12
TAR_BYTES = 400_000_000
DRAWS = 1_000_000
REAL_SAMPLES, REAL_SHARD = 4000, 1000


def make_big(directory: Path, samples: int, shards: int) -> None:
    """A dataset whose tars are holes and whose manifest and index are not."""
    directory.mkdir(parents=True, exist_ok=True)
    per_shard = samples // shards
    records = [
        {
            "name": f"page-{number:06d}",
            "samples": per_shard,
            "bytes": TAR_BYTES,
            "sha256": hashlib.sha256(b"tar %d" % number).hexdigest(),
            "index_sha256": hashlib.sha256(b"index %d" % number).hexdigest(),
        }
        for number in range(shards)
    ]
    for record in records:
        with open(directory / f"{record['name']}.tar", "wb") as file:
            file.truncate(TAR_BYTES)
    manifest: dict[str, Any] = {"schema": SCHEMA, "kind": "page", "seed": 0, "samples": per_shard * shards}
    manifest |= {"skipped": {}, "shards": records, "options": {}, "versions": {}, "fingerprint": ""}
    manifest["fingerprint"] = fingerprint_of(shards_of(manifest))
    head = IndexHead(manifest_content(manifest), samples, samples, samples * KEY)
    with open(directory / INDEX_NAME, "wb") as file:
        write_index(file, head, lambda column: big_rows(column, samples))
    atomic_write_json(directory / MANIFEST_NAME, manifest)


def big_rows(column: str, samples: int) -> Iterator[NDArray[Any]]:
    """Rows of one column, a million samples at a time; one image per sample."""
    dtype = COLUMNS[column][0]
    for start in range(0, samples, 1_000_000):
        count = min(1_000_000, samples - start)
        numbers = np.arange(start, start + count)
        if column == "images":
            yield spans(np.ones(count, np.int64), start)
        elif column == "keys":
            yield np.char.zfill(numbers.astype("S12"), KEY).view(np.uint8)
        elif column in ("lengths", "image_sizes"):
            yield np.stack([numbers % 1500 + 1, numbers % 2500 + 1], axis=1).astype("<i4")
        else:
            rows = np.zeros(count, dtype)
            rows["offset"], rows["size"], rows["checked_by"] = numbers % 5000 * 80_000, 60_000, XXH3
            if column == "texts":
                rows["key"] = spans(np.full(count, KEY), start * KEY)
            yield rows


def memory() -> dict[str, float]:
    """Resident and proportional memory of this process, in MB."""
    found = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("Rss", "Pss"):
            found[name] = int(rest.split()[0]) / 1024
    return found


def measure_big(directory: Path) -> None:
    """Open, locate a million draws, read single rows; prints JSON. Runs in a process of its own."""
    before = memory()
    start = time.perf_counter(), time.process_time()
    dataset = Dataset.open(directory)
    opened = time.perf_counter() - start[0], time.process_time() - start[1]
    after = memory()
    draws = np.random.default_rng(0).integers(0, len(dataset), DRAWS)
    start = time.perf_counter(), time.process_time()
    counts, sizes = dataset.image_sizes_of(draws)
    located = time.perf_counter() - start[0], time.process_time() - start[1]
    assert counts.sum() == len(sizes) == DRAWS and (sizes[:, 0] == draws % 1500 + 1).all()
    start = time.perf_counter(), time.process_time()
    lengths = dataset.text_lengths_of(draws)
    measured = time.perf_counter() - start[0], time.process_time() - start[1]
    assert (lengths == sizes).all()
    window = draws[:4096]
    start = time.perf_counter(), time.process_time()
    dataset.image_sizes_of(window)
    dataset.text_lengths_of(window)
    windowed = time.perf_counter() - start[0], time.process_time() - start[1]
    keys = [dataset.key(int(i)) for i in draws[:20_000]]
    assert keys[0] == f"{draws[0]:012d}"
    end = memory()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "samples": len(dataset),
                "open": opened,
                "sizes of 1M draws": located,
                "lengths of 1M draws": measured,
                "window of 4,096 draws": windowed,
                "memory before MB": before,
                "grown by opening MB": {name: after[name] - before[name] for name in after},
                "grown in all MB": {name: end[name] - before[name] for name in end},
                "peak growth MB": peak - before["Rss"],
            }
        )
    )


def make_real(directory: Path) -> None:
    """4,000 pages of 640 x 640 pixels, JPEG of about 38 KB, in four shards."""
    directory.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    pictures = []
    for _ in range(20):
        pixels = np.indices((640, 640)).sum(0)[..., None] % 251 + generator.integers(0, 28, (640, 640, 3))
        buffer = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=60)
        pictures.append(buffer.getvalue())

    def sample(i: int) -> Sample:
        data = pictures[i % len(pictures)]
        return Sample(
            f"s-{i:09d}", (data,), ("jpg",), ((640, 640),), "<image>\nFree OCR.", "text " * 200, "page"
        )

    records = [
        write_shard(
            directory, f"s-{start // REAL_SHARD:06d}", map(sample, range(start, start + REAL_SHARD)), {}
        )
        for start in range(0, REAL_SAMPLES, REAL_SHARD)
    ]
    write_manifest(directory, kind="s", seed=0, shards=records, skipped=[], options={}, versions={})


def ours(dataset: Dataset, count: int, decode: bool) -> None:
    """The first samples in random order, every byte verified, the JSON understood."""
    for i in np.random.default_rng(1).permutation(count).tolist():
        sample = dataset.read(i)
        if decode:
            Image.open(io.BytesIO(sample.images[0])).convert("RGB").load()


def stock(directory: Path, count: int, parsed: bool, decode: bool) -> None:
    """webdataset in the order of the tars; nothing is verified."""
    import webdataset

    dataset = webdataset.WebDataset(sorted(map(str, directory.glob("*.tar"))), shardshuffle=False)
    if decode:
        dataset = dataset.decode("pilrgb")
    elif parsed:
        dataset = dataset.decode(only=["json"])
    for number, _ in enumerate(dataset, 1):
        if number == count:
            return


def measure_rates(directory: Path, rounds: int) -> list[tuple[str, float, float]]:
    """Name, samples per second of CPU time, and of wall time; the best round of each, taken in turn."""
    dataset = Dataset.open(directory)
    read = {
        "ours, random order, verified, JSON parsed": lambda: ours(dataset, REAL_SAMPLES, False),
        "webdataset, in order, raw bytes": lambda: stock(directory, REAL_SAMPLES, False, False),
        "webdataset, in order, JSON parsed": lambda: stock(directory, REAL_SAMPLES, True, False),
    }
    return best_rounds(read, REAL_SAMPLES, rounds)


def decoded_ratio(directory: Path, rounds: int) -> list[float]:
    """Rate of ours ÷ rate of webdataset with the image decoded by Pillow, in CPU time, of each round; sorted."""
    dataset = Dataset.open(directory)
    few = 50  # milliseconds each: short rounds, so that both see the same machine
    ratios = []
    for number in range(rounds):
        spent = {}
        for reader in ("ours", "stock") if number % 2 else ("stock", "ours"):
            start = time.process_time()
            if reader == "ours":
                ours(dataset, few, True)
            else:
                stock(directory, few, True, True)
            spent[reader] = time.process_time() - start
        ratios.append(spent["stock"] / spent["ours"])
    return sorted(ratios)


def best_rounds(
    readers: dict[str, Callable[[], None]], samples: int, rounds: int
) -> list[tuple[str, float, float]]:
    best = {name: [float("inf"), float("inf")] for name in readers}
    for _ in range(rounds):
        for name, read in readers.items():
            start = time.process_time(), time.perf_counter()
            read()
            spent = time.process_time() - start[0], time.perf_counter() - start[1]
            best[name] = [min(old, new / samples) for old, new in zip(best[name], spent, strict=True)]
    return [(name, 1 / cpu, 1 / wall) for name, (cpu, wall) in best.items()]


def measure_indexing(directory: Path, out: Path, rounds: int) -> tuple[float, float, int]:
    """Best CPU and wall seconds of index= over the real shards, and their bytes."""
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for path in out.glob("*"):
            path.unlink()
        start = time.process_time(), time.perf_counter()
        index_dataset(str(directory), str(out), Wishes(), 1, lambda *_: None, lambda _: None)
        spent = time.process_time() - start[0], time.perf_counter() - start[1]
        best = [min(old, new) for old, new in zip(best, spent, strict=True)]
    return best[0], best[1], sum(path.stat().st_size for path in directory.glob("*.tar"))


def without_index(directory: Path, target: Path) -> Path:
    """The tars alone, as somebody else would bring them."""
    target.mkdir(exist_ok=True)
    for path in directory.glob("*.tar"):
        assert tarfile.is_tarfile(path)
        if not (target / path.name).exists():
            os.link(path, target / path.name)
    return target


def main(arguments: list[str]) -> None:
    keys = dict(argument.split("=", 1) for argument in arguments)
    directory = Path(keys.pop("directory"))
    samples, shards = int(keys.pop("samples", 50_000_000)), int(keys.pop("shards", 10_000))
    rounds = int(keys.pop("rounds", 8))
    if keys.pop("only", None) == "measure_big":
        measure_big(directory)
        return
    if keys:
        raise SystemExit(f"unknown key {next(iter(keys))}")
    big, real = directory / f"big-{samples}", directory / "real"
    if not (big / MANIFEST_NAME).exists():
        make_big(big, samples, shards)
    command = [sys.executable, __file__, f"directory={big}", "only=measure_big"]
    for _ in range(3):
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    if not (real / MANIFEST_NAME).exists():
        make_real(real)
    for name, cpu, wall in measure_rates(real, rounds):
        print(f"{name:45} {cpu:9,.0f} samples/CPU s {wall:9,.0f} samples/s")
    ratios = decoded_ratio(real, 10 * rounds)
    quartiles = statistics.quantiles(ratios, n=4)
    print(
        f"decoded, ours ÷ webdataset: median {quartiles[1]:.3f}, quartiles {quartiles[0]:.3f} to {quartiles[2]:.3f}"
    )
    out = directory / "indexed"
    out.mkdir(exist_ok=True)
    cpu, wall, size = measure_indexing(without_index(real, directory / "tars"), out, rounds)
    print(f"index= of {REAL_SAMPLES} samples, {size / 1e6:.0f} MB: {cpu:.2f} CPU s, {wall:.2f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
