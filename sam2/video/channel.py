"""Between the thread that reads a live source and its consumer: a few frames, and what became of the rest."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import NamedTuple

import numpy as np

from sam2.video.errors import LiveStallError

__all__ = ["Channel", "LiveFrame"]

_LOOK_AGAIN = 0.25  # seconds after which a waiting consumer looks whether it was stopped


class LiveFrame(NamedTuple):
    """One frame of a live source.

    `timestamp`: seconds since the first frame, never decreasing, by the clock of the source, or of arrival
    where it has none. `frame`: uint8 [H, W, 3] RGB, upright, the caller's own. `resized`: the size differs
    from the frame before.
    """

    timestamp: float
    frame: np.ndarray
    resized: bool


class Channel:
    """A queue of at most `room` frames for one producer and one consumer.

    Args:
        name: what the source is called in errors.
        room: how many frames may wait.
        drop: throw the oldest away where there is no room, instead of making the producer wait.
    """

    def __init__(self, name: str, room: int, drop: bool) -> None:
        self.name = name
        self.dropped = 0
        self.corrupt = 0
        self.stopped = False
        self._room = room
        self._drop = drop
        self._ready: deque[LiveFrame] = deque()
        self._change = threading.Condition()
        self._failure: BaseException | None = None
        self._ended = False

    def __len__(self) -> int:
        return len(self._ready)

    def offer(self, item: LiveFrame) -> bool:
        """Hands a frame over; False where nobody wants any more."""
        with self._change:
            while len(self._ready) >= self._room and not self.stopped:
                if self._drop:
                    item = self._drop_oldest(item)
                else:
                    self._change.wait(_LOOK_AGAIN)
            if self.stopped:
                return False
            self._ready.append(item)
            self._change.notify_all()
            return True

    def _drop_oldest(self, item: LiveFrame) -> LiveFrame:
        """Makes room for `item`, and returns it; the flag of a change of size goes to the next frame seen."""
        lost = self._ready.popleft()
        self.dropped += 1
        if not lost.resized:
            return item
        if not self._ready:
            return item._replace(resized=True)
        self._ready[0] = self._ready[0]._replace(resized=True)
        return item

    def end(self, failure: BaseException | None) -> None:
        """Says that no frame will come any more, because of `failure` or because the source is over."""
        with self._change:
            self._failure = failure
            self._ended = True
            self._change.notify_all()

    def take(self, timeout: float) -> LiveFrame | None:
        """The next frame; None once the source is over or the channel was stopped.

        Raises:
            LiveStallError: none within `timeout` seconds. Whatever the producer failed with.
        """
        deadline = time.monotonic() + timeout
        with self._change:
            while not self.stopped:
                if self._ready:
                    item = self._ready.popleft()
                    self._change.notify_all()
                    return item
                if self._failure is not None:
                    raise self._failure
                if self._ended:
                    return None
                left = deadline - time.monotonic()
                if left <= 0:
                    raise LiveStallError(
                        f"{self.name} gave no frame for {timeout:g} s: check that it is running and "
                        "connected, or wait longer with timeout="
                    )
                self._change.wait(min(left, _LOOK_AGAIN))
            return None

    def stop(self) -> None:
        """Ends both sides within a moment. Takes no lock: a signal handler may call it."""
        self.stopped = True

    def close(self) -> None:
        """Stops, at once, and lets waiting frames go."""
        with self._change:
            self.stopped = True
            self._ready.clear()
            self._change.notify_all()
