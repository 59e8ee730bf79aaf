"""What `segment` and `auto` share: one picture in, one folder of results out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from sam2.cli.formats import RESULT, Formats
from sam2.cli.report import report
from sam2.cli.results import ResultFile
from sam2.formats import FrameMasks, OutputFolder, Source
from sam2.video import read_picture


def read_input(path: Path) -> np.ndarray:
    """The picture uint8 [H, W, 3], with a hint where it is a folder or a video."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give one picture; `sam2 track` takes folders of frames")
    return read_picture(path)


def write_results(
    folder: OutputFolder,
    args: argparse.Namespace,
    formats: Formats,
    source: Source,
    frame: FrameMasks,
    details: Mapping[str, Any],
    summary: str,
) -> None:
    """Writes all formats and result.json, gives them their names and says where they are."""
    for writer in formats.open(folder.staging, source):
        with closing(writer):
            writer.add(frame)
            writer.finish()
    result = ResultFile(args.verb, details)
    result.add(frame)
    result.write(folder.staging / RESULT, interrupted=False)
    report(summary, folder.folder, folder.commit())


def input_details(path: Path, picture: np.ndarray) -> dict[str, Any]:
    """What result.json says of the picture."""
    return {"path": str(path), "width": picture.shape[1], "height": picture.shape[0]}
