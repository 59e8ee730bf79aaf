"""All sessions of a studio: whose they are, which are awake, and the model's thread that they share."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from typing import Any

from sam2.studio.eventlog import VERSION
from sam2.studio.exports import Exports
from sam2.studio.media import Library
from sam2.studio.models import Loader, Models, load_model
from sam2.studio.scheduler import BusyError, Scheduler, Work
from sam2.studio.session import MissingError, Session
from sam2.studio.settings import Settings
from sam2.studio.state import POLICIES
from sam2.studio.store import SessionStore

SWEEP = 5.0
"""Seconds between looks for idle sessions."""
TRIMS = 3
"""How often freed memory is given back after sessions went to sleep, SWEEP seconds apart."""
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc's malloc.h
LARGE = 4 * 2**20
"""Blocks from this size on go back to the system at once. glibc would raise its own bound to 32 MiB, and
frames and features would leave holes in its heaps; at 1 MiB the model's tensors cost time."""


def owner_of(client: str) -> str:
    """What is kept on disk of a client's secret."""
    return hashlib.sha256(client.encode()).hexdigest()


def _give_memory_back() -> None:
    """Frees what only cycles hold, and returns freed memory to the system, where glibc would keep it."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _keep_heaps_small() -> None:
    """Lets glibc open two heaps at most, as each of many threads' own would keep what was freed in it."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 2)
        libc.mallopt(_M_MMAP_THRESHOLD, LARGE)


class Studio:
    """The sessions under one folder.

    Args:
        load: loads a model by name and device; None for `load_model`.
    """

    def __init__(self, settings: Settings, load: Loader | None = None) -> None:
        _keep_heaps_small()
        self.settings = settings
        self.limits = settings.limits
        folder = settings.folder
        self.library = Library(settings.root, folder / "uploads", self.limits.pixels)
        self.scheduler = Scheduler(self.limits.waiting)
        self.scheduler.tidy = self._sweep
        self.exports = Exports(folder / "exports", self.library)
        load = load or partial(load_model, precision=settings.precision)
        self.models = Models(settings.model, settings.device, self.scheduler.notify, load)
        self._store = SessionStore(
            folder / "sessions", lambda log: Session(log, self.library, self.models.slot)
        )
        self._lock = threading.RLock()
        self._cameras = 0
        self._trims = 0

    # ------------------------------------------------------------------ sessions

    def session(self, client: str, session_id: str) -> Session:
        """A session of this client.

        Raises:
            MissingError: there is none; another client's counts as none.
        """
        session = self._store.get(session_id)
        if session is None or session.client != owner_of(client):
            raise MissingError(f"there is no session {session_id[:60]!r}: open the medium again")
        idle = time.monotonic() - session.used
        session.used = time.monotonic()
        if idle > SWEEP:
            self.scheduler.notify()  # there is something to look after again
        if session.to_replay:
            self._replay(session)
        return session

    def sessions(self, client: str) -> list[Session]:
        """All sessions of this client."""
        return self._store.of(owner_of(client))

    def done(self, client: str) -> set[str]:
        """The media that this client marked as done."""
        return self._store.done(owner_of(client))

    def open(self, client: str, path: str, model: str | None) -> Session:
        """The session of a medium: the one that there is, or a new one.

        Raises:
            PathRefusedError, FileNotFoundError, MediumError: see `Library`. ModelError: no such model.
            ValueError: too many sessions.
        """
        if model is not None:
            self.models.check(model)
        file = self.library.find(path)
        owner = owner_of(client)
        if (found := self._store.find(owner, path)) is not None:
            return found
        with self.library.open_file(file, path) as reader:
            info = self.library.describe(reader, path)
            reader[0]
        with self._lock:
            if (found := self._store.find(owner, path)) is not None:
                return found
            if self._store.count(owner) >= self.limits.sessions:
                raise ValueError(f"there are {self.limits.sessions} sessions: delete one first")
            opened = {
                "seq": 0,
                "time": round(time.time(), 3),
                "type": "open",
                "version": VERSION,
                "client": owner,
                "path": path,
                "medium": asdict(info),
                "model": model or self.models.default,
                "policy": POLICIES[0],
            }
            return self._store.add(secrets.token_urlsafe(16), opened)

    def delete(self, session: Session) -> None:
        """Takes a session and all that was kept of it away."""
        self._store.remove(session)

    def _replay(self, session: Session) -> None:
        with self._lock:
            if not session.replaying and session.fault is None:
                session.replaying = True
                self.scheduler.background(session.client, session.replay(), ready=session.ready)

    # ------------------------------------------------------------------ work

    def ask(
        self, session: Session, call: Callable[[], Any], *, needs_model: bool = False, key: Any = None
    ) -> Future[Any]:
        """Queues something that a person waits for.

        Args:
            needs_model: it waits until the session's model is loaded.
            key: a request of the same session and key that still waits is superseded.
        """

        def ready() -> bool:
            return session.is_restored() and (not needs_model or session.ready())

        def checked() -> Any:
            if session.to_replay:
                raise ValueError(session.fault)
            return call()

        return self.scheduler.request(
            session.client, checked, key=None if key is None else (session.id, key), ready=ready
        )

    def run(self, session: Session, steps: Iterator[Any]) -> Work:
        """Queues long work of a session."""
        return self.scheduler.background(session.client, steps)

    def prepare(self, session: Session, frame: int) -> None:
        """Encodes a frame when nothing more urgent waits."""

        def steps() -> Iterator[None]:
            if not session.to_replay:
                try:
                    session.embed(frame)
                except (OSError, ValueError) as error:  # else the page would wait without end
                    session.hub.tell({"type": "error", "detail": str(error)})
            yield

        with suppress(BusyError):  # it is but a preparation
            self.scheduler.background(
                session.client,
                steps(),
                key=(session.id, "embed"),
                ready=lambda: session.is_restored() and session.ready(),
            )

    @contextmanager
    def one_camera(self) -> Iterator[None]:
        """Counts a live stream.

        Raises:
            ValueError: there are too many.
        """
        with self._lock:
            if self._cameras >= self.limits.live_streams:
                raise ValueError(f"{self._cameras} cameras are at work already: close another page first")
            self._cameras += 1
        try:
            yield
        finally:
            with self._lock:
                self._cameras -= 1

    def _sweep(self) -> float | None:
        """Puts idle sessions to sleep and lets them leave the memory; in the scheduler's thread."""
        late = time.monotonic() - self.limits.idle_seconds
        resting = [s for s in self._store.in_memory() if not s.is_busy]
        awake = [s for s in resting if s.is_awake]
        slept = [s for s in awake if s.used < late] + awake[: -self.limits.awake_sessions]
        for session in slept:
            session.sleep()
        for session in [s for s in resting if s.used < late] + resting[: -self.limits.held_sessions]:
            if not session.is_awake:
                self._store.let_go(session)
        # what other threads still hold of it is freed a little later
        self._trims = TRIMS if slept else max(0, self._trims - 1)
        if self._trims:
            _give_memory_back()
        remaining = self._store.in_memory()
        self.models.release({s.model for s in remaining if s.is_awake})
        return SWEEP if self._trims or remaining else None

    def close(self) -> None:
        """Ends the model's thread and lets all files go."""
        for session in self._store.in_memory():
            session.stop()
        self.exports.close()
        self.scheduler.close()
        for session in self._store.in_memory():
            session.close()
