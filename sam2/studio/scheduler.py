"""One thread for the model: who waits for an answer goes first, long work goes in slices between.

Owners (browsers) take turns at both. A request that waits is replaced by a newer one with the same key.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

PATIENCE = 8
"""Requests answered one after another before a waiting slice of long work gets its turn."""

TIDY = 5.0
"""Seconds of steady work after which tidying gets its turn."""

log = logging.getLogger(__name__)


class SupersededError(Exception):
    """A newer request took the place of this one."""


class BusyError(Exception):
    """An owner has too many requests waiting."""


class StoppedError(Exception):
    """The scheduler is shutting down, or the work was cancelled before its first step."""


def _always() -> bool:
    return True


@dataclass(eq=False)
class Work:
    """Something to be done: one call, or an iterator whose every step is a slice."""

    owner: str
    steps: Iterator[Any]
    key: Hashable = None
    ready: Callable[[], bool] = _always
    """Work that is not ready (its model is still loading) lets others pass."""
    future: Future[Any] = field(default_factory=Future)
    cancelled: bool = False

    def cancel(self) -> None:
        """Lets no further step begin; the step at work ends."""
        self.cancelled = True


class _Turns:
    """Queues by owner, served in turn."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[Work]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def waiting(self, owner: str) -> int:
        return len(self._queues.get(owner, ()))

    def add(self, work: Work) -> Work | None:
        """Queues work; returns what it takes the place of."""
        queue = self._queues.setdefault(work.owner, deque())
        for place, other in enumerate(queue):
            if work.key is not None and other.key == work.key:
                queue[place] = work
                return other
        queue.append(work)
        return None

    def take(self) -> Work | None:
        """The next work that is ready; its owner goes to the end."""
        for owner, queue in list(self._queues.items()):
            for work in queue:
                if work.cancelled or work.ready():
                    queue.remove(work)
                    self._queues.move_to_end(owner)
                    if not queue:
                        del self._queues[owner]
                    return work
        return None

    def drain(self) -> list[Work]:
        everything = [work for queue in self._queues.values() for work in queue]
        self._queues.clear()
        return everything


class Scheduler:
    """Runs all work in one thread of its own.

    Args:
        waiting: how many requests of one owner may wait.
    """

    def __init__(self, waiting: int = 64) -> None:
        self._waiting = waiting
        self._changed = threading.Condition()
        self._requests = _Turns()
        self._slices = _Turns()
        self._in_a_row = 0
        self._stopping = False
        self.tidy: Callable[[], float | None] = lambda: None
        """Called now and then, at the latest when there is nothing to do; returns the seconds until it wants
        to be called again, None where it has nothing to wait for."""
        self._tidied = 0.0
        self._thread = threading.Thread(target=self._run, name="sam2-studio-model", daemon=True)
        self._thread.start()

    def request(
        self,
        owner: str,
        call: Callable[[], Any],
        *,
        key: Hashable = None,
        ready: Callable[[], bool] = _always,
    ) -> Future[Any]:
        """Queues a call that somebody waits for.

        Args:
            key: a request of the same owner and key that still waits fails with SupersededError.
            ready: whether it can be run yet.

        Raises:
            BusyError: too many requests of this owner wait.
        """
        return self._queue(self._requests, Work(owner, _once(call), key, ready)).future

    def background(
        self, owner: str, steps: Iterator[Any], *, ready: Callable[[], bool] = _always, key: Hashable = None
    ) -> Work:
        """Queues long work; its future gives the value of the last step."""
        return self._queue(self._slices, Work(owner, steps, key, ready))

    def _queue(self, turns: _Turns, work: Work) -> Work:
        with self._changed:
            if self._stopping:
                raise StoppedError("the studio is shutting down")
            if turns.waiting(work.owner) >= self._waiting:
                raise BusyError(f"{self._waiting} requests are waiting already: wait for an answer first")
            replaced = turns.add(work)
            self._changed.notify()
        if replaced is not None:
            _fail(replaced, SupersededError("a newer request took the place of this one"))
        return work

    def notify(self) -> None:
        """Something became ready, or was cancelled."""
        with self._changed:
            self._changed.notify()

    def close(self, timeout: float = 10.0) -> None:
        """Ends the thread after its present step; whatever waits fails with StoppedError."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout)
        for work in (*self._requests.drain(), *self._slices.drain()):
            _fail(work, StoppedError("the studio is shutting down"))

    def _take(self) -> tuple[Work, bool] | None:
        slice_due = self._in_a_row >= PATIENCE
        for turns in (self._slices, self._requests) if slice_due else (self._requests, self._slices):
            work = turns.take()
            if work is not None:
                is_slice = turns is self._slices
                self._in_a_row = 0 if is_slice else self._in_a_row + 1
                return work, is_slice
        return None

    def _run(self) -> None:
        while True:
            if time.monotonic() - self._tidied > TIDY:
                self._tidy()
            with self._changed:
                while (taken := None if self._stopping else self._take()) is None:
                    if self._stopping:
                        return
                    self._changed.release()
                    try:
                        pause = self._tidy()
                    finally:
                        self._changed.acquire()
                    if not len(self._requests) and not len(self._slices):
                        self._changed.wait(pause)
                    elif self._none_ready():
                        self._changed.wait(0.5)
            work, is_slice = taken
            if self._step(work, is_slice) and is_slice:
                with self._changed:
                    self._slices.add(work)
            del work, taken  # while nothing is to be done, nothing is held

    def _tidy(self) -> float | None:
        self._tidied = time.monotonic()
        return self.tidy()

    def _none_ready(self) -> bool:
        return not any(
            work.cancelled or work.ready()
            for turns in (self._requests, self._slices)
            for queue in turns._queues.values()
            for work in queue
        )

    @staticmethod
    def _step(work: Work, is_slice: bool) -> bool:
        """Runs one step; whether there may be another."""
        if work.cancelled:
            close = getattr(work.steps, "close", None)
            if close is not None:
                close()
            _fail(work, StoppedError("cancelled"))
            return False
        try:
            value = next(work.steps)
        except StopIteration as end:
            _settle(work, end.value)
            return False
        except BaseException as error:
            if is_slice and not isinstance(error, OSError | ValueError):  # of which the page has been told
                log.error("long work broke off", exc_info=error)
            _fail(work, error)
            return False
        if isinstance(value, _Answer):
            _settle(work, value.value)
            return False
        return True


@dataclass(frozen=True)
class _Answer:
    value: Any


def _once(call: Callable[[], Any]) -> Iterator[Any]:
    yield _Answer(call())


def _settle(work: Work, value: Any) -> None:
    if not work.future.cancelled():
        try:
            work.future.set_result(value)
        except InvalidStateError:
            log.debug("nobody waits for this answer any more")


def _fail(work: Work, error: BaseException) -> None:
    if not work.future.cancelled():
        try:
            work.future.set_exception(error)
        except InvalidStateError:
            log.debug("nobody waits for this answer any more")
