"""The folder of results: everything is made in a hidden folder inside and gets its name together."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from sam2.masks.files import DISK_ERRNOS, OutputExistsError, OutputWriteError, write_error


class OutputFolder:
    """Use in a `with` block and call `commit()` at its end; without it, nothing remains.

    What is in the folder already stays, but for entries of the same names, which `force` replaces; they stay
    as they are until `commit()`.

    Args:
        folder: made where it is missing, with the folders above it.
        names: the entries that may be made, files or folders.
        force: replace entries of these names.

    Raises:
        OutputExistsError: one of `names` is there, and `force` is not set; at the start and again by the end.
        OutputWriteError: the folder cannot be written to, or the disk is full (also raised in place of an
            OSError that says so and leaves the block).
    """

    def __init__(self, folder: Path, names: Sequence[str], force: bool) -> None:
        self.folder = folder
        self.names = names
        self.force = force
        self._made: list[Path] = []
        self._staging: Path | None = None

    def __enter__(self) -> OutputFolder:
        self._check()
        try:
            for parent in reversed((self.folder, *self.folder.parents)):
                if not parent.exists():
                    parent.mkdir()
                    self._made.append(parent)
            self._staging = Path(tempfile.mkdtemp(prefix=".sam2-", suffix=".part", dir=self.folder))
        except OSError as error:
            self._clear()
            raise write_error(self.folder, error) from error
        return self

    @property
    def staging(self) -> Path:
        """Where the results are made."""
        assert self._staging is not None
        return self._staging

    def commit(self) -> list[Path]:
        """Gives everything its name and returns what there now is, in the order of `names`."""
        self._check()
        replaced = self.staging / ".replaced"
        done = []
        for name in self.names:
            made = self.staging / name
            if not made.exists():
                continue
            target = self.folder / name
            if target.exists() or target.is_symlink():
                replaced.mkdir(exist_ok=True)
                os.rename(target, replaced / name)
            os.rename(made, target)
            done.append(target)
        self._made.clear()
        return done

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()
        if isinstance(error, OutputWriteError) or getattr(error, "errno", None) in DISK_ERRNOS:
            assert isinstance(error, OSError)
            raise write_error(self.folder, error) from error

    def _clear(self) -> None:
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)
        for parent in reversed(self._made):
            with contextlib.suppress(OSError):  # somebody else has put something there meanwhile
                parent.rmdir()

    def _check(self) -> None:
        there = [name for name in self.names if (self.folder / name).exists()]
        if there and not self.force:
            raise OutputExistsError(
                f"{self.folder} holds {', '.join(there)} already: pass --force to replace it, or choose "
                "another --out"
            )
