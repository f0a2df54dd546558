"""What `python -m evaluation` can be told; every field is a key of the command line.

Two commands share the decoding keys: evaluating a checkpoint on held-out data, and reading one page.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from data_engine.command_line import ConfigError, one_of
from evaluation.metrics.bootstrap import RESAMPLES
from evaluation.postprocess import VERSIONS

STEPS = ("predict", "postprocess", "score", "report")
OWN_TOKENS, BENCHMARK_TOKENS = 1024, 8192
BENCHMARKS = ("fox", "omnidocbench")


@dataclass
class Decoding:
    """How a checkpoint is run."""

    checkpoint: str = "???"
    """Directory of a checkpoint in the released layout (what `python -m train export=true` writes)."""
    max_new_tokens: int = OWN_TOKENS
    """Longest answer in tokens; longer ones are cut off and counted as truncated."""
    no_repeat_ngram_size: int = 0
    """Forbids an n-gram of tokens to appear twice within `ngram_window`; 0: off (released code: 20 to 40)."""
    ngram_window: int = 90
    """Window of the n-gram ban in tokens (released code: 50 to 90)."""
    device: str = "auto"
    """`auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`."""
    dtype: str = "auto"
    """`auto` (bfloat16 on a GPU, float32 elsewhere), `float32` or `bfloat16`."""

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, ("auto", "float32", "bfloat16"))
        at_least(1, max_new_tokens=self.max_new_tokens, ngram_window=self.ngram_window)
        at_least(0, no_repeat_ngram_size=self.no_repeat_ngram_size)


@dataclass
class EvaluationConfig(Decoding):
    """Predicts held-out samples, scores them and writes a report."""

    checkpoint: str = ""
    """Directory of a checkpoint in the released layout; not needed where predictions are given."""
    max_new_tokens: int = 0
    """Longest answer in tokens; longer ones are cut off and counted as truncated; 0: 1,024 for data of our own,
    8,192 for a benchmark (as the released code)."""
    predictions: str = ""
    """Predictions made elsewhere, scored instead of a checkpoint: a directory of KEY.md files (with several
    datasets DATASET/KEY.md), or a .jsonl file with key and text per line."""
    data: str = "???"
    """Held-out data: one dataset directory, or a directory of them; with benchmark= the directory of its files."""
    benchmark: str = ""
    """`fox` (data= holds en_page_ocr.json and en_pdf_png/) or `omnidocbench` (OmniDocBench.json and images/)."""
    out: str = "???"
    """Directory for predictions.jsonl, scores.json, summary.json, tables.md, tables.tex, plots/ and index.html."""
    steps: list[str] = field(default_factory=lambda: ["predict", "score", "report"])
    """Which of predict, postprocess (writes texts/VERSION/DATASET/KEY.md, the form of OmniDocBench's own tool),
    score and report to do; each goes on where it was interrupted."""
    runs: list[str] = field(default_factory=list)
    """Run directories of the training stages, in order, for loss curves and the stage table."""
    measured: str = ""
    """JSON file with what the launcher measured (seconds, peak_memory_gib, ...), copied into the summary."""
    headline: str = "card"
    """Dataset whose accuracies become the headline of summary.json; where it is missing, all together."""
    samples: int = 200
    """Samples per dataset, from the first one on; 0: all."""
    modes: dict[str, str] = field(default_factory=dict)
    """Resolution mode per task (card, page, ...), `default` for the rest; empty: as the checkpoint records."""
    in_modes: list[str] = field(default_factory=list)
    """Resolution modes in which everything is read, for precision against compression; empty: tiny and small for fox,
    base for omnidocbench, for data of our own one mode per task (`modes`)."""
    pages: int = 0
    """Pages of a benchmark, from the first one on; 0: all."""
    prompt: str = ""
    """Prompt for a benchmark's pages; empty: Free OCR. for fox, Convert the document to markdown. else."""
    tokenizer: str = ""
    """Directory of the tokenizer.json that counts text tokens (fox, in_modes); empty: the checkpoint's."""
    postprocess: str = ""
    """Version of post-processing before scoring, `raw` or `released`; empty: released for a benchmark, else raw."""
    compare: str = ""
    """The out= of another evaluation of the same samples: is this one better, worse, or is it undecided?"""
    resamples: int = RESAMPLES
    """Bootstrap draws behind every interval."""
    workers: int = 0
    """Processes that score many samples; 0: one per core."""
    batch_size: int = 32
    """Samples decoded at the same time."""
    rank: int | None = None
    """Number of this process, from 0, among several that predict together into one out=; whichever ends last does the
    other steps. null: as torchrun says, or, with world=, as srun, sbatch --array or Kubernetes says."""
    world: int | None = None
    """How many processes predict together; null: as torchrun says, else this one alone. After a kill any other number
    goes on where they were."""
    seed: int = 1
    """Seed of the shuffled-image control."""
    report_samples: int = 16
    """Images shown per dataset: half of them the worst, half spread evenly over the rest."""

    def __post_init__(self) -> None:
        if self.max_new_tokens == 0:
            self.max_new_tokens = BENCHMARK_TOKENS if self.benchmark else OWN_TOKENS
        super().__post_init__()
        for step in self.steps:
            one_of("steps", step, STEPS)
        if not self.steps:
            raise ConfigError(f"steps=[] does nothing; name some of {', '.join(STEPS)}.")
        if not self.checkpoint and not self.predictions:
            raise ConfigError(
                "checkpoint is missing: give checkpoint=DIR, or predictions=DIR to score what exists already."
            )
        if self.benchmark:
            one_of("benchmark", self.benchmark, BENCHMARKS)
        if self.postprocess:
            one_of("postprocess", self.postprocess, VERSIONS)
        if self.prompt:
            _stands_for_a_page(self.prompt)
        at_least(1, batch_size=self.batch_size)
        at_least(10, resamples=self.resamples)
        at_least(0, samples=self.samples, report_samples=self.report_samples)
        at_least(0, workers=self.workers, pages=self.pages)

    @property
    def postprocess_version(self) -> str:
        """What `postprocess` says, or its default for this kind of data."""
        return self.postprocess or ("released" if self.benchmark else "raw")


@dataclass
class ReadConfig(Decoding):
    """Reads one page and prints its text."""

    read: str = "???"
    """The page: a PNG, JPEG or WEBP file."""
    prompt: str = "<image>\nFree OCR."
    """What is asked about it; `<image>` stands for the page."""
    mode: str = ""
    """Resolution mode, such as base or gundam; empty: what the checkpoint records."""
    draw: str = ""
    """PNG file to write: the page with the boxes that the model wrote (ask with <|grounding|> in the prompt)."""
    temperature: float = 0.0
    """0: greedy, the most probable token; above 0 tokens are drawn, with logits divided by it."""
    top_p: float = 1.0
    """Tokens are drawn from the most probable ones that together have this probability."""
    seed: int = 0
    """Seed of the drawing of tokens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _stands_for_a_page(self.prompt)
        if self.temperature < 0:
            raise ConfigError(f"temperature={self.temperature} is not possible; 0 is greedy, above 0 draws.")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p={self.top_p} is not possible; it must be above 0 and at most 1.")


def _stands_for_a_page(prompt: str) -> None:
    if prompt.count("<image>") != 1:
        raise ConfigError(f"prompt={prompt} must hold <image> once: it stands for the page.")


def at_least(least: int, **values: int) -> None:
    """ConfigError for the first value below `least`."""
    for key, value in values.items():
        if value < least:
            raise ConfigError(f"{key}={value} is not possible; it must be at least {least}.")
