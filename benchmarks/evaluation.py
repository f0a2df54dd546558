"""How long scoring takes: text figures of 10,000 pages, TEDS of 1,000 tables, and the other figures per sample.

    python -m benchmarks.evaluation [workers=2] [pages=10000] [tables=1000]

Prints a table. The texts are random words with random errors, the tables are random numbers; nothing is read from
a disk. Times are wall-clock, with the CPU time of all processes beside them.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from evaluation.metrics.charts import score_chart
from evaluation.metrics.charts_compat import score_chart_compat
from evaluation.metrics.chemistry import score_molecule
from evaluation.metrics.geometry import score_figure
from evaluation.metrics.teds import score_table
from evaluation.predictions import Prediction, Question
from evaluation.questions import Case
from evaluation.score import Scoring, score_all, unique_answers

CHARACTERS = 4_000
WORDS = ("the", "of", "and", "to", "in", "is", "that", "for", "it", "as", "was", "with", "be", "by", "on")


def page(generator: random.Random) -> str:
    text = ""
    while len(text) < CHARACTERS:
        word = "".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=generator.randrange(2, 11)))
        text += (word if generator.random() < 0.6 else generator.choice(WORDS)) + generator.choice(
            (" ", " ", " ", ".\n")
        )
    return text[:CHARACTERS]


def misread(text: str, share: float, generator: random.Random) -> str:
    """Replaces, drops or doubles `share` of the characters."""
    letters = list(text)
    for place in generator.sample(range(len(letters)), int(share * len(letters))):
        letters[place] = generator.choice(("", "x", 2 * letters[place]))
    return "".join(letters)


def table(rows: int, columns: int, generator: random.Random) -> str:
    cells = [[str(generator.randrange(10**6)) for _ in range(columns)] for _ in range(rows)]
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in cells)
    return f"<table>{body}</table>"


def misread_table(text: str, generator: random.Random) -> str:
    """A digit in twenty is wrong, and one table in three has lost a cell, so that its structure differs."""
    read = "".join(
        generator.choice("0123456789") if c.isdigit() and generator.random() < 0.05 else c for c in text
    )
    return read if generator.random() < 2 / 3 else read.replace("<td>", "", 1).replace("</td>", "", 1)


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def timed(name: str, work: Callable[[], object], samples: int) -> None:
    wall, cpu = time.perf_counter(), cpu_seconds()
    work()
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    print(f"{name:58s} {wall:8.1f} {cpu:8.1f} {1000 * cpu / samples:10.2f}", flush=True)


def scored(task: str, pairs: list[tuple[str, str]], workers: int) -> Callable[[], object]:
    """The score step without files: figures, control, chance, intervals."""
    questions = [Question(task, str(i), "<image>\nFree OCR.", "tiny") for i in range(len(pairs))]
    last = len(pairs) - 1
    cases = [
        Case(i, str(i), task, truth, questions[i], questions[last - i], last - i)
        for i, (_, truth) in enumerate(pairs)
    ]
    answers = [
        Prediction(task, str(i), str(i), q.prompt, q.mode, text, "stop", 80, 73, len(text) // 4, 0.4)
        for i, (q, (text, _)) in enumerate(zip(questions, pairs, strict=True))
    ]
    found, duplicates = unique_answers(answers)
    return lambda: score_all({task: cases}, found, duplicates, Scoring(workers=workers))


def each(function: Callable[[str, str], object], pairs: list[tuple[str, str]]) -> Callable[[], object]:
    return lambda: [function(*pair) for pair in pairs]


def pooled(pairs: list[tuple[str, str]], workers: int) -> Callable[[], object]:
    def work() -> object:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            return list(pool.map(score_table, *zip(*pairs, strict=True), chunksize=16))

    return work


def main(arguments: list[str]) -> None:
    settings = {"workers": os.cpu_count() or 1, "pages": 10_000, "tables": 1_000}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in settings or not value.isdigit():
            sys.exit(f"error: {argument} is not possible; keys: {', '.join(settings)}, each a number.")
        settings[key] = int(value)
    generator = random.Random(1)
    workers, pages, tables = settings["workers"], settings["pages"], settings["tables"]
    texts = [page(generator) for _ in range(pages)]
    print(f"{'':58s} {'wall s':>8s} {'cpu s':>8s} {'cpu ms each':>11s}")
    pairs = [(misread(text, 0.1, generator), text) for text in texts]
    timed(
        f"{pages} pages, one character in ten wrong, {workers} processes",
        scored("page", pairs, workers),
        pages,
    )
    truths = [table(10, 6, generator) for _ in range(tables)]
    read = [(misread_table(truth, generator), truth) for truth in truths]
    timed(f"{tables} tables of 10 x 6, TEDS and TEDS-S, {workers} processes", pooled(read, workers), tables)
    others = [(table(10, 6, generator), truth) for truth in truths[: max(1, tables // 10)]]
    timed(
        f"{len(others)} unrelated tables of 10 x 6 (apted), {workers} processes",
        pooled(others, workers),
        len(others),
    )
    timed(f"{tables} charts: SCRM and RMS alone, 1 process", each(score_chart, read), tables)
    name = f"{tables} charts: SCRM and RMS of the public scripts, 1 process"
    timed(name, each(score_chart_compat, read), tables)
    smiles = [("CC(C)Cc1ccc(cc1)C(C)C(=O)O", "CC(C)Cc1ccc(cc1)[C@H](C)C(=O)O")] * tables
    timed(f"{tables} molecules, 1 process", each(score_molecule, smiles), tables)
    lines = [f"({i}, 0) -- ({i}, 4) -- ({i}, 7)" for i in range(8)]
    figure = str({"Line": {"line": lines, "line_type": ["-"] * 8, "line_endpoint": []}})
    timed(
        f"{tables} plane figures of 8 lines, 1 process",
        each(score_figure, [(figure, figure)] * tables),
        tables,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
