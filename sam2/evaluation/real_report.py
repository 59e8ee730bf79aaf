"""What `sam2 eval real` leaves: one table of means, one CSV by object, one sheet of pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam2.evaluation.real import PROMPTS, Photo, Trial
from sam2.evaluation.report import Interval, intervals
from sam2.masks.geometry import mask_to_box
from sam2.masks.overlay import overlay
from sam2.masks.sheets import sheet

GREEN, RED, BLUE = (0, 200, 80), (230, 40, 40), (40, 110, 250)


def means(trials: Sequence[Trial]) -> dict[str, dict[str, Interval]]:
    """Mean IoU of each tool at each prompt, whole pictures drawn anew for the interval."""
    tools = dict.fromkeys(trial.tool for trial in trials)
    return {
        tool: intervals([t.row() for t in trials if t.tool == tool], "picture", PROMPTS) for tool in tools
    }


def as_text(table: Mapping[str, Mapping[str, Interval]], columns: Sequence[str] = PROMPTS) -> str:
    """A Markdown table: a row a tool."""
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for tool, row in table.items():
        lines.append(f"| {tool} | " + " | ".join(str(row[c]) if c in row else "" for c in columns) + " |")
    return "\n".join(lines)


def write_json(path: Path, table: Mapping[str, Mapping[str, Interval]], **facts: Any) -> None:
    """The table and facts of the run, written aside, then renamed."""
    content = {**facts, "means": {tool: {k: vars(v) for k, v in row.items()} for tool, row in table.items()}}
    aside = path.with_name(f"{path.name}.part")
    aside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    aside.replace(path)


def write_sheet(
    path: Path, photos: Mapping[str, Photo], ours: Sequence[Trial], others: Mapping[str, Mapping[str, Trial]]
) -> None:
    """A row of pictures for each object: its outline and first click; ours from the click,
    after 5 clicks and from the box; and the best classical tool's from click and box where there are others.

    others: for `click_1` and `box`, trials by picture and object.
    """
    cells: list[NDArray[np.uint8]] = []
    captions: list[str] = []
    for trial in sorted(ours, key=lambda t: t.iou["click_1"]):
        photo = photos[trial.picture]
        truth = photo.masks[photo.names.index(trial.object)]
        box = mask_to_box(truth)
        assert box is not None
        crop = _around(box, truth.shape)
        point = (trial.clicks[0, 0] - crop[1].start, trial.clicks[0, 1] - crop[0].start)
        picture = np.ascontiguousarray(photo.image[crop])

        def drawn(
            mask: NDArray[np.bool_] | None, clicked: bool, at: Any = (picture, crop, truth, point)
        ) -> Any:
            base, part, right, place = at
            layers = {1: right[part]} if mask is None else {1: right[part], 2: mask[part]}
            return overlay(
                base,
                layers,
                colors={1: GREEN, 2: RED},
                opacity=0.35,
                points=[place] if clicked else None,
                point_labels=[1] if clicked else None,
            )

        shown = [(None, "click_1", trial.object)]
        shown += [
            (trial.masks[key], key, f"{trial.iou[key]:.2f} {key}") for key in ("click_1", "click_5", "box")
        ]
        for key, by_object in others.items():
            other = by_object[f"{trial.picture} {trial.object}"]
            shown.append((other.masks[key], key, f"{other.iou[key]:.2f} {key} {other.tool}"))
        cells += [drawn(mask, key == "click_1") for mask, key, _ in shown]
        captions += [caption for *_, caption in shown]
    page = sheet(cells, captions, columns=4 + len(others), cell_width=240)
    aside = path.with_name(f"{path.stem}.part{path.suffix}")
    Image.fromarray(page).save(aside)
    aside.replace(path)


def _around(box: tuple[int, int, int, int], size: tuple[int, ...]) -> tuple[slice, slice]:
    """The box with half its size around it, for at least 120 pixels."""
    x0, y0, x1, y1 = box
    margin = max((x1 - x0) // 2, (y1 - y0) // 2, 30)
    return (
        slice(max(0, y0 - margin), min(size[0], y1 + margin)),
        slice(max(0, x0 - margin), min(size[1], x1 + margin)),
    )
