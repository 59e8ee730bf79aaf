"""The objects as they are, what is around them changed: PNG of a picture, MP4 of a video."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sam2.formats.choices import BackgroundOptions
from sam2.formats.frames import FrameMasks, Picture, Source
from sam2.formats.stills import Files
from sam2.formats.videos import VideoFile
from sam2.masks import background
from sam2.masks.colors import from_hex
from sam2.masks.files import write_bytes
from sam2.masks.inputs import Mask
from sam2.masks.png import encode_png
from sam2.video.picture import read_picture


class _Stage:
    """Makes the picture of a frame."""

    def __init__(self, source: Source, options: BackgroundOptions) -> None:
        self._source = source
        self._options = options
        self._radius = options.blur / 1000 * min(source.size)
        self._constant: Picture | None = None
        if options.mode == "color":
            self._constant = np.full((*source.size, 3), from_hex(options.color), dtype=np.uint8)
        elif options.mode == "picture":
            if not options.picture:
                raise ValueError("mode=picture asks for a picture: give its path as the option picture")
            self._constant = background.covering(read_picture(options.picture), source.size)

    def draw(self, frame: FrameMasks) -> Picture:
        """The objects in front of the background."""
        picture = self._source.picture(frame.index)
        keep = frame.union(self._source.size)
        return background.composed(picture, keep, self._behind(picture, keep), self._options.soft)

    def _behind(self, picture: Picture, keep: Mask) -> Picture:
        if self._constant is not None:
            return self._constant
        if self._options.mode == "grey":
            return background.grey(picture)
        return background.blurred(picture, keep, self._radius)


class _BackgroundPicture(Files):
    """background.png."""

    def __init__(self, root: Path, source: Source, options: BackgroundOptions) -> None:
        super().__init__(root, source, options)
        self._stage = _Stage(source, options)

    def add(self, frame: FrameMasks) -> None:
        write_bytes(self.root, encode_png(self._stage.draw(frame)))


class _BackgroundVideo(VideoFile):
    """background.mp4."""

    def __init__(self, path: Path, source: Source, options: BackgroundOptions) -> None:
        self._stage = _Stage(source, options)
        super().__init__(path, source)

    def add(self, frame: FrameMasks) -> None:
        self.write(frame, self._stage.draw(frame))


def open_background(path: Path, source: Source, options: BackgroundOptions) -> Files | VideoFile:
    """The writer for a picture or a video."""
    return (_BackgroundVideo if source.is_video else _BackgroundPicture)(path, source, options)
