"""Writing videos and folders of frames: written aside, renamed when whole."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from PIL import Image

from sam2.video.aside import Aside, written_aside
from sam2.video.audio import AudioTrack
from sam2.video.codecs import VideoCodec, choose_codec
from sam2.video.errors import VideoError
from sam2.video.reader import near_rate

__all__ = ["FrameFolderSink", "VideoSink"]

_FINE_CLOCK = Fraction(1, 120_000)  # divides into every usual frame rate, 24000/1001 and 60 included


class VideoSink:
    """Write frames to a video file, in a `with` block.

    Args:
        path: .mp4, .m4v, .mov, .mkv, .webm or .gif; folders above it are made.
        fps: frames a second, evenly spaced; or else
        timestamps: seconds of each frame, increasing, such as `reader.timestamps`: written as they are,
            counted from the first. One of the two is needed unless `write` is always given a time.
        size: (width, height) of the frames; default: that of the first. A frame of another size is an error.
        codec: "h264" (default of .mp4, .m4v, .mov, .mkv), "vp9" (default of .webm), "prores" (.mov, .mkv) or
            "gif".
        crf: constant quality of h264 (default 18) and vp9 (default 30); lower is better and larger.
        alpha: frames are RGBA and the transparency is kept: VP9 in .webm, ProRes 4444 in .mov and .mkv, one
            bit in .gif. MP4 cannot hold it.
        audio_from: path of a video whose sound is carried over, over the time that the frames cover: copied
            where the container holds its codec, else encoded again. A source without sound is no error.
        force: replace an existing file.

    H.264 needs even sizes: an odd last column or row is doubled, so a 5x3 video is stored as 6x4, and nothing
    moves. Colours are BT.709, tagged so.

    The file is written aside and gets its name from `finish()`, which leaving the block calls; where the
    block raised, nothing remains. To keep what is done on Ctrl-C, catch KeyboardInterrupt inside the block
    and call `finish()` (it may be called more than once).

    Raises:
        FileExistsError: the path exists and `force` is not set.
        VideoError: an argument or frame that cannot be written.
        OSError: the disk is full, the folder may not be written to.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fps: float | Fraction | None = None,
        timestamps: Sequence[float] | np.ndarray | None = None,
        size: tuple[int, int] | None = None,
        codec: str | None = None,
        crf: int | None = None,
        alpha: bool = False,
        audio_from: str | os.PathLike[str] | None = None,
        force: bool = False,
    ) -> None:
        if fps is not None and timestamps is not None:
            raise VideoError("give fps or timestamps, not both")
        if fps is not None and not 0 < fps < 100_000:
            raise VideoError(f"fps is {fps}: it must be above 0")
        self.path = Path(path)
        self.frames_written = 0
        self._codec: VideoCodec = choose_codec(self.path, codec, crf, alpha)
        self._rate = None if fps is None else near_rate(fps)
        self._timestamps = None if timestamps is None else np.asarray(timestamps, np.float64)
        self._size = size
        self._audio_from = audio_from
        self._aside = Aside(self.path, force)
        self._output: Any = None
        self._stream: Any = None
        self._audio: AudioTrack | None = None
        self._first_time = 0.0
        self._last_tick = -1
        self._done = False

    def write(self, frame: np.ndarray, timestamp: float | None = None) -> None:
        """Append one frame: uint8 [H, W, 3] RGB, or [H, W, 4] RGBA where `alpha` is set.

        `timestamp` (seconds) overrides what the sink was opened with.
        """
        if self._done:
            raise VideoError(f"{self.path} is finished: no frame can be added")
        frame = self._checked(frame)
        when = self._time(timestamp)
        if self._output is None:
            self._first_time = when if self._rate is None or timestamp is not None else 0.0
            self._open(frame.shape[1], frame.shape[0])
        clock = self._stream.codec_context.time_base
        if self._rate is not None and timestamp is None:
            tick = round(self.frames_written / (self._rate * clock))
        else:
            tick = round((when - self._first_time) / clock)
        if tick <= self._last_tick:
            if when - self._first_time < self._seconds(self._last_tick) - 1e-9:
                raise VideoError(
                    f"frame {self.frames_written} at {when:g} s comes before the frame already written"
                )
            tick = self._last_tick + 1
        picture = self._codec.to_frame(frame)
        picture.pts = tick
        picture.time_base = clock
        self._last_tick = tick
        self._output.mux(self._stream.encode(picture))
        self.frames_written += 1
        if self._audio is not None:
            self._audio.advance(self._seconds(tick))

    def finish(self) -> Path:
        """Complete the file and give it its name. Frames written so far are kept; more cannot be added.

        Raises:
            VideoError: no frame has been written.
            FileExistsError: the path came into being meanwhile and `force` is not set.
        """
        if self._done:
            return self.path
        if self._output is None:
            self._done = True
            raise VideoError(f"{self.path} was not written: it was given no frame")
        try:
            self._output.mux(self._stream.encode(None))
            if self._audio is not None:
                self._audio.advance(self._seconds(self._last_tick) + float(self._frame_length()))
            self._close()
            return self._aside.commit()
        except BaseException:
            self.abort()
            raise
        finally:
            self._done = True

    def abort(self) -> None:
        """Drop everything; nothing remains on disk. No error after `finish()`, where it does nothing."""
        if not self._done:
            self._done = True
            with contextlib.suppress(av.FFmpegError):  # the file is being thrown away
                self._close()
            self._aside.discard()

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.abort()

    def _checked(self, frame: np.ndarray) -> np.ndarray:
        frame = np.asarray(frame)
        channels = 4 if self._codec.alpha else 3
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != channels or 0 in frame.shape:
            raise VideoError(
                f"frame {self.frames_written} is {frame.dtype} {frame.shape}: this video takes uint8 "
                f"[H, W, {channels}]" + ("" if self._codec.alpha else " (alpha=True takes RGBA)")
            )
        size = (frame.shape[1], frame.shape[0])
        if self._size is None:
            self._size = size
        if size != tuple(self._size):
            raise VideoError(
                f"frame {self.frames_written} is {size[0]}x{size[1]}, but the video is "
                f"{self._size[0]}x{self._size[1]}: all frames must have one size"
            )
        return frame

    def _time(self, timestamp: float | None) -> float:
        if timestamp is not None:
            return float(timestamp)
        if self._timestamps is not None:
            if self.frames_written >= len(self._timestamps):
                raise VideoError(
                    f"there are timestamps for {len(self._timestamps)} frames, and one frame more came"
                )
            return float(self._timestamps[self.frames_written])
        if self._rate is None:
            raise VideoError(
                "the time of the frame is unknown: give fps, timestamps, or write(frame, timestamp)"
            )
        return float(self.frames_written / self._rate)

    def _average_rate(self) -> Fraction:
        if self._rate is not None:
            return self._rate
        if self._timestamps is not None and len(self._timestamps) > 1:
            length = float(self._timestamps[-1] - self._timestamps[0])
            if length > 0:
                return near_rate((len(self._timestamps) - 1) / length)
        return Fraction(25)

    def _frame_length(self) -> Fraction:
        return 1 / self._average_rate()

    def _seconds(self, tick: int) -> float:
        return float(tick * self._stream.codec_context.time_base)

    def _open(self, width: int, height: int) -> None:
        output = av.open(str(self._aside.temporary), "w", format=self._codec.container)
        try:
            clock = _FINE_CLOCK if self._rate is None else 1 / self._rate
            stream = self._codec.add_stream(output, self._average_rate(), clock, width, height)
            if self._audio_from is not None:
                self._audio = AudioTrack.open(
                    self._audio_from, output, self._codec.container, self._first_time
                )
            output.start_encoding()
        except BaseException:
            output.close()
            self._aside.discard()
            raise
        self._output, self._stream = output, stream

    def _close(self) -> None:
        if self._audio is not None:
            self._audio.close()
        if self._output is not None:
            self._output.close()


class FrameFolderSink:
    """Write frames as numbered pictures into a folder, each file written aside and renamed.

    Args:
        folder: made where it is missing.
        suffix: ".png", ".jpg" or ".webp" (lossless).
        digits: width of the number in the file names, 00000.png for 5.
        quality: of JPEG, 1 to 95.
        force: write into a folder that already holds files, replacing those of the same name.

    Raises:
        FileExistsError: the folder is not empty (or is a file) and `force` is not set.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        suffix: str = ".png",
        digits: int = 5,
        quality: int = 95,
        force: bool = False,
    ) -> None:
        formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
        if suffix.lower() not in formats:
            raise VideoError(f"frames cannot be written as {suffix!r}: choose {', '.join(formats)}")
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise FileExistsError(f"{self.folder} is a file: give the name of a folder")
        if self.folder.is_dir() and any(self.folder.iterdir()) and not force:
            raise FileExistsError(
                f"{self.folder} is not empty: choose another folder, or write into it with --force "
                "(force=True)"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.frames_written = 0
        self._suffix = suffix
        self._format = formats[suffix.lower()]
        self._digits = digits
        self._quality = quality
        self._next = 0

    def write(self, frame: np.ndarray, index: int | None = None) -> Path:
        """Write one frame: uint8 [H, W] grey, [H, W, 3] RGB or [H, W, 4] RGBA (not as JPEG).

        `index` is its number; default: one more than the last.
        """
        frame = np.asarray(frame)
        channels = frame.shape[2] if frame.ndim == 3 else 1
        if (
            frame.dtype != np.uint8
            or frame.ndim not in (2, 3)
            or channels not in (1, 3, 4)
            or 0 in frame.shape
        ):
            raise VideoError(
                f"a frame is {frame.dtype} {frame.shape}: uint8 [H, W], [H, W, 3] or [H, W, 4] is needed"
            )
        if channels == 4 and self._format == "JPEG":
            raise VideoError("JPEG holds no transparency: write RGBA frames as .png or .webp")
        number = self._next if index is None else index
        path = self.folder / f"{number:0{self._digits}d}{self._suffix}"
        encoded = io.BytesIO()
        options: dict[str, Any] = {"quality": self._quality} if self._format == "JPEG" else {}
        if self._format == "WEBP":
            options = {"lossless": True}
        Image.fromarray(frame.squeeze(2) if frame.ndim == 3 and channels == 1 else frame).save(
            encoded, self._format, **options
        )
        with written_aside(path, force=True) as temporary:
            temporary.write_bytes(encoded.getvalue())
        self._next = number + 1
        self.frames_written += 1
        return path

    def finish(self) -> Path:
        """The folder; every frame is already in place."""
        return self.folder

    def __enter__(self) -> FrameFolderSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
