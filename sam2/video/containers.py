"""Videos in containers, decoded by PyAV: exact random access over an index of packets."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from sam2.video.errors import VideoError, VideoWarning
from sam2.video.packets import FrameIndex, build_index, decoded_frames, open_container
from sam2.video.picture import onto_white
from sam2.video.reader import VideoReader, near_rate

__all__ = ["ContainerReader"]


class ContainerReader(VideoReader):
    """MP4, MOV, WebM, MKV, AVI, GIF, …: opened by reading the packets once, decoded when asked for.

    Frames come at their stored pixel size (non-square pixels are not stretched), turned by the display
    matrix, with more than 8 bits reduced to 8 and transparency composited onto white; HDR is not
    tone-mapped. Files whose frames carry no usable times (raw streams, AVI with B-frames) are decoded once
    at opening to count their frames, and read from their start for every backward jump.
    """

    def __init__(
        self,
        source: Path | bytes,
        path: Path | None,
        name: str,
        *,
        cache_frames: int,
        cache_bytes: int,
        prefetch: int,
    ) -> None:
        super().__init__(cache_frames=cache_frames, cache_bytes=cache_bytes, prefetch=prefetch)
        self.path = path
        self._name = name
        self._source = source
        self._warned = False
        # Later frames of another size are scaled to the first.
        self._coded_size: tuple[int, int] | None = None
        self._matrix = (1, 0, 0, 1)
        container, stream = open_container(source, name)
        try:
            self.fps = _rate(stream)
            self.has_audio = len(container.streams.audio) > 0
            self._index = build_index(container, stream, self.fps, lambda: open_container(source, name))
            start = (
                0.0
                if container.start_time is None or self._index.counted
                else container.start_time / av.time_base
            )
            self.timestamps = self._index.pts * float(stream.time_base) - start
        finally:
            container.close()
        if len(self._index.pts) == 0:
            raise VideoError(f"{name} holds no frame that can be decoded")
        self._cursor = _Cursor(self)
        try:
            first = self._load(0)
        except BaseException:
            self._cursor.close()
            raise
        self.height, self.width = first.shape[:2]
        self._cache.put(0, first)
        self.fps = _average_rate(self.fps, self.timestamps)
        if self._index.lost:
            warnings.warn(
                f"{name} is cut off: {self._index.lost} frames at its end are lost, {self.num_frames} can "
                "be read",
                VideoWarning,
                stacklevel=4,
            )

    @property
    def name(self) -> str:
        return self._name

    def _load(self, index: int) -> np.ndarray:
        return self._taken(self._cursor, index)

    def _taken(self, cursor: _Cursor, index: int) -> np.ndarray:
        backward = index < cursor.position
        if backward and not self._cache_has_room(cursor):
            backward = False
        # Going backward, every frame costs the way from its key frame: keep what is passed on that way.
        first_kept = index - self._cache_room(cursor) + 1 if backward else index
        kept: Callable[[int, np.ndarray], None] | None = self._cache.put if backward else None
        frame, damaged = cursor.read(index, first_kept, kept)
        if damaged:
            self._note_damage(index)
        return frame

    def _cache_room(self, cursor: _Cursor) -> int:
        return self._cache.room(cursor.frame_bytes)

    def _cache_has_room(self, cursor: _Cursor) -> bool:
        return self._cache_room(cursor) > 1

    def _sequence(self, numbers: range) -> Iterator[np.ndarray]:
        if numbers.step < 0:
            yield from super()._sequence(numbers)
            return
        # A decoder of its own, so that reader[i] between two frames does not throw it off its place.
        cursor = _Cursor(self)
        try:
            for number in numbers:
                self._check_open()
                frame, damaged = cursor.read(number)
                if damaged:
                    with self._lock:
                        self._note_damage(number)
                yield frame
        finally:
            cursor.close()

    def _note_damage(self, index: int) -> None:
        if index not in self.damaged:
            self.damaged = sorted([*self.damaged, index])
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.name}: frame {index} is damaged and does not decode cleanly; the nearest frame that "
                "does decode stands in for it. reader.damaged lists all such frames",
                VideoWarning,
                stacklevel=2,
            )

    def _release(self) -> None:
        self._cursor.close()


def _rate(stream: Any) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate:
            return Fraction(rate)
    return Fraction(25)


def _average_rate(announced: Fraction, timestamps: np.ndarray) -> Fraction:
    """The announced rate, unless the times of the frames tell of another."""
    length = float(timestamps[-1] - timestamps[0])
    if length <= 0:
        return announced
    measured = (len(timestamps) - 1) / length
    # Times in milliseconds round short videos noticeably.
    if abs(measured / float(announced) - 1) < 0.01 + 0.002 / length:
        return announced
    return near_rate(measured)


class _Cursor:
    """One decoder and its place in the video. Not for use by two threads at once."""

    def __init__(self, reader: ContainerReader) -> None:
        self._name = reader.name
        self._index: FrameIndex = reader._index
        self._number_of = {} if self._index.counted else {int(p): i for i, p in enumerate(self._index.pts)}
        self._source = reader._source
        self._container, self._stream = open_container(self._source, self._name)
        self._reformatter: Any = VideoReformatter()
        self._reader = reader
        self._frames: Iterator[tuple[int, Any]] = iter(())
        self._last: tuple[int, Any] | None = None
        self._ahead: tuple[int, Any] | None = None
        self._origin = len(self._index.pts)  # where the present run of frames began
        self.frame_bytes = 1

    def close(self) -> None:
        self._frames = iter(())
        self._last = self._ahead = None
        self._container.close()
        # The decoder's and the converter's threads, and their frames, live as long as these do.
        self._stream = self._reformatter = None

    @property
    def position(self) -> int:
        """Number of the frame read last; -1 before the first."""
        return self._last[0] if self._last is not None else -1

    def read(
        self, index: int, first_kept: int | None = None, keep: Callable[[int, np.ndarray], None] | None = None
    ) -> tuple[np.ndarray, bool]:
        """Frame `index`, and whether it is damaged; frames passed from `first_kept` on go to `keep`."""
        key = int(np.searchsorted(self._index.keys, index, side="right")) - 1
        reached = self._origin - 1 if self._last is None else self.position
        if index < max(reached, self._origin) or int(self._index.keys[key]) > reached + 1:
            self._seek(key)
        while True:
            while self._ahead is not None and self._ahead[0] <= index:
                self._last = self._ahead
                self._ahead = next(self._frames, None)
                number, frame = self._last
                if (
                    keep is not None
                    and first_kept is not None
                    and first_kept <= number < index
                    and not frame.is_corrupt
                ):
                    keep(number, self._rgb(frame))
            if self._last is not None:
                number, frame = self._last
                return self._rgb(frame), number != index or frame.is_corrupt
            if key > 0 and self._origin > 0:
                key -= 1
                self._seek(key)
                continue
            if self._ahead is None:
                raise VideoError(f"{self._name} holds no frame that can be decoded")
            return self._rgb(self._ahead[1]), True

    def _seek(self, key: int) -> None:
        """Make the frames from key frame number `key` on come next."""
        self._last = self._ahead = None
        target = int(self._index.keys[key]) if key > 0 else 0
        self._origin = target
        # Containers may land late; then an earlier key frame, and in the end the start of the file, is tried.
        for attempt in range(key, -1, -1):
            if attempt == 0:
                self._container.close()
                self._container, self._stream = open_container(self._source, self._name)
            else:
                self._container.seek(int(self._index.seek_to[attempt]), stream=self._stream, backward=True)
            self._frames = self._numbered()
            self._ahead = next(self._frames, None)
            if attempt == 0 or (self._ahead is not None and self._ahead[0] <= target):
                break
        while self._ahead is not None and self._ahead[0] < target:
            self._ahead = next(self._frames, None)

    def _numbered(self) -> Iterator[tuple[int, Any]]:
        count = 0
        last = -1
        known = None if self._index.counted else self._number_of
        for frame in decoded_frames(self._container, self._stream, known):
            if self._index.counted:
                number: int | None = count
                count += 1
            else:
                number = self._number_of.get(frame.pts)
            if number is not None and last < number < len(self._index.pts):
                last = number
                yield number, frame

    def _rgb(self, frame: Any) -> np.ndarray:
        if self._reader._coded_size is None:
            self._reader._coded_size = (frame.width, frame.height)
            self._reader._matrix = display_matrix(frame)
        width, height = self._reader._coded_size
        if any(component.is_alpha for component in frame.format.components):
            pixels = onto_white(self._reformatter.reformat(frame, width, height, "rgba").to_ndarray())
        else:
            pixels = self._reformatter.reformat(frame, width, height, "rgb24").to_ndarray()
        picture = upright(pixels, self._reader._matrix)
        self.frame_bytes = picture.nbytes
        return picture


def display_matrix(frame: Any) -> tuple[int, int, int, int]:
    """a, b, c, d of the display matrix: the decoder hangs that of the stream on every frame.

    Ask one frame only: looking at the side data of a frame keeps PyAV from freeing it until the next garbage
    collection.
    """
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(side_data), np.int32)[:5])
    return a, b, c, d


def upright(picture: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Turn or mirror pixels as a display matrix says, to the nearest quarter turn."""
    a, b, c, d = matrix
    # Pixel (x, y) is shown at (a x + c y, b x + d y), up to a shift.
    if abs(a) + abs(d) >= abs(b) + abs(c):
        flip_x, flip_y = a < 0, d < 0
    else:
        picture = picture.transpose(1, 0, 2)
        flip_x, flip_y = c < 0, b < 0
    if flip_x:
        picture = picture[:, ::-1]
    if flip_y:
        picture = picture[::-1]
    return np.ascontiguousarray(picture)
