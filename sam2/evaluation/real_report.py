"""What `sam2 eval real` leaves: one table of means, one CSV by object, one sheet of pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam2.evaluation import real_clips
from sam2.evaluation.real import PROMPTS, BoolMask, Photo, Trial
from sam2.evaluation.report import Interval, bootstrap, intervals
from sam2.masks.geometry import mask_to_box
from sam2.masks.overlay import overlay
from sam2.masks.sheets import sheet

Table = dict[str, dict[str, Interval]]
"""By row, then by column."""
GREEN, RED = (0, 200, 80), (230, 40, 40)
COLUMNS = 12
"""Pictures in a row of the sheet."""


def means(trials: Sequence[Trial]) -> Table:
    """Mean IoU of each tool at each prompt, whole pictures drawn anew for the interval."""
    return {
        tool: intervals([t.row() for t in trials if t.tool == tool], "picture", PROMPTS)
        for tool in dict.fromkeys(trial.tool for trial in trials)
    }


def clip_means(followed: Sequence[real_clips.Followed]) -> Table:
    """Mean J of each tool from each prompt; objects are drawn anew, for there are few clips."""
    table: Table = {}
    for tool in dict.fromkeys(one.tool for one in followed):
        table[tool] = {}
        for prompt in real_clips.PROMPTS:
            values = [one.j for one in followed if (one.tool, one.prompt) == (tool, prompt)]
            table[tool][prompt] = bootstrap(values, range(len(values)))
    return table


def best_settings(table: Table, families: Mapping[str, Iterable[str]], suffix: str = "") -> Table:
    """Each family's best setting, chosen anew for each column."""
    best: Table = {}
    for family, names in families.items():
        rows = [table[name + suffix] for name in names]
        best[family + suffix] = {c: max((row[c] for row in rows), key=lambda i: i.mean) for c in rows[0]}
    return best


def margins(trials: Sequence[Trial], ours: str) -> dict[str, Interval]:
    """By how much one tool's mean IoU is above that of the best other, at each prompt.

    Objects are compared one by one, so that the interval is of the difference.
    """
    table = means(trials)
    found = {}
    for prompt in PROMPTS:
        other = max((tool for tool in table if tool != ours), key=lambda tool: table[tool][prompt].mean)
        theirs = {(t.picture, t.object): t.iou[prompt] for t in trials if t.tool == other}
        own = [t for t in trials if t.tool == ours]
        gaps = [t.iou[prompt] - theirs[t.picture, t.object] for t in own]
        found[prompt] = bootstrap(gaps, [t.picture for t in own])
    return found


def as_text(table: Mapping[str, Mapping[str, Interval]]) -> str:
    """A Markdown table."""
    columns = list(dict.fromkeys(column for row in table.values() for column in row))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in table.items():
        lines.append(f"| {name} | " + " | ".join(str(row[column]) for column in columns) + " |")
    return "\n".join(lines)


def write_json(path: Path, tables: Mapping[str, Mapping[str, Mapping[str, Interval]]], **facts: Any) -> None:
    """Tables and facts of the run, written aside, then renamed."""
    plain = {
        title: {row: {column: vars(value) for column, value in cells.items()} for row, cells in table.items()}
        for title, table in tables.items()
    }
    aside = path.with_name(f"{path.name}.part")
    aside.write_text(json.dumps({**facts, **plain}, indent=2) + "\n", encoding="utf-8")
    aside.replace(path)


def write_sheet(path: Path, photos: Sequence[Photo], trials: Sequence[Trial], ours: str) -> None:
    """Pictures of each object, the worst first: its outline (green) and first click, our masks (red) from one
    click, five clicks and the box, and those of the best other tool from one click and the box."""
    table = means(trials)
    own = sorted((t for t in trials if t.tool == ours), key=lambda t: t.iou["click_1"])
    shown = {(t.tool, t.picture, t.object): t for t in trials}
    wanted = [(ours, "click_1"), (ours, "click_5"), (ours, "box")]
    rest = [tool for tool in table if tool != ours]
    for prompt in ("click_1", "box") if rest else ():
        wanted.append((max(rest, key=lambda tool: table[tool][prompt].mean), prompt))
    by_name = {photo.name: photo for photo in photos}
    cells: list[NDArray[np.uint8]] = []
    captions: list[str] = []
    for trial in own:
        photo = by_name[trial.picture]
        truth = photo.masks[photo.names.index(trial.object)]
        cells.append(_cell(photo.image, truth, None, trial.clicks[0]))
        captions.append(trial.object)
        for tool, prompt in wanted:
            one = shown[tool, trial.picture, trial.object]
            cells.append(_cell(photo.image, truth, one.masks[prompt], None))
            captions.append(f"{one.iou[prompt]:.2f} {prompt} {'' if tool == ours else tool}")
    wide = (1 + len(wanted)) * max(1, COLUMNS // (1 + len(wanted)))
    page = sheet(cells, captions, columns=wide, cell_width=180, gap=6)
    aside = path.with_name(f"{path.stem}.part{path.suffix}")
    Image.fromarray(page).save(aside)
    aside.replace(path)


def _cell(
    image: NDArray[np.uint8], truth: BoolMask, found: BoolMask | None, click: NDArray[np.float32] | None
) -> NDArray[np.uint8]:
    """The object's surroundings with masks drawn in."""
    box = mask_to_box(truth)
    assert box is not None
    x0, y0, x1, y1 = box
    margin = max((x1 - x0) // 2, (y1 - y0) // 2, 30)
    part = (
        slice(max(0, y0 - margin), y1 + margin),
        slice(max(0, x0 - margin), x1 + margin),
    )
    layers = {1: truth[part]} if found is None else {1: truth[part], 2: found[part]}
    points = None if click is None else [(click[0] - part[1].start, click[1] - part[0].start)]
    return overlay(
        np.ascontiguousarray(image[part]),
        layers,
        colors={1: GREEN, 2: RED},
        opacity=0.35,
        points=points,
        point_labels=None if points is None else [1],
    )
