"""Settings of single parts of a run, each checked where it is made; `train.config` joins them to one tree."""

from __future__ import annotations

from dataclasses import dataclass, field

from data_engine.errors import ConfigError

SCHEDULES = ("constant", "cosine", "step")
LORA_TARGETS = ("attention", "shared_experts", "projector")
"""Those of `model.lora.TARGETS`."""


def require(condition: bool, sentence: str) -> None:
    """Raise `ConfigError` with this one sentence unless the condition holds."""
    if not condition:
        raise ConfigError(sentence)


@dataclass
class OptimizerSettings:
    """AdamW and its learning-rate schedule."""

    learning_rate: float = 1e-3
    """Highest learning rate, reached after warm-up."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    """Decay of the first and second moment."""
    epsilon: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.01
    """Decoupled decay of matrices; biases, norms, embeddings and positions are not decayed."""
    part_learning_rates: dict[str, float] = field(default_factory=dict)
    """Checkpoint-name prefix -> highest learning rate of that part, e.g. {model.vision_model: 1e-5}; the schedule's
    shape is the same, and the longest prefix counts."""
    clip: float = 1.0
    """Largest norm of the gradient over all stages; 0 turns clipping off."""
    schedule: str = "cosine"
    """`constant`, `cosine` (to `final_ratio` at the last step) or `step` (times `step_factor` at milestones)."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly."""
    final_ratio: float = 0.1
    """Cosine: learning rate at the last step, as a share of the highest."""
    milestones: list[float] = field(default_factory=list)
    """Step schedule: where the rate falls, as shares of `steps` (0.5 = half-way)."""
    step_factor: float = 0.1
    """Step schedule: factor applied at every milestone."""

    def __post_init__(self) -> None:
        require(
            self.schedule in SCHEDULES,
            f"optimizer.schedule={self.schedule} is unknown; choose one of {', '.join(SCHEDULES)}.",
        )
        require(self.learning_rate > 0, f"optimizer.learning_rate={self.learning_rate} must be positive.")
        for prefix, rate in self.part_learning_rates.items():
            require(
                rate > 0,
                f"optimizer.part_learning_rates.{prefix}={rate} must be positive; to keep a part as it is, name it in "
                "freeze.",
            )
        require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            f"optimizer.betas={self.betas} must be two numbers from 0 up to, not including, 1.",
        )
        require(self.clip >= 0, f"optimizer.clip={self.clip} must be 0 (off) or positive.")
        require(self.warmup_steps >= 0, f"optimizer.warmup_steps={self.warmup_steps} must not be negative.")
        require(
            0 <= self.final_ratio <= 1, f"optimizer.final_ratio={self.final_ratio} must lie between 0 and 1."
        )
        require(
            all(0 < share < 1 for share in self.milestones) and self.milestones == sorted(self.milestones),
            f"optimizer.milestones={self.milestones} must be rising shares of the run between 0 and 1.",
        )


@dataclass
class Lora:
    """Low-rank adapters beside linear layers, through peft; for deepseek_ocr."""

    rank: int = 0
    """Inner width of an adapter; 0: no adapters, the model itself trains."""
    alpha: int = 32
    """The update is scaled by alpha / rank."""
    targets: list[str] = field(default_factory=lambda: list(LORA_TARGETS))
    """Which linear layers: some of attention, shared_experts, projector."""

    def __post_init__(self) -> None:
        require(self.rank >= 0, f"lora.rank={self.rank} must be 0 (no adapters) or positive.")
        require(self.alpha > 0, f"lora.alpha={self.alpha} must be positive.")
        require(
            bool(self.targets) and set(self.targets) <= set(LORA_TARGETS),
            f"lora.targets={self.targets} must be some of {', '.join(LORA_TARGETS)}.",
        )

    @property
    def scale(self) -> float:
        """Factor of the update; 0 without adapters."""
        return self.alpha / self.rank if self.rank else 0.0


@dataclass
class Evaluation:
    """What is found out about the model while it trains, on data that it does not train on."""

    every: int = 0
    """Steps between two evaluations, the last step included; 0: none."""
    data: str = ""
    """Directory with one held-out dataset or several; each gets a loss of its own."""
    batches: int = 1
    """At most so many steps' worth of micro-batches (`micro_batches` on every replica) per dataset, always the same."""
    read: int = 0
    """Samples per dataset that are also read, greedily, for the share of right characters; 0: none. Without a pipeline
    the replicas share them; with one, rank 0 gathers the whole model on its CPU, and all others wait."""
    tokens: int = 256
    """Longest answer when reading."""

    def __post_init__(self) -> None:
        require(self.every >= 0, f"evaluate.every={self.every} must be 0 (never) or a number of steps.")
        require(self.batches > 0, f"evaluate.batches={self.batches} must be positive.")
        require(self.read >= 0, f"evaluate.read={self.read} must be 0 (no reading) or a number of samples.")
        require(self.tokens > 0, f"evaluate.tokens={self.tokens} must be positive.")
        require(
            not self.every or bool(self.data),
            f"evaluate.every={self.every} needs evaluate.data=DIR, the held-out data.",
        )
