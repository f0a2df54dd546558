"""Charts: tables parse back, everything that they need can be read, and the options weigh every way to differ."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from lxml import html as lxml_html

from data_engine.chart_options import SHARES, USUAL, ChartOptions
from data_engine.errors import ConfigError
from data_engine.kinds import make_renderer
from data_engine.markup import html_table
from data_engine.random_stream import Draws
from data_engine.render.base import NoSampleError, Rendered
from data_engine.schema_fields import fields_of
from tests.data_engine.conftest import needs_assets
from tests.data_engine.test_labels import Table, pixels_of, samples


@dataclass(frozen=True)
class Charts:
    """Charts of one engine and size, and how many of those that were drawn were found legible."""

    engine: str
    rendered: list[Rendered]
    verdicts: list[bool]


@pytest.fixture(scope="module", params=[("echarts", 512), ("echarts", 256), ("matplotlib", 256)])
def charts(request: pytest.FixtureRequest) -> Charts:
    from data_engine.render import chart

    engine, size = request.param
    verdicts: list[bool] = []

    def remember(*arguments: object) -> bool:
        verdicts.append(is_legible(*arguments))  # type: ignore[arg-type]
        return verdicts[-1]

    is_legible = chart.is_legible
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(chart, "is_legible", remember)
        return Charts(engine, list(samples("chart", 30, engine=engine, size=size)), verdicts)


@needs_assets
def test_chart_tables_parse_back(charts: Charts) -> None:
    forms = set()
    for rendered in charts.rendered:
        rows = Table(rendered.response).rows
        forms.add(rendered.details["form"])
        assert rows[0][0] == ""
        assert len({len(row) for row in rows}) == 1
        assert 2 <= len(rows) - 1 <= 6
        assert 1 <= len(rows[0]) - 1 <= 3
        assert len(set(rows[0])) == len(rows[0])
        for row in rows[1:]:
            for value in row[1:]:
                assert re.fullmatch(r"-?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?%?", value), value
        if rendered.details["form"] in ("pie", "donut", "rose") and rows[1][1].endswith("%"):
            assert sum(Decimal(row[1].rstrip("%")) for row in rows[1:]) == 100
        assert rendered.prompt == "<image>\nParse the figure."
        assert rendered.renderer == charts.engine
        html = lxml_html.fragment_fromstring(rendered.response)  # as a browser reads it
        cells = [[cell.text_content() for cell in row] for row in html.iter("tr")]
        assert html_table(cells) == rendered.response
    assert len(forms) >= 6


@needs_assets
def test_a_chart_that_cannot_be_drawn_legibly_is_skipped() -> None:
    with pytest.raises(NoSampleError, match="no legible chart: 300 attempts at 96 x 96 pixels"):
        list(samples("chart", 1, engine="matplotlib", size=96, categories=[12, 12], font_pixels=[14.0, 14.0]))


def test_a_text_that_is_missing_covered_or_cut_is_illegible() -> None:
    from data_engine.render.canvas_player import DrawnText
    from data_engine.render.chart import is_legible

    def text(word: str, left: float, upright: bool = True) -> DrawnText:
        return DrawnText(word, left, 10, left + 20, 20, upright)

    needed = Counter(["a", "b"])
    assert is_legible(needed, [text("a", 0), text("b", 30)], 100, 100)
    assert not is_legible(needed, [text("a", 0)], 100, 100)
    assert not is_legible(needed, [text("a", 0), text("b", 15)], 100, 100)
    assert not is_legible(needed, [text("a", 0), text("b", 90)], 100, 100)
    assert not is_legible(Counter(["a", "a"]), [text("a", 0), text("b", 30)], 100, 100)
    assert not is_legible(Counter(["1000"]), [text("1,000", 0)], 100, 100)
    assert not is_legible(Counter(["1,000"]), [text("1000", 0)], 100, 100)


@needs_assets
def test_what_the_layout_has_room_for_is_legible_when_drawn(charts: Charts) -> None:
    """The check after drawing is a guard, not the rule: a chart drawn in vain costs as much as one kept."""
    assert len(charts.rendered) == sum(charts.verdicts) == 30
    assert len(charts.verdicts) <= 33


@pytest.mark.slow
@needs_assets
def test_the_dictionary_of_a_chart_says_what_its_table_says() -> None:
    dictionaries = samples("chart", 12, engine="echarts", label="dictionary")
    for table, other in zip(samples("chart", 12, engine="echarts"), dictionaries, strict=True):
        assert other.pictures == table.pictures
        assert other.prompt == "<image>\nConvert the key information of the chart to a python dict:"
        said = json.loads(other.response)
        assert list(said) == ["title", "source", "x_title", "y_title", "values"]
        (_, *names), *rows = Table(table.response).rows
        columns = {name: {row[0]: row[place] for row in rows} for place, name in enumerate(names, start=1)}
        parts = {"title": "title", "source": "source"}
        category_axis, value_axis = "xy" if other.details["form"] != "horizontal bar" else "yx"
        parts |= {f"{category_axis}_title": "category title", f"{value_axis}_title": "value title"}
        for key, part in parts.items():
            assert (said[key] != "None") == (part in other.details["parts"]), key
        assert said["values"] == (columns if len(names) > 1 else columns[names[0]])


def details(**options: Any) -> list[dict[str, Any]]:
    """What charts tell of themselves."""
    return [chart.details for chart in samples("chart", 40, engine="echarts", languages=["en"], **options)]


@pytest.mark.slow
@needs_assets
def test_every_share_and_weight_has_its_way() -> None:
    found = details(
        size=400, forms={"pie": 0, "donut": 0, "rose": 0}, legends=["left"], palettes=["single"], families=["mono"],
        dark=1.0, negative=1.0, percent=0.0, subtitles=1.0, titles=1.0, sources=1.0, axis_titles=1.0, effects=0.0,
        legendless=0.0, labels=0.0,
    )  # fmt: skip
    assert {one["form"] for one in found} == {
        "bar", "horizontal bar", "stacked bar", "line", "area", "composite"
    }  # fmt: skip
    for one in found:
        assert (one["legend"], one["palette"], one["family"], one["dark"]) == ("left", "single", "mono", True)
        signed = one["form"] in ("bar", "horizontal bar", "line")
        assert ("negative" in one["numbers"]) == signed
        assert "percent" not in one["numbers"]
        parts = {"title", "subtitle", "source", "category title", "value title"}
        assert parts <= set(one["parts"])
        assert one["labels"] == ("inside" if one["form"] == "stacked bar" else "none")


@pytest.mark.slow
@needs_assets
def test_charts_differ_in_every_way_by_themselves() -> None:
    seen: dict[str, Counter[object]] = {}
    for one in details(size=400):
        for name, value in one.items():
            seen.setdefault(name, Counter()).update(value if isinstance(value, list) else [value])
    assert len(seen["form"]) == 9 and len(seen["palette"]) >= 5 and len(seen["family"]) >= 2
    assert set(seen["legend"]) >= {"none", "top", "bottom", "right"}
    assert set(seen["labels"]) == {"none", "inside", "outside"}
    assert set(seen["numbers"]) == {"plain", "percent", "thousands", "negative"}
    assert set(seen["parts"]) >= {"title", "subtitle", "source", "category title", "value title"}
    assert set(seen["dark"]) == {True, False}


def test_the_help_tells_the_usual_weights() -> None:
    helps = {field.key: " ".join(field.help.split()) for field in fields_of(ChartOptions)}
    for key, usual in USUAL.items():
        told = re.search(r"null: \{(.*?)\}", helps[key])
        if told is None:
            assert re.search(r"null: (all|both) alike", helps[key])
            assert len(set(usual.values())) == 1
            continue
        pairs = dict(pair.split(": ") for pair in told[1].split(", "))
        assert {name: float(weight) for name, weight in pairs.items()} == usual
    assert set(SHARES) <= set(helps)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"legends": {"top": -1}}, "options.legends.top=-1 is not possible: a weight is a number from 0 up."),
        ({"legends": {"top": "much"}}, "options.legends.top=much is not possible: a weight is a number"),
        ({"forms": {"bra": 1}}, "options.forms=bra is not possible; did you mean 'bar'?"),
        ({"forms": []}, "options.forms needs at least one of bar, horizontal bar,"),
        ({"languages": {"en": 0, "zh": 0}}, "options.languages needs at least one of en, zh."),
        ({"markers": 3}, "options.markers=3 is not possible: give [NAME,...] or {NAME: WEIGHT}."),
        ({"sides": [0.5, 1.5]}, "options.sides=[0.5,1.5] is not possible"),
        ({"thousands": 2.0}, "options.thousands=2.0 is not possible"),
    ],
)
def test_impossible_weights_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ChartOptions(**options)
    assert str(caught.value).startswith(sentence)


def test_a_weight_changes_one_and_a_list_replaces_all() -> None:
    assert ChartOptions(legends={"top": 0}).weights()["legends"] == {
        "top": 0,
        "bottom": 3,
        "right": 2,
        "left": 1,
    }
    assert ChartOptions(legends=["top"]).weights()["legends"] == {
        "top": 1,
        "bottom": 0,
        "right": 0,
        "left": 0,
    }
    twice = ChartOptions(forms=["bar", "bar", "pie"]).weights()["forms"]
    assert (twice["bar"], twice["pie"], twice["line"]) == (2, 1, 0)


@pytest.fixture
def names_file(tmp_path: Path) -> Path:
    names = [f"Ort {number}" for number in range(60)] + [chr(0x4E00 + number) * 2 for number in range(60)]
    path = tmp_path / "names.txt"
    path.write_text("\n".join(["", "a name that is far too long for any chart", *names]), "utf-8")
    return path


def categories(charts: Iterator[Rendered]) -> set[str]:
    return {row[0] for chart in charts for row in Table(chart.response).rows[1:]}


@pytest.mark.slow
@needs_assets
def test_names_of_the_user_stand_in_charts_of_the_fonts_that_can_write_them(names_file: Path) -> None:
    options = {"names_file": str(names_file), "names": ["entities"], "engine": "echarts", "size": 400}
    found = categories(samples("chart", 20, languages=["en"], **options))
    assert len(found) > 20 and all(re.fullmatch(r"Ort \d+", name) for name in found)


@pytest.mark.slow
@needs_assets
@pytest.mark.parametrize("engine", ["echarts", "matplotlib"])
def test_names_are_drawn_as_they_are_written(engine: str, tmp_path: Path) -> None:
    """A name with dollar signs is no formula, one with braces no pattern."""
    path = tmp_path / "names.txt"
    path.write_text("".join(f"${number}_1 to ${number}\n" for number in range(60)), "utf-8")
    plain = tmp_path / "plain.txt"
    plain.write_text("".join(f"#{number}_1 to #{number}\n" for number in range(60)), "utf-8")
    options: dict[str, Any] = {"engine": engine, "size": 400, "languages": ["en"], "names": ["entities"]}
    options |= {"forms": ["bar"], "families": ["mono"]}  # all letters equally wide
    with_dollars, without = (
        list(samples("chart", 6, names_file=str(file), **options)) for file in (path, plain)
    )
    for one, other in zip(with_dollars, without, strict=True):
        assert one.response == other.response.replace("#", "$")
        difference = pixels_of(one) != pixels_of(other)
        assert 0 < difference.mean() < 0.03  # little more than the signs
    wild = tmp_path / "wild.txt"
    wild.write_text("".join(f"{number}$\\zz${{c}}\n" for number in range(60)), "utf-8")
    assert len(list(samples("chart", 6, names_file=str(wild), **options))) == 6


@pytest.mark.slow
@needs_assets
def test_commas_stand_in_the_picture_where_they_stand_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    from data_engine.render import chart

    drawn: list[str] = []
    is_legible = chart.is_legible

    def remember(needed: Counter[str], texts: list[Any], width: int, height: int) -> bool:
        drawn.extend(text.text for text in texts)
        return is_legible(needed, texts, width, height)

    monkeypatch.setattr(chart, "is_legible", remember)
    for engine in ("echarts", "matplotlib"):
        for thousands in (0.0, 1.0):
            options = {"labels": 0.5, "percent": 0.0, "thousands": thousands, "forms": ["bar"]}
            tables = [sample.response for sample in samples("chart", 8, engine=engine, **options)]
            for texts in (" ".join(drawn), " ".join(tables)):
                assert bool(re.search(r"\d,\d{3}", texts)) == bool(thousands), (engine, thousands)
                assert bool(re.search(r"(?<!年)\b[1-9]\d{3,}0\b", texts)) != bool(thousands)
            drawn.clear()


def test_effects_are_told_where_they_are_drawn() -> None:
    for one in samples("chart", 5, engine="matplotlib", languages=["en"], effects=1.0):
        assert one.details["effects"] == []


@pytest.mark.slow
@needs_assets
def test_effects_fit_the_form() -> None:
    for one in samples("chart", 30, engine="echarts", languages=["en"], effects=1.0):
        told, form = set(one.details["effects"]), one.details["form"]
        assert told <= {"gradient", "shadow", "rounded", "hatching"}
        if form in ("line", "area"):
            assert told == ({"gradient"} if form == "area" else set())
        if form in ("pie", "donut", "rose"):
            assert "gradient" not in told


@needs_assets
def test_a_language_without_names_is_refused(names_file: Path, tmp_path: Path) -> None:
    names_file.write_text("\n".join(f"Ort {number}" for number in range(49)), "utf-8")
    with pytest.raises(
        ConfigError, match=r"names.txt has 49 names .* fonts of 'en' can write: give at least 50"
    ):
        make_renderer("chart", ChartOptions(names_file=str(names_file), languages=["en"]))
    names_file.write_text("\n".join(f"שלום {number}" for number in range(60)), "utf-8")
    with pytest.raises(ConfigError, match="has 0 names"):  # drawn from left to right it would be another text
        make_renderer("chart", ChartOptions(names_file=str(names_file), languages=["en"], families=["sans"]))
    names_file.write_bytes(b"caf\xe9\n")
    with pytest.raises(ConfigError, match=r"names.txt is no UTF-8 \(byte 3\)"):
        make_renderer("chart", ChartOptions(names_file=str(names_file), languages=["en"]))
    with pytest.raises(ConfigError, match=r"nothing.txt cannot be read: No such file"):
        make_renderer("chart", ChartOptions(names_file=str(tmp_path / "nothing.txt"), languages=["en"]))


def test_no_colour_stands_for_two_names() -> None:
    from data_engine.chart_options import CHART_FORMS
    from data_engine.render.chart_content import random_content
    from data_engine.render.chart_style import random_style

    options = ChartOptions(categories=[12, 12], series=[8, 8], dark=0.5)
    for index in range(120):
        draws = Draws(1, "chart", index)
        content = random_content(draws.stream("content"), CHART_FORMS[index % 9], options, 16)
        style = random_style(draws.stream("style"), content, options, 12.0, 512, 512)
        used = style.palette[: 12 if content.is_round else len(content.series)]
        assert len(set(used)) == (12 if content.is_round else 8), style.palette_name
        if content.is_round:
            own = 9 if style.palette_name != "single" else 12
            added = [[int(color[place : place + 2], 16) for place in (1, 3, 5)] for color in used]
            for number, color in enumerate(added[own:], own):
                assert min(math.dist(color, other) for other in added[:number]) >= 60, style.palette_name


@needs_assets
def test_grid_lines_are_seen_in_a_frame_and_on_a_tinted_ground() -> None:
    from data_engine.render.chart_content import random_content
    from data_engine.render.chart_echarts import draw_echarts
    from data_engine.render.chart_layout import layout_of
    from data_engine.render.chart_style import random_style
    from data_engine.render.echarts_engine import EChartsEngine

    engine = EChartsEngine(("sans", "serif", "mono", "chinese"))
    options = ChartOptions(labels=0.0, frame=1.0, tinted=1.0, dark=0.0)
    seen = 0
    for index in range(12):
        draws = Draws(3, "chart", index)
        content = random_content(draws.stream("content"), "line", options, 16)
        style = random_style(draws.stream("style"), content, options, 12.0, 400, 400)
        if (layout := layout_of(content, style)) is None:
            continue
        pixels, _ = draw_echarts(engine, content, style, layout)
        inner = pixels[
            int(layout.top) + 3 : 400 - int(layout.bottom) - 3, int(layout.left) + 3 : -int(layout.right) - 3
        ]
        white = (inner[..., :3] == 255).all(-1).mean(1)  # a share of every row
        assert style.panel not in (style.paper, style.faint)
        assert (white > 0.5).sum() >= content.axis.ticks - 1, index
        seen += 1
    engine.close()
    assert seen > 5


def test_values_of_a_signed_chart_lie_on_both_sides_and_off_its_ends() -> None:
    from data_engine.render.chart_content import random_content

    options = ChartOptions(negative=1.0, series=[3, 3], categories=[6, 6], languages=["en"])
    below = 0
    for index in range(40):
        content = random_content(Draws(2, "chart", index).stream("content"), "bar", options, 16)
        assert content.axis.minimum < 0 < content.axis.maximum
        values = [value for series in content.series for value in series.values]
        assert all(
            content.axis.minimum * Decimal("0.86") <= value <= content.axis.maximum for value in values
        )
        assert Decimal(0) not in values
        below += sum(value < 0 for value in values)
    assert 200 < below < 400  # of 720
