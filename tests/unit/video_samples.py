"""Small videos made on the spot, for the tests of `sam2.video`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

TKHD_MATRIX = 44  # bytes from the name of a version 0 tkhd box to its matrix


def picture(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth picture of which no two numbers below 100 look alike: a bar moves over a gradient."""
    frame = np.empty((height, width, 3), np.uint8)
    frame[..., 0] = np.linspace(20, 200, width).astype(np.uint8)
    frame[..., 1] = np.linspace(200, 20, height).astype(np.uint8)[:, None]
    frame[..., 2] = number * 2 % 256
    left = number * 3 % width
    frame[:, left : left + 4] = 240
    return frame


def noise(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A picture that no codec makes small."""
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def encode(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: Fraction | int = 25,
    options: dict[str, str] | None = None,
    movflags: str = "",
    seconds: Sequence[float] | None = None,
) -> Path:
    """Encode frames of one size; `seconds` gives each a time of its own, in milliseconds at best."""
    height, width = frames[0].shape[:2]
    container_options = {"movflags": movflags} if movflags else {}
    with av.open(str(path), "w", options=container_options) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=dict(options or {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        if seconds is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
            if seconds is not None:
                frame.pts, frame.time_base = round(seconds[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def add_sound(
    path: Path, source: Path, codec: str = "aac", seconds: float = 2.0, hertz: float = 440.0
) -> Path:
    """Copy the pictures of `source` into `path` and add a tone."""
    rate = 48_000
    with av.open(str(source)) as given, av.open(str(path), "w") as container:
        video = container.add_stream_from_template(given.streams.video[0])
        audio: Any = container.add_stream(codec, rate=rate)
        audio.codec_context.layout = "mono"
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = video
                container.mux(packet)
        tone = np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate).astype(np.float32) * 0.5
        sound = av.AudioFrame.from_ndarray(tone[None], "fltp", "mono")
        sound.sample_rate = rate
        resampler = av.AudioResampler(
            audio.codec_context.format, "mono", rate, audio.codec_context.frame_size or 1024
        )
        for piece in [*resampler.resample(sound), *resampler.resample(None)]:
            container.mux(audio.encode(piece))
        container.mux(audio.encode(None))
    return path


def sound_of(path: Path) -> tuple[str, np.ndarray, float]:
    """Codec name, samples of the first channel, and time of the first sample in seconds."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        resampler = av.AudioResampler("fltp", "mono", frames[0].sample_rate)
        pieces = [piece.to_ndarray()[0] for frame in frames for piece in resampler.resample(frame)]
        return (
            container.streams.audio[0].codec_context.name,
            np.concatenate(pieces),
            float(frames[0].time or 0),
        )


def set_display_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write a, b, c, d of the display matrix into the track header of an MP4."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + TKHD_MATRIX
    for offset, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[at + offset : at + offset + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)


def packet_places(path: Path) -> list[tuple[int, int]]:
    """Byte position and size of each video packet, in the order of the file."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def blank_packets(path: Path, numbers: Sequence[int]) -> None:
    """Overwrite packets with zeros."""
    places = packet_places(path)
    data = bytearray(path.read_bytes())
    for number in numbers:
        position, size = places[number]
        data[position : position + size] = bytes(size)
    path.write_bytes(data)


def reference(path: Path) -> list[np.ndarray]:
    """All frames as PyAV gives them in order."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
