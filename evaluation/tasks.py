"""Which figures apply to which task, and what one sample contributes to them.

Every task has the text figures. Charts, molecules and plane figures add those of their field; all others add
word figures, and figures of boxes, displayed formulas and tables where the truth holds such. What cannot be read
in a prediction is wrong and counted as malformed. Where the truth itself is not of the task's format (a caption
under the name of a chart), the field's figures do not apply.
"""

from __future__ import annotations

from collections.abc import Callable

from evaluation.benchmarks.omnidocbench_score import part_figures
from evaluation.figures import Contribution
from evaluation.metrics import chemistry, grounding, words
from evaluation.metrics.charts import TOLERANCES, average_precision, score_chart
from evaluation.metrics.charts_compat import score_chart_compat
from evaluation.metrics.chemistry import MoleculeError
from evaluation.metrics.figure_text import FigureError
from evaluation.metrics.geometry import score_figure
from evaluation.metrics.slow_perception import slow_perception_compat
from evaluation.metrics.table_tree import TableError
from evaluation.metrics.teds import score_table

FieldFigures = dict[str, float]
BOX_MARK = "<|det|>"


def field_figures(task: str, prediction: str, truth: str) -> dict[str, Contribution]:
    """What one sample contributes to the figures of its task; texts are as predicted, before post-processing."""
    scorer = _SCORERS.get(task)
    if scorer is not None:
        try:
            return _means(scorer(prediction, truth))
        except (TableError, MoleculeError, FigureError):
            return {}
    boxes = _means(_boxes(prediction, truth)) if BOX_MARK in truth else {}
    return {**boxes, **part_figures(prediction, truth)}


def word_figures(task: str, prediction: str, truth: str, fox_compat: bool = False) -> dict[str, Contribution]:
    """The word figures of a sample, for tasks that are read in words."""
    if task in _SCORERS:
        return {}
    predicted, true = words.words(prediction), words.words(truth)
    once = words.set_overlap(predicted, true)
    figures = {
        "word_precision": once.precision,
        "word_recall": once.recall,
        "word_f1": once.f1,
        "word_multiset_precision": words.multiset_overlap(predicted, true).precision,
    }
    if fox_compat:
        figures["fox_compat_precision"] = once.fox_compat.precision
        figures["fox_compat_recall"] = once.fox_compat.recall
    return _means(figures)


def _means(figures: FieldFigures) -> dict[str, Contribution]:
    return {name: (value, 1.0) for name, value in figures.items()}


def _chart(prediction: str, truth: str) -> FieldFigures:
    score, table = score_chart(prediction, truth), score_table(prediction, truth)
    strict, public = score.scrm["strict"], score_chart_compat(prediction, truth)
    return {
        "teds": table.teds,
        "teds_structure": table.structure,
        **{f"scrm_map_{name}": average_precision(score.scrm[name]) for name in TOLERANCES},
        **{f"scrm_ap{level}_strict": float(strict >= level / 100 - 1e-9) for level in (50, 75, 90)},
        "rms_precision": score.rms.precision,
        "rms_recall": score.rms.recall,
        "rms_f1": score.rms.f1,
        **{f"scrm_compat_map_{name}": public.scrm[name] for name in TOLERANCES},
        "rms_compat_precision": public.rms.precision,
        "rms_compat_f1": public.rms.recall,
        "malformed": float(score.malformed),
    }


def _molecule(prediction: str, truth: str) -> FieldFigures:
    score = chemistry.score_molecule(prediction, truth)
    return {
        "valid_smiles": float(score.valid),
        "canonical_match": float(score.exact),
        "graph_match": float(score.graph),
        "inchikey_match": float(score.inchikey),
        "tanimoto_morgan": score.tanimoto_morgan,
        "tanimoto_rdkit": score.tanimoto_rdkit,
        "malformed": float(not score.valid),
    }


def _plane_figure(prediction: str, truth: str) -> FieldFigures:
    score, public = score_figure(prediction, truth), slow_perception_compat(prediction, truth)
    return {
        "line_f1": score.lines.f1,
        "typed_line_f1": score.typed_lines.f1,
        "element_f1": score.elements.f1,
        "slow_perception_compat_f1": public["all"].f1,
        "slow_perception_compat_f1_short": public["short"].f1,
        "slow_perception_compat_f1_long": public["long"].f1,
        "malformed": float(score.malformed),
    }


def _boxes(prediction: str, truth: str) -> FieldFigures:
    score = grounding.score_grounding(prediction, truth)
    return {
        "box_f1": score.boxes.f1,
        "box_mean_iou": score.mean_iou,
        "malformed": float(score.malformed > 0),
    }


_SCORERS: dict[str, Callable[[str, str], FieldFigures]] = {
    "chart": _chart,
    "chemistry": _molecule,
    "geometry": _plane_figure,
}
