"""All sessions of a studio: whose they are, which are awake, and the model's thread that they share."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from sam2.studio.eventlog import VERSION, EventLog, LogError
from sam2.studio.exports import Exports
from sam2.studio.media import Library
from sam2.studio.models import Loader, Models
from sam2.studio.scheduler import BusyError, Scheduler, Work
from sam2.studio.session import MissingError, Session
from sam2.studio.settings import Settings
from sam2.studio.state import POLICY
from sam2.studio.suggestions import Suggestions

SWEEP = 5.0
"""Seconds between looks for idle sessions."""
_M_ARENA_MAX = -8  # of glibc's malloc.h

log = logging.getLogger(__name__)


def owner_of(client: str) -> str:
    """What is kept on disk of a client's secret."""
    return hashlib.sha256(client.encode()).hexdigest()


def _give_memory_back() -> None:
    """Returns freed memory to the system, which glibc otherwise keeps; nothing where there is no glibc."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _keep_few_heaps() -> None:
    """Lets glibc open two heaps at most: each of many threads' own would keep what was freed in it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


class Studio:
    """The sessions under one folder.

    Args:
        load: loads a model by name and device; None for `load_model`.
    """

    def __init__(self, settings: Settings, load: Loader | None = None) -> None:
        _keep_few_heaps()
        self.settings = settings
        self.limits = settings.limits
        folder = settings.folder
        self.library = Library(settings.root, folder / "uploads", self.limits.pixels)
        self.scheduler = Scheduler(self.limits.waiting)
        self.scheduler.tidy = self._sweep
        self.exports = Exports(folder / "exports", self.library)
        self.models = Models(settings.model, settings.device, self.scheduler.notify, load)
        self._folder = folder / "sessions"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._sessions: dict[str, Session] = {}
        self._suggestions: dict[str, Suggestions] = {}
        self._lock = threading.RLock()
        self._cameras = 0
        self._closed = self._find_closed()

    def _find_closed(self) -> dict[str, dict[str, Any]]:
        """The first event of each session on the disk; the others are read when the session is asked for."""
        found = {}
        for folder in sorted(self._folder.iterdir()):
            event = EventLog.first_event(folder)
            if event is not None and event.get("type") == "open" and event.get("version") == VERSION:
                found[folder.name] = event
            else:
                log.warning("the session in %s cannot be read and is left alone", folder)
        return found

    def _load(self, session_id: str) -> Session | None:
        with self._lock:
            if self._closed.pop(session_id, None) is None:
                return self._sessions.get(session_id)
            try:
                return self._add(Session(EventLog(self._folder / session_id), self.library, self.models.slot))
            except (LogError, KeyError, TypeError, ValueError, OSError) as error:
                log.warning("the session %s cannot be read and is left alone: %s", session_id, error)
                return None

    def _add(self, session: Session) -> Session:
        with self._lock:
            self._sessions[session.id] = session
            self._suggestions[session.id] = Suggestions(session)
            return session

    # ------------------------------------------------------------------ sessions

    def session(self, client: str, session_id: str) -> Session:
        """A session of this client.

        Raises:
            MissingError: there is none; another client's counts as none.
        """
        session = self._load(session_id)
        if session is None or session.client != owner_of(client):
            raise MissingError(f"there is no session {session_id[:60]!r}: open the medium again")
        session.used = time.monotonic()
        if session.to_replay:
            self._replay(session)
        return session

    def sessions(self, client: str) -> list[Session]:
        """All sessions of this client, in the order in which they were opened."""
        owner = owner_of(client)
        with self._lock:
            for session_id in [key for key, event in self._closed.items() if event["client"] == owner]:
                self._load(session_id)
            return [session for session in self._sessions.values() if session.client == owner]

    def open(self, client: str, path: str, model: str | None) -> Session:
        """The session of a medium: the one that there is, or a new one.

        Raises:
            PathRefusedError, FileNotFoundError, MediumError: see `Library`. ModelError: no such model.
            ValueError: too many sessions.
        """
        if model is not None:
            self.models.check(model)
        file = self.library.find(path)
        if (found := self._opened(client, path)) is not None:
            return found
        with self.library.open_file(file, path) as reader:
            info = self.library.describe(reader, path)
            reader[0]
        with self._lock:
            if (found := self._opened(client, path)) is not None:
                return found
            if len(self.sessions(client)) >= self.limits.sessions:
                raise ValueError(f"there are {self.limits.sessions} sessions: delete one first")
            session_log = EventLog(self._folder / secrets.token_urlsafe(16))
            session_log.events.append(
                {
                    "seq": 0,
                    "time": round(time.time(), 3),
                    "type": "open",
                    "version": VERSION,
                    "client": owner_of(client),
                    "path": path,
                    "medium": asdict(info),
                    "model": model or self.models.default,
                    "policy": POLICY,
                }
            )
            session_log.append(session_log.events[0])
            return self._add(Session(session_log, self.library, self.models.slot))

    def _opened(self, client: str, path: str) -> Session | None:
        owner = owner_of(client)
        with self._lock:
            for session_id, event in self._closed.items():
                if (event["client"], event["path"]) == (owner, path):
                    return self._load(session_id)
            known = self._sessions.values()
            return next((s for s in known if (s.client, s.path) == (owner, path)), None)

    def delete(self, session: Session) -> None:
        """Takes a session and all that was kept of it away."""
        with self._lock:
            self._sessions.pop(session.id, None)
            self._suggestions.pop(session.id, None)
        session.close()
        shutil.rmtree(session.log.folder, ignore_errors=True)

    def _replay(self, session: Session) -> None:
        with self._lock:
            if not session.replaying and session.fault is None:
                session.replaying = True
                self.scheduler.background(session.client, session.replay(), ready=session.ready)

    def suggestions(self, session: Session) -> Suggestions:
        """Suggestions of a session."""
        return self._suggestions[session.id]

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
                session.embed(frame)
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
        """Puts idle sessions to sleep; in the scheduler's thread."""
        with self._lock:
            awake = [s for s in self._sessions.values() if s.is_awake and s.job is None]
        awake.sort(key=lambda s: s.used)
        late = time.monotonic() - self.limits.idle_seconds
        slept = False
        for i, session in enumerate(awake):
            if session.used < late or i < len(awake) - self.limits.awake_sessions:
                session.sleep()
                slept = True
        if slept:
            _give_memory_back()
        self.models.release({s.model for s in self._sessions.values() if s.is_awake})
        return SWEEP if any(s.is_awake for s in awake) else None

    def close(self) -> None:
        """Ends the model's thread and lets all files go."""
        for session in tuple(self._sessions.values()):
            session.stop()
        self.exports.close()
        self.scheduler.close()
        for session in tuple(self._sessions.values()):
            session.close()
