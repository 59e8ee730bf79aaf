"""What an evaluation leaves: a table by object, means with intervals, a sheet of the worst."""

from __future__ import annotations

import csv
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam2.masks.overlay import overlay
from sam2.masks.sheets import sheet

WORST = 10


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds within which it lies in 95% of resampled sets."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    values: Sequence[float], groups: Sequence[Hashable], draws: int = 2000, seed: int = 0
) -> Interval:
    """The mean of values, and its interval when whole groups (pictures, clips) are drawn anew.

    Objects of one picture are not independent, so groups are resampled, not values.
    """
    if not values or len(values) != len(groups):
        raise ValueError(f"{len(values)} values in {len(groups)} groups; give as many of both, at least one")
    members: dict[Hashable, list[float]] = {}
    for value, group in zip(values, groups):
        members.setdefault(group, []).append(value)
    sums = np.array([sum(m) for m in members.values()])
    counts = np.array([len(m) for m in members.values()])
    chosen = np.random.default_rng(seed).integers(len(sums), size=(draws, len(sums)))
    means = sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(np.mean(values)), float(low), float(high))


def intervals(rows: Sequence[Mapping[str, Any]], group: str, names: Iterable[str]) -> dict[str, Interval]:
    """Means and intervals of columns, over the rows that have them."""
    found = {}
    for name in names:
        having = [row for row in rows if name in row]
        if having:
            found[name] = bootstrap([row[name] for row in having], [row[group] for row in having])
    return found


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A CSV with a row each, floats with four digits; written aside, then renamed."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    aside = path.with_name(f"{path.name}.part")
    with open(aside, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()})
    aside.replace(path)


def write_summary(path: Path, means: Mapping[str, Interval], **facts: Any) -> None:
    """The means as JSON, with whatever else should be known of the run."""
    content = {**facts, "means": {name: vars(value) for name, value in means.items()}}
    aside = path.with_name(f"{path.name}.part")
    aside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    aside.replace(path)


@dataclass(frozen=True)
class Example:
    """One object for the sheet: its picture, truth and mask, and its score."""

    picture: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    found: NDArray[np.bool_]
    score: float
    caption: str


class Worst:
    """Keeps the examples with the lowest scores."""

    def __init__(self, count: int = WORST) -> None:
        self.count = count
        self.examples: list[Example] = []

    def add(self, example: Example) -> None:
        """Takes an example in where it is among the worst so far."""
        if len(self.examples) == self.count and example.score >= self.examples[-1].score:
            return
        self.examples = sorted([*self.examples, example], key=lambda e: e.score)[: self.count]

    def write(self, path: Path) -> None:
        """A sheet: truth in green, what was found in red over it. Nothing where there is no example."""
        if not self.examples:
            return
        colors = {1: (0, 200, 80), 2: (230, 40, 40)}
        pictures = [overlay(e.picture, {1: e.truth, 2: e.found}, colors=colors) for e in self.examples]
        captions = [f"{e.score:.2f}  {e.caption}" for e in self.examples]
        page = sheet(pictures, captions, columns=5, cell_width=320)
        Image.fromarray(page).save(path)
