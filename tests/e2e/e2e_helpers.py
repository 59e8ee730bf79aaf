"""Small media, and the command in a process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

REPOSITORY = Path(__file__).parents[2]
# Overrides that make of `mini` a model for tests that are about everything around it.
MINIATURE = [
    "++model.image_size=128",
    "++model.image_encoder.trunk.embed_dim=16",
    "++model.image_encoder.neck.backbone_channel_list=[128,64,32,16]",
]


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    def refused(self, *words: str) -> bool:
        """Whether it ended as a user error should: status 2 and one line that holds all of `words`."""
        lines = self.err.splitlines()
        assert self.code == 2, self
        assert len(lines) == 1, self.err
        assert lines[0].startswith("sam2: error: "), self.err
        for word in words:
            assert word in lines[0], lines[0]
        return True


def picture_of(width: int = 96, height: int = 64, shift: int = 0) -> np.ndarray:
    """A bright disc over a gradient, `shift` pixels to the right."""
    y, x = np.mgrid[:height, :width]
    picture = np.stack([x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), x * 0 + 60], axis=-1)
    picture[(x - width / 3 - shift) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2] = (250, 240, 30)
    return picture.astype(np.uint8)


def command(*arguments: object) -> Sequence[str]:
    return [sys.executable, "-m", "sam2", *map(str, arguments)]


def environment() -> dict[str, str]:
    """This process's, with the repository importable and few threads."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def write_clip(path: Path, count: int = 5, times: Sequence[float] | None = None, sound: bool = False) -> Path:
    """An MP4 in which a disc moves, 96 x 64 at 10 frames a second or at `times`; `sound` adds a tone."""
    seconds = [index / 10 for index in range(count)] if times is None else list(times)
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=10, options={"crf": "12", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        tone: Any = None
        if sound:
            tone = container.add_stream("aac", rate=48_000)
            tone.codec_context.layout = "mono"
        for index, when in enumerate(seconds):
            frame = av.VideoFrame.from_ndarray(picture_of(shift=3 * index), "rgb24")
            frame.pts, frame.time_base = round(when * 1000), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound:
            length = round(48_000 * (seconds[-1] + 0.1))
            wave = np.sin(np.arange(length) * (2 * np.pi * 440 / 48_000)).astype(np.float32) / 2
            for start in range(0, length, 1024):
                piece = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], "fltp", "mono")
                piece.sample_rate, piece.pts = 48_000, start
                container.mux(tone.encode(piece))
            container.mux(tone.encode(None))
    return path


def times_of(path: Path) -> list[float]:
    """Seconds of each frame of a video."""
    with av.open(str(path)) as container:
        return [float(frame.time) for frame in container.decode(video=0)]


def tone_of(path: Path) -> float:
    """The loudest frequency of a video's sound, in hertz."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    return float(np.abs(np.fft.rfft(samples)).argmax() * frames[0].sample_rate / len(samples))
