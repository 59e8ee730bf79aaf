"""Which encoder a file name and the options mean, and how frames are handed to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from sam2.video.errors import VideoError

__all__ = ["VideoCodec", "choose_codec"]

_CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".gif": "gif",
}
_DEFAULTS = {"mp4": "h264", "mov": "h264", "matroska": "h264", "webm": "vp9", "gif": "gif"}
_FITS = {
    "h264": {"mp4", "mov", "matroska"},
    "vp9": {"webm", "matroska", "mp4"},
    "prores": {"mov", "matroska"},
    "gif": {"gif"},
}
_BT709 = 1
_LIMITED_RANGE = 1


@dataclass(frozen=True)
class VideoCodec:
    """One way of encoding: `encoder` and `pix_fmt` are FFmpeg's names, `even` asks for even sizes."""

    container: str
    encoder: str
    pix_fmt: str
    alpha: bool
    even: bool = False
    options: dict[str, str] = field(default_factory=dict)

    def add_stream(self, output: Any, rate: Fraction, clock: Fraction, width: int, height: int) -> Any:
        """A video stream in `output` for frames of this size, timed in units of `clock` seconds."""
        stream = output.add_stream(self.encoder, rate=rate, options=dict(self.options))
        stream.width = width + width % 2 if self.even else width
        stream.height = height + height % 2 if self.even else height
        stream.pix_fmt = self.pix_fmt
        context = stream.codec_context
        context.time_base = Fraction(1, 100) if self.encoder == "gif" else clock
        if self.encoder != "gif":
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _LIMITED_RANGE
        return stream

    def to_frame(self, picture: np.ndarray) -> Any:
        """An encoder's frame from uint8 [H, W, 3 or 4]."""
        if self.encoder == "gif":
            return _palette_frame(picture)
        if self.even:
            rows, columns = picture.shape[0] % 2, picture.shape[1] % 2
            if rows or columns:
                picture = np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgba" if self.alpha else "rgb24")
        frame = frame.reformat(format=self.pix_fmt, dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.colorspace = _BT709
        frame.color_range = _LIMITED_RANGE
        return frame


def choose_codec(path: Path, codec: str | None, crf: int | None, alpha: bool) -> VideoCodec:
    """The codec for a file name.

    Raises:
        VideoError: an ending or codec that cannot be written, or a combination that cannot hold what is
            asked.
    """
    suffix = path.suffix.lower()
    if suffix not in _CONTAINERS:
        raise VideoError(
            f"videos cannot be written as {path.name!r}: end the name with {', '.join(_CONTAINERS)}"
        )
    container = _CONTAINERS[suffix]
    name = codec or ("prores" if alpha and "prores" in _codecs_of(container) else _DEFAULTS[container])
    if name not in _FITS:
        raise VideoError(f"unknown codec {name!r}: choose {', '.join(_FITS)}")
    if container not in _FITS[name]:
        raise VideoError(f"{suffix} does not hold {name}: choose {', '.join(_codecs_of(container))}")
    if crf is not None and not 0 <= crf <= 63:
        raise VideoError(f"crf is {crf}: it must be from 0 to 51 for h264, to 63 for vp9")
    if name == "h264":
        if alpha:
            raise VideoError(f"{suffix} with h264 holds no transparency: write .webm, .mov or .gif")
        quality = {"crf": str(18 if crf is None else crf), "preset": "veryfast"}
        return VideoCodec(container, "libx264", "yuv420p", False, even=True, options=quality)
    if name == "vp9":
        if alpha and container == "mp4":
            raise VideoError(".mp4 holds no transparency: write .webm, .mov or .gif")
        options = {"crf": str(30 if crf is None else crf), "b": "0", "deadline": "realtime", "cpu-used": "6"}
        if alpha:
            options["auto-alt-ref"] = "0"  # the alpha plane is a stream of its own and must keep step
        return VideoCodec(container, "libvpx-vp9", "yuva420p" if alpha else "yuv420p", alpha, options=options)
    if name == "prores":
        return VideoCodec(container, "prores_ks", "yuva444p10le", alpha, options={"profile": "4444"})
    return VideoCodec(container, "gif", "pal8", alpha)


def _codecs_of(container: str) -> list[str]:
    return [name for name, containers in _FITS.items() if container in containers]


def _palette_frame(picture: np.ndarray) -> Any:
    """Each frame with a palette of its own; with alpha, the last entry is the transparent one."""
    colours = 255 if picture.shape[2] == 4 else 256
    indexed = Image.fromarray(picture[:, :, :3]).quantize(colours, Image.Quantize.FASTOCTREE)
    palette = np.zeros((256, 4), np.uint8)
    entries = np.asarray(indexed.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette[: len(entries), 1:] = entries
    palette[:, 0] = 255
    indices = np.array(indexed)
    if picture.shape[2] == 4:
        palette[255] = 0
        indices[picture[:, :, 3] < 128] = 255
    return av.VideoFrame.from_ndarray((indices, palette), "pal8")  # type: ignore[arg-type]
