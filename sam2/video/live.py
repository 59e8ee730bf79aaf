"""Frames from sources without an end: cameras, network streams, standard input."""

from __future__ import annotations

import errno
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

import av
import numpy as np

from sam2.video.containers import display_matrix, upright
from sam2.video.errors import LiveStallError, PictureError, VideoError
from sam2.video.picture import read_picture

__all__ = ["LiveFrame", "LiveSource", "open_live"]

_CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
_MAX_CONSECUTIVE_ERRORS = 200
_MAX_JPEG_BYTES = 64 * 2**20
# In entropy-coded data, 0xff is followed by zero, a restart marker or another 0xff.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


class LiveFrame(NamedTuple):
    """One frame of a live source.

    `timestamp`: seconds since the first frame, by the clock of the source, or of arrival where it has none.
    `frame`: uint8 [H, W, 3] RGB, upright, the caller's own. `resized`: the size differs from the frame
    before.
    """

    timestamp: float
    frame: np.ndarray
    resized: bool


class LiveSource:
    """An iterator of LiveFrame over a live source, decoding in a thread of its own; close it, or use `with`.

    Attributes:
        name: what the source is called in errors.
        dropped: frames thrown away so far because the consumer was slower than the source.
        corrupt: packets so far that did not decode.
    """

    def __init__(self, name: str, start: Any, *, queue_frames: int, drop: str, timeout: float) -> None:
        self.name = name
        self.dropped = 0
        self.corrupt = 0
        self._start = start
        self._drop = drop == "oldest"
        self._timeout = timeout
        self._room = queue_frames
        self._ready: deque[LiveFrame] = deque()
        self._change = threading.Condition()
        self._failure: BaseException | None = None
        self._ended = False
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="sam2-live", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[LiveFrame]:
        return self

    def __next__(self) -> LiveFrame:
        deadline = time.monotonic() + self._timeout
        with self._change:
            while not self._ready:
                if self._closed:
                    raise StopIteration
                if self._ended:
                    if self._failure is not None:
                        raise self._failure
                    raise StopIteration
                left = deadline - time.monotonic()
                if left <= 0:
                    raise LiveStallError(
                        f"{self.name} gave no frame for {self._timeout:g} s: check that it is running and "
                        "connected, or wait longer with timeout="
                    )
                self._change.wait(left)
            item = self._ready.popleft()
            self._change.notify_all()
            return item

    def close(self) -> None:
        """Stop reading. A thread stuck in a source that gives nothing is left to end with the process."""
        with self._change:
            self._closed = True
            self._ready.clear()
            self._change.notify_all()
        self._thread.join(timeout=1.0)

    def __enter__(self) -> LiveSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        size: tuple[int, ...] | None = None
        failure: BaseException | None = None
        try:
            for timestamp, frame in self._start(self):
                resized = size is not None and frame.shape != size
                size = frame.shape
                if not self._offer(LiveFrame(timestamp, frame, resized)):
                    break
        except Exception as error:  # handed to the consumer
            failure = error
        with self._change:
            self._failure = failure
            self._ended = True
            self._change.notify_all()

    def _offer(self, item: LiveFrame) -> bool:
        with self._change:
            while len(self._ready) >= self._room and not self._closed:
                if self._drop:
                    lost = self._ready.popleft()
                    self.dropped += 1
                    if lost.resized:  # the flag belongs to the next frame that is seen
                        following = self._ready.popleft() if self._ready else item
                        flagged = following._replace(resized=True)
                        if following is item:
                            item = flagged
                        else:
                            self._ready.appendleft(flagged)
                else:
                    self._change.wait(0.5)
            if self._closed:
                return False
            self._ready.append(item)
            self._change.notify_all()
            return True


def open_live(
    source: Any,
    *,
    format: str | None = None,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    timeout: float = 10.0,
    queue_frames: int = 4,
    drop: Literal["oldest", "none"] | None = None,
    options: dict[str, str] | None = None,
) -> LiveSource:
    """Open a live source.

    Args:
        source: "camera:0" (or `camera:NAME`, or a device path such as /dev/video0); an rtsp://, http(s)://,
            rtmp://, udp://, tcp:// or srt:// address; "-" for standard input; or a binary file object.
        format: of standard input and file objects: "mjpeg" (pictures one after another), "rgb24" (raw
            pixels; needs `size`), or any container format of FFmpeg; default: found out. For cameras: the
            capture system, where the platform's usual one will not do.
        size: (width, height), asked of a camera, or that of raw pixels.
        fps: asked of a camera; or the rate of standard input and file objects without times of their own,
            whose timestamps are those of arrival where it is not given.
        timeout: seconds without a frame after which iterating raises LiveStallError.
        queue_frames: how many decoded frames may wait.
        drop: "oldest" throws away what the consumer is too slow for, so that frames are always fresh; "none"
            makes the source wait. Default: "oldest" for cameras and addresses, "none" for input and file
            objects.
        options: further options for FFmpeg, such as {"rtsp_transport": "udp"}.

    Packets that do not decode are counted in `.corrupt` and passed over. Iterating ends when the source does.

    Raises (while iterating):
        LiveStallError: no frame within `timeout`.
        VideoError: the source cannot be opened, or was lost.
    """
    for name, value in (("timeout", timeout), ("queue_frames", queue_frames)):
        if value <= 0:
            raise VideoError(f"{name} is {value}: it must be above 0")
    if drop not in (None, "oldest", "none"):
        raise VideoError(f"drop is {drop!r}: it must be 'oldest' or 'none'")
    if size is not None and min(size) < 1:
        raise VideoError(f"size is {size}: width and height must be above 0")
    if fps is not None and not fps > 0:
        raise VideoError(f"fps is {fps}: it must be above 0")

    if source == "-" or hasattr(source, "read"):
        stream = sys.stdin.buffer if source == "-" else source
        name = "standard input" if source == "-" else "the stream"
        if format == "rgb24":
            if size is None:
                raise VideoError(f"raw pixels from {name} need size=(width, height)")
            shape = (size[1], size[0], 3)

            def start(live: LiveSource) -> Iterator[tuple[float, np.ndarray]]:
                return _raw_frames(stream, shape, fps)
        else:

            def start(live: LiveSource) -> Iterator[tuple[float, np.ndarray]]:
                pipe = _Pipe(stream)
                if format == "mjpeg" or (format is None and pipe.peek(2) == b"\xff\xd8"):
                    return _jpeg_frames(live, pipe, fps)
                return _decoded(live, pipe, format, fps, True, options or {}, None)

        return LiveSource(name, start, queue_frames=queue_frames, drop=drop or "none", timeout=timeout)

    address, form, chosen = _address(str(source), format, size, fps)
    chosen.update(options or {})

    def start_address(live: LiveSource) -> Iterator[tuple[float, np.ndarray]]:
        return _decoded(live, address, form, fps, False, chosen, timeout)

    return LiveSource(
        str(source), start_address, queue_frames=queue_frames, drop=drop or "oldest", timeout=timeout
    )


def _address(
    source: str, format: str | None, size: tuple[int, int] | None, fps: float | None
) -> tuple[str, str | None, dict[str, str]]:
    """What PyAV is to open: address, format, options."""
    options: dict[str, str] = {}
    if source.startswith(("camera:", "/dev/")):
        device = source.removeprefix("camera:")
        platform = "win32" if os.name == "nt" else sys.platform
        form = format or _CAMERA_FORMATS.get(platform)
        if form is None:
            raise VideoError(f"cameras are not known on {sys.platform}: name the capture system with format=")
        if form == "v4l2" and device.isdigit():
            device = f"/dev/video{device}"
            if not Path(device).exists():
                found = ", ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "none"
                raise VideoError(f"{source}: there is no {device} (cameras found: {found})")
        if form == "dshow" and not device.startswith("video="):
            device = f"video={device}"
        if size is not None:
            options["video_size"] = f"{size[0]}x{size[1]}"
        if fps is not None:
            options["framerate"] = str(Fraction(fps).limit_denominator(1001))
        elif form == "avfoundation":
            options["framerate"] = "30"
        return device, form, options
    if re.match(r"(rtsps?|https?|rtmps?|udp|tcp|srt|rtp)://", source):
        if source.startswith("rtsp"):
            options["rtsp_transport"] = "tcp"
        if source.startswith("http"):
            options["seekable"] = "0"
        return source, format, options
    raise VideoError(
        f"{source!r} is not a live source: give camera:0, an rtsp:// or http:// address, or - for standard "
        "input; open a file with open_video"
    )


class _Pipe:
    """A stream as PyAV should see it: not seekable, and giving what there is rather than waiting for more."""

    def __init__(self, stream: Any) -> None:
        self._read = getattr(stream, "read1", stream.read)
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


def _decoded(
    live: LiveSource,
    source: Any,
    form: str | None,
    fps: float | None,
    piped: bool,
    options: dict[str, str],
    timeout: float | None,
) -> Iterator[tuple[float, np.ndarray]]:
    """(timestamp, picture) for every frame that decodes, to the end of the source."""
    try:
        container = av.open(source, format=form, options=options, timeout=timeout, metadata_errors="replace")
    except av.error.ExitError:
        raise LiveStallError(f"{live.name} did not answer within {timeout:g} s") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"{live.name} cannot be opened as video: {reason}") from None
    with container:
        if not container.streams.video:
            raise VideoError(f"{live.name} carries no video")
        stream = container.streams.video[0]
        timed = not piped or container.format.name not in ("mjpeg", "h264", "hevc", "m4v")
        stream.codec_context.thread_count = 1  # frame threads would hold frames back
        origin: float | None = None
        for count, frame in enumerate(_frames(live, container, stream)):
            if count == 0:
                matrix = display_matrix(frame)
            if fps is not None and not timed:
                now = count / fps
            else:
                clock = frame.time if timed and frame.time is not None else time.monotonic()
                origin = clock if origin is None else origin
                now = clock - origin
            yield now, upright(frame.to_ndarray(format="rgb24"), matrix)


def _frames(live: LiveSource, container: Any, stream: Any) -> Iterator[Any]:
    errors = 0
    while errors < _MAX_CONSECUTIVE_ERRORS:
        try:
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.EOFError:
                    return
                except av.FFmpegError:
                    live.corrupt += 1
                    continue
                errors = 0
                for frame in frames:
                    if frame.is_corrupt:
                        live.corrupt += 1
                    yield frame
            return
        except av.EOFError:
            return
        except av.error.ExitError:
            raise LiveStallError(f"{live.name} gave nothing any more and was given up") from None
        except av.error.InvalidDataError:
            live.corrupt += 1
            errors += 1
        except av.FFmpegError as error:
            if error.errno == errno.EIO and live.name.startswith("http") and container.size < 0:
                # A stream of no announced length is over when the server hangs up.
                yield from stream.codec_context.decode(None)
                return
            raise VideoError(f"{live.name} was lost: {error.strerror or error}") from None
    raise VideoError(f"{live.name} gives nothing that can be decoded any more")


def _jpeg_frames(live: LiveSource, pipe: _Pipe, fps: float | None) -> Iterator[tuple[float, np.ndarray]]:
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
            live.corrupt += 1
            continue
        began = now if began is None else began
        yield (count / fps if fps is not None else now - began), frame


def _split_jpegs(pipe: _Pipe) -> Iterator[tuple[bytes, bool]]:
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


def _raw_frames(
    stream: Any, shape: tuple[int, int, int], fps: float | None
) -> Iterator[tuple[float, np.ndarray]]:
    """Raw RGB pictures; what is left of a last one that is not whole is dropped."""
    nbytes = shape[0] * shape[1] * shape[2]
    count, began = 0, 0.0
    while True:
        data = bytearray()
        while len(data) < nbytes:
            piece = stream.read(nbytes - len(data))
            if not piece:
                return
            data += piece
        now = time.monotonic()
        began = now if count == 0 else began
        yield (
            (count / fps if fps is not None else now - began),
            np.frombuffer(data, np.uint8).reshape(shape).copy(),
        )
        count += 1
