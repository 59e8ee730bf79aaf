"""Output files appear whole or not at all: written aside in the target's folder, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})
"""Errors of the disk rather than of the path."""


class OutputExistsError(FileExistsError):
    """The output is already there and overwriting was not asked for."""


class OutputWriteError(OSError):
    """The output cannot be written; ``errno`` is the system's, the message says what to do."""


def write_error(path: Path, error: OSError) -> OutputWriteError:
    """The error to raise where the system refused to write `path`: what is wrong and what to do."""
    code = error.errno
    if code in (errno.ENOSPC, errno.EDQUOT):
        why, mend = "the disk is full", "free some space or choose another output"
    elif code in (errno.EACCES, errno.EPERM):
        why, mend = "permission denied", "choose a folder that you may write to"
    elif code == errno.EROFS:
        why, mend = "the file system is read-only", "choose another output"
    elif code in (errno.ENOTDIR, errno.EEXIST):
        why, mend = "a file stands where a folder is needed", "choose another output"
    elif code == errno.EFBIG:
        why, mend = "the file is larger than the system allows", "raise the limit or choose another output"
    elif code == errno.ENAMETOOLONG:
        why, mend = "the name is too long", "choose a shorter one"
    else:
        why, mend = error.strerror or str(error), "choose another output"
    result = OutputWriteError(f"cannot write {path}: {why}; {mend} (nothing was left behind)")
    result.errno = code
    return result


def check_target(path: str | os.PathLike[str], force: bool = False) -> Path:
    """The file that ``path`` stands for (links followed), once it is clear that it may be written.

    Call it before long work whose result goes there; ``atomic_write`` does so itself.

    Raises:
        OutputExistsError: the file exists and ``force`` is false.
        OutputWriteError: the path is a folder or a device.
    """
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return target
    except OSError as error:
        raise write_error(Path(path), error) from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise OutputWriteError(f"cannot write {path}: it is {kind}; choose another output")
    if not force:
        raise OutputExistsError(f"{path} exists; pass --force (force=True) to overwrite it")
    return target


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[Path]:
    """Give a temporary path with the target's suffix in its folder; rename it to ``path`` on success.

    For writers that open files themselves (video containers, tensors). Missing folders are made. Where the
    body raises, the temporary file is removed and an earlier ``path`` is untouched.

    Raises:
        OutputExistsError: ``path`` exists and ``force`` is false, at the start or by the end.
        OutputWriteError: the folder cannot be written, the disk is full, or ``path`` is not a file.
    """
    target = check_target(path, force)
    aside = target.with_name(f".{secrets.token_hex(6)}.part{target.suffix}")
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # Made here so that an unwritable folder shows before the work, with the umask's permissions.
            os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except OSError as error:
            raise write_error(Path(path), error) from error
        try:
            yield aside
        except OSError as error:
            if error.errno in DISK_ERRNOS:
                raise write_error(Path(path), error) from error
            raise
        check_target(path, force)
        try:
            os.replace(aside, target)
        except OSError as error:
            raise write_error(Path(path), error) from error
    finally:
        with suppress(OSError):
            aside.unlink()


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[IO[bytes]]:
    """Open ``path`` for writing bytes, so that it appears whole when the body ends and not at all otherwise.

    Raises: as ``atomic_path``.
    """
    with atomic_path(path, force=force) as aside, open(aside, "wb") as file:
        yield file


def write_bytes(path: str | os.PathLike[str], data: bytes, *, force: bool = False) -> Path:
    """Write ``data`` to ``path`` through ``atomic_write`` and return the path."""
    with atomic_write(path, force=force) as file:
        file.write(data)
    return Path(path)
