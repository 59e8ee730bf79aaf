"""Frames from sources without an end: cameras, network streams, standard input."""

from __future__ import annotations

import errno
import os
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import av
import numpy as np

from sam2.video.channel import Channel, LiveFrame
from sam2.video.containers import display_matrix, upright
from sam2.video.errors import LiveStallError, VideoError
from sam2.video.pipes import Pipe, jpeg_frames, raw_frames

__all__ = ["LiveFrame", "LiveSource", "is_live", "open_live"]

_CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
_CAMERA = ("camera:", "/dev/")
_ADDRESS = re.compile(r"(rtsps?|https?|rtmps?|udp|tcp|srt|rtp)://")
_MAX_CONSECUTIVE_ERRORS = 200

Frames = Iterator[tuple[float, np.ndarray]]
"""(timestamp, picture)"""


class LiveSource:
    """An iterator of LiveFrame over a live source, decoding in a thread of its own; close it, or use `with`.

    A source that nobody holds any more ends its thread too.

    Attributes:
        name: what the source is called in errors.
    """

    def __init__(
        self, name: str, start: Callable[[Channel], Frames], *, queue_frames: int, drop: str, timeout: float
    ) -> None:
        self.name = name
        self._timeout = timeout
        self._channel = Channel(name, queue_frames, drop == "oldest")
        self._thread = threading.Thread(
            target=_produce, args=(start, self._channel), name="sam2-live", daemon=True
        )
        weakref.finalize(self, self._channel.stop)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Frames thrown away so far because the consumer was slower than the source."""
        return self._channel.dropped

    @property
    def corrupt(self) -> int:
        """Packets so far that did not decode."""
        return self._channel.corrupt

    def __iter__(self) -> Iterator[LiveFrame]:
        return self

    def __next__(self) -> LiveFrame:
        item = self._channel.take(self._timeout)
        if item is None:
            raise StopIteration
        return item

    def stop(self) -> None:
        """Ends the iteration within a moment, also one that waits; may be called by a signal handler."""
        self._channel.stop()

    def close(self) -> None:
        """Stop reading. A thread stuck in a source that gives nothing is left to end with the process."""
        self._channel.close()
        self._thread.join(timeout=1.0)

    def __enter__(self) -> LiveSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _produce(start: Callable[[Channel], Frames], channel: Channel) -> None:
    """The work of the thread: frames into the channel until either end has had enough."""
    size: tuple[int, ...] | None = None
    failure: BaseException | None = None
    try:
        with closing(start(channel)) as frames:  # type: ignore[type-var]
            for timestamp, frame in frames:
                resized = size is not None and frame.shape != size
                size = frame.shape
                if not channel.offer(LiveFrame(timestamp, frame, resized)):
                    break
    except Exception as error:  # handed to the consumer
        failure = error
    channel.end(failure)


def is_live(source: Any) -> bool:
    """Whether text names what `open_live` opens: a camera, an address, or "-" for standard input."""
    return isinstance(source, str) and (
        source == "-" or source.startswith(_CAMERA) or _ADDRESS.match(source) is not None
    )


def shown_name(source: str) -> str:
    """What a source is called: its address without a user's name and password."""
    return re.sub(r"(?<=//)[^/@]*@", "", source)


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
        # unbuffered: a thread that waits in a buffer of Python's would hold its lock when the process ends
        stream = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer) if source == "-" else source
        name = "standard input" if source == "-" else "the stream"
        if format == "rgb24":
            if size is None:
                raise VideoError(f"raw pixels from {name} need size=(width, height)")
            shape = (size[1], size[0], 3)

            def start(channel: Channel) -> Frames:
                return raw_frames(channel, Pipe(stream), shape, fps)
        else:

            def start(channel: Channel) -> Frames:
                pipe = Pipe(stream)
                if format == "mjpeg" or (format is None and pipe.peek(2).startswith(b"\xff\xd8")):
                    return jpeg_frames(channel, pipe, fps)
                return _decoded(channel, pipe, format, fps, True, options or {}, None)

        return LiveSource(name, start, queue_frames=queue_frames, drop=drop or "none", timeout=timeout)

    address, form, chosen = _address(str(source), format, size, fps)
    chosen.update(options or {})

    def start_address(channel: Channel) -> Frames:
        return _decoded(channel, address, form, fps, False, chosen, timeout)

    name = shown_name(str(source))
    return LiveSource(name, start_address, queue_frames=queue_frames, drop=drop or "oldest", timeout=timeout)


def _address(
    source: str, format: str | None, size: tuple[int, int] | None, fps: float | None
) -> tuple[str, str | None, dict[str, str]]:
    """What PyAV is to open: address, format, options."""
    options: dict[str, str] = {}
    if source.startswith(_CAMERA):
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
    if _ADDRESS.match(source):
        if source.startswith("rtsp"):
            options["rtsp_transport"] = "tcp"
        if source.startswith("http"):
            options["seekable"] = "0"
        return source, format, options
    raise VideoError(
        f"{source!r} is not a live source: give camera:0, an rtsp:// or http:// address, or - for standard "
        "input; open a file with open_video"
    )


def _decoded(
    channel: Channel,
    source: Any,
    form: str | None,
    fps: float | None,
    piped: bool,
    options: dict[str, str],
    timeout: float | None,
) -> Frames:
    """(timestamp, picture) for every frame that decodes, to the end of the source."""
    try:
        container = av.open(source, format=form, options=options, timeout=timeout, metadata_errors="replace")
    except av.error.ExitError:
        raise LiveStallError(f"{channel.name} did not answer within {timeout:g} s") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"{channel.name} cannot be opened as video: {reason}") from None
    with container:
        if not container.streams.video:
            raise VideoError(f"{channel.name} carries no video")
        stream = container.streams.video[0]
        timed = not piped or container.format.name not in ("mjpeg", "h264", "hevc", "m4v")
        stream.codec_context.thread_count = 1  # frame threads would hold frames back
        origin: float | None = None
        now = 0.0
        for count, frame in enumerate(_frames(channel, container, stream)):
            if count == 0:
                matrix = display_matrix(frame)
            if fps is not None and not timed:
                now = count / fps
            else:
                clock = frame.time if timed and frame.time is not None else time.monotonic()
                if origin is None or clock - origin < now:  # the clock of a source may begin anew
                    origin = clock - now
                now = clock - origin
            yield now, upright(frame.to_ndarray(format="rgb24"), matrix)


def _frames(channel: Channel, container: Any, stream: Any) -> Iterator[Any]:
    errors = 0
    while errors < _MAX_CONSECUTIVE_ERRORS:
        try:
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.EOFError:
                    return
                except av.FFmpegError:
                    channel.corrupt += 1
                    continue
                errors = 0
                for frame in frames:
                    if frame.is_corrupt:
                        channel.corrupt += 1
                    yield frame
            return
        except av.EOFError:
            return
        except av.error.ExitError:
            raise LiveStallError(f"{channel.name} gave nothing any more and was given up") from None
        except av.error.InvalidDataError:
            channel.corrupt += 1
            errors += 1
        except av.FFmpegError as error:
            if error.errno == errno.EIO and channel.name.startswith("http") and container.size < 0:
                # A stream of no announced length is over when the server hangs up.
                yield from stream.codec_context.decode(None)
                return
            raise VideoError(f"{channel.name} was lost: {error.strerror or error}") from None
    raise VideoError(f"{channel.name} gives nothing that can be decoded any more")
