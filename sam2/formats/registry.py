"""Every export format with its options, for the command and the studio. Light: writers load when used."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sam2.formats import choices
from sam2.formats.options import Options

if TYPE_CHECKING:
    from sam2.formats.frames import FrameMasks, Source


class Writer(Protocol):
    """Writes one format: ``add`` frame after frame, then ``finish``.

    ``in_order``: frames must come by rising index. ``close`` ends early, and does nothing after ``finish``;
    what was written until then is for the caller to throw away.
    """

    in_order: bool

    def add(self, frame: FrameMasks) -> None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class ExportFormat:
    """One export format."""

    name: str
    title: str
    """A few words for a list to choose from."""
    about: str
    """A line for help."""
    entry_of: Callable[[Any, bool], str]
    """What it makes, from the options and whether the source is a video: a file name, or a folder's."""
    writer: str
    """Module and maker of the writer: ``maker(path, source, options)``."""
    options: type[Options] = Options
    kinds: tuple[str, ...] = ("picture", "video")
    highest_id: int | None = None

    def entry(self, options: Options, is_video: bool) -> str:
        """The name of the file or folder that it makes."""
        return self.entry_of(options, is_video)

    def check(self, is_video: bool, object_ids: Iterable[int]) -> None:
        """Raises ValueError where the format does not fit the source, before any work."""
        kind = "video" if is_video else "picture"
        if kind not in self.kinds:
            raise ValueError(f"the format {self.name} is for a {self.kinds[0]}, not for a {kind}")
        for object_id in object_ids:
            if self.highest_id is not None and object_id > self.highest_id:
                raise ValueError(
                    f"object id {object_id} does not fit the format {self.name}, which holds "
                    f"1..{self.highest_id}: number the objects from 1, or choose another --format"
                )

    def open(self, path: Path, source: Source, options: Options) -> Writer:
        """A writer that makes ``path``, which must not exist."""
        module, _, name = self.writer.partition(":")
        return getattr(import_module(f"sam2.formats.{module}"), name)(path, source, options)


def _always(name: str) -> Callable[[Any, bool], str]:
    return lambda _options, _is_video: name


FORMATS: dict[str, ExportFormat] = {
    one.name: one
    for one in (
        ExportFormat(
            "overlay",
            "Overlay",
            "the masks drawn over the picture (PNG) or video (MP4 with its timing and sound, or GIF)",
            lambda options, is_video: f"overlay.{options.container if is_video else 'png'}",
            "overlays:open_overlay",
            choices.OverlayOptions,
        ),
        ExportFormat(
            "davis",
            "DAVIS indexed PNG",
            "indexed PNG: one picture a frame, pixel value = object id, with the DAVIS palette",
            lambda _options, is_video: "davis" if is_video else "davis.png",
            "stills:Davis",
            highest_id=255,
        ),
        ExportFormat(
            "png",
            "Binary PNG per object",
            "binary PNG per object: 255 on, 0 off",
            _always("png"),
            "stills:BinaryPng",
        ),
        ExportFormat(
            "coco",
            "COCO JSON",
            "COCO JSON with RLE masks or polygons, as pycocotools reads it; of a video also YouTube-VIS",
            _always("coco.json"),
            "coco:open_coco",
            choices.CocoOptions,
        ),
        ExportFormat(
            "yolo",
            "YOLO segmentation",
            "a YOLO segmentation data set: pictures, polygon labels and data.yaml",
            _always("yolo"),
            "yolo:Yolo",
            choices.YoloOptions,
        ),
        ExportFormat(
            "labelstudio",
            "Label Studio import",
            "Label Studio tasks: brush or polygon masks, boxes through a video, and the interface for them",
            _always("labelstudio"),
            "labelstudio:open_labelstudio",
            choices.LabelStudioOptions,
        ),
        ExportFormat(
            "cvat",
            "CVAT import",
            "CVAT 1.1 XML: masks or polygons on images, or tracks through a video",
            _always("cvat.xml"),
            "cvat:open_cvat",
            choices.CvatOptions,
        ),
        ExportFormat(
            "cutout",
            "Cut-outs with transparency",
            "each object alone, the rest transparent: PNG, or of a video WebM (VP9) or MOV (ProRes 4444)",
            _always("cutout"),
            "cutouts:open_cutout",
            choices.CutOutOptions,
        ),
        ExportFormat(
            "background",
            "Background changed",
            "the background blurred, grey, of one colour or another picture (PNG; of a video MP4 with sound)",
            lambda _options, is_video: f"background.{'mp4' if is_video else 'png'}",
            "backgrounds:open_background",
            choices.BackgroundOptions,
        ),
        ExportFormat(
            "csv",
            "Table of areas and boxes",
            "CSV: area, box, predicted IoU and presence of each object on each frame",
            _always("masks.csv"),
            "tables:Table",
        ),
    )
}


def find(name: str) -> ExportFormat:
    """The format of that name.

    Raises:
        ValueError: there is none; the message lists what there is.
    """
    if name in FORMATS:
        return FORMATS[name]
    near = difflib.get_close_matches(name, FORMATS, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"there is no format {name!r}{hint} (there are {', '.join(FORMATS)})")


def describe() -> list[dict[str, Any]]:
    """All formats for a form: name, title, about, kinds and the schema of the options."""
    return [
        {
            "name": one.name,
            "title": one.title,
            "about": one.about,
            "kinds": list(one.kinds),
            "options": one.options.schema(),
        }
        for one in FORMATS.values()
    ]
