"""The error that is for the user, and the sentences it is made of."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence


class ConfigError(Exception):
    """Something that the user asked for is not possible. The message is one sentence for the user."""


class DamagedSampleError(Exception):
    """What a shard holds is not what was written. The message names shard, key and what is wrong."""

    def __init__(
        self,
        message: str,
        shard: str | None = None,
        key: str | None = None,
        sample: int | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message, shard, key, sample, reason)  # all of them, so that it can be pickled
        self.message = message
        self.shard = shard
        """Path or URL of the tar."""
        self.key = key
        self.sample = sample
        """The number of the sample in its dataset."""
        self.reason = reason if reason is not None else message
        """What is wrong, without the place: "the checksum of its image does not match"."""

    def __str__(self) -> str:
        return self.message


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence: "; did you mean 'x'?" when a known word is near, else all that is possible."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if not close:
        leaves = {name.rpartition(".")[2]: name for name in names}
        close = [leaves[leaf] for leaf in difflib.get_close_matches(word.rpartition(".")[2], leaves, n=1)]
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; possible: {', '.join(names)}."


def one_of(key: str, value: object, choices: Iterable[str]) -> None:
    """ConfigError unless `value` is one of `choices`."""
    choices = list(choices)
    if value not in choices:
        raise ConfigError(f"{key}={value} is not possible{nearest(str(value), choices)}")


def in_range(key: str, value: float, low: float, high: float) -> None:
    """ConfigError unless low <= value <= high."""
    if not low <= value <= high:
        raise ConfigError(f"{key}={value} is not possible: give a number from {low} to {high}.")


def span(key: str, value: Sequence[float], low: float, high: float) -> None:
    """ConfigError unless `value` is [min, max] with low <= min <= max <= high."""
    if len(value) != 2 or not low <= value[0] <= value[1] <= high:
        shown = ",".join(str(part) for part in value)
        raise ConfigError(
            f"{key}=[{shown}] is not possible: give [MIN,MAX] with {low} <= MIN <= MAX <= {high}."
        )


def weights(key: str, value: object, usual: Mapping[str, float]) -> dict[str, float]:
    """The weight of every choice, in the order of `usual`: what a user gives as names or as {name: weight}.

    A list of names weighs each of them once as often as it names it, and all others nothing; a dictionary changes the
    weights that it names and leaves the others as they are, None leaves all. ConfigError for an unknown name, a weight
    that is no number from 0 up, or when nothing is left.
    """
    value = {} if value is None else value
    if isinstance(value, (list, tuple)):
        names: list[object] = list(value)
        found = {name: float(names.count(name)) for name in usual}
    elif isinstance(value, dict):
        names = list(value)
        found = {name: value.get(name, weight) for name, weight in usual.items()}
    else:
        raise ConfigError(f"{key}={value} is not possible: give [NAME,...] or {{NAME: WEIGHT}}.")
    for name in names:
        one_of(key, name, usual)
    for name, weight in found.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < 1e9:
            raise ConfigError(f"{key}.{name}={weight} is not possible: a weight is a number from 0 up.")
    if not any(found.values()):
        raise ConfigError(f"{key} needs at least one of {', '.join(usual)}.")
    return found


def weights_of_options(
    options: object, usual: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """The weights of the fields that `usual` names, by field."""
    return {key: weights(f"options.{key}", getattr(options, key), names) for key, names in usual.items()}
