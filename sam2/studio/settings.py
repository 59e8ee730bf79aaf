"""What a studio is started with, and the bounds that it keeps."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """Bounds on what clients may send and hold."""

    upload_bytes: int = 4 * 2**30
    """The largest upload."""
    json_bytes: int = 32 * 2**20
    """The largest request that is no upload."""
    pixels: int = 64 * 2**20
    """The largest picture or frame in pixels; 8K has 33 million."""
    points: int = 256
    """Points of one prompt."""
    objects: int = 255
    """Objects of one session."""
    sessions: int = 512
    """Sessions of one client."""
    idle_seconds: float = 120.0
    """After this long without use a session lets frames and features go, and leaves the memory."""
    awake_sessions: int = 16
    """Sessions that hold frames and features at once."""
    held_sessions: int = 64
    """Sessions in memory at once, but for those at work; others are read from their logs when asked for."""
    waiting: int = 64
    """Requests of one client that wait for the model."""
    live_streams: int = 4
    """Cameras at once."""


@dataclass(frozen=True)
class Settings:
    """A studio's folder, model and reach.

    Raises:
        ValueError: `start` is not in `root`.
    """

    root: Path
    """The folder whose media can be opened; nothing outside it can."""
    start: str | None = None
    """What the page opens first, relative to `root`."""
    model: str | None = None
    """A name of `sam2 models`, a hub id or a checkpoint file; None for the packaged model."""
    device: str | None = None
    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None
    """Demanded of every request where it is set."""
    state: Path | None = None
    """Where sessions, uploads and exports stay; None chooses."""
    limits: Limits = field(default_factory=Limits)
    precision: str = "float32"
    """What models compute in: `float32`, `bfloat16` or `float16`."""

    @staticmethod
    def of_path(path: Path) -> tuple[Path, str | None]:
        """The root and the first thing to open for a folder, a video or a picture.

        Raises:
            FileNotFoundError: there is nothing.
        """
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist: name a folder, a video or a picture")
        whole = path.resolve()
        return (whole, None) if whole.is_dir() else (whole.parent, whole.name)

    @cached_property
    def folder(self) -> Path:
        """Where the state is kept: `.sam2-studio` in the root, or in the cache folder of the user."""
        if self.state is not None:
            return _made(self.state)
        try:
            return _made(self.root / ".sam2-studio")
        except OSError:
            cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
            return _made(cache / "sam2-studio" / str(self.root.resolve()).strip("/").replace("/", "-"))

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keeps other studios away from the folder for a while: two would write to the same sessions.

        Raises:
            ValueError: another one is at work there.
        """
        with open(self.folder / "lock", "w") as file:
            if os.name == "posix":
                _lock(file, self.root)
            yield


def _lock(file: IO[str], root: Path) -> None:
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(f"another studio serves {root} already: use its page, or end it first") from None
    except OSError as error:  # a network's file system may know no locks
        log.warning("%s cannot be locked: open it in one studio at a time (%s)", root, error)


def _made(folder: Path) -> Path:
    """The folder, made for its owner alone; raises OSError where nothing can be written in it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryFile(dir=folder):
        return folder.resolve()
