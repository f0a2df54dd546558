"""What a user may set for the degradation of pictures: a stage of its own, for every kind that is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from data_engine.errors import ConfigError, in_range, one_of, span, weights

DEGRADATIONS = ("paper", "perspective", "shadow", "blur", "resampling", "noise", "binarisation", "jpeg")
"""In the order in which they happen to a page: printed, photographed, scanned, stored."""
_USUAL_STRENGTH = 0.5
_NEVER: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "chart": ("binarisation", "their colours carry meaning"),
        "scene_text": ("binarisation", "they are in colour"),
        "geometry": ("perspective", "their labels tell places"),
    }
)
"""What pictures of a kind can never have, and why."""


@dataclass
class DegradeOptions:
    """What happens to pictures after they are drawn: a stage of its own, for every kind."""

    probability: float = 0.0
    """Share of the pictures that are degraded, 0 to 1; one for which none of the kinds is possible stays as it is."""
    strength: Any = _USUAL_STRENGTH
    """How strong it may get, 0 (hardly seen) to 1 (just legible); what is illegible is thrown away and counted.
    {jpeg: 0.9, noise: 0.2} sets that of single kinds and leaves the others at 0.5."""
    kinds: Any = None
    """Weights of paper, perspective, shadow, blur, resampling, noise, binarisation (gray pictures) and jpeg;
    null: all alike."""
    count: list[int] = field(default_factory=lambda: [1, 3])
    """[MIN,MAX] of them on one picture."""

    def __post_init__(self) -> None:
        in_range("degrade.probability", self.probability, 0, 1)
        self.strengths()
        span("degrade.count", self.count, 1, len(DEGRADATIONS))
        self.weights()

    def weights(self) -> dict[str, float]:
        """The weight of every degradation. ConfigError where what the user gave makes none."""
        return weights("degrade.kinds", self.kinds, dict.fromkeys(DEGRADATIONS, 1.0))

    def strengths(self) -> dict[str, float]:
        """How strong every degradation may get, 0 to 1. ConfigError where it is no such number."""
        given = self.strength
        single = isinstance(given, dict)
        strengths = dict.fromkeys(DEGRADATIONS, _USUAL_STRENGTH if single else given)
        for kind, strength in given.items() if single else ():
            one_of("degrade.strength", kind, DEGRADATIONS)
            strengths[kind] = strength
        for kind, strength in strengths.items():
            key = f"degrade.strength.{kind}" if single else "degrade.strength"
            if isinstance(strength, bool) or not isinstance(strength, (int, float)):
                raise ConfigError(
                    f"{key}={strength} is not possible: give a number from 0 to 1, or {{KIND: NUMBER}}."
                )
            in_range(key, strength, 0, 1)
        return strengths


def check_possible(kind: str, options: Any, degrade: DegradeOptions) -> None:
    """ConfigError where none of the degradations that a user wants can ever happen to a kind with these options."""
    never = dict([_NEVER[kind]] if kind in _NEVER else [])
    if getattr(options, "color", 0.0) == 1:
        never["binarisation"] = "with options.color=1 all of them are in colour"
    wanted = [name for name, weight in degrade.weights().items() if weight]
    if degrade.probability > 0 and never.keys() >= set(wanted):
        why = "; ".join(f"{name} is not for these pictures, {never[name]}" for name in wanted)
        raise ConfigError(f"degrade.kinds leaves nothing to do for kind={kind}: {why}.")
