"""The data report as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.data.report_tally import REASONS


def format_report(report: Mapping[str, Any]) -> str:
    """The report as text for a terminal, at most 130 columns wide."""
    run, fill, balance = report["run"], report["fill"], report["balance"]
    measured = (
        f"sampled: {run['windows_measured']:,} of the {run['windows']:,} windows were measured and stand for all"
        if run["sampled"]
        else f"measured: all {run['windows']:,} windows"
    )
    lines = [
        f"{run['steps']:,} steps of {run['packs_per_step']:,} packs; windows of {run['window']:,} draws; {measured}",
        f"in all: {run['samples']:,} samples, {run['tokens']:,} tokens ({run['labelled_tokens']:,} with a label), "
        f"{run['images']:,} images",
        f"per step: {run['samples_per_step']:,.1f} samples, {run['tokens_per_step']:,.0f} tokens "
        f"({run['labelled_tokens_per_step']:,.0f} with a label)",
        "pack fill: " + ", ".join(f"{name} {share:.2%}" for name, share in fill.items()),
    ]
    if balance:
        lines.append(
            f"vision load of the slowest of {balance['ranks']} ranks over the mean: {balance['slowest_over_mean']:.4f} "
            f"({balance['in_stream_order']:.4f} if packs were dealt as they come; {balance['steps']} steps)"
        )
    lines.append(_dropped_line(report["dropped"]))
    if report["split"]["texts"]:
        lines.append(
            f"split: {report['split']['texts']:,} texts into {report['split']['stretches']:,} stretches"
        )
    if report["modes"]:
        lines.append("images by mode: " + _percent(report["modes"]))
    lines += [
        "",
        f"{'dataset':<20}{'available':>14}{'drawn':>14}{'share':>8}{'epochs':>9}{'dropped':>9}"
        f"{'tokens':>18}{'share':>8}{'images':>14}",
    ]
    lines += [
        f"{name:<20}{line['available']:>14,}{line['samples']:>14,}{line['share']:>8.1%}{line['epochs']:>9.2f}"
        f"{line['dropped']:>9,}{line['tokens']:>18,}{line['token_share']:>8.1%}{line['images']:>14,}"
        for name, line in report["datasets"].items()
    ]
    lines.append("")
    for number, phase in enumerate(report["phases"]):
        step = phase["first_step"]
        where = "after the end of the run" if step is None else f"step {step:,}"
        weights = ", ".join(f"{name} {weight:g}" for name, weight in phase["weights"].items())
        lines.append(f"phase {number} from sample {phase['first_sample']:,} ({where}): {weights}")
        modes = "; ".join(f"{task} {_percent(shares)}" for task, shares in phase["modes"].items())
        lines.append(f"    modes: {modes}")
    return "\n".join(lines)


def _percent(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items())


def _dropped_line(dropped: Mapping[str, Any]) -> str:
    if not dropped["samples"]:
        return "dropped: none"
    reasons = ", ".join(f"{name} {dropped[name]:,}" for name in REASONS if dropped[name])
    return f"dropped: {dropped['samples']:,} samples, {dropped['share']:.3%} (over budget in {reasons})"
