"""Making numbered things ahead of time, in one background thread, without changing which things they are.

`take(n)` gives thing n whatever was asked before. Asked in order, it is usually ready; asked out of order (a
resumed run, an evaluation in between), the thread starts again there. A failure reaches the one who asks for the
thing that failed, with its own type and message.

The thread runs an iterator: `made_by(function)` makes the things in the thread itself, and
`train.data.workers.WorkerPool` in other processes, which the thread then only waits for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

T = TypeVar("T")
Source = Callable[[int], Iterator[T]]
"""First number -> the things from there on, without end. Called by the one who asks; run in the thread."""

_POLL_SECONDS = 0.1  # how soon a thread that waits for room notices that nobody wants its things any more
_PATIENCE_SECONDS = 10.0  # how long `close` waits for a thing that is being made, e.g. for a disk that hangs


def made_by(make: Callable[[int], T]) -> Source[T]:
    """Things made one after the other by a function of their number."""
    return lambda first: map(make, count(first))


class Prefetcher(Generic[T]):
    """Things made ahead of time.

    Args:
        source: where things come from.
        depth: how many things may wait to be taken; 0 makes them in the caller's thread.
        end: number of things; None when there is no end.
    """

    def __init__(self, source: Source[T], depth: int, end: int | None = None) -> None:
        self._source = source
        self._depth = depth
        self._end = end
        self._next: int | None = None
        self._run: _Run[T] | None = None
        self.waited_seconds = 0.0
        """Time that callers of `take` have spent waiting, since the beginning."""

    def take(self, number: int) -> T:
        """Thing `number`. Raises what making it raised, and IndexError after the end."""
        if self._end is not None and number >= self._end:
            raise IndexError(f"there are {self._end} things, and number {number} was asked for")
        started = time.perf_counter()
        try:
            if self._depth == 0:
                return next(self._source(number))
            if self._run is None or number != self._next:
                self.close()
                count = None if self._end is None else self._end - number
                self._run = _Run(self._source(number), self._depth, count)
            self._next = number + 1
            thing, error = self._run.things.get()
            if error is not None:
                self.close()
                raise error
            assert thing is not None
            return thing
        finally:
            self.waited_seconds += time.perf_counter() - started

    def close(self) -> None:
        """Stop the thread and wait until it has. The next `take` starts another."""
        if self._run is not None:
            self._run.stop()
            self._run = None


class _Run(Generic[T]):
    """One background thread that takes `count` things from an iterator until it is stopped or fails."""

    def __init__(self, things: Iterator[T], depth: int, count: int | None) -> None:
        self.things: Queue[tuple[T | None, BaseException | None]] = Queue(maxsize=depth)
        self._stopped = threading.Event()
        # A daemon: a training process that dies of an error must not wait for its loader.
        self._thread = threading.Thread(target=self._work, args=(things, count), name="prefetch", daemon=True)
        self._thread.start()

    def _work(self, things: Iterator[T], count: int | None) -> None:
        while not self._stopped.is_set() and count != 0:
            try:
                thing = next(things)
            except BaseException as error:
                self._put((None, error))
                return
            self._put((thing, None))
            count = None if count is None else count - 1

    def _put(self, item: tuple[T | None, BaseException | None]) -> None:
        while not self._stopped.is_set():
            with suppress(Full):
                self.things.put(item, timeout=_POLL_SECONDS)
                return

    def stop(self) -> None:
        """End the thread after the thing that it is making, and wait for it a while."""
        self._stopped.set()
        with suppress(Empty):
            self.things.get_nowait()  # makes room, so that a waiting thread goes on at once
        self._thread.join(_PATIENCE_SECONDS)
