"""Started by tests: reads with two workers, writes their process ids, and goes on reading."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from pathlib import Path

from reading_samples import NANO_MODES, cards

from model.tokenizer import Tokenizer
from train.data.loader import PackedLoader
from train.data.loader_settings import LoaderSettings
from train.data.micro_batch import MicroBatchShape
from train.data.mixture import Mixture
from train.tokenizer import train_tokenizer


def main(directory: Path) -> None:
    # As at a terminal: what is started in the background of a script inherits that SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    data = {"card": cards(60)}
    train_tokenizer(data, directory / "tokenizer", 300)
    loader = PackedLoader(
        data,
        Tokenizer.from_directory(directory / "tokenizer"),
        LoaderSettings(
            modes=NANO_MODES,
            shape=MicroBatchShape(300, 3000, 24, 200),
            micro_batches_per_step=2,
            workers=2,
        ),
        Mixture(window=60),
        seed=1,
    )
    step = 0
    while True:
        list(loader.step_batches(step))
        step += 1
        if step == 2:
            pids = [str(process.pid) for process in multiprocessing.active_children()]
            sys.stdout.write(" ".join(pids) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
