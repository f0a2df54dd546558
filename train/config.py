"""The run, as one tree of dataclasses: what can be set, in which unit, and what is refused before anything starts.

What is special here:
- Every rank composes the same tree and checks it before a process group exists; a bad value is one sentence
  that names the key, the value and the fix.
- The schedule, the mixture and the modes are functions of the step number alone, so a resumed run needs no
  state for them.

Keys are set on the command line (`optimizer.learning_rate=1e-4`), in `configs/experiment/*.yaml`, or here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data_engine.errors import ConfigError
from train.data.block_order import SampleOrder
from train.data.damage import DamagePolicy
from train.data.micro_batch import MicroBatchShape
from train.data.mixture import END, Mixture, Phase
from train.data.modes import ModeShares
from train.data.splitting import TOO_LONG
from train.run_settings import CheckpointPlan, GuardSettings, Logging, ProfileSettings, check_ranges
from train.settings import Evaluation, Lora, OptimizerSettings, require

PRECISIONS = ("fp32", "bf16")
CUTS = ("paper", "balanced", "auto")
ARCHITECTURES = ("encoder_lm", "deepseek_ocr")


@dataclass
class ModelChoice:
    """Which model is trained, and at which sizes."""

    architecture: str = "deepseek_ocr"
    """`encoder_lm` (stage 1: DeepEncoder with a compact language model) or `deepseek_ocr` (stage 2)."""
    preset: str = "nano"
    """Sizes by name: nano, small or deepseek_ocr_3b."""
    directory: str = ""
    """A directory with a released-layout config.json; its sizes replace the preset's."""
    language_model: str = "nano"
    """Stage 1 only: the compact OPT, by preset (nano, opt_125m) or as a local directory in HF layout."""
    balance_loss: float = -1.0
    """Weight of the experts' balance loss; -1 keeps what the model's config says (released: 0.001)."""

    def __post_init__(self) -> None:
        require(
            self.architecture in ARCHITECTURES,
            f"model.architecture={self.architecture} is unknown; choose one of {', '.join(ARCHITECTURES)}.",
        )


@dataclass
class SequenceShape:
    """One micro-batch = one packed sequence with these fixed budgets; every buffer has one shape all run long."""

    tokens: int = 256
    """Token places T of a packed sequence, vision tokens included."""
    patches: int = 1024
    """Budget P of 16 × 16 pixel patches over all views of a pack (a 128 px view takes 64)."""
    views: int = 32
    """Budget K of views (tiles and global views) of a pack."""
    vision_tokens: int = 128
    """Budget V of vision tokens of a pack (a 128 px view gives 4)."""

    def __post_init__(self) -> None:
        self.budgets()

    def budgets(self) -> MicroBatchShape:
        """The shape that the loader and the wire are made with; ConfigError when a budget is impossible."""
        return MicroBatchShape(self.tokens, self.patches, self.views, self.vision_tokens)


@dataclass
class MixturePhase:
    """Which share of the draws each dataset gives, up to a number of samples."""

    until_sample: int = END
    """First sample of the run (over all ranks) outside this phase; left out in the last phase."""
    weights: dict[str, float] = field(default_factory=dict)
    """Name of a dataset or group -> weight; empty means every dataset by its size."""
    modes: dict[str, Any] = field(default_factory=dict)
    """Modes in this phase, in the form of the run's `modes`; empty means those of the run."""


@dataclass
class Parallelism:
    """How the processes are used: pipeline stages × data-parallel replicas = number of processes."""

    pipeline_stages: int = 1
    """Stages that the model is cut into; the number of processes must be a multiple of it."""
    cut: Any = "balanced"
    """`paper`, `balanced`, `auto`, or the first layer of every later stage as a list, e.g. [1,2,5]."""
    times: str = ""
    """JSON file with measured times per layer, for cut=auto and the stage table; empty: estimated from FLOPs."""
    images_per_sequence: float = -1.0
    """Mean images per packed sequence that cut=auto and the plan reckon with; -1: as many as the budgets suggest."""

    def __post_init__(self) -> None:
        require(
            self.pipeline_stages >= 1,
            f"parallel.pipeline_stages={self.pipeline_stages} must be at least 1 (1 means no pipeline).",
        )
        if isinstance(self.cut, str):
            require(
                self.cut in CUTS,
                f"parallel.cut={self.cut} is unknown; choose {', '.join(CUTS)} or a list such as [1,2,5].",
            )
        else:
            require(
                isinstance(self.cut, list) and all(isinstance(i, int) and i > 0 for i in self.cut),
                f"parallel.cut={self.cut} must be {', '.join(CUTS)} or a list of positive layer numbers.",
            )
            require(
                len(self.cut) == self.pipeline_stages - 1 and self.cut == sorted(set(self.cut)),
                f"parallel.cut={self.cut} must hold {self.pipeline_stages - 1} rising layer numbers, one for every "
                f"boundary between the parallel.pipeline_stages={self.pipeline_stages} stages.",
            )


@dataclass
class TrainConfig:
    """One run of either training stage, or one of the actions beside it (tokenizer, export, plan, data_report)."""

    data: str = ""
    """Directory with one dataset or several (each with manifest.json)."""
    run: str = ""
    """Run directory; the same command given again goes on from its last checkpoint."""
    tokenizer: str = ""
    """Directory with tokenizer.json; the word `true` is an action: train a small tokenizer from `data` into `out`."""
    init: str = ""
    """Where weights start from: a run directory, a checkpoint in one, or a released-layout model; empty: random.
    Several with commas: each tensor comes from the first in which it fits, e.g. runs/stage1,weights/decoder."""
    out: str = ""
    """Target of an action (tokenizer, export), which must not exist yet; directory for the files of a plan."""
    seed: int = 1
    """Seed of initialisation, data order and dropout."""
    steps: int = 1000
    """Optimizer steps of the whole run."""
    micro_batches: int = 4
    """Packed sequences per step and data-parallel replica."""
    precision: str = "fp32"
    """`fp32`, or `bf16` with fp32 master weights and fp32 gradient accumulation."""
    checkpoint_activations: list[str] = field(default_factory=list)
    """Checkpoint-name prefixes whose blocks are computed again in the backward pass instead of kept: less memory, about
    a third more computation. E.g. [model.vision_model, model.layers], or [model.layers.0] for one layer."""
    compile: bool = False
    """Let torch.compile fuse each block of the encoders and the decoder; the first step takes minutes."""
    freeze: list[str] = field(default_factory=list)
    """Checkpoint-name prefixes whose parameters stay as they are, e.g. [model.sam_model]."""
    lora: Lora = field(default_factory=Lora)
    """Low-rank adapters; everything else stays as it is."""
    model: ModelChoice = field(default_factory=ModelChoice)
    """Which model, at which sizes."""
    sequence: SequenceShape = field(default_factory=SequenceShape)
    """Budgets of one packed sequence."""
    mixture: list[MixturePhase] = field(default_factory=list)
    """Phases of dataset weights; empty: every dataset by its size."""
    mixture_window: int = 4096
    """Samples that are drawn, packed and shuffled together; phases end at multiples of it."""
    groups: dict[str, Any] = field(default_factory=dict)
    """Group of datasets -> their shares within it, e.g. {ocr: {pages: 3, charts: 1}}; weights may then name `ocr`."""
    order: str = "global"
    """`global` shuffle of each dataset, or `block`: neighbours stay near (spinning disks, object stores)."""
    block_samples: int = 256
    """Block order: consecutive samples in a block."""
    block_window: int = 64
    """Block order: blocks that are shuffled into each other."""
    modes: dict[str, Any] = field(default_factory=lambda: {"default": "nano_tiny"})
    """Resolution mode per task, or shares of several, e.g. {tiny: 1, base: 3}; `default` serves the tasks not named.
    Shares given on the command line join those of the experiment; `modes.default=base` replaces them."""
    too_long: str = "drop"
    """Texts without images that exceed `sequence.tokens`: `drop` them, or `split` them into several samples."""
    lengths_cache: str = ""
    """Directory for measured text lengths: `data_report=true` fills it; empty: measured as the run goes."""
    parallel: Parallelism = field(default_factory=Parallelism)
    """Pipeline stages and where the model is cut."""
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    """AdamW and its schedule."""
    checkpoint: CheckpointPlan = field(default_factory=CheckpointPlan)
    """When to save and what to keep."""
    logging: Logging = field(default_factory=Logging)
    """Metrics and wandb."""
    evaluate: Evaluation = field(default_factory=Evaluation)
    """Held-out loss and a reading test while the run goes on."""
    prefetch: int = 2
    """Steps of packed data that the first stage prepares ahead."""
    workers: int = 0
    """Processes per first stage that read, decode and pack; 0: one background thread of the training process."""
    damage: DamagePolicy = field(default_factory=DamagePolicy)
    """What becomes of samples that cannot be used."""
    timeout: float = 600.0
    """Seconds after which a silent neighbour counts as lost."""
    watchdog: float = 0.0
    """Seconds that reading, a step or a save may take before its process writes all stacks to RUN/stacks and ends; 0:
    twice `timeout`. Up to the end of the first step ten times as long."""
    guard: GuardSettings = field(default_factory=GuardSettings)
    """What happens to a step whose loss or gradient norm jumps."""
    skip_steps: list[Any] = field(default_factory=list)
    """Ranges of steps, counted as in the log and both ends included, whose data is passed over: [[1200,1210]]."""
    profile: ProfileSettings = field(default_factory=ProfileSettings)
    """Which steps torch's profiler records."""
    export: bool = False
    """Action: write the run's last checkpoint to `out` in the released layout."""
    plan: bool = False
    """Action: say what this configuration costs in time, memory and messages, and stop; no GPU, no processes."""
    data_report: bool = False
    """Action: print what the packed data of this configuration looks like and stop."""
    data_parallel: int = 1
    """For `plan` and `data_report` alone: data-parallel replicas to reckon with (a run takes them from torchrun)."""
    gpu: str = ""
    """For `plan`: GPU by name, such as a100-40g or h100-80g."""
    gpu_teraflops: float = 0.0
    """For `plan`: peak dense bf16 TFLOP/s of a GPU that has no name here; 0: the named GPU's."""
    gpu_memory: float = 0.0
    """Memory of one GPU in GiB that the stages must fit; 0: the named GPU's in a plan, the device's in a run."""
    efficiency: float = 0.35
    """For `plan`: share of the peak that a stage reaches while it computes."""
    corpus_tokens: float = 0.0
    """For `plan`: tokens to train on, of which the days are reckoned; 0: `steps` full steps."""
    tokens_per_day: float = 0.0
    """For `plan`: a measured or published speed; the plan says which efficiency it implies."""
    vocab_size: int = 512
    """Vocabulary of the tokenizer that `tokenizer=true` trains, special tokens included."""

    def __post_init__(self) -> None:
        require(
            self.precision in PRECISIONS,
            f"precision={self.precision} is unknown; choose one of {', '.join(PRECISIONS)}.",
        )
        require(self.steps > 0, f"steps={self.steps} must be positive.")
        require(self.micro_batches > 0, f"micro_batches={self.micro_batches} must be positive.")
        require(self.data_parallel > 0, f"data_parallel={self.data_parallel} must be positive.")
        require(0 < self.efficiency <= 1, f"efficiency={self.efficiency} must be above 0 and at most 1.")
        for key in ("gpu_teraflops", "gpu_memory", "corpus_tokens", "tokens_per_day"):
            require(
                getattr(self, key) >= 0, f"{key}={getattr(self, key)} must be positive, or 0 (not given)."
            )
        require(self.prefetch > 0, f"prefetch={self.prefetch} must be at least 1 step.")
        require(self.workers >= 0, f"workers={self.workers} must be 0 (a thread) or a number of processes.")
        require(self.timeout > 0, f"timeout={self.timeout} must be a positive number of seconds.")
        require(self.watchdog >= 0, f"watchdog={self.watchdog} must be 0 or a positive number of seconds.")
        check_ranges("skip_steps", self.skip_steps)
        require("default" in self.modes, f"modes={self.modes} lacks the key `default`.")
        require(
            self.optimizer.warmup_steps < self.steps,
            f"optimizer.warmup_steps={self.optimizer.warmup_steps} must be smaller than steps={self.steps}.",
        )
        require(
            self.too_long in TOO_LONG,
            f"too_long={self.too_long} is unknown; choose one of {', '.join(TOO_LONG)}.",
        )
        require(
            not (self.lora.rank or self.evaluate.read) or self.model.architecture == "deepseek_ocr",
            f"{'lora.rank' if self.lora.rank else 'evaluate.read'} is for model.architecture=deepseek_ocr, not for "
            f"{self.model.architecture}; set it to 0.",
        )
        self.data_mixture()
        self.resolution_modes()
        self.sample_order()

    def data_mixture(self) -> Mixture:
        """The phases as the loader wants them."""
        phases = tuple(
            Phase(phase.weights, phase.until_sample, _mode_shares(phase.modes, f"mixture[{number}].modes"))
            for number, phase in enumerate(self.mixture)
        )
        return Mixture(phases or (Phase(),), self.mixture_window, self.groups)

    def resolution_modes(self) -> dict[str, ModeShares]:
        """Task -> its resolution modes and their shares."""
        return _mode_shares(self.modes, "modes")

    def sample_order(self) -> SampleOrder:
        """How samples follow each other within an epoch."""
        if self.order == "global":
            return SampleOrder()
        return SampleOrder(self.order, self.block_samples, self.block_window)

    @property
    def trains_tokenizer(self) -> bool:
        return self.tokenizer.lower() == "true"


def _mode_shares(modes: Mapping[str, Any], key: str) -> dict[str, ModeShares]:
    shares = {}
    for task, choice in modes.items():
        try:
            shares[task] = ModeShares.of(choice)
        except ValueError as error:
            raise ConfigError(f"{key}.{task}: {error}") from error
    return shares


@dataclass(frozen=True)
class World:
    """This process among all processes, read from torchrun's environment before anything is started."""

    rank: int
    size: int
    local_rank: int
    pipeline_stages: int

    @classmethod
    def from_environment(cls, pipeline_stages: int) -> World:
        """Read RANK, WORLD_SIZE and LOCAL_RANK; without torchrun this is one process alone.

        Raises:
            ConfigError: the number of processes is not a multiple of the stages.
        """
        size = int(os.environ.get("WORLD_SIZE", "1"))
        require(
            size % pipeline_stages == 0,
            f"{size} process{'es' if size > 1 else ''} cannot run a pipeline of {pipeline_stages} stages: "
            f"{size} = {size // pipeline_stages} × {pipeline_stages} + {size % pipeline_stages}; start "
            f"{pipeline_stages} × N processes (torchrun --nproc-per-node {pipeline_stages}) or set "
            "parallel.pipeline_stages.",
        )
        return cls(
            rank=int(os.environ.get("RANK", "0")),
            size=size,
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
            pipeline_stages=pipeline_stages,
        )

    @property
    def data_parallel_size(self) -> int:
        return self.size // self.pipeline_stages
