"""What every video looks like to the rest of the package, whatever it is stored in."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np

from sam2.video.ahead import frames_ahead
from sam2.video.errors import PictureError, VideoError, VideoNotFoundError

__all__ = ["VideoReader", "VideoSource", "open_video"]

# A path (container, picture or folder of pictures), the bytes of a container or a file object, an array
# [T, H, W, 3], a list of pictures, anything with `.numpy()`, or a VideoReader.
VideoSource: TypeAlias = Any

DEFAULT_FPS = Fraction(24)


class VideoReader(ABC):
    """Frames of one video by number, or in order, decoded when asked for.

    Every frame is uint8 [height, width, 3], RGB, upright, and belongs to the caller, who may write on it.
    `reader[i]` takes -len..len-1 and raises IndexError beyond; random access gives the very frame that
    reading in order gives. Readers may be shared by threads. Close them, or use them in a `with`.

    Attributes:
        path: the file or folder, or None for a video in memory.
        width, height: pixels, in display orientation (rotation metadata applied).
        num_frames: how many frames `reader[i]` can give; also `len(reader)`.
        fps: average frames a second.
        timestamps: float64 [num_frames], seconds from the start of the file; not evenly spaced where the
            source is not.
        has_audio: whether the file holds a sound track.
        damaged: numbers of the frames known so far not to have decoded cleanly.
    """

    path: Path | None = None
    width: int
    height: int
    fps: Fraction
    timestamps: np.ndarray
    has_audio: bool = False

    def __init__(self, *, cache_frames: int, cache_bytes: int, prefetch: int) -> None:
        for name, value in (
            ("cache_frames", cache_frames),
            ("cache_bytes", cache_bytes),
            ("prefetch", prefetch),
        ):
            if value < 0:
                raise VideoError(f"{name} is {value}: it must be 0 or more")
        self.prefetch = prefetch
        self.damaged: list[int] = []
        self._cache = FrameCache(cache_frames, cache_bytes)
        self._lock = threading.RLock()
        self._closed = False

    @property
    def num_frames(self) -> int:
        return len(self.timestamps)

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, index: int) -> np.ndarray:
        return self.view(index).copy()

    def view(self, index: int) -> np.ndarray:
        """`reader[index]` without a copy, not to be written on: the reader's own."""
        try:
            position = index.__index__()
        except AttributeError:
            raise TypeError(
                f"frames are numbered by int, not {type(index).__name__}; for a range use "
                "reader.frames(start, stop)"
            ) from None
        if not -self.num_frames <= position < self.num_frames:
            raise IndexError(f"frame {position} is out of range: the video has {self.num_frames} frames")
        position %= self.num_frames
        with self._lock:
            self._check_open()
            frame = self._cache.get(position)
            if frame is None:
                frame = self._load(position)
                self._cache.put(position, frame)
        shared = frame.view()
        shared.flags.writeable = False
        return shared

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.frames()

    def frames(
        self, start: int = 0, stop: int | None = None, step: int = 1, *, prefetch: int | None = None
    ) -> Iterator[np.ndarray]:
        """Frames `start`, `start + step`, … before `stop` (as `range` counts; default: to the end).

        Args:
            prefetch: decode up to this many frames ahead in a thread of its own, so that decoding overlaps
                the caller's work; 0 decodes when asked. Default: what the reader was opened with.
        """
        if stop is None:
            stop = self.num_frames if step > 0 else -1
        numbers = range(start, stop, step)
        if len(numbers) and not (min(numbers) >= 0 and max(numbers) < self.num_frames):
            raise IndexError(
                f"frames {start} to {stop} are out of range: the video has {self.num_frames} frames"
            )
        self._check_open()
        ahead = self.prefetch if prefetch is None else prefetch
        if ahead > 0:
            return frames_ahead(lambda: self._sequence(numbers), ahead)
        return self._sequence(numbers)

    def close(self) -> None:
        """Release the file and the cache; reading afterwards is an error. Closing twice is none."""
        with self._lock:
            self._closed = True
            self._cache.clear()
            self._release()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.name}: {self.num_frames} frames of {self.width}x{self.height}, "
            f"{float(self.fps):g} fps>"
        )

    @property
    def name(self) -> str:
        """What errors and warnings call this video."""
        return str(self.path) if self.path is not None else "the video"

    def _check_open(self) -> None:
        if self._closed:
            raise VideoError(f"{self.name} has been closed: open it again to read frames")

    def _sequence(self, numbers: range) -> Iterator[np.ndarray]:
        for number in numbers:
            with self._lock:
                self._check_open()
                cached = self._cache.get(number)
                frame = cached if cached is not None else self._load(number)
            yield frame.copy()

    @abstractmethod
    def _load(self, index: int) -> np.ndarray:
        """Frame `index`, which is in range; called under the lock."""

    def _release(self) -> None:
        """Close what is open; called once or more. Videos in memory have nothing to close."""
        return None


class FrameCache:
    """The frames used last, bounded by number and by bytes."""

    def __init__(self, max_frames: int, max_bytes: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._frames: OrderedDict[int, np.ndarray] = OrderedDict()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    def room(self, frame_bytes: int) -> int:
        """How many frames of this size fit at once."""
        return min(self._max_frames, self._max_bytes // max(frame_bytes, 1))

    def get(self, index: int) -> np.ndarray | None:
        frame = self._frames.get(index)
        if frame is not None:
            self._frames.move_to_end(index)
        return frame

    def put(self, index: int, frame: np.ndarray) -> None:
        if index in self._frames or self.room(frame.nbytes) == 0:
            return
        self._frames[index] = frame
        self.nbytes += frame.nbytes
        while len(self._frames) > self._max_frames or self.nbytes > self._max_bytes:
            _, oldest = self._frames.popitem(last=False)
            self.nbytes -= oldest.nbytes

    def clear(self) -> None:
        self._frames.clear()
        self.nbytes = 0


def open_video(
    source: VideoSource,
    *,
    fps: float | Fraction | None = None,
    cache_frames: int = 32,
    cache_bytes: int = 128 * 2**20,
    prefetch: int = 0,
) -> VideoReader:
    """Open anything that holds frames in order.

    Args:
        source: a path to a video (MP4, MOV, WebM, MKV, AVI, GIF, MPEG-TS and others), to a folder of JPEG,
            PNG, WebP, BMP or TIFF frames (natural order: frame2 before frame10), or to one picture (a video
            of one frame; an animated WebP or PNG gives all its frames); the bytes of a video or picture
            file, or a binary file object; an array or tensor [T, H, W, 3] (also [T, 3, H, W]), uint8 or
            floats in 0..1; a list of arrays, PIL images or picture paths. A VideoReader is returned as it is.
        fps: frames a second of sources that hold no times of their own (default 24); others keep theirs.
        cache_frames, cache_bytes: bounds of the cache of decoded frames for random access; both hold.
        prefetch: default read-ahead of `frames()`, in frames (see there).

    A damaged file gives what can be decoded: frames cut off at the end are not counted and a VideoWarning
    says how many are lost; a frame in the middle that does not decode is replaced by the one before it,
    noted in `reader.damaged`, and a VideoWarning is given at the first such frame.

    Raises:
        VideoError: nothing readable as a video is there (a missing file is also a FileNotFoundError).
        PictureError: a frame of a folder or list is not a readable picture.
    """
    from sam2.video import folders, sequences

    if isinstance(source, VideoReader):
        return source
    rate = _checked_rate(fps)
    bounds = {"cache_frames": cache_frames, "cache_bytes": cache_bytes, "prefetch": prefetch}

    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        _check_path(source, path)
        if path.is_dir():
            return folders.FolderReader(path, fps=rate, **bounds)
        return _open_file(path, path, rate, bounds)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _open_file(bytes(source), None, rate, bounds)
    if hasattr(source, "read"):
        if hasattr(source, "seekable") and source.seekable():
            source.seek(0)
        data = source.read()
        if not isinstance(data, bytes):
            raise VideoError("the file object is open in text mode: open it with mode 'rb'")
        return _open_file(data, None, rate, bounds)
    if sequences.is_sequence(source):
        return sequences.SequenceReader(source, fps=rate, **bounds)
    if source is None or isinstance(source, (int, float)):
        raise VideoError(
            f"{source!r} is not a video: give a path, bytes, a list of pictures or an array [T, H, W, 3]"
        )
    raise VideoError(
        f"{type(source).__name__} is not a video: give a path, bytes, a list of pictures or an array "
        "[T, H, W, 3]"
    )


def _open_file(
    source: Path | bytes, path: Path | None, rate: Fraction, bounds: dict[str, int]
) -> VideoReader:
    from sam2.video import containers, folders

    name = str(path) if path is not None else f"the video of {len(source):,} bytes"  # type: ignore[arg-type]
    if (source.stat().st_size if isinstance(source, Path) else len(source)) == 0:
        raise VideoError(f"{name} is empty (0 bytes): the video was probably not fully copied or downloaded")
    if folders.is_picture(source):
        try:
            return folders.PictureReader(source, path, fps=rate, **bounds)
        except PictureError as error:
            raise VideoError(str(error)) from None
    return containers.ContainerReader(source, path, name, **bounds)


def _check_path(source: Any, path: Path) -> None:
    try:
        missing = not path.exists()
    except (OSError, ValueError) as error:
        raise VideoError(f"{str(source)[:100]!r} is not a path that can be opened: {error}") from None
    if missing:
        if "://" in str(source) or str(source).startswith("camera:"):
            raise VideoError(
                f"{source} is a live source or address, not a file: open it with sam2.video.open_live"
            )
        raise VideoNotFoundError(f"{path} does not exist: check the path of the video")


def _checked_rate(fps: float | Fraction | None) -> Fraction:
    if fps is None:
        return DEFAULT_FPS
    if not 0 < fps < 100_000:
        raise VideoError(f"fps is {fps}: it must be above 0")
    return near_rate(fps)


def near_rate(fps: float | Fraction) -> Fraction:
    """A rate above 0 as a fraction of small numbers, 24000/1001 and one frame an hour included."""
    exact = Fraction(fps)
    return exact.limit_denominator(1001) if exact >= 1 else 1 / (1 / exact).limit_denominator(1001)
