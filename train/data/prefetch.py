"""Making numbered things ahead of time, in one background thread, without changing which things they are.

`take(n)` gives thing n whatever was asked before. Asked in order, it is usually ready; asked out of order (a
resumed run, an evaluation in between), the thread starts again there. A failure reaches the one who asks for the
thing that failed, with its own type and message.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.1  # how soon a thread that waits for room notices that nobody wants its things any more


class Prefetcher(Generic[T]):
    """Things made ahead of time.

    Args:
        make: thing number -> thing.
        depth: how many things may wait to be taken; 0 makes them in the caller's thread.
        end: number of things; None when there is no end.
    """

    def __init__(self, make: Callable[[int], T], depth: int, end: int | None = None) -> None:
        self._make = make
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
                return self._make(number)
            if self._run is None or number != self._next:
                self.close()
                self._run = _Run(self._make, number, self._depth, self._end)
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
    """One background thread that makes things from `first` on until it is stopped or fails."""

    def __init__(self, make: Callable[[int], T], first: int, depth: int, end: int | None) -> None:
        self._make = make
        self._first = first
        self._end = end
        self.things: Queue[tuple[T | None, BaseException | None]] = Queue(maxsize=depth)
        self._stopped = threading.Event()
        # A daemon: a training process that dies of an error must not wait for its loader.
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        number = self._first
        while not self._stopped.is_set() and (self._end is None or number < self._end):
            try:
                thing = self._make(number)
            except BaseException as error:
                self._put((None, error))
                return
            self._put((thing, None))
            number += 1

    def _put(self, item: tuple[T | None, BaseException | None]) -> None:
        while not self._stopped.is_set():
            with suppress(Full):
                self.things.put(item, timeout=_POLL_SECONDS)
                return

    def stop(self) -> None:
        self._stopped.set()
        with suppress(Empty):
            self.things.get_nowait()  # makes room, so that a waiting thread goes on at once
        self._thread.join()
