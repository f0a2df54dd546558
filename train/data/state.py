"""The state of the loader: a few numbers and names, the same on every rank, JSON in the checkpoint.

The order is computed, so the state holds no position of any buffer: `step` says it all. The rest is there to
refuse a run whose order would be another one, and (window, first_pack) saves walking over what was consumed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from data_engine.errors import ConfigError
from model.tokenizer import Tokenizer
from train.data.block_order import SampleOrder
from train.data.loader_settings import LoaderSettings
from train.data.mixture import Quotas
from train.data.modes import SLOTS, ModePlan
from train.data.reader import SampleReader

SCHEMA = 2  # of the state, and of the rules by which the order is computed: another rule, another number


@dataclass(frozen=True)
class Identity:
    """Everything that decides which sample comes when. Equal identities, equal streams of packs."""

    datasets: dict[str, str]
    """Name -> fingerprint of the datasets in the mixture."""
    tokenizer: str
    seed: int
    window: int
    """Draws per window."""
    mixture: list[dict[str, Any]]
    """`Quotas.history`"""
    shape: dict[str, int]
    modes: list[dict[str, Any]]
    """`ModePlan.description`, one entry per phase of the mixture."""
    order: dict[str, Any]
    """`SampleOrder`"""
    too_long: str
    packs_per_step: int
    """Micro-batches per step times data-parallel size."""
    schema: int = SCHEMA

    @classmethod
    def of(
        cls,
        datasets: Mapping[str, SampleReader],
        tokenizer: Tokenizer,
        settings: LoaderSettings,
        modes: ModePlan,
        quotas: Quotas,
        seed: int,
        order: SampleOrder,
    ) -> Identity:
        """Of a loader with these settings; `modes` and `quotas` as it has numbered them."""
        history = quotas.history()
        used = {name for phase in history for name in phase["weights"]}
        return cls(
            datasets={name: datasets[name].fingerprint for name in sorted(used)},
            tokenizer=tokenizer.fingerprint,
            seed=seed,
            window=quotas.mixture.window,
            mixture=history,
            shape=asdict(settings.shape),
            modes=modes.description(),
            order=asdict(order),
            too_long=settings.too_long,
            packs_per_step=settings.packs_per_step,
        )

    @property
    def fingerprint(self) -> str:
        """One hash of it all."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class LoaderState:
    """What a checkpoint keeps of the loader."""

    fingerprint: str
    """Of `identity`; equal fingerprints need no closer look."""
    step: int
    """The next step to train."""
    window: int
    """The window of the last pack that was trained; 0 before the first."""
    first_pack: int
    """Number of the first pack of that window."""
    identity: dict[str, Any]

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> LoaderState:
        """Raises ConfigError when this is not a state that this version has written."""
        names = {field.name for field in fields(cls)}
        if not isinstance(state, Mapping) or set(state) != names or not isinstance(state["identity"], dict):
            raise ConfigError("the checkpoint's data state is not one of this loader; start a new run.")
        if state["identity"].get("schema") != SCHEMA:
            raise ConfigError(
                f"the checkpoint's data state has schema {state['identity'].get('schema')} and this version computes "
                f"the order by schema {SCHEMA}: finish the run with the version that began it, or start a new one."
            )
        return cls(**state)


def check_same_stream(state: LoaderState, now: Identity) -> None:
    """Raises ConfigError, in one sentence that says what changed, when `now` would continue another stream.

    Weights of phases that begin after the window of the state may differ, and so may datasets that only those use.
    """
    if state.fingerprint == now.fingerprint:
        return
    before, after = state.identity, asdict(now)
    for key, what, remedy in (
        ("tokenizer", "the tokenizer", "give the one that the run began with"),
        ("seed", "the seed", "give the one that the run began with"),
        ("window", "the window of the mixture", "give the one that the run began with"),
        ("shape", "the micro-batch shape (sequence.*)", "give the budgets that the run began with"),
        (
            "order",
            "the order of samples (order, block_samples, block_window)",
            "give the order that the run began with",
        ),
        ("too_long", "what becomes of too long texts (too_long)", "give what the run began with"),
        (
            "packs_per_step",
            "the number of packs per step (micro_batches x data-parallel size)",
            "keep the product when you change one of them",
        ),
    ):
        if before[key] != after[key]:
            raise ConfigError(
                f"cannot resume at step {state.step}: {what} changed {_change(before[key], after[key])}; {remedy}, "
                "or start a new run."
            )
    later = (state.window + 1) * now.window
    past_before, past_after = _past(before["mixture"], state.window), _past(after["mixture"], state.window)
    if past_before != past_after:
        raise ConfigError(
            f"cannot resume at step {state.step}: the mixture changed {_change(past_before, past_after)}; only phases "
            f"that begin after sample {later} may change."
        )
    for number in range(len(past_before)):
        modes_before, modes_after = before["modes"][number], after["modes"][number]
        if modes_before != modes_after:
            raise ConfigError(
                f"cannot resume at step {state.step}: the resolution modes (modes.*) of phase {number} changed "
                f"{_change(_shares(modes_before), _shares(modes_after))}; only phases of the mixture that begin after "
                f"sample {later} may have others."
            )
    for name in sorted({name for phase in past_before for name in phase["weights"]}):
        if before["datasets"].get(name) != after["datasets"].get(name):
            raise ConfigError(
                f"cannot resume at step {state.step}: the content of dataset {name} changed (its fingerprint was "
                f"{_short(before['datasets'].get(name))} and is {_short(after['datasets'].get(name))}); give the data "
                "that the run began with, or start a new run."
            )


def _past(history: list[dict[str, Any]], window: int) -> list[dict[str, Any]]:
    return [phase for phase in history if phase["first_window"] <= window]


def _shares(modes: dict[str, Any]) -> dict[str, Any]:
    """Task -> name of its mode, or shares of several, for a sentence."""
    return {
        task: choice[0]["name"]
        if len(choice) == 1
        else {mode["name"]: mode["slots"] / SLOTS for mode in choice}
        for task, choice in modes.items()
    }


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True) if not isinstance(value, str) else value
    return text if len(text) <= 12 or not isinstance(value, str) else text[:12] + "..."


def _change(before: Any, after: Any) -> str:
    """ "from A to B", of dictionaries only the entries that differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
        before, after = ({key: value[key] for key in keys if key in value} for value in (before, after))
    return f"from {_short(before)} to {_short(after)}"
