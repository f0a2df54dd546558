"""Who makes the shards of a job: this process, local processes, or a Ray cluster. All give the same bytes.

A worker that is killed (out of memory, a node that goes away) leaves no half shard, and its shard is made again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

from data_engine.at_work import last_note, note_shard, start_notes
from data_engine.errors import ConfigError
from data_engine.job import Job
from data_engine.shards import FinishedShard

_DEATHS = 3
"""After so many deaths of workers without a shard in between, or at the same place, it is no accident."""
_START = "the start of a worker"
_SHOWN = 5
"""Places of such deaths that the sentence about them names."""
_AHEAD = 3
"""Shards per worker that are handed out in advance."""

Made = tuple[int, FinishedShard]
Executor = Callable[[Job, Sequence[int], int], Iterator[Made]]
"""(job, numbers, workers) -> the shards with their numbers, as they get done."""


def make_here(job: Job, numbers: Sequence[int], workers: int) -> Iterator[Made]:
    """In this process, one after the other, when one worker is asked for; else in `workers` processes.

    Raises ConfigError when the workers are killed again and again.
    """
    if workers == 1 or len(numbers) <= 1:
        for number in numbers:
            yield number, job.make_shard(number)
        return
    missing = dict.fromkeys(numbers)
    deaths, places = 0, Counter[str]()
    while missing:
        try:
            for number, shard in _make_in_processes(job, list(missing), workers):
                del missing[number]
                deaths = 0
                del places[_START]
                yield number, shard
        except _KilledError as error:
            deaths += 1
            places.update(error.places)
            # The others may go on finishing shards for long while one sample kills its worker every time.
            if deaths == _DEATHS or max(places.values()) >= _DEATHS:
                shown = ", ".join(f"{place} ({times} x)" for place, times in places.most_common(_SHOWN))
                raise ConfigError(
                    f"workers were killed again and again, at {shown}: where it is always the same sample, mend or "
                    "remove what it is made from; else they may lack memory: give fewer workers=. The same command "
                    "goes on where it stands."
                ) from error


class _KilledError(Exception):
    """Workers ended in the middle of their work. `places` says where, for people."""

    def __init__(self, places: list[str]) -> None:
        super().__init__(", ".join(places))
        self.places = places


def _make_in_processes(job: Job, numbers: list[int], workers: int) -> Iterator[Made]:
    # Spawn, not fork: V8 keeps threads, and a fork of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    ours: set[BaseProcess] = set()
    workers = min(workers, len(numbers))
    todo = iter(numbers)
    with TemporaryDirectory(prefix="data_engine-") as notes:
        pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(job, Path(notes)))
        try:
            running = _hand_out(pool, islice(todo, _AHEAD * workers))
            while running:
                ours |= set(multiprocessing.active_children()) - others
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= _hand_out(pool, islice(todo, len(done)))
                for future in done:
                    yield future.result()
            pool.shutdown()
        except BaseException as error:
            broken = isinstance(error, BrokenProcessPool)
            pool.shutdown(wait=broken, cancel_futures=True)
            ours |= set(multiprocessing.active_children()) - others
            for process in ours:
                process.terminate()
                process.join()
            if broken:
                raise _KilledError(_where_killed(job, ours, Path(notes))) from error
            raise


def _where_killed(job: Job, workers: Iterable[BaseProcess], notes: Path) -> list[str]:
    """What the workers were at that did not end because of another one's end, which ends them all by SIGTERM."""
    ends = {process: process.exitcode or 0 for process in workers}
    killed = [process for process, code in ends.items() if code not in (0, -signal.SIGTERM)] or list(ends)
    places = []
    for process in killed:
        number, index = last_note(notes, process.pid or 0)
        sample = "" if index is None else f"sample {index} of "
        code = ends[process]
        end = signal.Signals(-code).name if -code in set(signal.Signals) else f"status {code}"
        places.append(_START if number is None else f"{sample}{job.shard_name(number)}, {end}")
    return places or [_START]


def _hand_out(pool: ProcessPoolExecutor, numbers: Iterable[int]) -> set[Future[Made]]:
    return {pool.submit(_make_in_worker, number) for number in numbers}


_job: Job | None = None


def _start_worker(job: Job, notes: Path) -> None:
    global _job
    start_notes(notes)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    _job = job


def _make_in_worker(number: int) -> Made:
    assert _job is not None, "the worker was not started by _start_worker"
    note_shard(number)
    return number, _job.make_shard(number)


def make_on_ray(job: Job, numbers: Sequence[int], workers: int) -> Iterator[Made]:
    """On the Ray cluster of RAY_ADDRESS; without one, on a local cluster of `workers` processors.

    All nodes must see the directory of the job under the same name. Raises ConfigError when Ray is not installed, or
    a shard ends its worker again and again.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError("executor=ray needs Ray: pip install -e '.[ray]' in the repository.") from error
    ours = not ray.is_initialized()
    if ours and "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False)
    elif ours:
        ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
    try:
        make = ray.remote(max_retries=_DEATHS)(_make_of)
        shared = ray.put(job)
        todo = iter(numbers)
        ahead = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        running = {make.remote(shared, number): number for number in islice(todo, ahead)}
        while running:
            (done,), _ = ray.wait(list(running))
            number = running.pop(done)
            running |= {make.remote(shared, further): further for further in islice(todo, 1)}
            yield ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error  # what the shard raised, as without Ray
    # None of the three is a subclass of another.
    except (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.NodeDiedError,
    ) as error:
        raise ConfigError(
            f"workers of Ray were killed again and again over {job.shard_name(number)}, perhaps for lack of "
            "memory: give its nodes more, and the same command goes on where it stands; workers=2 without executor=ray "
            "names the sample, too."
        ) from error
    finally:
        if ours:
            ray.shutdown()


def _make_of(job: Job, number: int) -> Made:
    return number, job.make_shard(number)


EXECUTORS: dict[str, Executor] = {"local": make_here, "ranks": make_here, "ray": make_on_ray}
