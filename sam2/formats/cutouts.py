"""Objects alone, the rest transparent: PNG, or video with an alpha plane."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from scipy import ndimage

from sam2.formats.choices import CutOutOptions
from sam2.formats.frames import FrameMasks, Picture, Source
from sam2.formats.stills import Files
from sam2.formats.videos import VideoFile
from sam2.masks import png
from sam2.masks.geometry import mask_to_box
from sam2.masks.inputs import Mask

_MOST_VIDEOS = 16
"""Each is an encoder that runs beside the others."""
_TOGETHER = "all"


def _cuts(frame: FrameMasks, source: Source, options: CutOutOptions) -> Iterator[tuple[str, Mask]]:
    """What is cut out of a frame, and its name."""
    if options.together:
        yield _TOGETHER, frame.union(source.size)
        return
    for object_id, found in frame.objects.items():
        source.name(object_id)  # refuses an object that was not announced
        yield str(object_id), found.mask


class _CutOutPictures(Files):
    """cutout/ID.png of a picture, cutout/ID/FRAME.png of a video."""

    def __init__(self, root: Path, source: Source, options: CutOutOptions) -> None:
        super().__init__(root, source, options)
        self._options = options

    def add(self, frame: FrameMasks) -> None:
        picture = self.source.picture(frame.index)
        for name, mask in _cuts(frame, self.source, self._options):
            crop = self._options.crop and bool(mask.any())
            png.write_cut_out(self.path(frame, name), picture, mask, crop=crop)


class _CutOutVideos:
    """cutout/ID.webm or cutout/ID.mov; where an object is absent, its frame is transparent."""

    in_order = True

    def __init__(self, root: Path, source: Source, options: CutOutOptions) -> None:
        if len(source.objects) > _MOST_VIDEOS and not options.together:
            raise ValueError(
                f"{len(source.objects)} videos at once are too many to encode ({_MOST_VIDEOS} at most): "
                "choose the option together=true or container=png"
            )
        self._source = source
        self._options = options
        self._stack = ExitStack()
        root.mkdir(parents=True, exist_ok=True)
        self._videos: dict[str, VideoFile] = {}
        for name in [_TOGETHER] if options.together else map(str, source.objects):
            video = VideoFile(root / f"{name}.{options.container}", source, alpha=True)
            self._stack.callback(video.close)
            self._videos[name] = video

    def add(self, frame: FrameMasks) -> None:
        picture = self._source.picture(frame.index)
        cuts = dict(_cuts(frame, self._source, self._options))
        for name, video in self._videos.items():
            video.write(frame, _lifted(picture, cuts.get(name)))

    def finish(self) -> None:
        for video in self._videos.values():
            video.finish()

    def close(self) -> None:
        self._stack.close()


def _lifted(picture: Picture, mask: Mask | None) -> Picture:
    """RGBA of the object. Its surroundings keep their colours for two pixels, since codecs mix the colours of
    neighbours; beyond it is black, which costs nothing."""
    result = np.zeros((*picture.shape[:2], 4), dtype=np.uint8)
    box = None if mask is None else mask_to_box(mask)
    if mask is None or box is None:
        return result
    x0, y0, x1, y1 = box
    near = np.s_[max(y0 - 2, 0) : y1 + 2, max(x0 - 2, 0) : x1 + 2]
    grown = ndimage.maximum_filter(mask[near], size=5)
    result[near][..., :3] = picture[near] * grown[..., None]
    result[near][..., 3] = mask[near] * np.uint8(255)
    return result


def open_cutout(root: Path, source: Source, options: CutOutOptions) -> Files | _CutOutVideos:
    """The writer for what was chosen."""
    videos = source.is_video and options.container != "png"
    return (_CutOutVideos if videos else _CutOutPictures)(root, source, options)
