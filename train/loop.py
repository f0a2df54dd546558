"""The training loop of both stages."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from data_engine.files import atomic_write_json
from train.agreement import REFUSALS, Agreement
from train.checkpoint import prune_checkpoints
from train.checkpoint_state import (
    decided_by_rank_0,
    load_checkpoint,
    save_checkpoint,
    shared_checkpoint,
)
from train.control import Control
from train.data.damage import BLANK
from train.deepspeed_engine import TrainingEngine, start_processes, stop_processes
from train.initialise import initialise, resolve, weight_source
from train.meter import StepMeter
from train.metrics import Log, RunLog, SilentLog
from train.optimizer import learning_rate
from train.prepare import Prepared
from train.stage_table import table_as_dict, table_as_text


def train(prepared: Prepared) -> int:
    """Train from where the run stands to its last step, or until it is asked to stop; returns the exit status.

    Raises:
        ConfigError: the checkpoint, `init` or the data do not belong to this run.
        DamagedDataError: a sample cannot be used and the policy is to stop, or the budget is used up; the state before
            the step that would have used it is saved.
        DisagreementError: the ranks do not train on the same plan.
        NonFiniteError: the loss or a gradient is not finite.
        OSError: a checkpoint could not be written.
    """
    started = time.perf_counter()
    config = prepared.config
    start_processes(prepared.world, config.timeout)
    builders = [layer.build for layer in prepared.layers]
    engine = TrainingEngine(
        builders,
        prepared.cut.bounds,
        prepared.world,
        config.micro_batches,
        config.precision,
        config.optimizer,
    )
    step, log = _begin(prepared, engine, started)
    try:
        status = _steps(prepared, engine, step, log)
    except BaseException as error:
        log.note(f"ended by {type(error).__name__}: {error}")
        raise
    finally:
        log.close()
        if prepared.loader:
            prepared.loader.close()
    engine.close()
    stop_processes()
    return status


def _steps(prepared: Prepared, engine: TrainingEngine, step: int, log: Log) -> int:
    """The loop itself; returns the exit status."""
    config = prepared.config
    control = Control(prepared.run.control, prepared.world.rank, engine.device)
    meter = StepMeter(prepared, engine)
    agreement = Agreement(prepared, engine, log)
    saved = step
    while step < config.steps:
        rate = learning_rate(config.optimizer, step, config.steps)
        try:
            batches = agreement.batches(step)
        except REFUSALS:
            if step > saved:
                _save(prepared, engine, agreement, step, log)
            raise
        result = engine.train_step(batches, step, rate)
        step += 1
        meter.add(result)
        if step % config.logging.every == 0 or step in (1, config.steps):
            damaged = {"damaged_samples": agreement.damaged} if config.damage.policy == BLANK else {}
            log.step(meter.report(step) | damaged)
        log.tick()
        request = control.poll()
        if step % config.checkpoint.every == 0 or step == config.steps or request.save or request.stop:
            _save(prepared, engine, agreement, step, log)
            saved = step
        if request.stop and step < config.steps:
            log.say(f"stopped as asked at step {step} of {config.steps}; the same command goes on from here")
            return 128 + request.signal if request.signal else 0
    log.say(f"finished: {config.steps} steps, run {prepared.run.path}")
    return 0


def _begin(prepared: Prepared, engine: TrainingEngine, started: float) -> tuple[int, Log]:
    """Take up the run's last checkpoint, or start from `init` or random weights."""
    config, rank = prepared.config, prepared.world.rank
    first: list[str] = []
    checkpoint = shared_checkpoint(engine, prepared.run, first.append)
    step = checkpoint.step if checkpoint else 0
    log: Log = RunLog(config, prepared.run, step) if rank == 0 else SilentLog()
    for sentence in first:
        log.say(sentence)
    torch.manual_seed(config.seed * 1_000_003 + rank)
    if checkpoint:
        load_checkpoint(engine, checkpoint)
        if prepared.loader:
            prepared.loader.check_state(checkpoint.manifest["loader"])
        log.say(f"going on from checkpoint step_{step} of {config.steps} steps")
    elif config.init:
        found = decided_by_rank_0(engine, lambda: str(resolve(config.init, log.say)))
        source = weight_source(Path(found), prepared.shapes)
        log.say(initialise(engine, source, prepared.shapes, config.init))
    else:
        log.say("init: random weights")
    if rank == 0:
        atomic_write_json(prepared.run.stage_table_file, table_as_dict(prepared.cut.table))
    log.say(table_as_text(prepared.cut.table, prepared.cut.load.images))
    log.say(f"{prepared.world.size} processes ready after {time.perf_counter() - started:.1f} s")
    return step, log


def _save(prepared: Prepared, engine: TrainingEngine, agreement: Agreement, step: int, log: Log) -> None:
    started = time.perf_counter()
    agreement.settle(step)
    loader_state = prepared.loader.state(step) if prepared.loader else None
    about: dict[str, Any] = {
        "architecture": prepared.config.model.architecture,
        "model": prepared.model.to_dict(),
        "tokenizer": prepared.tokenizer.fingerprint,
    }
    path = save_checkpoint(engine, prepared.run, step, loader_state, about)
    if prepared.world.rank == 0:
        prune_checkpoints(
            prepared.run, prepared.config.checkpoint.keep_last, prepared.config.checkpoint.keep_every
        )
    log.say(f"saved {path.name} in {time.perf_counter() - started:.1f} s")
