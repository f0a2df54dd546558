"""Who makes the shards of a job: this process, local processes, or a Ray cluster. All give the same bytes.

A worker that is killed (out of memory, a node that goes away) leaves no half shard, and its shard is made again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from data_engine.errors import ConfigError
from data_engine.job import Job
from data_engine.shards import FinishedShard

_DEATHS = 3
"""After so many deaths of workers without a shard in between, it is no accident."""
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
    deaths = 0
    while missing:
        try:
            for number, shard in _make_in_processes(job, list(missing), workers):
                del missing[number]
                deaths = 0
                yield number, shard
        except BrokenProcessPool as error:
            deaths += 1
            if deaths == _DEATHS:
                raise ConfigError(
                    f"workers were killed {_DEATHS} times without finishing a shard, perhaps for lack of memory: give "
                    "fewer workers=, and the same command goes on where it stands."
                ) from error


def _make_in_processes(job: Job, numbers: list[int], workers: int) -> Iterator[Made]:
    # Spawn, not fork: V8 keeps threads, and a fork of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    workers = min(workers, len(numbers))
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(job,))
    todo = iter(numbers)
    try:
        running = _hand_out(pool, islice(todo, _AHEAD * workers))
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= _hand_out(pool, islice(todo, len(done)))
            for future in done:
                yield future.result()
        pool.shutdown()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
            process.join()
        raise


def _hand_out(pool: ProcessPoolExecutor, numbers: Iterable[int]) -> set[Future[Made]]:
    return {pool.submit(_make_in_worker, number) for number in numbers}


_job: Job | None = None


def _start_worker(job: Job) -> None:
    global _job
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    _job = job


def _make_in_worker(number: int) -> Made:
    assert _job is not None, "the worker was not started by _start_worker"
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
        running = [make.remote(shared, number) for number in islice(todo, ahead)]
        while running:
            done, running = ray.wait(running)
            running += [make.remote(shared, number) for number in islice(todo, len(done))]
            yield from ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error  # what the shard raised, as without Ray
    except ray.exceptions.WorkerCrashedError as error:
        raise ConfigError(
            f"a worker of Ray was killed {_DEATHS + 1} times over the same shard, perhaps for lack of memory: give "
            "its nodes more, and the same command goes on where it stands."
        ) from error
    finally:
        if ours:
            ray.shutdown()


def _make_of(job: Job, number: int) -> Made:
    return number, job.make_shard(number)


EXECUTORS: dict[str, Executor] = {"local": make_here, "ranks": make_here, "ray": make_on_ray}
