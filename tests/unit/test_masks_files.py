from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from sam2.masks import files


def test_content_appears_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "a.bin"
    with files.atomic_write(target) as file:
        file.write(b"12")
        assert not target.exists()
        file.write(b"34")
    assert target.read_bytes() == b"1234"
    assert os.listdir(target.parent) == ["a.bin"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        files.write_bytes(tmp_path / "a", b"")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = files.write_bytes(tmp_path / "a.png", b"old")

    def fail() -> None:
        with files.atomic_write(target, force=True) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.png"]


def test_overwriting_needs_force(tmp_path: Path) -> None:
    target = files.write_bytes(tmp_path / "a", b"old")
    with pytest.raises(files.OutputExistsError, match="--force") as caught:
        files.write_bytes(target, b"new")
    assert isinstance(caught.value, FileExistsError)
    assert target.read_bytes() == b"old"
    files.write_bytes(target, b"new", force=True)
    assert target.read_bytes() == b"new"


def test_a_file_that_appeared_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "a"

    def late() -> None:
        with files.atomic_write(target):
            target.write_bytes(b"theirs")

    with pytest.raises(files.OutputExistsError):
        late()
    assert target.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["a"]


def test_links_are_followed(tmp_path: Path) -> None:
    target = files.write_bytes(tmp_path / "real", b"old")
    link = tmp_path / "link"
    link.symlink_to(target)
    files.write_bytes(link, b"new", force=True)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("force", [False, True])
def test_folders_and_devices_are_never_replaced(tmp_path: Path, force: bool) -> None:
    with pytest.raises(files.OutputWriteError, match="folder"):
        files.write_bytes(tmp_path, b"", force=force)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(files.OutputWriteError, match="not a regular file"):
        files.write_bytes(tmp_path / "pipe", b"", force=force)


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "file", b"")
    for target in (tmp_path / "file" / "a", tmp_path / "file" / "b" / "a"):
        with pytest.raises(files.OutputWriteError, match="folder is needed"):
            files.write_bytes(target, b"")


@pytest.mark.parametrize(
    ("code", "message"),
    [(errno.EACCES, "permission"), (errno.EROFS, "read-only"), (errno.ENOSPC, "disk is full")],
)
def test_unwritable_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, message: str) -> None:
    def refuse(*_: Any, **__: Any) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(files.OutputWriteError, match=message) as caught:
        files.write_bytes(tmp_path / "a", b"")
    assert caught.value.errno == code
    assert str(tmp_path / "a") in str(caught.value)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_a_full_disk_while_writing(tmp_path: Path) -> None:
    target = files.write_bytes(tmp_path / "a", b"old")

    def write() -> None:
        with files.atomic_write(target, force=True), open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")

    with pytest.raises(files.OutputWriteError, match="disk is full"):
        write()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_failing_rename_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(files.OutputWriteError, match="cannot write"):
        files.write_bytes(tmp_path / "a", b"x")
    assert os.listdir(tmp_path) == []


def test_other_errors_of_the_body_pass_through(tmp_path: Path) -> None:
    def read_missing() -> None:
        with files.atomic_write(tmp_path / "a"):
            (tmp_path / "missing").read_bytes()

    with pytest.raises(FileNotFoundError, match="missing"):
        read_missing()
    assert os.listdir(tmp_path) == []


def test_atomic_path_keeps_the_suffix(tmp_path: Path) -> None:
    with files.atomic_path(tmp_path / "clip.mp4") as aside:
        assert aside.parent == tmp_path
        assert aside.suffix == ".mp4"
        aside.write_bytes(b"video")
    assert (tmp_path / "clip.mp4").read_bytes() == b"video"


def test_too_long_names(tmp_path: Path) -> None:
    with pytest.raises(files.OutputWriteError, match="too long"):
        files.write_bytes(tmp_path / ("a" * 300), b"")
