"""The tables of an evaluation: made once from scores.json, written as Markdown, LaTeX and (in the report) HTML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.benchmarks import fox, omnidocbench
from evaluation.compression import FACTS, curves
from evaluation.figures import DEVICE, FIGURES, HEALTH, OVERALL, OVERALL_PARTS
from evaluation.metrics.health import PAPER_PAGES_PER_DAY


@dataclass(frozen=True)
class Table:
    """Texts in rows; the first column names the row."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def all_tables(scores: Mapping[str, Any]) -> list[Table]:
    """Every table that the scores have material for."""
    tables = [_figure_table(name, score) for name, score in scores["datasets"].items() if score["figures"]]
    for name, score in scores["datasets"].items():
        tables += [_group_table(name, kind, of) for kind, of in score["groups"].items() if kind != DEVICE]
    tables += _health_table(scores["datasets"])
    benchmark = scores.get("benchmark")
    if benchmark == "fox":
        tables.append(_fox_table(scores))
    if benchmark == "omnidocbench":
        tables.append(_omnidocbench_table(scores))
        if scores.get("vision_tokens"):
            tables.append(_token_table(scores["vision_tokens"]))
    if scores.get(FACTS):
        tables.append(_compression_table(scores))
    if scores.get("comparison"):
        tables += _comparison_tables(scores["comparison"])
    return tables


def _in_order(figures: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(name, content) in the order of FIGURES, which JSON does not keep."""
    return [(name, figures[name]) for name in FIGURES if name in figures]


def shown(name: str, figure: Mapping[str, Any] | None, interval: bool = True) -> str:
    """A figure as "96.3 % (95.1 to 97.2)"; "-" where there is none."""
    if figure is None or figure["value"] is None:
        return "-"
    value, low, high = (_number(name, figure[key]) for key in ("value", "low", "high"))
    unit = " %" if FIGURES[name].is_share else ""
    return f"{value}{unit} ({low} to {high})" if interval else f"{value}{unit}"


def _number(name: str, value: float) -> str:
    if FIGURES[name].is_share:
        return f"{100 * value:.1f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def _figure_table(name: str, score: Mapping[str, Any]) -> Table:
    rows = [
        [FIGURES[figure].title, shown(figure, found), f"{found['samples']:,}"]
        for figure, found in _in_order(score["figures"])
        if figure not in HEALTH
    ]
    wrong = [
        f"{score[count]} {what} ({', '.join(score[keys])}{', ...' if score[count] > len(score[keys]) else ''})"
        for count, keys, what in (
            ("missing", "missing_keys", "without a prediction"),
            ("duplicates", "duplicate_keys", "with several predictions"),
            ("beyond_context", "beyond_context_keys", "longer than the context"),
        )
        if score[count]
    ]
    notes = ["95 % bootstrap intervals."]
    if wrong:
        notes.append(f"Counted as wrong: {'; '.join(wrong)}.")
    return Table(f"Figures: {name}", ("Figure", "Value (interval)", "Samples"), rows, " ".join(notes))


def _group_table(name: str, kind: str, groups: Mapping[str, Mapping[str, Any]]) -> Table:
    figures = [figure for figure in _GROUPED if any(figure in found for found in groups.values())]
    header = [kind.capitalize(), "Pages", *(FIGURES[figure].title for figure in figures)]
    rows = [
        [group, str(_pages(found)), *(shown(figure, found.get(figure)) for figure in figures)]
        for group, found in sorted(groups.items(), key=lambda item: _natural(item[0]))
    ]
    return Table(f"{name} by {kind}", header, rows)


_GROUPED = (
    "compression", "word_precision", "word_multiset_precision", "fox_compat_precision", OVERALL, *OVERALL_PARTS,
    "teds", "teds_structure", "character_accuracy",
)  # fmt: skip


def _health_table(datasets: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """Loops, cut answers and speed, by dataset and by what has predicted; nothing where no answer was given."""
    rows = []
    for name, score in datasets.items():
        devices = score["groups"].get(DEVICE) or {", ".join(score["devices"]) or "-": score["figures"]}
        for device, found in devices.items():
            if any(figure in found for figure in HEALTH):
                *others, share = HEALTH  # the share is that of the pages per day, and so is its interval
                cells = [shown(figure, found.get(figure)) for figure in others]
                rows.append([name, device, *cells, shown(share, found.get(share), interval=False)])
    if not rows:
        return []
    header = ("Dataset", "Device", *(FIGURES[figure].title for figure in HEALTH))
    note = (
        "Of the answers that were given. A loop: the end is one piece repeated back to back, and that of the truth is "
        f"not. Speed is that of one process; the paper says {PAPER_PAGES_PER_DAY:,} pages per day on one A100-40G."
    )
    return [Table("Health of the generation", header, rows, note)]


def _pages(figures: Mapping[str, Mapping[str, Any]]) -> int:
    return max((found["samples"] for found in figures.values()), default=0)


def _fox_table(scores: Mapping[str, Any]) -> Table:
    """Table 2 of the paper beside what was measured; the paper says "precision" without defining it."""
    header = ["Text tokens"]
    columns = []
    for place, mode in enumerate(fox.MODES):
        score = scores["datasets"].get(f"fox-{mode}")
        header += [f"{mode} paper", f"{mode} paper ratio"]
        if score is not None:
            header += [
                f"{mode} word precision (set)",
                f"{mode} 1 - edit distance",
                f"{mode} ratio",
                f"{mode} pages",
            ]
        columns.append((place, score))
    rows = []
    for bucket, paper in fox.PAPER.items():
        row = [bucket]
        for place, score in columns:
            row += [f"{100 * paper[2 * place]:.1f} %", f"{paper[2 * place + 1]:.1f}x"]
            if score is not None:
                found = score["groups"].get(fox.GROUP, {}).get(bucket, {})
                row += [
                    shown("word_precision", found.get("word_precision"), interval=False),
                    _similarity(found.get("normalised_edit_distance")),
                    shown("compression", found.get("compression"), interval=False),
                    str(_pages(found)),
                ]
        rows.append(row)
    note = f"Pages in the paper: {', '.join(f'{bucket}: {paper[4]}' for bucket, paper in fox.PAPER.items())}."
    return Table("Fox: the paper's table 2 beside ours", header, rows, note)


def _similarity(distance: Mapping[str, Any] | None) -> str:
    if distance is None or distance["value"] is None:
        return "-"
    return f"{100 * (1 - distance['value']):.1f} %"


def _omnidocbench_table(scores: Mapping[str, Any]) -> Table:
    """Table 3 of the paper (v1.0, lower is better) beside ours, English and Chinese."""
    languages = (("English", "english", 1), ("Chinese", "simplified_chinese", 2))
    parts = (OVERALL, *OVERALL_PARTS)
    header = ["Mode, language", *(f"{FIGURES[part].title.removesuffix(' edit distance')}" for part in parts)]
    rows = []
    for name, score in scores["datasets"].items():
        mode = name.removeprefix("omnidocbench-")
        for title, language, column in languages:
            if mode in omnidocbench.PAPER:
                row = omnidocbench.PAPER[mode][column]
                rows.append([f"{mode}, {title}, paper", *(f"{value:.3f}" for value in row)])
            found = score["groups"].get("language", {}).get(language, {})
            rows.append([f"{mode}, {title}, ours", *(shown(part, found.get(part)) for part in parts)])
    note = (
        f"Ground truth: {scores.get('pages', 0):,} pages ({scores.get('version', 'an unknown version')}); the paper "
        "used v1.0. Edit distances, lower is better, by our own scorer; for published comparisons run the "
        "official tool."
    )
    return Table("OmniDocBench: the paper's table 3 beside ours", header, rows, note)


def _token_table(tokens: Mapping[str, Mapping[str, float]]) -> Table:
    rows = [
        [mode, f"{found['tokens']:,.0f}", f"{found['valid']:,.0f}", omnidocbench.PAPER[mode][0]]
        for mode, found in tokens.items()
    ]
    header = ("Mode", "Vision tokens per page", "Valid", "Paper")
    return Table("Vision tokens per mode", header, rows, "Means over the pages; valid: paper, equation 1.")


def _comparison_tables(comparison: Mapping[str, Any]) -> list[Table]:
    header = ("Figure", "Difference (interval)", "Verdict", "Samples")
    tables = []
    for name, figures in comparison["datasets"].items():
        rows = [
            [FIGURES[figure].title, shown(figure, found["difference"]), found["verdict"],
             f"{found['difference']['samples']:,}"]
            for figure, found in _in_order(figures)
        ]  # fmt: skip
        note = f"This one minus {comparison['with']}; paired 95 % bootstrap intervals."
        tables.append(Table(f"Comparison: {name}", header, rows, note))
    return tables


def markdown(tables: Sequence[Table]) -> str:
    """All tables as one Markdown file."""
    parts = []
    for table in tables:
        lines = [f"## {table.title}", "", _line(table.header), _line(["---"] * len(table.header))]
        lines += [_line(row) for row in table.rows]
        parts.append("\n".join([*lines, *(["", table.note] if table.note else [])]))
    return "\n\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def latex(tables: Sequence[Table]) -> str:
    """All tables as LaTeX floats (package booktabs)."""
    parts = []
    for table in tables:
        body = [" & ".join(map(_escaped, row)) + r" \\" for row in table.rows]
        caption = _escaped(f"{table.title}. {table.note}".strip())
        parts.append(
            "\n".join(
                [r"\begin{table}", rf"\caption{{{caption}}}", rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
                 r"\toprule", " & ".join(map(_escaped, table.header)) + r" \\", r"\midrule", *body, r"\bottomrule",
                 r"\end{tabular}", r"\end{table}"]
            )
        )  # fmt: skip
    return "\n\n".join(parts) + "\n"


_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def _escaped(text: str) -> str:
    return re.sub(r"[\\~^&%$#_{}]", lambda found: _SPECIAL.get(found[0], "\\" + found[0]), text)


def _natural(text: str) -> list[tuple[int, str]]:
    """Sorts "900-1000" before "1000-1100"."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]


def _compression_table(scores: Mapping[str, Any]) -> Table:
    """Figure 1(a) of the paper, for data of our own read in several modes."""
    rows = []
    for mode, points in curves(scores, "mode", "compression").items():
        for point in points:
            value, low, high = (f"{100 * point[key]:.1f}" for key in ("value", "low", "high"))
            rows.append(
                [
                    mode,
                    f"{point['text_tokens']:.1f}",
                    f"{point['vision_tokens']:.1f}",
                    f"{point['compression']:.2f}x",
                    f"{value} % ({low} to {high})",
                    f"{100 * point['shuffled']:.1f} %" if "shuffled" in point else "-",
                ]
            )
    header = (
        "Mode",
        "Text tokens",
        "Vision tokens",
        "Compression",
        "Characters right (interval)",
        "Shuffled images",
    )
    return Table(
        "Precision against compression", header, rows, "Text tokens are those of the model's own tokenizer."
    )
