"""What `segment` and `auto` share: one picture in, one folder of results out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sam2.cli.arguments import chosen_formats
from sam2.cli.folder import OutputFolder
from sam2.cli.formats import BinaryPng, Coco, CutOut, Davis, Format, OverlayPicture, Source, Yolo
from sam2.cli.report import report
from sam2.cli.results import FrameMasks, ResultFile
from sam2.video import read_picture

ENTRIES = {
    "overlay": "overlay.png",
    "davis": "davis.png",
    "png": "png",
    "coco": "coco.json",
    "yolo": "yolo",
    "cutout": "cutout",
}
RESULT = "result.json"


def read_input(path: Path) -> np.ndarray:
    """The picture uint8 [H, W, 3], with a hint where it is a folder or a video."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give one picture; `sam2 track` takes folders of frames")
    return read_picture(path)


def entries(formats: Sequence[str]) -> list[str]:
    """What the output folder may get for these formats."""
    return [ENTRIES[name] for name in formats] + [RESULT]


def write_results(
    folder: OutputFolder,
    args: argparse.Namespace,
    source: Source,
    frame: FrameMasks,
    details: Mapping[str, Any],
    summary: str,
    candidates: bool = False,
) -> None:
    """Writes all formats and result.json, gives them their names and says where they are."""
    makers: dict[str, Any] = {"davis": Davis, "png": BinaryPng, "coco": Coco, "yolo": Yolo, "cutout": CutOut}
    for name in chosen_formats(args):
        path = folder.staging / ENTRIES[name]
        made: Format = (
            OverlayPicture(path, source, candidates) if name == "overlay" else makers[name](path, source)
        )
        made.add(frame)
        made.finish()
    result = ResultFile(args.verb, details)
    result.add(frame)
    result.write(folder.staging / RESULT, interrupted=False)
    report(summary, folder.folder, folder.commit())


def input_details(path: Path, picture: np.ndarray) -> dict[str, Any]:
    """What result.json says of the picture."""
    return {"path": str(path), "width": picture.shape[1], "height": picture.shape[0]}
