"""Optical compression on data of our own: every dataset read in several resolution modes.

The idea of the paper (arXiv 2510.18234, section 4.1, figure 1(a)): a page of N text tokens is seen as V vision tokens;
how much of it can still be read at N / V? Section 5 asks the same of memory: an old page is kept at a lower resolution
and so costs fewer tokens. Both are one experiment, pages of known length times modes, drawn along different axes.

N is counted by the model's own tokenizer, V are the tokens of the image without line breaks and separator, as in the
paper (64 for Tiny, 100 for Small).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from data_engine.dataset import Dataset
from evaluation.questions import Benchmark, Case, Modes, cases_of
from model.views import resolution_mode, view_plan

FACTS = "read_in_modes"
"""Key of scores.json: name of what was scored to its dataset, mode, and tokens per sample."""


def cases_in_modes(
    datasets: Mapping[str, Dataset],
    modes: Sequence[str],
    samples: int,
    seed: int,
    encode: Callable[[str], list[int]],
) -> tuple[dict[str, Dataset], dict[str, list[Case]], dict[str, Any]]:
    """Every dataset in every mode, under the name DATASET-MODE.

    Args:
        modes: names of known resolution modes.
        samples: of each dataset, from the first one on; 0: all.
        seed: of the shuffled-image control.
        encode: the model's own tokenizer.

    Returns:
        Sources and cases by name, and for scores.json what was read how.

    """
    sources: dict[str, Dataset] = {}
    cases: dict[str, list[Case]] = {}
    facts: dict[str, Any] = {}
    for dataset_name, dataset in datasets.items():
        for mode in modes:
            name = f"{dataset_name}-{mode}"
            sources[name] = dataset
            cases[name] = [
                replace(case, benchmark=_tokens(dataset, case, mode, encode))
                for case in cases_of(name, dataset, samples, Modes({}, mode), seed)
            ]
            counted = [case.benchmark for case in cases[name] if case.benchmark is not None]
            facts[name] = {
                "dataset": dataset_name,
                "mode": mode,
                "text_tokens": sum(tokens.truth_tokens for tokens in counted) / max(1, len(counted)),
                "vision_tokens": sum(tokens.vision_tokens for tokens in counted) / max(1, len(counted)),
            }
    return sources, cases, {FACTS: facts}


def _tokens(dataset: Dataset, case: Case, mode: str, encode: Callable[[str], list[int]]) -> Benchmark:
    resolution = resolution_mode(mode)
    sizes = dataset.read_text(case.index).image_sizes
    return Benchmark(
        truth_tokens=len(encode(case.truth)),
        vision_tokens=sum(view_plan(*size, resolution).vision_tokens for size in sizes),
    )


def curves(scores: Mapping[str, Any], line: str, along: str) -> dict[str, list[dict[str, float]]]:
    """Points of the plots and the table.

    Args:
        scores: scores.json of an evaluation with in_modes=.
        line: what makes a curve, "mode" or "dataset".
        along: its axis, "compression" (text tokens per vision token) or "vision_tokens".

    Returns:
        Curve to its points in order of `along`; each has `along`, text_tokens, vision_tokens, compression, and the
        character accuracy as value, low, high, shuffled (1 is everything right). Datasets without images have none.
    """
    found: dict[str, list[dict[str, float]]] = {}
    for name, read in scores.get(FACTS, {}).items():
        score = scores["datasets"][name]
        accuracy = score["figures"].get("character_accuracy", {})
        if not read["vision_tokens"] or accuracy.get("value") is None:
            continue
        point = {
            "text_tokens": read["text_tokens"],
            "vision_tokens": read["vision_tokens"],
            "compression": read["text_tokens"] / read["vision_tokens"],
            # An answer far longer than the truth has more errors than the truth has characters.
            **{key: max(0.0, accuracy[key]) for key in ("value", "low", "high")},
        }
        if score["character_accuracy_shuffled"] is not None:
            point["shuffled"] = max(0.0, score["character_accuracy_shuffled"])
        found.setdefault(read[line], []).append(point)
    for points in found.values():
        points.sort(key=lambda point: point[along])
    return found
