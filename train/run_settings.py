"""Settings of what a run keeps, shows, and guards against; none of them changes the numbers of a healthy step."""

from __future__ import annotations

from dataclasses import dataclass, field

from data_engine.errors import one_of
from train.settings import require

STOP, CONTINUE = "stop", "continue"
WARN, SKIP = "warn", "skip"
WANDB_MODES = ("disabled", "offline", "online")


def _positive(key: str, value: float) -> None:
    require(value > 0, f"{key}={value} must be positive.")


@dataclass
class CheckpointPlan:
    """When the run saves itself and what it keeps."""

    every: int = 200
    """Steps between checkpoints; the last step is always saved."""
    keep_last: int = 2
    """Newest checkpoints kept."""
    keep_every: int = 0
    """Also keep checkpoints at multiples of this step; 0 keeps none of them."""
    pin: list[int] = field(default_factory=list)
    """Steps that are saved whatever `every` says, and never removed; `touch RUN/control/pin` does so for this step."""
    on_failure: str = STOP
    """When a checkpoint cannot be written, e.g. on a full disk: `stop` the run, or `continue` and try at the next."""
    asynchronous: bool = False
    """Write checkpoints while training goes on, which then stops only for a copy of the state. The bytes are the same,
    but each stage's first replica needs room for that copy in its host's memory (12 bytes per trained parameter,
    `plan=true` says how much), and a run that is killed while it writes goes on from the checkpoint before. Worth it
    where writing takes seconds: on in the paper's experiments, off by default."""

    def __post_init__(self) -> None:
        _positive("checkpoint.every", self.every)
        require(
            self.keep_last >= 1, f"checkpoint.keep_last={self.keep_last} must keep at least 1 checkpoint."
        )
        require(min(self.pin, default=1) >= 1, f"checkpoint.pin={self.pin} must list steps, 1 or higher.")
        one_of("checkpoint.on_failure", self.on_failure, (STOP, CONTINUE))


@dataclass
class Logging:
    """What is written while the run goes on."""

    every: int = 10
    """Steps between two lines of metrics.jsonl and log.txt."""
    wandb: str = "offline"
    """`disabled`, `offline` (files in RUN/wandb, no account, no network) or `online`."""
    project: str = "deepseek-ocr"
    """wandb project."""
    plots: bool = True
    """Draw RUN/report/training.svg when the run ends, for whatever reason."""

    def __post_init__(self) -> None:
        _positive("logging.every", self.every)
        one_of("logging.wandb", self.wandb, WANDB_MODES)


@dataclass
class GuardSettings:
    """What happens to a step whose loss or gradient norm jumps. One that is not finite always ends the run."""

    spike_factor: float = 0.0
    """A spike is a loss or gradient norm above this many times its median over `window`; 0 looks for none."""
    window: int = 100
    """Steps that the median is of; before so many have been trained, nothing is a spike."""
    action: str = WARN
    """`warn`: say so. `skip`: leave the optimizer step out. `stop`: end the run before the optimizer."""
    longest: int = 10
    """`skip`: the run stops when so many steps in a row were left out, for then it is no spike but a new level."""

    def __post_init__(self) -> None:
        require(
            self.spike_factor == 0 or self.spike_factor > 1,
            f"guard.spike_factor={self.spike_factor} must be above 1, or 0 (off).",
        )
        _positive("guard.window", self.window)
        _positive("guard.longest", self.longest)
        one_of("guard.action", self.action, (WARN, SKIP, STOP))


@dataclass
class ProfileSettings:
    """Which steps torch's profiler records, into RUN/profile/."""

    steps: list[int] = field(default_factory=list)
    """[first, last] step, both included and counted as in the log; empty: nothing is recorded."""
    ranks: list[int] = field(default_factory=lambda: [0])
    """Processes that record."""

    def __post_init__(self) -> None:
        check_ranges("profile.steps", [self.steps] if self.steps else [])


def check_ranges(key: str, ranges: list[list[int]]) -> None:
    """ConfigError unless every element is [first, last] with 1 <= first <= last."""
    for item in ranges:
        whole = isinstance(item, list) and len(item) == 2 and all(isinstance(step, int) for step in item)
        require(
            whole and 1 <= item[0] <= item[1],
            f"{key}: {item} is no range of steps; give [FIRST,LAST], such as [1200,1210].",
        )
