"""Which styles samples have and how often: what their provenance says beside where they are from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from data_engine.sample import Sample

_STYLE_VALUES = 60
"""A field with more different texts than this is a name, and not a style."""
_COUNTED_NUMBERS = 12
"""A field with more different numbers than this is a measure."""
_NOT_STYLE = {"seed", "index", "engine_version", "kind", "place", "key", "line", "quads"}
_NONE = "none"


def coverage(samples: list[Sample]) -> tuple[dict[str, Counter[str]], dict[str, list[float]]]:
    """Styles: field -> value -> how many samples have it, "none" for those without any. Measures: field -> its numbers.

    A field is prompt, task, or one of the provenance; one that is the same everywhere, or a name, is left out. Of a
    list every value counts once, of {"blur": 0.3} the name as a style and the number as the measure of "... blur".
    """
    found: dict[str, list[set[Any]]] = defaultdict(list)
    for sample in samples:
        values: dict[str, set[Any]] = defaultdict(set)
        prompt = sample.prompt.replace("\n", " ")
        values["prompt"].add(prompt if len(prompt) <= 60 else prompt[:59] + "…")
        values["task"].add(sample.task)
        for name, value in sample.provenance.items():
            if name not in _NOT_STYLE:
                for field, one in _leaves(name, value):
                    values[field].add(one)
        for field, one_sample in values.items():
            found[field].append(one_sample)
    styles: dict[str, Counter[str]] = {}
    measures: dict[str, list[float]] = {}
    for field, sets in found.items():
        different = set().union(*sets)
        numbers = {value for value in different if not isinstance(value, (str, bool))}
        if numbers == different and (
            len(numbers) > _COUNTED_NUMBERS or any(isinstance(value, float) for value in numbers)
        ):
            measures[field] = [float(value) for values in sets for value in values]
            continue
        counts = Counter(str(value) for values in sets for value in values)
        if without := len(samples) - len(sets):
            counts[_NONE] += without
        if 1 < len(counts) <= _STYLE_VALUES:
            styles[field] = counts
    return styles, {field: values for field, values in measures.items() if len(set(values)) > 1}


def _leaves(field: str, value: Any) -> Iterator[tuple[str, Any]]:
    """(field, value) of all that is a text or a number in a value. Lists of lists are coordinates, and no style."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield field, name
            yield from _leaves(f"{field} {name}", inner)
    elif isinstance(value, list):
        for inner in value:
            if not isinstance(inner, list):
                yield from _leaves(field, inner)
    elif isinstance(value, (str, bool, int, float)):
        yield field, value
