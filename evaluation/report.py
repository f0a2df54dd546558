"""scores.json and summary.json to index.html: one page that needs no other file and no network.

Everything that came from a model or a dataset is escaped before it enters the page, and the page's own policy
forbids scripts and foreign addresses.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from data_engine.command_line import ConfigError
from evaluation.curves import loss_curves
from evaluation.metrics.text import aligned_spans
from evaluation.predictions import CONTEXT
from evaluation.questions import Samples
from evaluation.summary import five_lines, percent
from evaluation.tables import all_tables
from model.views import ImageError, open_image

TITLE = "What the model read"
TEMPLATE = Path(__file__).with_name("page.html")
MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
LARGEST_IMAGE = 300_000  # bytes; a larger one is shown smaller
SHOWN_SIDE = 1600  # pixels of its longer side then
LONGEST_TEXT = 4000  # characters of a truth or prediction that the page shows

CONTROL_NOTE = (
    "Shuffled: each sample's prompt with the image of another sample of the same dataset, scored against its "
    "own text. Chance: what a perfect reader would get in that test. A model that reads falls to chance; one "
    "that guesses does not. Where prompts are equal, the answer to another image is that image's ordinary "
    "prediction (decoding is greedy), so it is taken from there instead of being decoded again; Reused says how often."
)
SAMPLE_NOTE = (
    "Worst first: half of the samples shown are the worst ones, the others are spread evenly over the rest. "
    "In the prediction, wrong or superfluous characters are red; in the truth, missed ones are yellow."
)


def render(
    scores: Mapping[str, Any],
    summary: Mapping[str, Any],
    datasets: Mapping[str, Samples],
    runs: Sequence[Path],
    shown: int,
    plots: Sequence[str] = (),
) -> str:
    """The whole page as text; `shown` samples per dataset; `plots` as SVG."""
    sections = [
        _section("Training", _curves(runs)),
        _section("Stages", "".join(_stage_table(run) for run in runs)),
        _section("Datasets", _dataset_table(scores["datasets"], scores["all"]) + _note(CONTROL_NOTE)),
        _section("Plots", "".join(f'<div class="wide">{svg}</div>' for svg in plots)),
        *(
            _section(made.title, table(made.header, made.rows) + _note(made.note))
            for made in all_tables(scores)
        ),
    ]
    names = sorted(scores["datasets"], key=lambda name: (name != summary["headline"], name))
    for position, name in enumerate(names):
        members = [sample for sample in scores["samples"] if sample["dataset"] == name]
        chosen = choose_samples(members, shown)
        body = "".join(_sample(sample, datasets[name]) for sample in chosen)
        note = _note(SAMPLE_NOTE) if position == 0 else ""
        sections.append(_section(f"Held-out: {name}", note + body if body else ""))
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in five_lines(summary))
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=TITLE, summary=lines, sections="\n".join(filter(None, sections)))


def choose_samples(samples: Sequence[Mapping[str, Any]], shown: int) -> list[Mapping[str, Any]]:
    """The worst half of `shown`, then samples spread evenly from the next worst to the best; worst first."""
    ranked = sorted(samples, key=lambda sample: (sample["character_accuracy"], sample["index"]))
    if len(ranked) <= shown:
        return ranked
    worst = (shown + 1) // 2
    spread = shown - worst
    rest = ranked[worst:]
    # Position k of the spread lies at k/(spread - 1) of the rest, so that the very best one is shown too.
    picks = [rest[round(k * (len(rest) - 1) / max(1, spread - 1))] for k in range(spread)]
    return ranked[:worst] + picks


def _section(title: str, body: str) -> str:
    return f"<h2>{html.escape(title)}</h2>\n{body}" if body else ""


def _note(text: str) -> str:
    return "" if not text else f'<p class="note">{html.escape(text)}</p>'


def _curves(runs: Sequence[Path]) -> str:
    svg = loss_curves(runs)
    return f'<div class="wide">{svg}</div>' if svg else ""


def _dataset_table(datasets: Mapping[str, Mapping[str, Any]], together: Mapping[str, Any]) -> str:
    header = ("Dataset", "Samples", "Characters", "Character accuracy", "Shuffled", "Chance", "Reused",
              "Edit distance", "Exact", "Cut off", "Missing")  # fmt: skip
    ranked = sorted(datasets.items(), key=lambda item: item[1]["character_accuracy"])
    rows = [_score_row(name, score) for name, score in ranked]
    if len(ranked) > 1:
        rows.append(_score_row("all", together))
    return table(header, rows)


def _score_row(name: str, score: Mapping[str, Any]) -> list[str]:
    return [
        name,
        f"{score['samples']:,}",
        f"{score['characters']:,}",
        percent(score["character_accuracy"]),
        percent(score["character_accuracy_shuffled"]),
        percent(score["chance"]),
        percent(score["control_reused"]),
        f"{score['normalised_edit_distance']:.3f}",
        percent(score["exact_match"]),
        percent(score["truncated"]),
        f"{score['missing']:,}",
    ]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table of texts."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="figures"><tr>{head}</tr>{body}</table></div>'


def _sample(sample: Mapping[str, Any], dataset: Samples) -> str:
    record = dataset.read(sample["index"])
    # A benchmark whose images are missing has formats without images.
    pictures = zip(record.images, record.image_formats, strict=False)
    images = "".join(_image(record.key, *picture) for picture in pictures)
    predicted, true = marked(sample["prediction"][:LONGEST_TEXT], sample["truth"][:LONGEST_TEXT])
    facts = ", ".join(sample_facts(sample))
    return (
        f'<div class="sample"><div>{images}</div><div>'
        f"<h3>{html.escape(sample['key'])} <span>{html.escape(facts)}</span></h3>"
        f'<div class="label">read</div><pre>{predicted}</pre>'
        f'<div class="label">right</div><pre>{true}</pre></div></div>'
    )


def _image(name: str, data: bytes, kind: str) -> str:
    """A picture as part of the page; a large one (a scan) is made smaller, so that the page stays one to open."""
    if len(data) > LARGEST_IMAGE:
        try:
            picture = open_image(data)
        except ImageError as error:
            return f'<p class="note">{html.escape(str(error))}</p>'
        picture.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=75)
        data, kind = buffer.getvalue(), "webp"
    encoded = base64.b64encode(data).decode("ascii")
    return f'<img alt="{html.escape(name)}" src="data:{MEDIA_TYPES[kind]};base64,{encoded}">'


_FAULTS = {"repetition": "ends in a loop", "malformed": "malformed"}
_FINISHES = {
    "length": "cut off",
    CONTEXT: "longer than the context",
    "missing": "no prediction",
    "duplicate": "several predictions",
}


def sample_facts(sample: Mapping[str, Any]) -> list[str]:
    """What stands beside the name of a sample: characters read, mode, and what is wrong with the answer."""
    facts = [f"{percent(sample['character_accuracy'])} of the characters", sample["mode"]]
    if sample["finish_reason"] in _FINISHES:
        facts.append(_FINISHES[sample["finish_reason"]])
    if sample["finish_reason"] not in ("missing", "duplicate", CONTEXT):
        found = sample["contributions"]
        facts += [words for figure, words in _FAULTS.items() if found.get(figure, (0.0, 0.0))[0] > 0]
    return facts


def marked(prediction: str, truth: str) -> tuple[str, str]:
    """Both texts as HTML, with a mark around every character that does not agree."""
    predicted, true = [], []
    for kind, left, right in aligned_spans(prediction, truth):
        wrong, missed = html.escape(left), html.escape(right)
        if kind == "equal":
            predicted.append(wrong)
            true.append(missed)
            continue
        if wrong:
            predicted.append(f'<span class="wrong">{wrong}</span>')
        if missed:
            true.append(f'<span class="missed">{missed}</span>')
    return "".join(predicted), "".join(true)


def _stage_table(run: Path) -> str:
    """The stage table that a run left behind, whatever columns it has; "" if it left none."""
    path = run / "stage_table.json"
    if not path.is_file():
        return ""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({error}); is {run} a run directory?") from error
    stages = content.get("stages", []) if isinstance(content, dict) else content
    if not stages:
        return ""
    columns = list(dict.fromkeys(column for stage in stages for column in stage))
    rows = [[_cell(stage.get(column)) for column in columns] for stage in stages]
    header = [column.replace("_", " ") for column in columns]
    return f'<p class="label">{html.escape(run.name)}</p>' + table(header, rows)


def _cell(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, list):
        return ", ".join(_cell(item) for item in value)
    return str(value)
