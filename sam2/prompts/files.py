"""Prompts for many objects in one JSON file; the format is described in docs/prompts.md."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2.masks.png import read_mask
from sam2.prompts.types import Box, Mask, Points

VERSION = 1


@dataclass(frozen=True, eq=False)
class FramePrompt:
    """What a user said of one object on one frame.

    Invariant: at least one of points, box and mask is there.
    """

    frame: int = 0
    """Index of the frame; 0 for a picture."""
    points: Points | None = None
    box: Box | None = None
    mask: Mask | None = None
    mask_file: str | None = None
    """Where the mask came from, as the user wrote it."""

    def __post_init__(self) -> None:
        if self.frame < 0:
            raise ValueError(f"frame {self.frame} is negative: frames count from 0")
        if self.points is None and self.box is None and self.mask is None:
            raise ValueError("there is no prompt: give points, a box or a mask")

    def check_inside(self, height: int, width: int) -> None:
        """Raises ValueError where a point lies outside a picture of this size, or a mask has another."""
        if self.points is not None:
            self.points.check_inside(height, width)
        if self.mask is not None:
            self.mask.check_size(height, width)

    def to_json(self) -> dict[str, Any]:
        """This prompt as it stands in a prompt file."""
        entry: dict[str, Any] = {"frame": self.frame}
        if self.points is not None:
            entry |= {"points": self.points.coords.tolist(), "labels": self.points.labels.tolist()}
        if self.box is not None:
            entry["box"] = self.box.array.tolist()
        if self.mask is not None:
            entry["mask"] = self.mask_file
        return entry


@dataclass(frozen=True, eq=False)
class ObjectPrompts:
    """All that a user said of one object.

    Invariant: at least one prompt, at most one a frame.
    """

    id: int
    prompts: tuple[FramePrompt, ...]
    name: str | None = None

    def __post_init__(self) -> None:
        if self.id < 1:
            raise ValueError(f"object id {self.id} is not usable: ids count from 1, 0 is the background")
        if not self.prompts:
            raise ValueError(f"object {self.id} has no prompt: give at least one")
        frames = [prompt.frame for prompt in self.prompts]
        if len(set(frames)) < len(frames):
            twice = next(frame for frame in frames if frames.count(frame) > 1)
            raise ValueError(f"object {self.id} has two prompts on frame {twice}: put them into one")

    def to_json(self) -> dict[str, Any]:
        """This object as it stands in a prompt file."""
        name = {} if self.name is None else {"name": self.name}
        return {"id": self.id, **name, "prompts": [prompt.to_json() for prompt in self.prompts]}


def prompts_to_json(objects: Sequence[ObjectPrompts]) -> dict[str, Any]:
    """The content of a prompt file."""
    return {"version": VERSION, "objects": [entry.to_json() for entry in objects]}


def read_prompts(path: str | os.PathLike[str]) -> list[ObjectPrompts]:
    """The objects of a prompt file, in its order. Masks are read; their paths are relative to the file.

    Raises:
        FileNotFoundError: no such file. ValueError: not JSON, or not as docs/prompts.md describes; the
            message says where.
    """
    file = Path(path)
    try:
        content = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no prompt file {file}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is not valid JSON: {error}") from error
    with _at(str(file)):
        table = _table(content, ("version", "objects"))
        if table.get("version") != VERSION:
            raise ValueError(f'"version" must be {VERSION}, not {table.get("version")!r}')
        objects = [
            _object(entry, f"objects[{i}]", file.parent)
            for i, entry in enumerate(_list(table.get("objects"), '"objects"'))
        ]
        ids = [entry.id for entry in objects]
        if len(set(ids)) < len(ids):
            raise ValueError(f"object ids must differ, but are {ids}")
    return objects


def _object(entry: Any, where: str, folder: Path) -> ObjectPrompts:
    with _at(where):
        table = _table(entry, ("id", "name", "prompts"))
        name = table.get("name")
        if name is not None and not isinstance(name, str):
            raise ValueError(f'"name" must be text, not {name!r}')
        prompts = [
            _prompt(prompt, f"prompts[{i}]", folder)
            for i, prompt in enumerate(_list(table.get("prompts"), '"prompts"'))
        ]
        return ObjectPrompts(_whole(table.get("id"), '"id"'), tuple(prompts), name)


def _prompt(entry: Any, where: str, folder: Path) -> FramePrompt:
    with _at(where):
        table = _table(entry, ("frame", "points", "labels", "box", "mask"))
        if "labels" in table and "points" not in table:
            raise ValueError('"labels" without "points"')
        mask_file = table.get("mask")
        if mask_file is not None and not isinstance(mask_file, str):
            raise ValueError(f'"mask" must be the path of a picture, not {mask_file!r}')
        return FramePrompt(
            _whole(table.get("frame", 0), '"frame"'),
            Points(table["points"], table.get("labels")) if table.get("points") is not None else None,
            Box.of(table["box"]) if table.get("box") is not None else None,
            Mask(read_mask(folder / mask_file)) if mask_file is not None else None,
            mask_file,
        )


@contextmanager
def _at(where: str) -> Iterator[None]:
    """Errors of the body begin with the place in the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{where}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _table(entry: Any, keys: Sequence[str]) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise ValueError(f"here belongs an object with {', '.join(keys)}, not {entry!r}")
    for key in entry:
        if key not in keys:
            close = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else f" (known: {', '.join(keys)})"
            raise ValueError(f"unknown key {key!r}{hint}")
    return entry


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{what} must be a list with at least one entry, not {value!r}")
    return value


def _whole(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{what} must be a whole number, not {value!r}")
    return value
