"""Two evaluations of the same samples, figure by figure: better, worse, or undecided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from data_engine.command_line import ConfigError
from evaluation.figures import compare_figures
from evaluation.metrics.bootstrap import RESAMPLES


def compare_scores(
    scores: Mapping[str, Any], other: Mapping[str, Any], name: str, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """{"with": name, "datasets": {dataset: {figure: {"difference": ..., "verdict": ...}}}}, ours minus the other's.

    ConfigError unless both are evaluations of the same samples with the same truths.
    """
    ours, theirs = _by_sample(scores, "this evaluation"), _by_sample(other, name)
    if ours.keys() != theirs.keys():
        differing = sorted(ours.keys() ^ theirs.keys())
        raise ConfigError(
            f"compare={name} has other samples: {len(differing)} are in one of the two only, such as "
            f"{'/'.join(differing[0])}; evaluate both on the same data and with the same samples=."
        )
    for place, sample in ours.items():
        if sample["truth"] != theirs[place]["truth"]:
            raise ConfigError(
                f"compare={name} has another truth for {'/'.join(place)}; "
                "evaluate both on the same data with the same postprocess=."
            )
    datasets = {}
    for dataset in scores["datasets"]:
        places = [place for place in ours if place[0] == dataset]
        found = compare_figures(
            [ours[place]["contributions"] for place in places],
            [theirs[place]["contributions"] for place in places],
            seed,
            resamples,
        )
        datasets[dataset] = {figure: asdict(comparison) for figure, comparison in found.items()}
    return {"with": name, "datasets": datasets}


def _by_sample(scores: Mapping[str, Any], name: str) -> dict[tuple[str, str], Mapping[str, Any]]:
    try:
        samples = {(sample["dataset"], sample["key"]): sample for sample in scores["samples"]}
        if all("contributions" in sample for sample in samples.values()):
            return samples
    except (KeyError, TypeError):
        pass
    raise ConfigError(f"{name} has no scores that can be compared; run its score step again.")
