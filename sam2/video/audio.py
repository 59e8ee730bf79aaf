"""The sound track of a source video, carried over into a video being written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from sam2.video.errors import VideoError, VideoNotFoundError

__all__ = ["AudioTrack"]

# What each container holds without re-encoding, and what its sound is encoded to otherwise.
_CARRIES = {
    "mp4": {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"},
    "mov": {"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s24le", "pcm_f32le"},
    "webm": {"opus", "vorbis"},
    "matroska": {"aac", "mp3", "ac3", "eac3", "alac", "opus", "vorbis", "flac", "pcm_s16le", "pcm_s24le"},
}
_ENCODERS = {"mp4": "aac", "mov": "aac", "matroska": "aac", "webm": "libopus"}


class AudioTrack:
    """The first sound track of `source`, muxed into `output` step by step as the pictures advance.

    Packets are copied where the container can hold them, else decoded and encoded again (AAC, or Opus in
    WebM). Raises VideoError where there is no readable source; a source without sound is
    `AudioTrack.open(...) is None`.
    """

    def __init__(self, container: Any, stream: Any, output: Any, output_format: str, start: float) -> None:
        self._input = container
        self._output = output
        self._start = start
        # The same zero as VideoReader.timestamps.
        self._zero = (container.start_time or 0) / av.time_base
        name = stream.codec_context.codec.canonical_name
        self._copied = name in _CARRIES[output_format]
        if self._copied:
            self._stream = output.add_stream_from_template(stream)
        else:
            encoder = _ENCODERS[output_format]
            rate = 48_000 if encoder == "libopus" else stream.codec_context.sample_rate
            self._stream = output.add_stream(encoder, rate=rate)
            self._stream.codec_context.layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        self._packets: Iterator[tuple[float, Any]] = (
            self._copies(stream) if self._copied else self._encoded(stream)
        )
        self._next = next(self._packets, None)

    @classmethod
    def open(
        cls, source: str | os.PathLike[str], output: Any, output_format: str, start: float
    ) -> AudioTrack | None:
        """The sound of `source` from `start` seconds on, or None where it has none."""
        if output_format not in _CARRIES:
            return None
        path = Path(source)
        if not path.exists():
            raise VideoNotFoundError(
                f"{path} does not exist: audio_from takes the path of a video with sound"
            )
        if path.is_dir():
            return None
        try:
            container = av.open(f"file:{path}", metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"the sound of {path} cannot be read: {error}") from None
        usable = [s for s in container.streams.audio if s.codec_context is not None]
        if not usable:
            container.close()
            return None
        return cls(container, usable[0], output, output_format, start)

    def advance(self, until: float) -> None:
        """Mux everything that begins before `until` seconds of the output."""
        while self._next is not None and self._next[0] < until:
            self._output.mux(self._next[1])
            self._next = next(self._packets, None)

    def close(self) -> None:
        self._input.close()

    def _copies(self, stream: Any) -> Iterator[tuple[float, Any]]:
        shift = round((self._start + self._zero) / stream.time_base)
        for packet in self._demux(stream):
            if packet.dts is None or packet.pts is None or packet.pts < shift:
                continue
            packet.pts -= shift
            packet.dts -= shift
            when = float(packet.pts * packet.time_base)
            packet.stream = self._stream
            yield when, packet

    def _encoded(self, stream: Any) -> Iterator[tuple[float, Any]]:
        context = self._stream.codec_context
        resampler = av.AudioResampler(format=context.format, layout=context.layout, rate=context.sample_rate)
        fifo = av.AudioFifo()
        made = 0
        begun = 0.0

        def encode(frame: Any) -> Iterator[tuple[float, Any]]:
            for packet in self._stream.encode(frame):
                yield float((packet.pts or 0) * packet.time_base), packet

        def pull(partial: bool) -> Iterator[tuple[float, Any]]:
            nonlocal made
            size = context.frame_size or 1024
            while (piece := fifo.read(size, partial=partial)) is not None:
                piece.pts = made + round(begun * context.sample_rate)
                piece.time_base = Fraction(1, context.sample_rate)
                made += piece.samples
                yield from encode(piece)

        first = True
        for packet in self._demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            for frame in frames:
                when = (frame.time or 0.0) - self._zero - self._start
                if when < 0:
                    continue
                if first:
                    begun, first = when, False
                for converted in resampler.resample(frame):
                    converted.pts = None
                    fifo.write(converted)
                yield from pull(partial=False)
        for converted in resampler.resample(None):
            converted.pts = None
            fifo.write(converted)
        yield from pull(partial=True)
        yield from encode(None)

    def _demux(self, stream: Any) -> Iterator[Any]:
        try:
            for packet in self._input.demux(stream):
                if packet.size:
                    yield packet
        except av.FFmpegError:
            return  # sound that cannot be read further ends here; the pictures go on
