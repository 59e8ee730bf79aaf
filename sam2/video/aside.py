"""Output files are written aside and renamed, so that no half-written file ever bears its final name."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Aside", "refuse_existing", "written_aside"]


def refuse_existing(path: Path, force: bool) -> None:
    """Raise FileExistsError where `path` exists and `force` is not set; a folder is never replaced."""
    if path.is_dir():
        raise FileExistsError(f"{path} is a folder: give the name of a file in it")
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists: choose another name, or replace it with --force (force=True)")


class Aside:
    """A hidden file beside `path`, with its ending: write to `.temporary`, then `commit()` or `discard()`.

    Raises FileExistsError at construction and again at `commit()`, where something came up meanwhile.
    """

    def __init__(self, path: str | os.PathLike[str], force: bool = False) -> None:
        self.path = Path(path)
        self.force = force
        refuse_existing(self.path, force)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        stem = self.path.stem[:80]
        self.temporary = self.path.with_name(f".{stem}.{uuid.uuid4().hex[:8]}.part{self.path.suffix}")

    def commit(self) -> Path:
        """Give the file its final name."""
        refuse_existing(self.path, self.force)
        os.replace(self.temporary, self.path)
        return self.path

    def discard(self) -> None:
        """Delete what was written."""
        self.temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def written_aside(path: str | os.PathLike[str], force: bool = False) -> Iterator[Path]:
    """Yield a temporary path; at the end of the block it becomes `path`, or vanishes if the block raised."""
    aside = Aside(path, force)
    try:
        yield aside.temporary
        aside.commit()
    finally:
        aside.discard()
