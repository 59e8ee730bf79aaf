"""What can go wrong with pictures and videos, as errors that name the input and the mend."""

from __future__ import annotations

__all__ = [
    "LiveStallError",
    "PictureError",
    "PictureNotFoundError",
    "VideoError",
    "VideoNotFoundError",
    "VideoWarning",
]


class PictureError(ValueError):
    """A still picture cannot be read, or is not one."""


class PictureNotFoundError(PictureError, FileNotFoundError):
    """There is no file at the path given for a picture."""


class VideoError(ValueError):
    """A video cannot be read or written."""


class VideoNotFoundError(VideoError, FileNotFoundError):
    """There is no file or folder at the path given for a video."""


class LiveStallError(VideoError, TimeoutError):
    """A live source gave nothing for longer than the caller was ready to wait."""


class VideoWarning(UserWarning):
    """Part of a video is lost or damaged; the rest can be used."""
