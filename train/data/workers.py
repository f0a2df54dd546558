"""Worker processes that build micro-batches: torch's DataLoader, with a few differences.

    main process (prefetch thread)      plan -> tasks -> | pipe | -> worker 1..N -> | shared memory | -> micro-batches

What is special here:
- The plan is computed once, in the main process. A worker receives a task (see `train.data.build`) and keeps nothing
  of it. torch's DataLoader brings order, shared memory and the detection of workers that died.
- Workers come from a fork server that has imported torch once: they start in milliseconds, share its memory, and
  inherit neither CUDA nor the threads of DeepSpeed. The server starts with the loader, while the engine is set up.
- The DataLoader is driven from the prefetch thread. In the main thread it would install a SIGCHLD handler that
  raises wherever training happens to be when a worker dies.
- A worker that dies (out of memory, a signal to the whole process group) is replaced. If another dies over the same
  micro-batch, the run stops with a sentence.
- Workers leave Ctrl-C to the main process, which finishes its step and saves; when that process is gone, however it
  ended, they end at once. Blocks of shared memory have no name, so none of them can stay behind.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing import connection, forkserver
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler

from data_engine.errors import ConfigError
from train.data.build import BuiltPack, PackBuilder, PackTask


class WorkerPool:
    """Micro-batches by number, built by `workers` processes.

    Args:
        builder: is sent to every worker once.
        plan: number -> task; called in the thread that iterates.
        ahead: micro-batches that may be in work or ready at a time.
        end: number of micro-batches; None when there is no end.
    """

    def __init__(
        self, builder: PackBuilder, plan: Callable[[int], PackTask], workers: int, ahead: int, end: int | None
    ) -> None:
        self._tasks = _Tasks(plan, end)
        self._workers = workers
        self._options: dict[str, Any] = {
            "dataset": _Packs(builder),
            "sampler": self._tasks,
            "batch_size": None,
            "num_workers": workers,
            "collate_fn": _as_it_is,
            "prefetch_factor": max(1, -(-ahead // workers)),
            "persistent_workers": True,
            "worker_init_fn": _begin_worker,
            "multiprocessing_context": multiprocessing.get_context("forkserver"),
        }
        self._loader: DataLoader[BuiltPack] | None = None
        forkserver.set_forkserver_preload([__name__])
        forkserver.ensure_running()

    def packs(self, first: int) -> Iterator[BuiltPack]:
        """Micro-batches from number `first` on.

        Raises:
            ConfigError: workers died twice over the same micro-batch.
            Whatever planning raised, in place of the micro-batch that could not be planned.
        """
        number, lost = first, -1
        while True:
            death = ""
            try:
                for built in self._iterate(number):
                    yield built
                    number += 1
                return
            except _WorkerDiedError as error:
                death = str(error)
            self.close()
            if lost == number:
                raise ConfigError(
                    f"a loader worker died twice over the same micro-batch ({death}): likely memory or /dev/shm is "
                    f"full; lower workers={self._workers} or prefetch, or set workers=0 to see the error itself."
                )
            lost = number

    def _iterate(self, first: int) -> Iterator[BuiltPack]:
        self._tasks.start(first)
        if self._loader is None:
            self._loader = DataLoader(**self._options)
        iterator = iter(self._loader)
        while True:
            try:
                built = next(iterator)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                if not _is_death(error):
                    raise
                raise _WorkerDiedError(str(error).splitlines()[0].rstrip(".")) from None
            if built is None:
                raise self._tasks.failure()
            yield built

    def close(self) -> None:
        """End the workers and wait for them. `packs` starts new ones."""
        self._loader = None


class _Packs(Dataset[BuiltPack | None]):
    """What a worker does with a task."""

    def __init__(self, builder: PackBuilder) -> None:
        self._builder = builder

    def __getitem__(self, task: PackTask | None) -> BuiltPack | None:
        return None if task is None else self._builder.build(task, shared=True)


class _Tasks(Sampler[PackTask | None]):
    """The tasks from a number on; None, and nothing more, where planning failed.

    The error itself stays in this process; it is raised when the None comes back in its turn.
    """

    def __init__(self, plan: Callable[[int], PackTask], end: int | None) -> None:
        self._plan = plan
        self._end = end
        self._first = 0
        self._failure: BaseException | None = None

    def start(self, first: int) -> None:
        """Go on with this number."""
        self._first = first
        self._failure = None

    def failure(self) -> BaseException:
        """Why the last task is None."""
        assert self._failure is not None
        return self._failure

    def __iter__(self) -> Iterator[PackTask | None]:
        number = self._first
        while self._end is None or number < self._end:
            try:
                task = self._plan(number)
            except Exception as error:
                self._failure = error
                yield None
                return
            yield task
            number += 1


def _as_it_is(built: BuiltPack | None) -> BuiltPack | None:
    return built


def _begin_worker(number: int) -> None:
    """Runs first in every worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()


def _end_with_parent() -> None:
    # torch's own watch is over the fork server, which lives as long as its workers do.
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(1)


class _WorkerDiedError(Exception):
    """A worker is gone; the message says how that was noticed."""


def _is_death(error: Exception) -> bool:
    """Whether it was noticed by the DataLoader, or by a connection that broke while a micro-batch was taken over.

    What fails within a worker comes back as an error that is "Caught".
    """
    if str(error).startswith("Caught "):
        return False
    return not isinstance(error, RuntimeError) or str(error).startswith("DataLoader worker (pid")
