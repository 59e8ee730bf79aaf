"""The sessions on the disk, and those of them that are in memory."""

from __future__ import annotations

import logging
import shutil
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2.studio.eventlog import VERSION, EventLog, LogError
from sam2.studio.session import Session

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Entry:
    """What is known of a session without its log."""

    owner: str
    path: str
    done: bool | None = None
    """None until the log was read once."""
    held: Session | None = None
    last: Callable[[], Session | None] = lambda: None
    """The session where somebody still uses it, though it is held no more."""

    def session(self) -> Session | None:
        return self.held or self.last()


class SessionStore:
    """All sessions of a studio. Those in use are in memory, others are read from their logs when asked for.

    Invariant: of a session there is one object at most, however many requests, pages and works use it.

    Args:
        folder: has a folder for each session.
        make: a session of a log.
    """

    def __init__(self, folder: Path, make: Callable[[EventLog], Session]) -> None:
        self._folder = folder
        self._make = make
        self._lock = threading.RLock()
        folder.mkdir(parents=True, exist_ok=True)
        self._entries: dict[str, _Entry] = {}
        for place in sorted(folder.iterdir()):
            event = EventLog.first_event(place)
            if event is not None and event.get("type") == "open" and event.get("version") == VERSION:
                self._entries[place.name] = _Entry(event["client"], event["path"])
            else:
                log.warning("the session in %s cannot be read and is left alone", place)

    def get(self, session_id: str) -> Session | None:
        """A session, from its log where it is not in memory; None where there is none, or a damaged one."""
        with self._lock:
            entry = self._entries.get(session_id)
            if entry is None:
                return None
            if entry.held is None:
                entry.held = entry.last() or self._read(session_id)
                if entry.held is None:
                    del self._entries[session_id]
                    return None
                entry.last = weakref.ref(entry.held)
            return entry.held

    def _read(self, session_id: str) -> Session | None:
        try:
            return self._make(EventLog(self._folder / session_id))
        except (LogError, KeyError, TypeError, ValueError, OSError) as error:
            log.warning("the session %s cannot be read and is left alone: %s", session_id, error)
            return None

    def of(self, owner: str) -> list[Session]:
        """All sessions of a client."""
        with self._lock:
            found = [self.get(key) for key, entry in tuple(self._entries.items()) if entry.owner == owner]
        return [session for session in found if session is not None]

    def find(self, owner: str, path: str) -> Session | None:
        """The session of a client's medium."""
        with self._lock:
            wanted = (owner, path)
            keys = [key for key, entry in self._entries.items() if (entry.owner, entry.path) == wanted]
            return next((found for key in keys if (found := self.get(key)) is not None), None)

    def count(self, owner: str) -> int:
        """How many sessions a client has."""
        return sum(entry.owner == owner for entry in tuple(self._entries.values()))

    def done(self, owner: str) -> set[str]:
        """The media that a client marked as done."""
        paths = set()
        with self._lock:
            for key, entry in tuple(self._entries.items()):
                if entry.owner == owner and self._is_done(key, entry):
                    paths.add(entry.path)
        return paths

    def _is_done(self, session_id: str, entry: _Entry) -> bool:
        session = entry.session()
        if session is None and entry.done is None:
            session = self.get(session_id)
        if session is not None:
            entry.done = session.done
        return bool(entry.done)

    def add(self, session_id: str, opened: dict[str, Any]) -> Session:
        """A new session, whose first event is written.

        Raises:
            OSError: the disk is full.
        """
        session_log = EventLog(self._folder / session_id)
        session_log.events.append(opened)
        session_log.append(opened)
        session = self._make(session_log)
        with self._lock:
            entry = _Entry(session.client, session.path, held=session, last=weakref.ref(session))
            self._entries[session_id] = entry
        return session

    def remove(self, session: Session) -> None:
        """Takes a session and all that was kept of it away."""
        with self._lock:
            self._entries.pop(session.id, None)
        session.close()
        shutil.rmtree(session.log.folder, ignore_errors=True)

    def in_memory(self) -> list[Session]:
        """Sessions in memory, the one used longest ago first."""
        with self._lock:
            found = [entry.session() for entry in self._entries.values()]
        return sorted((session for session in found if session is not None), key=lambda s: s.used)

    def let_go(self, session: Session) -> None:
        """Holds a session no more: it leaves the memory when the last who uses it has gone."""
        with self._lock:
            entry = self._entries.get(session.id)
            if entry is not None:
                entry.done, entry.held = session.done, None
