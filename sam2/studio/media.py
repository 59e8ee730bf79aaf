"""Pictures and videos under one folder, and nowhere else."""

from __future__ import annotations

import io
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from sam2.video import PICTURE_SUFFIXES, VideoReader, natural_key, open_video

UPLOADS = "@uploads"
"""The first part of the path of what was uploaded."""
CACHE_BYTES = 24 * 2**20
"""Decoded frames that one reader keeps for random access."""
VIDEO_SUFFIXES = frozenset(
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".webm",
        ".mkv",
        ".avi",
        ".gif",
        ".ts",
        ".m2ts",
        ".mts",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".flv",
        ".3gp",
        ".ogv",
    ]
)


class PathRefusedError(ValueError):
    """A path that leads out of the folder, or into what is not shown."""


class MediumError(ValueError):
    """A file that cannot be opened as a picture or a video."""


@dataclass(frozen=True)
class MediumInfo:
    """What is known of a medium once it was opened."""

    kind: str
    """"picture" or "video"."""
    width: int
    height: int
    frames: int
    fps: float


def kind_of(name: str) -> str | None:
    """ "picture" or "video" by the ending, None for anything else."""
    suffix = Path(name).suffix.lower()
    return "picture" if suffix in PICTURE_SUFFIXES else "video" if suffix in VIDEO_SUFFIXES else None


class Library:
    """The media under `root`, named by paths relative to it, with `/`; uploads lie in a folder of their own.

    Args:
        root: nothing outside it can be reached, not through symbolic links either.
        uploads: where uploads are put.
        max_pixels: larger media are refused.
    """

    def __init__(self, root: Path, uploads: Path, max_pixels: int) -> None:
        self.root = root.resolve()
        self.uploads = uploads
        self.max_pixels = max_pixels

    def find(self, path: str) -> Path:
        """The file or folder of a path.

        Raises:
            PathRefusedError: it leads outside, is hidden, or is no such path at all.
            FileNotFoundError: there is nothing there.
        """
        parts = PurePosixPath(path).parts
        if "\x00" in path or "\\" in path or path.startswith("/"):
            raise PathRefusedError(f"{path[:200]!r} is refused: name a path relative to the folder, with /")
        base = self.root
        if parts and parts[0] == UPLOADS:
            base, parts = self.uploads.resolve(), parts[1:]
            if len(parts) != 2:
                raise PathRefusedError(f"{path[:200]!r} is refused: no such upload")
        if any(part.startswith(".") for part in parts):
            raise PathRefusedError(f"{path[:200]!r} is refused: hidden files and .. cannot be opened here")
        try:
            whole = base.joinpath(*parts).resolve(strict=True)
        except FileNotFoundError:
            raise FileNotFoundError(f"{path[:200]!r} does not exist in the folder") from None
        except (OSError, RuntimeError, ValueError) as error:
            raise PathRefusedError(f"{path[:200]!r} cannot be opened: {error}") from None
        if not whole.is_relative_to(base) or any(p.startswith(".") for p in whole.relative_to(base).parts):
            raise PathRefusedError(f"{path[:200]!r} is refused: it leads out of the folder")
        return whole

    def browse(self, path: str) -> tuple[str | None, list[dict[str, Any]]]:
        """The folder above (None at the top) and what lies in a folder, in natural order.

        Raises:
            PathRefusedError: as `find`, or a file.
        """
        folder = self.find(path)
        if not folder.is_dir():
            raise PathRefusedError(f"{path!r} is a file: browse folders")
        entries: list[dict[str, Any]] = []
        with os.scandir(folder) as found:
            for entry in found:
                kind = self._shown(entry)
                if kind is not None:
                    size = 0 if kind == "folder" else entry.stat().st_size
                    name = str(PurePosixPath(path) / entry.name)
                    entries.append({"name": entry.name, "path": name, "kind": kind, "bytes": size})
        entries.sort(key=lambda e: (e["kind"] != "folder", natural_key(e["name"]), e["name"]))
        parts = PurePosixPath(path).parts
        parent = None if not parts else str(PurePosixPath(*parts[:-1])) if parts[1:] else ""
        return parent, entries

    def _shown(self, entry: os.DirEntry[str]) -> str | None:
        if entry.name.startswith("."):
            return None
        try:
            entry.name.encode()
            if entry.is_symlink() and not Path(entry.path).resolve(strict=True).is_relative_to(self.root):
                return None
            if entry.is_dir():
                return "folder"
            return kind_of(entry.name) if entry.is_file() else None
        except (
            OSError,
            ValueError,
            RuntimeError,
        ):  # gone meanwhile, a loop of links, or a name that is no text
            return None

    def open(self, path: str, cache_bytes: int = CACHE_BYTES) -> VideoReader:
        """The frames of a medium.

        Raises:
            PathRefusedError, FileNotFoundError: as `find`. MediumError: not readable, or too large.
        """
        return self.open_file(self.find(path), path, cache_bytes)

    def open_file(self, file: Path, name: str, cache_bytes: int = CACHE_BYTES) -> VideoReader:
        """The frames of a file that is known to be allowed."""
        try:
            reader = open_video(file, cache_bytes=cache_bytes)
        except (ValueError, OSError) as error:
            raise MediumError(str(error).replace(str(file), name)) from None
        pixels = reader.width * reader.height
        if pixels > self.max_pixels:
            size = f"{reader.width} x {reader.height}"
            reader.close()
            raise MediumError(
                f"{name} has {size} pixels, more than the {self.max_pixels:,} allowed: make it smaller"
            )
        return reader

    def describe(self, reader: VideoReader, path: str) -> MediumInfo:
        """What a medium is."""
        is_picture = kind_of(path) == "picture" and len(reader) == 1
        return MediumInfo(
            "picture" if is_picture else "video", reader.width, reader.height, len(reader), float(reader.fps)
        )

    @contextmanager
    def upload(self, name: str) -> Iterator[tuple[Path, str]]:
        """A file to write an upload to, and the path that it gets; it is checked and named at the end.

        Raises:
            MediumError: a name with an unknown ending, or a file that is no medium.
        """
        plain = "".join(
            c for c in Path(name.replace("\\", "/")).name if c.isprintable() and c not in '<>:"|?*'
        )
        plain = plain.lstrip(".")[-120:]
        if kind_of(plain) is None:
            known = " ".join(sorted(PICTURE_SUFFIXES | VIDEO_SUFFIXES))
            raise MediumError(f"{plain or 'the file'!r} is neither a picture nor a video: there are {known}")
        place = secrets.token_urlsafe(12).replace("-", "x").replace("_", "x")
        folder = self.uploads / place
        folder.mkdir(parents=True)
        aside = folder / f".part{Path(plain).suffix}"
        try:
            yield aside, f"{UPLOADS}/{place}/{plain}"
            with self.open_file(aside, plain) as reader:
                reader[0]
            os.replace(aside, folder / plain)
        except BaseException as error:
            aside.unlink(missing_ok=True)
            folder.rmdir()
            if isinstance(error, ValueError) and not isinstance(error, MediumError):
                raise MediumError(str(error).replace(str(aside), plain)) from None
            raise


class Shown:
    """Frames of one medium as JPEG, read apart from the model's own reading."""

    def __init__(self, library: Library, path: str) -> None:
        self._library = library
        self._path = path
        self._reader: VideoReader | None = None
        self._lock = threading.Lock()

    def frame(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3].

        Raises:
            MediumError: the file is gone or damaged.
        """
        with self._lock:
            if self._reader is None:
                # a picture is held whole, however large: its file would be decoded anew at each zoom
                room = 3 * self._library.max_pixels if kind_of(self._path) == "picture" else CACHE_BYTES
                self._reader = self._library.open(self._path, room)
            return self._reader[index]

    def jpeg(self, index: int, width: int | None, quality: int = 88) -> bytes:
        """A frame as JPEG, at most `width` pixels wide."""
        image = Image.fromarray(self.frame(index))
        if width is not None and width < image.width:
            height = max(1, round(image.height * width / image.width))
            image = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return file.getvalue()

    @property
    def is_open(self) -> bool:
        """The file is held."""
        return self._reader is not None

    def close(self) -> None:
        """Lets the file go; it is opened again when it is needed."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
