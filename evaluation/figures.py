"""The figures that are reported: what each is called, which way is better, and how samples become one number.

A sample contributes (numerator, denominator) to each figure that applies to it; a figure is the sum of the
numerators over the sum of the denominators, with a bootstrap interval (`metrics.bootstrap`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evaluation.metrics.bootstrap import RESAMPLES, Comparison, compare, intervals

Contribution = tuple[float, float]
"""(numerator, denominator) of one sample to one figure."""
Contributions = Mapping[str, Contribution]


@dataclass(frozen=True)
class Figure:
    """How a figure is shown and read."""

    title: str
    lower_is_better: bool = False
    is_share: bool = True
    """From 0 to 1, shown in per cent."""


FIGURES: dict[str, Figure] = {
    "character_accuracy": Figure("Character accuracy"),
    "normalised_edit_distance": Figure("Normalised edit distance", lower_is_better=True, is_share=False),
    "exact_match": Figure("Exact match"),
    "word_precision": Figure("Word precision (set)"),
    "word_recall": Figure("Word recall (set)"),
    "word_f1": Figure("Word F1 (set)"),
    "word_multiset_precision": Figure("Word precision (multiset)"),
    "fox_compat_precision": Figure("Fox script's precision (exchanged)"),
    "fox_compat_recall": Figure("Fox script's recall (exchanged)"),
    "compression": Figure("Text tokens per vision token", is_share=False),
    "box_f1": Figure("Box F1 at IoU 0.5"),
    "box_mean_iou": Figure("Box mean IoU"),
    "teds": Figure("TEDS"),
    "teds_structure": Figure("TEDS structure only"),
    "scrm_map_strict": Figure("SCRM mAP strict"),
    "scrm_map_slight": Figure("SCRM mAP slight"),
    "scrm_map_high": Figure("SCRM mAP high"),
    "scrm_ap50_strict": Figure("SCRM AP@50 strict"),
    "scrm_ap75_strict": Figure("SCRM AP@75 strict"),
    "scrm_ap90_strict": Figure("SCRM AP@90 strict"),
    "rms_precision": Figure("RMS precision"),
    "rms_recall": Figure("RMS recall"),
    "rms_f1": Figure("RMS F1"),
    "scrm_compat_map_strict": Figure("SCRM mAP strict of the public script"),
    "scrm_compat_map_slight": Figure("SCRM mAP slight of the public script"),
    "scrm_compat_map_high": Figure("SCRM mAP high of the public script"),
    "rms_compat_precision": Figure("RMS precision of the public script"),
    "rms_compat_f1": Figure("RMS F1 of the public script (its recall)"),
    "valid_smiles": Figure("Valid SMILES"),
    "canonical_match": Figure("Canonical exact match"),
    "graph_match": Figure("Graph exact match"),
    "inchikey_match": Figure("InChIKey match"),
    "tanimoto_morgan": Figure("Tanimoto (Morgan)"),
    "tanimoto_rdkit": Figure("Tanimoto (RDKit)"),
    "line_f1": Figure("Line F1"),
    "typed_line_f1": Figure("Line F1 with types"),
    "element_f1": Figure("Element F1"),
    "slow_perception_compat_f1": Figure("Line F1 of Slow Perception's script"),
    "slow_perception_compat_f1_short": Figure("Line F1 of Slow Perception's script, short lines"),
    "slow_perception_compat_f1_long": Figure("Line F1 of Slow Perception's script, long lines"),
    "text_edit": Figure("Text edit distance", lower_is_better=True, is_share=False),
    "formula_edit": Figure("Formula edit distance", lower_is_better=True, is_share=False),
    "table_edit": Figure("Table edit distance", lower_is_better=True, is_share=False),
    "order_edit": Figure("Reading order edit distance", lower_is_better=True, is_share=False),
    "overall_edit": Figure("Overall edit distance", lower_is_better=True, is_share=False),
    "valid_tokens": Figure("Valid vision tokens", lower_is_better=True, is_share=False),
    "malformed": Figure("Malformed answers", lower_is_better=True),
    "repetition": Figure("Answers that end in a loop", lower_is_better=True),
    "truncation": Figure("Answers cut off", lower_is_better=True),
    "tokens_per_second": Figure("Generated tokens per second", is_share=False),
    "pages_per_day": Figure("Pages per day", is_share=False),
    "share_of_paper_speed": Figure("Of the paper's pages per day"),
}

HEALTH = ("repetition", "truncation", "tokens_per_second", "pages_per_day", "share_of_paper_speed")
"""What is said about the generation rather than about what was read."""

DEVICE = "device"
"""Kind of group: samples by what has predicted, where several devices have."""

OVERALL = "overall_edit"
OVERALL_PARTS = ("text_edit", "formula_edit", "table_edit", "order_edit")
"""OmniDocBench v1.0: the overall figure is the mean of these four figures."""


def aggregate(
    samples: Sequence[Contributions], seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, dict[str, Any]]:
    """Figure name to {"value", "low", "high", "samples"}, in the order of FIGURES; those that apply to some."""
    names = _names(samples)
    if not names:
        return {}
    numerators, denominators = _arrays(samples, names)
    parts = [names.index(name) for name in OVERALL_PARTS] if {*OVERALL_PARTS} <= {*names} else []
    found = intervals(numerators, denominators, seed, resamples, parts)
    if parts:
        names.append(OVERALL)
    return {name: _not_negative(asdict(interval)) for name, interval in zip(names, found, strict=True)}


def compare_figures(
    first: Sequence[Contributions], second: Sequence[Contributions], seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Comparison]:
    """Every figure that applies to both, of two readers on the same samples in the same order."""
    names = [name for name in _names(first) if name in _names(second)]
    arrays = [_arrays(samples, names) for samples in (first, second)]
    return {
        name: compare(
            (arrays[0][0][:, k], arrays[0][1][:, k]),
            (arrays[1][0][:, k], arrays[1][1][:, k]),
            FIGURES[name].lower_is_better,
            seed,
            resamples,
        )
        for k, name in enumerate(names)
    }


def _names(samples: Sequence[Contributions]) -> list[str]:
    present = {name for sample in samples for name in sample}
    return [name for name in FIGURES if name in present]


def _arrays(samples: Sequence[Contributions], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    both = np.array(
        [[sample.get(name, (0.0, 0.0)) for name in names] for sample in samples], dtype=np.float64
    )
    return both[..., 0], both[..., 1]


def _not_negative(interval: dict[str, Any]) -> dict[str, Any]:
    """Text that runs on for ever makes the character accuracy negative; it is reported as 0."""
    return {key: max(0.0, value) if isinstance(value, float) else value for key, value in interval.items()}
