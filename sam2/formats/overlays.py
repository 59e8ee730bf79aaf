"""Masks drawn over the source: PNG of a picture, MP4 or GIF of a video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sam2.formats.choices import OverlayOptions
from sam2.formats.frames import FrameMasks, Picture, Source
from sam2.formats.stills import Files
from sam2.formats.videos import VideoFile
from sam2.masks.files import write_bytes
from sam2.masks.overlay import overlay
from sam2.masks.png import encode_png
from sam2.masks.sheets import sheet

_AT_A_TIME = 16
"""So many masks are decoded at once."""


class _Pen:
    """Draws objects of a frame and what was pointed at; large masks lie below small ones."""

    def __init__(self, source: Source, options: OverlayOptions) -> None:
        self._source = source
        self._options = options

    def draw(self, frame: FrameMasks, object_ids: Sequence[int]) -> Picture:
        """The picture of a frame with some of its objects."""
        source, options = self._source, self._options
        picture = source.picture(frame.index)
        below_first = sorted(object_ids, key=lambda key: -frame.objects[key].area)
        labels: dict[int, str] = {}
        several = len(object_ids) > 1 or any(info.name for info in source.objects.values())
        if options.labels and source.label_objects and several:
            labels = {object_id: source.name(object_id) for object_id in object_ids}
        for start in range(0, len(below_first), _AT_A_TIME):
            some = {key: frame.objects[key].mask for key in below_first[start : start + _AT_A_TIME]}
            picture = overlay(
                picture,
                some,
                opacity=options.opacity,
                thickness=None if options.outline else 0,
                colors={key: source.color(key) for key in some},
                labels=labels,
            )
        if options.prompts:
            for mark in source.marks.get(frame.index, ()):
                picture = overlay(
                    picture, {}, points=mark.points, point_labels=mark.point_labels, boxes=mark.box
                )
        return picture


class _OverlayPicture(Files):
    """overlay.png of a picture; of several candidates for one object, a sheet with one beside the other."""

    def __init__(self, root: Path, source: Source, options: OverlayOptions) -> None:
        super().__init__(root, source, options)
        self._pen = _Pen(source, options)

    def add(self, frame: FrameMasks) -> None:
        if self.source.candidates:
            pictures = [self._pen.draw(frame, [object_id]) for object_id in frame.objects]
            captions = [
                f"{object_id}: predicted IoU {found.predicted_iou:.2f}"
                for object_id, found in frame.objects.items()
            ]
            width = min(640, self.source.size[1])
            picture = sheet(pictures, captions, columns=len(pictures), cell_width=width)
        else:
            picture = self._pen.draw(frame, list(frame.objects))
        write_bytes(self.root, encode_png(picture))


class _OverlayVideo(VideoFile):
    """overlay.mp4 or overlay.gif."""

    def __init__(self, path: Path, source: Source, options: OverlayOptions) -> None:
        super().__init__(path, source)
        self._pen = _Pen(source, options)
        self._widest = options.gif_width if options.container == "gif" else source.size[1]

    def add(self, frame: FrameMasks) -> None:
        picture = self._pen.draw(frame, list(frame.objects))
        height, width = picture.shape[:2]
        if width > self._widest:
            size = self._widest, max(1, round(height * self._widest / width))
            picture = np.array(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
        self.write(frame, picture)


def open_overlay(path: Path, source: Source, options: OverlayOptions) -> Files | VideoFile:
    """The writer for a picture or a video."""
    return (_OverlayVideo if source.is_video else _OverlayPicture)(path, source, options)
