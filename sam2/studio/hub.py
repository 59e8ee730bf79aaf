"""What happens in a session, told to every page that shows it, without queues that grow."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from typing import Any

FRAMES = 64
"""Mask events that wait for a slow page; the page fetches what it missed."""
AUTO = 256
"""Automatic candidates that wait."""


class Outbox:
    """Events for one page. Newer ones replace older ones of the same matter; the queue is bounded."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: OrderedDict[Any, dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()
        self._filled = asyncio.Event()
        self.dropped = 0

    def put(self, event: dict[str, Any]) -> None:
        """From any thread."""
        key = self._key(event)
        with self._lock:
            self._waiting.pop(key, None)
            self._waiting[key] = event
            masks = [k for k in self._waiting if k[0] == "masks"]
            if len(masks) > FRAMES:
                del self._waiting[masks[0]]
                self.dropped += 1
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._filled.set)

    @staticmethod
    def _key(event: dict[str, Any]) -> tuple[Any, ...]:
        kind = event["type"]
        if kind == "masks":
            return kind, event["frame"]
        if kind == "export":
            return kind, event["id"]
        if kind == "auto":
            return kind, event["done"] % AUTO
        return (kind,)

    async def get(self) -> dict[str, Any]:
        """The oldest event, waiting for one."""
        while True:
            with self._lock:
                if self._waiting:
                    return self._waiting.popitem(last=False)[1]
                self._filled.clear()
            await self._filled.wait()


class Hub:
    """The pages that show one session."""

    def __init__(self) -> None:
        self._outboxes: list[Outbox] = []

    def join(self, outbox: Outbox) -> None:
        """Lets a page hear what happens."""
        self._outboxes.append(outbox)

    def leave(self, outbox: Outbox) -> None:
        """The page is gone."""
        self._outboxes.remove(outbox)

    def __len__(self) -> int:
        return len(self._outboxes)

    def tell(self, event: dict[str, Any]) -> None:
        """Tells every page; never waits."""
        for outbox in tuple(self._outboxes):
            outbox.put(event)
