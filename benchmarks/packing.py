"""Pack fill, balance of ranks, and what planning costs. Prints the tables of the sections in benchmarks/loading.md.

python benchmarks/packing.py            # two to five minutes on one core
"""

from __future__ import annotations

import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_engine.sample import Sample
from model.tokenizer import Tokenizer
from train.data.block_order import GLOBAL_ORDER, SampleOrder
from train.data.costs import SampleCosts, image_costs
from train.data.draws import MixtureDraws
from train.data.lengths import TextLengths
from train.data.mixture import Mixture
from train.data.modes import SLOTS, ModePlan, ModeShares
from train.data.packing import BUDGETS, TOKENS, assign_packs, pack_window
from train.data.stream import PackStream
from train.tokenizer import train_tokenizer

PAPER_MODES = {"tiny": 0.15, "small": 0.25, "base": 0.3, "large": 0.1, "gundam": 0.2}
STAGE_1, STAGE_2 = (4096, 32768, 48, 2048), (8192, 45056, 64, 2816)
"""Budgets of the paper configurations, in the order of BUDGETS."""
RANKS = 40
KINDS = ("pages", "charts, formulas and scene text", "general vision", "text alone")
LOG_MEAN, LOG_SPREAD = np.array([6.7, 5.2, 4.5, 7.2]), np.array([0.6, 0.7, 0.6, 0.9])
"""Of the tokens of prompt and target, per kind: medians 812, 181, 90 and 1,339."""


def costs_of_a_mix(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Budgets [n, 4] and vision load [n]: 42 % pages, 28 % other OCR, 20 % general, 10 % text, in the paper's modes."""
    numbers = np.random.default_rng(seed)
    kind = numbers.choice(4, count, p=[0.42, 0.28, 0.2, 0.1])
    text = numbers.lognormal(LOG_MEAN[kind], LOG_SPREAD[kind]).astype(np.int64) + 12
    pages, others = (
        numbers.integers([1200, 1600], [1800, 2400], (count, 2)),
        numbers.integers(300, 1400, (count, 2)),
    )
    sizes = np.where((kind == 0)[:, None], pages, others)
    shares = ModeShares.of(PAPER_MODES)
    mode = np.searchsorted(np.cumsum(shares.slots), numbers.integers(0, SLOTS, count), side="right")
    rows = np.zeros((count, len(BUDGETS) + 1), np.int64)
    for number, chosen in enumerate(shares.modes):
        mine = (mode == number) & (kind != 3)
        rows[mine] = image_costs(sizes[mine], chosen)
    rows[:, TOKENS] += text
    return rows[:, : len(BUDGETS)], rows[:, len(BUDGETS)]


def next_fit(costs: NDArray[np.int64], capacity: tuple[int, ...]) -> int:
    """Packs when every sample goes into the last pack or opens a new one."""
    packs, used, limits = 1, np.zeros(len(BUDGETS), np.int64), np.array(capacity)
    for cost in costs[(costs <= limits).all(axis=1)]:
        if (used + cost > limits).any():
            packs, used = packs + 1, np.zeros_like(used)
        used = used + cost
    return packs


def fill_and_balance(stage: str, capacity: tuple[int, int, int, int]) -> None:
    print(
        f"\n{stage}: tokens {capacity[0]}, patches {capacity[1]}, views {capacity[2]}, vision tokens {capacity[3]}"
    )
    print("window   windows  one a row  next-fit  best-fit (worst window)  patches  dropped  CPU s/window")
    loads: list[int] = []
    for window in (1024, 4096, 16384, 65536):
        rounds = max(2, 32768 // window)
        ours, others, alone, patches, seconds, dropped = [], [], [], [], [], 0
        for seed in range(rounds):
            costs, load = costs_of_a_mix(window, seed)
            started = time.process_time()
            packs, rejected = pack_window(costs, capacity)
            seconds.append(time.process_time() - started)
            kept = costs[np.concatenate(packs)]
            tokens = kept[:, TOKENS].sum() / capacity[0]
            ours.append(tokens / len(packs))
            patches.append(kept[:, 1].sum() / capacity[1] / len(packs))
            others.append(tokens / next_fit(costs, capacity))
            alone.append(tokens / len(kept))
            dropped += len(rejected)
            order = np.random.default_rng(seed).permutation(len(packs))
            loads += [int(load[packs[number]].sum()) for number in order]
        print(
            f"{window:6}  {rounds:8}  {np.mean(alone):9.1%}  {np.mean(others):8.1%}  {np.mean(ours):8.2%} "
            f"({min(ours):.2%})"
            f"{np.mean(patches):16.1%}  {dropped / rounds / window:7.3%}  {statistics.median(seconds):12.3f}"
        )
    print(
        f"micro-batches  slowest of {RANKS} ranks over the mean, as packs come -> balanced (worst step), CPU ms/step"
    )
    for micro_batches in (16, 8, 4, 2, 1):
        size = micro_batches * RANKS
        plain, balanced, seconds = [], [], []
        for first in range(0, min(len(loads), 40 * size) - size + 1, size):
            step = np.array(loads[first : first + size])
            started = time.process_time()
            assignment = assign_packs(step.tolist(), micro_batches, RANKS)
            seconds.append(time.process_time() - started)
            for result, totals in (
                (plain, step.reshape(micro_batches, RANKS).sum(axis=0)),
                (balanced, step[assignment].sum(axis=1)),
            ):
                result.append(totals.max() / totals.mean())
        print(
            f"{micro_batches:13}  {np.mean(plain):.4f} -> {np.mean(balanced):.4f} ({max(balanced):.4f}), "
            f"{1000 * statistics.median(seconds):.1f} ms, {len(plain)} steps"
        )


def located() -> None:
    """A million draws from 50 million samples."""
    sizes = {"pages": 30_000_000, "charts": 10_000_000, "general": 7_000_000, "text": 3_000_000}
    print("\none million draws located, of 50,000,000 samples in 4 datasets: median CPU seconds of 5")
    for name, order in (("global", GLOBAL_ORDER), ("block 256 x 64", SampleOrder("block", 256, 64))):
        for window in (4096, 65536):
            mixture = Mixture.of({"pages": 42, "charts": 28, "general": 20, "text": 10}, window)
            draws = MixtureDraws(mixture, sizes, 1, order)
            rounds = []
            for first in (0, 10**4, 10**5, 10**6, 10**7):
                first //= window // 4096
                rounds.append(cpu_seconds(lambda: [draws.window(first + i) for i in range(10**6 // window)]))  # noqa: B023
            print(f"  {name:15} window {window:6}: {statistics.median(rounds):.2f} s")


def cpu_seconds(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


class Library:
    """Samples in memory with texts of the lengths of `costs_of_a_mix`."""

    name = "library"
    fingerprint = "library of benchmarks/packing.py"

    def __init__(self, count: int) -> None:
        numbers, words = random.Random(1), random.Random(2)
        vocabulary = [
            "".join(words.choices("abcdefghijklmnopqrstuvwxyz", k=words.randint(2, 9))) for _ in range(20000)
        ]
        drawn = np.random.default_rng(3)
        kind = drawn.choice(4, count, p=[0.42, 0.28, 0.2, 0.1])
        lengths = drawn.lognormal(LOG_MEAN[kind], LOG_SPREAD[kind]) / 1.6
        self._texts = [" ".join(numbers.choices(vocabulary, k=1 + int(length))) for length in lengths]
        self._images = (kind != 3).astype(np.int64)
        self._sizes = drawn.integers([700, 900], [1800, 2400], (count, 2)).astype(np.int32)

    def __len__(self) -> int:
        return len(self._texts)

    def key(self, i: int) -> str:
        return str(i)

    def read_text(self, i: int) -> Sample:
        size = tuple(self._sizes[i].tolist())
        images = int(self._images[i])
        prompt = "<image>\nFree OCR." if images else ""
        return Sample(str(i), (), ("png",) * images, (size,) * images, prompt, self._texts[i], "page")

    read = read_text

    def image_sizes_of(self, samples: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        return self._images[samples], self._sizes[samples[self._images[samples] > 0]]


def planning(directory: Path) -> None:
    data = Library(8192)
    train_tokenizer({"library": data}, directory / "tokenizer", 8192)
    tokenizer = Tokenizer.from_directory(directory / "tokenizer")
    window = np.arange(4096)
    one_by_one = cpu_seconds(lambda: [len(tokenizer.encode(data.read_text(i).response)) for i in range(4096)])
    fresh = TextLengths(data, tokenizer)
    batched = cpu_seconds(lambda: fresh.of(window))
    started = time.perf_counter()
    TextLengths(data, tokenizer).of(window)
    wall = time.perf_counter() - started
    tokens = int(fresh.of(window)[:, 0].sum())
    print(
        f"\ntext lengths of a window of 4,096 draws, {tokens:,} tokens, vocabulary {tokenizer.vocab_size:,}"
    )
    print(f"  one by one {one_by_one:.2f} CPU s; in batches {batched:.2f} CPU s, {wall:.2f} s by the clock")
    print(f"  remembered: {cpu_seconds(lambda: fresh.of(window)) * 1000:.1f} ms")
    modes = ModePlan({"default": ModeShares.of(PAPER_MODES)})
    SampleCosts({"library": data}, ["library"], tokenizer, modes, directory / "lengths").save()
    print("planning a window with a lengths cache (draw, measure, pack, shuffle): median CPU seconds of 5")
    for size in (4096, 8192):
        draws = MixtureDraws(Mixture(window=size), {"library": len(data)}, 1)
        costs = SampleCosts({"library": data}, ["library"], tokenizer, modes, directory / "lengths")
        stream = PackStream(draws, costs, STAGE_2, 1)
        seconds = [cpu_seconds(lambda: stream.plan(number)) for number in range(5)]  # noqa: B023
        parts = [cpu_seconds(lambda: draws.window(9)), cpu_seconds(lambda: costs.of(draws.window(9)))]  # noqa: B023
        print(
            f"  window {size:6}: {statistics.median(seconds):.3f} s "
            f"(drawing {parts[0]:.3f}, drawing and measuring {parts[1]:.3f})"
        )


def main() -> None:
    fill_and_balance("stage 1 of the paper", STAGE_1)
    fill_and_balance("stage 2 of the paper", STAGE_2)
    located()
    with tempfile.TemporaryDirectory() as directory:
        planning(Path(directory))
    print(f"\npeak memory of all this: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
