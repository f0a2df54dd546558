"""The training loop of both stages."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import torch

from data_engine.files import atomic_write_json
from train.agreement import REFUSALS, Agreement
from train.blame import samples_of, with_samples
from train.checkpoint import remove_remains
from train.checkpoint_state import load_checkpoint, shared_checkpoint
from train.collective import decided_by_rank_0
from train.control import Control
from train.data.damage import BLANK
from train.deepspeed_engine import TrainingEngine, start_processes, stop_processes
from train.evaluate import Evaluator
from train.guard import Guard, as_ranges
from train.initialise import initialise, resolve, weight_source
from train.meter import StepMeter
from train.metrics import Log, RunLog, SilentLog
from train.optimizer import learning_rate
from train.prepare import Prepared
from train.profiling import profiler
from train.saver import Saver
from train.stage_table import table_as_dict, table_as_text
from train.step_report import BrokenStepError
from train.watch import Watch, record_collectives


def train(prepared: Prepared) -> int:
    """Train from where the run stands to its last step, or until it is asked to stop; returns the exit status.

    Raises:
        BrokenStepError: the loss or a gradient is not finite, or a spike that the run may not go past.
        CheckpointError: a checkpoint could not be written.
        ConfigError: the checkpoint, `init` or the data do not belong to this run.
        DamagedDataError: a sample cannot be used and the policy is to stop, or the budget is used up; the state before
            the step that would have used it is saved.
        DisagreementError: the ranks do not train on the same plan.
    """
    started = time.perf_counter()
    config, run, rank = prepared.config, prepared.run, prepared.world.rank
    limit = config.watchdog or 2 * config.timeout
    watch = Watch(run.path, rank, limit, run.lock.touch if rank == 0 else None)
    try:
        with ExitStack() as stack:
            if rank == 0:  # it has the run directory; the others write there once they have met it
                stack.enter_context(watch)
            record_collectives(run.path / "stacks")
            start_processes(prepared.world, config.timeout)
            if rank > 0:
                stack.enter_context(watch)
            return _train(prepared, watch, started)
    finally:
        run.lock.release()


def _train(prepared: Prepared, watch: Watch, started: float) -> int:
    config = prepared.config
    builders = [layer.build for layer in prepared.layers]
    engine = TrainingEngine(
        builders,
        prepared.cut.bounds,
        prepared.world,
        config.micro_batches,
        config.precision,
        config.optimizer,
    )
    guard = Guard(config.guard, config.skip_steps)
    step, log = _begin(prepared, engine, guard, started)
    try:
        status = _steps(prepared, engine, guard, step, log, watch)
    except BaseException as error:
        log.note(f"ended by {type(error).__name__}: {error}")
        raise
    finally:
        watch.leave()
        log.close()
        if prepared.loader:
            prepared.loader.close()
    engine.close()
    stop_processes()
    return status


def _steps(
    prepared: Prepared, engine: TrainingEngine, guard: Guard, step: int, log: Log, watch: Watch
) -> int:
    """The loop itself; returns the exit status."""
    config = prepared.config
    control = Control(prepared.run.control, prepared.world.rank, engine.device)
    agreement = Agreement(prepared, engine, log)
    saver = Saver(prepared, engine, agreement, guard, log, step)
    meter = StepMeter(prepared, engine, guard, saver)
    evaluator = Evaluator(prepared, engine, log)
    engine.may_update = guard.allows
    with profiler(config.profile, prepared.run.path / "profile", prepared.world.rank) as profile, saver:
        while step < config.steps:
            if not guard.passes_over(step + 1):
                watch.enter("data", step)
                try:
                    batches = agreement.batches(step)
                except REFUSALS:
                    saver.save(step)
                    raise
                watch.enter("step", step)
                profile.begin(step + 1)
                try:
                    rate = learning_rate(config.optimizer, step, config.steps)
                    meter.add(step, engine.train_step(batches, step, rate))
                except BrokenStepError as error:
                    raise with_samples(error, prepared) from error
                profile.end(step + 1)
            step += 1
            watch.enter("log", step)
            for notice in guard.take_notices():
                seen = notice.micro_batches
                samples = "" if seen is None else samples_of(prepared, notice.step, notice.what, seen)
                log.say(notice.what + samples)
            due = evaluator.is_due(step)
            if due or step % config.logging.every == 0 or step in (1, config.steps):
                damaged = {"damaged_samples": agreement.damaged} if config.damage.policy == BLANK else {}
                metrics = meter.report(step) | damaged
                if due:
                    watch.enter("evaluate", step)
                    metrics |= evaluator.run()
                    meter.leave_out()
                log.step(metrics)
            log.tick()
            request = control.poll()
            saver.look_after()
            if saver.is_due(step, request):
                watch.enter("save", step)
                saver.save(step, request.pin, must=request.stop or step == config.steps)
            if request.stop and step < config.steps:
                control.leave()
                log.say(
                    f"stopped as asked at step {step} of {config.steps}; the same command goes on from here"
                )
                return 128 + request.signal if request.signal else 0
    log.say(f"finished: {config.steps} steps, run {prepared.run.path}")
    return 0


def _begin(prepared: Prepared, engine: TrainingEngine, guard: Guard, started: float) -> tuple[int, Log]:
    """Take up the run's last checkpoint, or start from `init` or random weights."""
    config, rank = prepared.config, prepared.world.rank
    first: list[str] = []
    checkpoint = shared_checkpoint(engine, prepared.run, first.append)
    step = checkpoint.step if checkpoint else 0
    log: Log = SilentLog()
    if rank == 0:
        remove_remains(prepared.run)
        log = RunLog(config, prepared.run, step)
    for sentence in first:
        log.say(sentence)
    torch.manual_seed(config.seed * 1_000_003 + rank)
    if checkpoint:
        load_checkpoint(engine, checkpoint)
        guard.restore(checkpoint.manifest.get("guard", {}))
        if prepared.loader:
            prepared.loader.check_state(checkpoint.manifest["loader"])
        left_out = f", without step {as_ranges(guard.skipped)}" if guard.skipped else ""
        log.say(f"going on from checkpoint step_{step} of {config.steps} steps{left_out}")
    elif config.init:
        found = decided_by_rank_0(engine, lambda: "\n".join(map(str, resolve(config.init, log.say))))
        source = weight_source([Path(directory) for directory in found.split("\n")], prepared.shapes)
        log.say(initialise(engine, source, prepared.shapes, config.init))
    else:
        log.say("init: random weights")
    if rank == 0:
        atomic_write_json(prepared.run.stage_table_file, table_as_dict(prepared.cut.table))
    log.say(table_as_text(prepared.cut.table, prepared.cut.load.images))
    log.say(f"{prepared.world.size} processes ready after {time.perf_counter() - started:.1f} s")
    return step, log
