"""Opening containers, and finding every frame in them without decoding any."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from sam2.video.errors import VideoError

__all__ = ["FrameIndex", "build_index", "decoded_frames", "open_container", "tolerant_packets"]

# Demuxers that hold films. Others are kept out: FFmpeg would render a text file as a picture, and playlists
# make it open further files and addresses.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,apng,mpegts,mpeg,mpegvideo,flv,ogg,asf,h264,hevc,m4v,"
    "ivf,obu,av1,mjpeg,nut,mxf,dv,rm,yuv4mpegpipe,vc1,wtv,amv"
)
_COMMON_DECODERS = ("h264", "hevc", "av1", "vp9", "vp8", "mpeg4", "mpeg2video", "prores", "mjpeg", "gif")
_THREADS = 4  # each frame thread holds frames of its own
_MAX_CONSECUTIVE_ERRORS = 200


def open_container(source: Path | bytes, name: str) -> tuple[Any, Any]:
    """The container and its first real video stream (cover art is none), ready to decode.

    Raises:
        VideoError: not a video, no video stream in it, or no decoder for it.
    """
    file: str | io.BytesIO = f"file:{source}" if isinstance(source, Path) else io.BytesIO(source)
    try:
        container = av.open(file, options={"format_whitelist": _FORMATS}, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(_why_not(source, name, error)) from None
    streams = [s for s in container.streams.video if not _is_cover(s)]
    if not streams:
        kinds = sorted({s.type for s in container.streams})
        container.close()
        raise VideoError(f"{name} has no video stream (it holds: {', '.join(kinds) or 'nothing'})")
    stream = streams[0]
    if stream.codec_context is None:
        container.close()
        known = ", ".join(c for c in _COMMON_DECODERS if c in av.codec.codecs_available)
        raise VideoError(
            f"{name} is coded in a way that this build of PyAV cannot decode; it decodes {known} and others: "
            "convert the file to H.264 first"
        )
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = _THREADS
    return container, stream


def _is_cover(stream: Any) -> bool:
    return "attached_pic" in str(getattr(stream, "disposition", "")).lower()


def _why_not(source: Path | bytes, name: str, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"{name} may not be read: check its permissions"
    if isinstance(source, Path):
        with source.open("rb") as file:
            head = file.read(64)
    else:
        head = source[:64]
    if head[4:8] in (b"ftyp", b"mdat", b"wide", b"free", b"skip"):
        return (
            f"{name} is an MP4 or MOV file without its index (the moov atom), so it was cut off while "
            "being recorded or copied: copy it again, or repair it with a tool such as untrunc"
        )
    reason = getattr(error, "strerror", None) or error
    return f"{name} is not a video that can be read (MP4, MOV, WebM, MKV, AVI, GIF and others can): {reason}"


def tolerant_packets(container: Any, stream: Any) -> Iterator[Any]:
    """Packets of one stream to the end of the file, passing over places that cannot be read."""
    errors = 0
    while errors < _MAX_CONSECUTIVE_ERRORS:
        try:
            for packet in container.demux(stream):
                if packet.size:
                    errors = 0
                    yield packet
            return
        except av.EOFError:
            return
        except av.FFmpegError:
            errors += 1


@dataclass(frozen=True)
class FrameIndex:
    """Where the frames of a stream are.

    Frames are numbered in display order. `pts[i]` (stream time base) is unique and increasing, unless the
    file has
    no usable times: then `counted` is true, pts are made up from `fps`, and frames are known by their count
    from the start. `keys` are the numbers of the frames decoding can start at, `seek_to` the times to seek
    to.
    """

    pts: np.ndarray
    keys: np.ndarray
    seek_to: np.ndarray
    counted: bool
    lost: int


def build_index(
    container: Any, stream: Any, fps: Fraction, reopen: Callable[[], tuple[Any, Any]]
) -> FrameIndex:
    """Read all packets of the stream; decode only where the container gives frames no trustworthy times.

    Frames that cannot be shown are not counted: edit-list cuts, invisible VP8 frames, frames that precede
    the first key frame (in recordings and broadcasts that begin anywhere), packets cut off at the end of a
    truncated file (`lost` counts those, as far as the file says).
    """
    pts: list[int | None] = []
    dts: list[int | None] = []
    key: list[bool] = []
    partial: list[bool] = []
    hidden = 0
    vp8 = stream.codec_context.name in ("vp8", "libvpx")
    for packet in tolerant_packets(container, stream):
        if packet.is_discard or (vp8 and not memoryview(packet)[0] & 0x10):
            hidden += 1
            continue
        pts.append(packet.pts)
        dts.append(packet.dts)
        key.append(packet.is_keyframe)
        partial.append(packet.is_corrupt)
    while partial and partial[-1]:
        for column in (pts, dts, key, partial):
            column.pop()

    reorders = container.format.name == "avi" and stream.codec_context.has_b_frames
    if None in pts or len(set(pts)) < len(pts) or reorders:
        return _counted_index(fps, reopen)

    if not pts:
        return FrameIndex(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64), False, 0)
    # Where the file announces its frames, all of them keep their numbers, though the first may be damaged.
    first = 0 if stream.frames or True not in key else key.index(True)
    start = pts[first]
    assert start is not None
    shown = sorted(p for p in pts[first:] if p is not None and (stream.frames or p >= start))
    times = np.asarray(shown, np.int64)
    key_rows = [first]
    if container.format.name not in ("gif", "apng"):
        key_rows += [row for row in range(first + 1, len(pts)) if key[row]]
    key_pts = [int(pts[row]) for row in key_rows]  # type: ignore[arg-type]
    # MOV indexes its samples by decoding time, Matroska its clusters by display time.
    by_dts = "mp4" in container.format.name
    seek_to = [
        int(dts[row]) if by_dts and dts[row] is not None else key_pts[n]  # type: ignore[arg-type]
        for n, row in enumerate(key_rows)
    ]
    order = np.argsort(key_pts, kind="stable")
    return FrameIndex(
        pts=times,
        keys=np.searchsorted(times, np.asarray(key_pts, np.int64)[order]),
        seek_to=np.asarray(seek_to, np.int64)[order],
        counted=False,
        lost=_lost(container, stream, fps, len(shown), hidden, times),
    )


def _counted_index(fps: Fraction, reopen: Callable[[], tuple[Any, Any]]) -> FrameIndex:
    container, stream = reopen()
    with container:
        count = sum(1 for _ in decoded_frames(container, stream))
        step = 1 / (fps * stream.time_base)
    times = np.asarray([round(i * step) for i in range(count)], np.int64)
    start = np.zeros(min(count, 1), np.int64)
    return FrameIndex(times, start, start, True, 0)


def _lost(container: Any, stream: Any, fps: Fraction, found: int, hidden: int, times: np.ndarray) -> int:
    """How many frames the file announces beyond those it holds; 0 where it announces nothing."""
    if stream.frames:
        return max(0, stream.frames - found - hidden)
    if "matroska" not in container.format.name or not container.duration or not found:
        return 0
    end = float((times[-1] + 1 / (fps * stream.time_base)) * stream.time_base)
    announced = container.duration / av.time_base + (container.start_time or 0) / av.time_base
    tail = [s for s in container.streams if s.type == "audio"]
    missing = round((announced - end) * float(fps))
    # A sound track may outlast the pictures a little; a cut file lacks both.
    return missing if missing > (float(fps) if tail else 1) else 0


def decoded_frames(container: Any, stream: Any, known: Mapping[int, int] | None = None) -> Iterator[Any]:
    """Decoded frames from the present position to the end, passing over packets that do not decode.

    Where the times of the whole packets are `known`, others that are cut off are not tried: an error in the
    last packets would take the frames still under way in other threads with it.
    """
    decoder = stream.codec_context
    for packet in tolerant_packets(container, stream):
        if known is not None and packet.is_corrupt and packet.pts not in known:
            continue
        try:
            frames = decoder.decode(packet)
        except av.FFmpegError:
            continue
        yield from frames
    try:
        yield from decoder.decode(None)
    except av.FFmpegError:
        return
