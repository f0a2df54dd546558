"""What an evaluation is about: data of our own, or a benchmark from its own files; and the questions asked about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_engine.command_line import ConfigError
from data_engine.dataset import open_datasets
from evaluation.benchmarks import fox, omnidocbench
from evaluation.benchmarks.pages import BenchmarkPages
from evaluation.compression import cases_in_modes
from evaluation.config import EvaluationConfig
from evaluation.given import MODE
from evaluation.modes import modes_for
from evaluation.questions import Benchmark, Case, Modes, Samples, cases_of
from model.tokenizer import Tokenizer, TokenizerError
from model.views import MODES, resolution_mode, valid_tokens, view_plan


@dataclass(frozen=True)
class Inputs:
    """Samples and questions by dataset name; a benchmark is one dataset per mode, such as "fox-tiny"."""

    sources: Mapping[str, Samples]
    cases: Mapping[str, list[Case]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What scores.json says about all of it."""


def open_inputs(config: EvaluationConfig) -> Inputs:
    """Opens and checks everything that `config` names; ConfigError says what is wrong."""
    for mode in config.in_modes:
        if mode not in MODES:
            raise ConfigError(f"in_modes: resolution mode {mode} is unknown; choose of {', '.join(MODES)}.")
    if not config.benchmark:
        datasets = open_datasets(config.data)
        if config.in_modes:
            encode = _tokenizer(config).encode
            return Inputs(*cases_in_modes(datasets, config.in_modes, config.samples, config.seed, encode))
        modes = _modes(config)
        return Inputs(
            dict(datasets),
            {
                name: cases_of(name, data, config.samples, modes, config.seed)
                for name, data in datasets.items()
            },
        )
    directory = Path(config.data)
    modes_used: Sequence[str]
    facts: dict[str, Any]
    if config.benchmark == "fox":
        pages = fox.read_fox(directory, _tokenizer(config).encode)
        modes_used, facts = fox.MODES, {}
    else:
        pages = omnidocbench.read_omnidocbench(directory)
        modes_used, facts = omnidocbench.MODES, _omnidocbench_facts(pages)
    if config.prompt:
        pages.prompt = config.prompt
    if "predict" in config.steps and not config.predictions:
        pages.check_images()
    names = {f"{config.benchmark}-{mode}": mode for mode in (config.in_modes or modes_used)}
    cases = {name: _benchmark_cases(name, pages, mode, config) for name, mode in names.items()}
    facts = {"benchmark": config.benchmark, "pages": len(pages), **facts}
    return Inputs(dict.fromkeys(names, pages), cases, facts)


def without_unasked_controls(cases: Mapping[str, Sequence[Case]]) -> dict[str, list[Case]]:
    """Given predictions answer own questions only: where the control would ask another one, there is none."""
    kept = {}
    for name, members in cases.items():
        asked = {case.question for case in members}
        kept[name] = [
            case if case.shuffled in asked else replace(case, shuffled=None, shuffled_index=None)
            for case in members
        ]
    return kept


def _modes(config: EvaluationConfig) -> Modes:
    if config.checkpoint:
        return modes_for(config.checkpoint, config.modes)
    by_task = dict(config.modes)
    return Modes(by_task, by_task.pop("default", MODE))


def _tokenizer(config: EvaluationConfig) -> Tokenizer:
    directory = config.tokenizer or config.checkpoint
    if not directory:
        raise ConfigError(
            "text tokens are counted: give tokenizer=DIR, a directory with the model's tokenizer.json."
        )
    try:
        return Tokenizer.from_directory(directory)
    except TokenizerError as error:
        raise ConfigError(str(error)) from error


def _omnidocbench_facts(pages: BenchmarkPages) -> dict[str, Any]:
    return {
        "version": omnidocbench.VERSIONS.get(len(pages), "unknown version"),
        "vision_tokens": omnidocbench.vision_tokens_by_mode([page.size for page in pages.pages]),
    }


def _benchmark_cases(name: str, pages: BenchmarkPages, mode: str, config: EvaluationConfig) -> list[Case]:
    resolution = resolution_mode(mode)
    cases = []
    for case in cases_of(name, pages, config.pages, Modes({}, mode), config.seed):
        page = pages.pages[case.index]
        known = min(page.size) > 0
        # Without tiles the number of tokens does not depend on the size.
        plan = view_plan(*(page.size if known else (1, 1)), resolution)
        facts = Benchmark(
            groups=page.groups,
            truth_tokens=page.truth_tokens,
            vision_tokens=plan.vision_tokens if known or not resolution.crop else 0,
            valid_tokens=valid_tokens(*page.size, resolution) if known else 0,
            page=page.reference,
            fox_compat=config.benchmark == "fox",
        )
        cases.append(replace(case, benchmark=facts))
    return cases
