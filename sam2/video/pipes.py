"""Byte streams cut into pictures: JPEG files one after another, and raw pixels."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from sam2.video.channel import Channel
from sam2.video.errors import PictureError, VideoError
from sam2.video.picture import read_picture

__all__ = ["Pipe", "jpeg_frames", "raw_frames"]

_MAX_JPEG_BYTES = 64 * 2**20
# In entropy-coded data, 0xff is followed by zero, a restart marker or another 0xff.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


class Pipe:
    """A stream as PyAV should see it: not seekable, and giving what there is rather than waiting for more."""

    def __init__(self, stream: Any) -> None:
        self._some = getattr(stream, "read1", stream.read)
        self._ahead = b""

    def peek(self, size: int) -> bytes:
        while len(self._ahead) < size and (piece := self._read(size - len(self._ahead))):
            self._ahead += piece
        return self._ahead

    def read(self, size: int) -> bytes:
        if self._ahead:
            piece, self._ahead = self._ahead[:size], self._ahead[size:]
            return piece
        return self._read(size)

    def _read(self, size: int) -> bytes:
        piece = self._some(size)
        if isinstance(piece, str):
            raise VideoError("the stream is open in text mode: open it with mode 'rb'")
        return piece


def jpeg_frames(channel: Channel, pipe: Pipe, fps: float | None) -> Iterator[tuple[float, np.ndarray]]:
    """JPEG pictures one after another, each given as soon as its last byte has come.

    FFmpeg's own reader would wait for several pictures before it gives the first.
    """
    began: float | None = None
    for count, (data, whole) in enumerate(_split_jpegs(pipe)):
        now = time.monotonic()
        try:
            if not whole:
                raise PictureError("the picture was cut off")
            frame = read_picture(data)
        except PictureError:
            channel.corrupt += 1
            continue
        began = now if began is None else began
        yield (count / fps if fps is not None else now - began), frame


def _split_jpegs(pipe: Pipe) -> Iterator[tuple[bytes, bool]]:
    """(bytes, whether it has its end) of each JPEG file in a stream; bytes between files are passed over."""
    buffer = bytearray()
    in_header = False  # before the entropy-coded data, where one segment follows the other
    place: int | None = None  # where the next marker of the picture that starts the buffer is looked for
    while piece := pipe.read(1 << 16):
        buffer += piece
        if len(buffer) > _MAX_JPEG_BYTES:
            raise VideoError(f"no picture ends within {_MAX_JPEG_BYTES:,} bytes: the stream is not MJPEG")
        while True:
            if place is None:
                start = buffer.find(b"\xff\xd8\xff")
                if start < 0:
                    del buffer[:-2]
                    break
                del buffer[:start]
                place, in_header = 2, True
            if in_header and place < len(buffer) and buffer[place] != 0xFF:  # a segment that was cut short
                cut = buffer.find(b"\xff\xd8\xff", 2)
                yield bytes(buffer), False
                del buffer[: cut if cut >= 0 else len(buffer)]
                place, in_header = None, False
                continue
            marker = _JPEG_MARKER.search(buffer, place)
            if marker is None:
                place = max(place, len(buffer) - 1)
                break
            at, kind = marker.start(), buffer[marker.start() + 1]
            if kind == 0xD9:
                yield bytes(buffer[: at + 2]), True
                del buffer[: at + 2]
                place = None
            elif kind == 0xD8:
                yield bytes(buffer[:at]), False
                del buffer[:at]
                place = None
            elif len(buffer) < at + 4:
                place = at
                break
            else:  # a segment, which may hold a thumbnail with markers of its own
                place = at + 2 + int.from_bytes(buffer[at + 2 : at + 4], "big")
                in_header = kind != 0xDA
    if place is not None:
        yield bytes(buffer), False


def raw_frames(
    channel: Channel, pipe: Pipe, shape: tuple[int, int, int], fps: float | None
) -> Iterator[tuple[float, np.ndarray]]:
    """Raw RGB pictures; a last one that is not whole counts as corrupt."""
    nbytes = shape[0] * shape[1] * shape[2]
    count, began = 0, 0.0
    while True:
        data = bytearray()
        while len(data) < nbytes:
            piece = pipe.read(nbytes - len(data))
            if not piece:
                channel.corrupt += bool(data)
                return
            data += piece
        now = time.monotonic()
        began = now if count == 0 else began
        yield (count / fps if fps is not None else now - began), np.frombuffer(data, np.uint8).reshape(shape)
        count += 1
