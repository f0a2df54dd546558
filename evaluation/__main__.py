"""`python -m evaluation checkpoint=DIR data=HELDOUT out=DIR`, or `read=page.png checkpoint=DIR`."""

from __future__ import annotations

import os
import sys

from tqdm import tqdm

from data_engine.command_line import help_text, run
from data_engine.errors import DamagedSampleError
from evaluation.config import Decoding, EvaluationConfig, ReadConfig
from evaluation.processes import this_process
from evaluation.summary import five_lines

DESCRIPTION = """\
Predicts held-out samples with an exported checkpoint, scores them and writes a report:
    python -m evaluation checkpoint=DIR data=HELDOUT out=DIR [runs=[STAGE1,STAGE2]]
The same on eight GPUs, and as a job array of Slurm:
    torchrun --nproc-per-node 8 -m evaluation checkpoint=DIR data=HELDOUT out=DIR
    sbatch --array=0-15 ... python -m evaluation checkpoint=DIR data=HELDOUT out=DIR world=16
Scores predictions that exist already, and compares two evaluations of the same samples:
    python -m evaluation predictions=DIR_OF_MD_FILES data=HELDOUT out=DIR [compare=OTHER_OUT]
Reads a benchmark from its own files with the paper's protocol:
    python -m evaluation benchmark=fox data=FOX_DIR checkpoint=DIR out=DIR
    python -m evaluation benchmark=omnidocbench data=DIR in_modes=[base,gundam] checkpoint=DIR out=DIR \\
        steps=[predict,postprocess,score,report]
Reads one page and prints its text:
    python -m evaluation read=page.png checkpoint=DIR"""


class ProgressLine:
    """A bar on a terminal, a line per tenth of the work elsewhere, and wherever several processes write."""

    def __init__(self, process: str) -> None:
        """`process` names this one of several; "" for a process alone."""
        self._start = f"{process}: " if process else ""
        self._bar: tqdm | None = None
        self._said = 0

    def __call__(self, done: int, wanted: int) -> None:
        if sys.stderr.isatty() and not self._start:
            if self._bar is None:
                self._bar = tqdm(total=wanted, desc="predicting", unit="sample")
            self._bar.update(done - self._bar.n)
            if done == wanted:
                self._bar.close()
        elif done * 10 // wanted > self._said:
            self._said = done * 10 // wanted
            print(f"{self._start}predicted {done} of {wanted} samples", file=sys.stderr, flush=True)


def main(config: Decoding) -> None:
    """Reads one page or evaluates, and prints what came out."""
    # Loading torch takes seconds, which --help and a refused key need not wait for.
    if isinstance(config, ReadConfig):
        from evaluation.read import read_page

        read_page(config, lambda piece: print(piece, end="", flush=True))
        print()
    elif isinstance(config, EvaluationConfig):
        from evaluation.command import REPORT_FILE, evaluate

        process = this_process(config.rank, config.world, os.environ)
        summary = evaluate(config, ProgressLine(process.name), process)
        if "report" in config.steps and summary:
            print("\n".join(five_lines(summary)))
            print(f"Report: {config.out}/{REPORT_FILE}")
        elif process.name:
            print(f"{process.name}: done, in {config.out}")
        else:
            print(f"{' and '.join(config.steps)}: done, in {config.out}")


def schema(arguments: list[str]) -> type[Decoding]:
    """Reading one page and evaluating are told apart by the key `read`."""
    return ReadConfig if any(argument.startswith("read=") for argument in arguments) else EvaluationConfig


if __name__ == "__main__":
    run(
        main,
        schema,
        description=DESCRIPTION,
        expected=(DamagedSampleError,),
        details=lambda: f"Keys with read=:\n\n{help_text(ReadConfig)}",
    )
