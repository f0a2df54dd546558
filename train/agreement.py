"""What all ranks agree on before they train a step.

What is special here:
- Every first stage reads for itself. Before a step, one small all_gather tells each rank whether all of them can go on:
  one that cannot use its data does not leave the others waiting in the pipeline. All stop at the same step, before
  the optimizer, with the sentence of the one that failed, and can still save a checkpoint together.
- All first stages must have planned the same step: one that read another text, or has another cache of lengths, would
  divide the loss by another number.
- What a pipeline's last stage received must be what its first stage sent, micro-batch by micro-batch; the headers
  of the metadata (step, micro-batch, rank, checksum of the samples) are compared one step later and before a save.
- Steps are numbered from 0 here; sentences and records count them as the log does, from 1.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from data_engine.errors import ConfigError
from train.collective import gather, text_of_rank
from train.data.damage import BLANK, DamagedDataError, Quarantine
from train.data.loader import PackedLoader
from train.data.micro_batch import HEADER, HEADER_LENGTH, MicroBatch
from train.deepspeed_engine import TrainingEngine
from train.metrics import Log
from train.prepare import Prepared

FAILED, PLAN, SENT, RECEIVED, QUARANTINED_BEFORE, QUARANTINED = range(6)
"""What every rank tells the others."""
REFUSALS: tuple[type[Exception], ...] = (ConfigError, DamagedDataError)
"""What ends the run on all ranks alike; FAILED is 0, or the place in here plus 1."""


class DisagreementError(RuntimeError):
    """Ranks that should do the same do not. The message is one sentence for the user."""


class Agreement:
    """Fetches the data of a step on every rank, or stops every rank."""

    def __init__(self, prepared: Prepared, engine: TrainingEngine, log: Log) -> None:
        self._loader = prepared.loader
        self._policy = prepared.config.damage
        self._world = prepared.world
        self._engine = engine
        self._log = log
        self._quarantine = Quarantine(prepared.run.path, engine.replica) if prepared.loader else None
        self._sent: list[Tensor] = []
        self.damaged = 0
        """Different samples that the run has left out, over all ranks and resumes."""

    def batches(self, step: int) -> list[MicroBatch] | None:
        """This rank's micro-batches of a step; None where no data is read (collective).

        Raises:
            DamagedDataError: on all ranks alike: some rank cannot use a sample and the policy is to stop, or more
                samples are damaged than the budget allows.
            ConfigError: on all ranks alike: the data cannot be packed, or the reader of some rank is broken.
            DisagreementError: on all ranks alike.
        """
        if self._loader is None:
            self._count(step, self._exchange(step))
            return None
        batches: list[MicroBatch] | None = None
        plan = 0
        failure: Exception | None = None
        try:
            batches = self._fetch(self._loader, step)
            plan = _plan_number(self._loader, step)
        except REFUSALS as error:
            failure = error
        except OSError as error:
            failure = ConfigError(
                f"step {step + 1}: the data cannot be read or its damage not recorded: {error}."
            )
        self._count(step, self._exchange(step, plan, failure))
        self._sent = [batch.metadata[HEADER, :HEADER_LENGTH] for batch in batches or ()]
        return batches

    def settle(self, step: int) -> None:
        """Compare what was sent and received in the steps before this one (collective).

        Raises:
            DisagreementError: on all ranks alike.
        """
        self._exchange(step)  # without judging the damage: it ends the next step, not what stands

    def _fetch(self, loader: PackedLoader, step: int) -> list[MicroBatch]:
        batches = list(loader.step_batches(step))
        if self._quarantine and (damages := loader.take_damages()):
            self._quarantine.add(step + 1, damages)
        return batches

    def _exchange(self, step: int, plan: int = 0, failure: Exception | None = None) -> list[list[int]]:
        sent, self._sent = self._sent, []
        numbers = [0] * 6
        numbers[PLAN] = plan
        if failure is not None:
            numbers[FAILED] = REFUSALS.index(type(failure)) + 1
        if self._quarantine:
            numbers[SENT] = _checksum(sent)
            numbers[QUARANTINED_BEFORE], numbers[QUARANTINED] = (
                self._quarantine.before,
                self._quarantine.added,
            )
        layer = self._engine.loss_layer()
        if layer is not None:
            numbers[RECEIVED] = _checksum(layer.take_headers())
        table = gather(self._engine, torch.tensor(numbers, dtype=torch.int64)).tolist()
        failed = next((rank for rank, row in enumerate(table) if row[FAILED]), None)
        if failed is not None:
            sentence = text_of_rank(self._engine, failed, "" if failure is None else str(failure))
            raise REFUSALS[table[failed][FAILED] - 1](sentence)
        compare(step, table, self._world.data_parallel_size)
        return table

    def _count(self, step: int, table: list[list[int]]) -> None:
        damaged = table[0][QUARANTINED_BEFORE] + sum(row[QUARANTINED] for row in table)
        if damaged > self._policy.budget:
            raise DamagedDataError(
                f"step {step + 1}: {damaged} samples cannot be used, more than damage.budget={self._policy.budget}; "
                "quarantine-rank*.jsonl in the run directory names them: mend the data, or raise the budget."
            )
        if damaged > self.damaged and self._policy.policy == BLANK:
            self._log.say(
                f"step {step + 1}: {damaged} damaged samples left out so far (damage.budget={self._policy.budget}); "
                "quarantine-rank*.jsonl names them"
            )
        self.damaged = damaged


def compare(step: int, table: list[list[int]], replicas: int) -> None:
    """Raise DisagreementError unless what the ranks tell each other before a step fits together.

    Args:
        table: [ranks, 6], columns as above; ranks are laid out stage by stage.
        replicas: data-parallel size.
    """
    for replica, row in enumerate(table[:replicas]):
        if row[PLAN] != table[0][PLAN]:
            raise DisagreementError(
                f"step {step + 1}: data-parallel rank {replica} has planned other data than rank 0: its copy of the "
                "data or its lengths cache differs, or it could not read a text; mend that and start again."
            )
        if row[SENT] != table[replica - replicas][RECEIVED]:
            raise DisagreementError(
                f"step {step}: the last stage of pipeline {replica} did not receive the micro-batches that its "
                "first stage sent; the checkpoint before this step is good, and this is a fault of the engine."
            )


def _plan_number(loader: PackedLoader, step: int) -> int:
    """What a step was planned to be, as a number: its samples and the labelled tokens that divide its loss."""
    plan = f"{loader.plan.checksum(step)} {loader.plan.summary(step).labelled_tokens}"
    return int.from_bytes(hashlib.blake2b(plan.encode(), digest_size=7).digest(), "little")


def _checksum(headers: Sequence[Tensor]) -> int:
    """Of headers [HEADER_LENGTH], in order."""
    if not headers:
        return 0
    return zlib.crc32(torch.stack(list(headers)).cpu().numpy().tobytes())
