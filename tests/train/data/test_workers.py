"""Worker processes change nothing about the stream, and none of them is left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from reading_samples import NANO_MODES, MemoryDataset, cards, pages, texts

from data_engine.errors import ConfigError
from data_engine.sample import Sample
from model.tokenizer import Tokenizer
from tests.train.processes import REPOSITORY, environment
from train.data.loader import PackedLoader
from train.data.loader_settings import LoaderSettings
from train.data.micro_batch import MicroBatchShape
from train.data.mixture import Mixture

SHAPE = MicroBatchShape(tokens=300, patches=3000, views=24, vision_tokens=200)
MIXTURE = Mixture.of({"card": 5, "page": 2, "text": 3}, window=40)
PATIENCE_SECONDS = 60.0
"""How long processes may take to end, on a machine that is busy with other tests."""


def loader_settings(micro_batches: int, workers: int) -> LoaderSettings:
    return LoaderSettings(
        modes=NANO_MODES, shape=SHAPE, micro_batches_per_step=micro_batches, workers=workers
    )


def loader(tokenizer: Tokenizer, workers: int) -> PackedLoader:
    datasets = {"card": cards(60), "page": pages(15), "text": texts(20)}
    return PackedLoader(datasets, tokenizer, loader_settings(3, workers), MIXTURE, seed=9)


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


def wait_until_gone(pids: list[int]) -> list[int]:
    end = time.monotonic() + PATIENCE_SECONDS
    while alive(pids) and time.monotonic() < end:
        time.sleep(0.05)
    return alive(pids)


def children() -> list[int]:
    return [process.pid for process in multiprocessing.active_children() if process.pid]


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_stream_also_when_one_is_killed(tokenizer: Tokenizer) -> None:
    alone = loader(tokenizer, 0)
    steps = (0, 1, 2, 9, 4, 5, 6, 7)  # forwards, a jump, and back, as a resumed run asks
    expected = {step: list(alone.step_batches(step)) for step in steps}
    alone.close()
    before = set(children())
    makers = {os.getpid()}
    for workers in (1, 3):
        reader = loader(tokenizer, workers)
        for step in steps:
            for one, other in zip(expected[step], reader.step_batches(step), strict=True):
                assert all(torch.equal(left, right) for left, right in zip(one, other, strict=True))
            makers |= set(children()) - before
            if (workers, step) == (3, 4):
                os.kill(max(set(children()) - before), signal.SIGKILL)
        pids = list(set(children()) - before)
        assert len(pids) == workers
        reader.close()
        assert not wait_until_gone(pids)
    # Others may read on this machine, too; torch puts the maker's number into the name.
    names = tuple(f"torch_{pid}_" for pid in makers)
    assert not [name for name in os.listdir("/dev/shm") if name.startswith(names)]


class Deadly(MemoryDataset):
    """Reading its last sample kills the process, as a decoder that runs out of memory does."""

    def read(self, i: int) -> Sample:
        if i == len(self) - 1 and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(i)


@pytest.mark.slow
def test_workers_that_die_over_the_same_micro_batch_stop_the_run(tokenizer: Tokenizer) -> None:
    data = {"card": Deadly("card", cards(30).samples)}
    reader = PackedLoader(data, tokenizer, loader_settings(1, workers=1), Mixture(window=30), seed=1)
    with pytest.raises(
        ConfigError, match=r"a loader worker died twice over the same micro-batch .*workers=0"
    ):
        for step in range(10):
            list(reader.step_batches(step))
    reader.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_its_run(tmp_path: Path, how: signal.Signals) -> None:
    """The run is killed, or interrupted at a terminal, which all of its processes notice."""
    script = Path(__file__).with_name("loader_process.py")
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
        env=environment(PYTHONPATH=f"{script.parent}:{REPOSITORY}"), start_new_session=True,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            pids = [int(pid) for pid in process.stdout.readline().split()]
            assert len(pids) == 2 and alive(pids) == pids
            if how == signal.SIGINT:
                os.killpg(process.pid, how)
            else:
                process.send_signal(how)
            _, errors = process.communicate(timeout=PATIENCE_SECONDS)
            assert not wait_until_gone(pids)
        finally:
            # Whatever failed: it reads without end, and leaving the block waits for it.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if how == signal.SIGINT:
        # It may meet a second error while it handles the first: a worker can no longer give what was being fetched.
        followed = errors.count("During handling of the above exception")
        assert errors.count("Traceback") == 1 + followed, "only the run itself says that it was interrupted"
        assert "_worker_loop" not in errors and "spawn_main" not in errors
