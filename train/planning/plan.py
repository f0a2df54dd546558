"""The plan of a configuration: its cut beside the others, on the hardware it names, under any load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

from data_engine.errors import ConfigError
from model.config import DeepseekOCRConfig
from train.config import TrainConfig
from train.cut import LayerInfo
from train.planning.cluster import SECONDS_PER_DAY, Messages, Speed, messages, speed
from train.planning.cutting import CutModel, bounds_for, cut_model
from train.planning.gpus import Gpu, chosen_gpu
from train.planning.load import load_of, usual_page
from train.stage_table import table_as_dict

IMAGES = (0, 2, 4, 6, 8, 10, 12, 16, 20, 24)
"""Images per sequence of the sweep; what does not fit into a sequence is left out."""
CHOSEN, ALONE = "chosen", "data parallel"
UNIT = Gpu("", 1.0, 0.0, 0.0)
"""Stands for a GPU of which nothing is known: times are then TFLOP, and only their ratios mean something."""
SCHEMA = 1


@dataclass(frozen=True)
class Plan:
    """Everything that `plan=true` says, computed when it is asked for."""

    config: TrainConfig
    cut: CutModel
    gpu: Gpu | None

    @classmethod
    def of(cls, config: TrainConfig, model: DeepseekOCRConfig) -> Plan:
        """Raises:
        ConfigError: an impossible cut, an unknown GPU, or stages that do not fit it.
        """
        gpu = chosen_gpu(config)
        memory = config.gpu_memory or (gpu.memory_gib if gpu else 0.0)
        return cls(config, cut_model(config, model, config.data_parallel, memory), gpu)

    # ---- the step

    @property
    def sequences_per_step(self) -> int:
        return self.config.micro_batches * self.config.data_parallel

    @property
    def tokens_per_step(self) -> int:
        return self.sequences_per_step * self.config.sequence.tokens

    @property
    def corpus_tokens(self) -> float:
        return self.config.corpus_tokens or float(self.config.steps * self.tokens_per_step)

    # ---- cuts

    @cached_property
    def cuts(self) -> dict[str, list[int]]:
        """Name -> boundaries: the cuts with a name that this model can have, and the chosen one when it has none."""
        found: dict[str, list[int]] = {}
        for name in ("paper", "balanced", "auto") if self.config.parallel.pipeline_stages > 1 else ():
            try:
                found[name] = self._bounds(name, self.cut.infos)
            except ConfigError:
                continue  # the paper's cut exists for four stages alone
        if self.cut.bounds not in found.values():
            found[CHOSEN] = self.cut.bounds
        return found

    @cached_property
    def speeds(self) -> dict[str, Speed]:
        """Every cut under the assumed load, and the same GPUs without a pipeline."""
        speeds = {name: self._speed(self.cut.infos, bounds) for name, bounds in self.cuts.items()}
        alone = self._alone(self.cut.infos)
        return speeds | ({ALONE: alone} if alone else {})

    @cached_property
    def chosen(self) -> tuple[str, Speed]:
        """Name and speed of the configuration's own cut."""
        name = next(name for name, bounds in self.cuts.items() if bounds == self.cut.bounds)
        return name, self.speeds[name]

    def _bounds(self, name: str, infos: Sequence[LayerInfo]) -> list[int]:
        parallel = replace(self.config.parallel, cut=name)
        return bounds_for(self.config, parallel, self.cut.costs, infos, self.cut.memory)

    def _speed(self, infos: Sequence[LayerInfo], bounds: Sequence[int]) -> Speed:
        gpu = self.gpu or UNIT
        return speed(
            infos,
            bounds,
            self.cut.memory.cut(bounds),
            self.config.micro_batches,
            self.config.data_parallel,
            self.config.sequence.tokens,
            gpu.teraflops * 1e12,
            self.config.efficiency if self.gpu else 1.0,
        )

    def _alone(self, infos: Sequence[LayerInfo]) -> Speed | None:
        """The same GPUs as replicas of the whole model, where the micro-batches can be divided so."""
        stages, micro_batches = self.config.parallel.pipeline_stages, self.config.micro_batches
        if stages == 1 or micro_batches % stages:
            return None
        replicas, gpu = stages * self.config.data_parallel, self.gpu or UNIT
        memory = replace(
            self.cut.memory, stages=1, data_parallel=replicas, micro_batches=micro_batches // stages
        )
        bounds = [0, len(infos)]
        return speed(
            infos,
            bounds,
            memory.cut(bounds),
            micro_batches // stages,
            replicas,
            self.config.sequence.tokens,
            gpu.teraflops * 1e12,
            self.config.efficiency if self.gpu else 1.0,
        )

    # ---- other loads

    @cached_property
    def sweep(self) -> list[dict[str, float]]:
        """Per number of images: `images`, and the step time of every cut in units of the assumed load's chosen cut.

        `best` is the automatic cut for just that load. Times are estimated from FLOPs, measured ones are set aside.
        """
        page = usual_page(self.config)
        rows = []
        for images in IMAGES:
            if images * page.placeholders > self.config.sequence.tokens:
                break
            infos = self.cut.costs.costed(
                [replace(info, milliseconds=None) for info in self.cut.infos], load_of(self.config, images)
            )
            row: dict[str, float] = {"images": float(images)}
            for name, bounds in self.cuts.items():
                row[name] = self._speed(infos, bounds).step_seconds
            if self.config.parallel.pipeline_stages > 1:
                row["best"] = self._speed(infos, self._bounds("auto", infos)).step_seconds
            alone = self._alone(infos)
            if alone:
                row[ALONE] = alone.step_seconds
            rows.append(row)
        return rows

    # ---- messages, and what a known speed implies

    @cached_property
    def messages(self) -> Messages:
        return messages(self.cut.infos, self.cut.bounds, self.cut.memory.widths, self.config.data_parallel)

    @cached_property
    def implied(self) -> dict[str, float] | None:
        """What `tokens_per_day` means for the chosen cut; None when it or the GPU is not given."""
        if not self.config.tokens_per_day or self.gpu is None:
            return None
        chosen = self.chosen[1]
        seconds = self.tokens_per_step / self.config.tokens_per_day * SECONDS_PER_DAY
        slower = chosen.step_seconds / seconds
        return {
            "step_seconds": seconds,
            "steps_per_day": SECONDS_PER_DAY / seconds,
            "tokens_per_second_per_gpu": self.config.tokens_per_day / SECONDS_PER_DAY / chosen.gpus,
            "efficiency": self.config.efficiency * slower,
            "mfu": chosen.mfu * slower,
        }

    def as_dict(self) -> dict[str, Any]:
        """For plan.json."""
        cuts = {
            name: {
                "first_layers": list(entry.bounds[:-1]),
                "stages": [
                    [info.name for info in self.cut.infos[start:stop]]
                    for start, stop in pairwise(entry.bounds)
                ],
                "step_time": entry.step_seconds,
                "balance": entry.timeline.balance,
                "busy": entry.timeline.busy,
                "bubble": entry.timeline.bubble,
                "memory_gib": [memory.in_gib() for memory in entry.memory],
                "mfu": entry.mfu if self.gpu else None,
                "tokens_per_day": entry.tokens_per_day if self.gpu else None,
            }
            for name, entry in self.speeds.items()
        }
        return {
            "schema": SCHEMA,
            "gpu": asdict(self.gpu) if self.gpu else None,
            "efficiency": self.config.efficiency,
            "tokens_per_step": self.tokens_per_step,
            "images_per_sequence": self.cut.load.images,
            "step_time_unit": "s" if self.gpu else "TFLOP",
            "chosen": self.chosen[0],
            "stage_table": table_as_dict(self.cut.table),
            "cuts": cuts,
            "step_time_by_images": self.sweep,
            "messages_in_bytes": asdict(self.messages),
            "implied_by_tokens_per_day": self.implied,
        }
