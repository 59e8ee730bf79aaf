"""Frames read before they are asked for, by threads: by number in a known order, or one after another."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np

__all__ = ["READ_AHEAD", "ReadAhead", "frames_ahead"]

READ_AHEAD = 4
"""Frames that are read before they are asked for: memory for so many, and no more, is taken."""

R = TypeVar("R")
T = TypeVar("T")


class ReadAhead(Generic[R, T]):
    """What `finish(read(i))` gives for each `i` of `order`, at most `depth` of them before they are taken.

    One thread reads, in order, since decoders have a place; others finish what was read, since resizing a
    large frame takes longer than decoding it. What raised for an index raises again where that is taken.

    Args:
        wanted: asked in the taker's thread before an index is begun; where it says no, it is passed over.
    """

    def __init__(
        self,
        read: Callable[[int], R],
        finish: Callable[[R], T],
        order: Iterable[int],
        wanted: Callable[[int], bool] = lambda _: True,
        depth: int = READ_AHEAD,
    ) -> None:
        self._read = read
        self._finish = finish
        self._wanted = wanted
        self._depth = depth
        self._left = deque(order)
        self._begun: dict[int, Future[T]] = {}
        self._turn = threading.Lock()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="sam2-read-ahead")
        workers = min(depth, os.cpu_count() or 1)
        self._finishers = ThreadPoolExecutor(workers, thread_name_prefix="sam2-read-ahead")
        self._begin()

    def take(self, index: int) -> T | None:
        """What was made of `index`, None where it was not begun; its place goes to a coming one."""
        with self._turn:
            made = self._begun.pop(index, None)
            self._begin()
        try:
            return None if made is None else made.result()
        except CancelledError:  # closed by another thread
            return None

    def close(self) -> None:
        """Drops everything and waits for the threads, which end once the frame at work is done."""
        with self._turn:
            self._left.clear()
            self._begun.clear()
        for threads in (self._reader, self._finishers):
            threads.shutdown(wait=True, cancel_futures=True)

    def _begin(self) -> None:
        while self._left and len(self._begun) < self._depth:
            index = self._left.popleft()
            if self._wanted(index):
                reading = self._reader.submit(self._read, index)
                self._begun[index] = self._finishers.submit(self._finished, reading)

    def _finished(self, reading: Future[R]) -> T:
        return self._finish(reading.result())


def frames_ahead(start: Callable[[], Iterator[np.ndarray]], depth: int) -> Iterator[np.ndarray]:
    """Run the iterator in a thread, at most `depth` frames ahead; the thread ends with the consumer."""
    ready: queue.Queue[tuple[np.ndarray | None, BaseException | None]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def offer(item: tuple[np.ndarray | None, BaseException | None]) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.05)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        failure: BaseException | None = None
        frames = start()
        try:
            for frame in frames:
                if not offer((frame, None)):
                    break
        except BaseException as error:
            failure = error
        finally:
            getattr(frames, "close", lambda: None)()
        offer((None, failure))

    thread = threading.Thread(target=work, name="sam2-read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            frame, failure = ready.get()
            if frame is None:
                if failure is not None:
                    raise failure
                return
            yield frame
    finally:
        stop.set()
        thread.join()
