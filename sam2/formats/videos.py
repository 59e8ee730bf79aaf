"""What formats that make a video have in common: the source's times and sound."""

from __future__ import annotations

from pathlib import Path

from sam2.formats.frames import FrameMasks, Picture, Source
from sam2.video.sink import VideoSink


class VideoFile:
    """A video with the times of the source's frames and its sound."""

    in_order = True

    def __init__(self, path: Path, source: Source, *, alpha: bool = False) -> None:
        self.source = source
        self._sink = VideoSink(path, timestamps=source.timestamps, audio_from=source.sound, alpha=alpha)

    def write(self, frame: FrameMasks, picture: Picture) -> None:
        """Append the picture made for a frame."""
        self._sink.write(picture, frame.time)

    def finish(self) -> None:
        """Complete the file."""
        self._sink.finish()

    def close(self) -> None:
        """Drop the file where it is not complete."""
        self._sink.abort()
