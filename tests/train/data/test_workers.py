"""Worker processes change nothing about the stream, and none of them is left behind."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import torch
from reading_samples import NANO_MODES, cards, pages, texts

from model.tokenizer import Tokenizer
from train.data.loader import PackedLoader
from train.data.micro_batch import MicroBatchShape
from train.data.mixture import Mixture

SHAPE = MicroBatchShape(tokens=300, patches=3000, views=24, vision_tokens=200)
MIXTURE = Mixture.of({"card": 5, "page": 2, "text": 3}, window=40)


def loader(tokenizer: Tokenizer, workers: int) -> PackedLoader:
    datasets = {"card": cards(60), "page": pages(15), "text": texts(20)}
    return PackedLoader(datasets, tokenizer, NANO_MODES, SHAPE, MIXTURE, 9, 3, prefetch=2, workers=workers)


def alive(pids: list[int]) -> list[int]:
    running = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            continue
        if state != "Z":
            running.append(pid)
    return running


def wait_until_gone(pids: list[int], seconds: float) -> list[int]:
    end = time.monotonic() + seconds
    while alive(pids) and time.monotonic() < end:
        time.sleep(0.05)
    return alive(pids)


def test_any_number_of_workers_gives_the_same_stream(tokenizer: Tokenizer) -> None:
    alone = loader(tokenizer, 0)
    steps = (0, 1, 2, 9, 4)  # forwards, a jump, and back, as a resumed run asks
    expected = {step: list(alone.step_batches(step)) for step in steps}
    alone.close()
    before = {process.pid for process in multiprocessing.active_children()}
    blocks = set(os.listdir("/dev/shm"))
    for workers in (1, 3):
        reader = loader(tokenizer, workers)
        for step in steps:
            for one, other in zip(expected[step], reader.step_batches(step), strict=True):
                assert all(torch.equal(left, right) for left, right in zip(one, other, strict=True))
        pids = [p.pid for p in multiprocessing.active_children() if p.pid and p.pid not in before]
        assert len(pids) == workers
        reader.close()
        assert not wait_until_gone(pids, 5)
    assert {name for name in os.listdir("/dev/shm") if name.startswith("torch")} <= blocks
