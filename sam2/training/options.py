"""A training run as one YAML file: read into frozen dataclasses, each key checked.

Every options class of `sam2.training` documents its own keys; `RunOptions` names them all.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from sam2.training.lora import LoraOptions
from sam2.training.losses import LossOptions
from sam2.training.optim import OptimOptions
from sam2.training.pvs import PvsOptions

T = TypeVar("T")


@dataclass(frozen=True)
class ModelOptions:
    """Which model is trained."""

    config: str = "mini"
    """A configuration of `sam2.configs` or the path of one."""
    overrides: tuple[str, ...] = ()
    """Override strings (`model.image_size=256`)."""
    init: str | None = None
    """A checkpoint to start from, or the name of a model (`mini`); random weights without it."""
    init_partial: bool = False
    """`init` may lack weights or hold others (a pretrained trunk alone): take what fits."""
    lora: LoraOptions | None = None
    """Low-rank adapters in place of training the weights themselves."""
    checkpoint_activations: bool = False
    """Keep the inputs of the trunk's blocks only and compute the rest again: less memory, a third slower."""


@dataclass(frozen=True)
class SourceOptions:
    """One source of clips, and how micro-batches are made of it."""

    source: str
    """What makes or reads clips, a name in `sam2.data` (`scenes.generate_still`, `readers.Davis`)."""
    args: dict[str, Any] = field(default_factory=dict)
    """Its arguments."""
    weight: float = 1.0
    """Share of micro-batches, relative to the other sources."""
    batch: int = 4
    """Pictures (or clips) in a micro-batch."""
    frames: int = 1
    """Frames taken of a clip; shorter clips are walked forth and back."""
    objects: int = 3
    """At most so many objects of a picture or clip."""
    stride: int = 1
    """Frames are taken at a random distance of 1 to this."""
    reverse: float = 0.5
    """Share of clips played backwards."""
    flip: float = 0.5
    """Share of clips mirrored left to right."""
    crop: float = 1.0
    """Cut out a random window whose sides are this share of the picture's, or more."""
    jitter: float = 0.0
    """Change brightness, contrast and saturation by up to this share."""

    def __post_init__(self) -> None:
        for name in ("batch", "frames", "objects", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"data option {name} is {getattr(self, name)}; it must be at least 1")
        if self.weight <= 0:
            raise ValueError(f"data option weight is {self.weight}; it must be above 0")
        if not 0 < self.crop <= 1 or not 0 <= self.jitter < 1:
            raise ValueError(
                f"data options crop and jitter are {self.crop} and {self.jitter}; crop must be above 0 and at"
                " most 1, jitter at least 0 and below 1"
            )


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """How long a run lasts, where it runs, and what it leaves behind."""

    out: str
    """Folder for checkpoints, metrics and pictures."""
    optim: OptimOptions = field(default_factory=OptimOptions)
    steps: int = 1000
    """Optimiser steps."""
    accumulate: int = 1
    """Micro-batches that an optimiser step takes in, over all processes together."""
    seed: int = 0
    """Of everything random."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    bf16: bool = False
    """Compute in bfloat16 where autocast holds it safe; weights, moments and losses stay in float32."""
    shard: str | None = None
    """With several processes: `fsdp2` splits weights, gradients and moments among them, by FSDP2; without it
    each holds the whole model, by DDP."""
    ema: float = 0.999
    """Decay of the averaged weights."""
    workers: int = 0
    """Processes that make batches beside the training; 0 makes them in it."""
    save_minutes: float = 5.0
    """Minutes between checkpoints."""
    stop_minutes: float | None = None
    """Save and stop after so many minutes; `--resume` goes on."""
    log_steps: int = 20
    """Optimiser steps between rows of metrics (each their mean)."""
    picture_steps: int = 500
    """Optimiser steps between pictures of predictions; 0 draws none."""
    max_skipped: float = 0.05
    """Stop where a larger share of samples than this is corrupt."""

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "log_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"option {name} is {getattr(self, name)}; it must be at least 1")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device is {self.device!r}; it must be auto, cpu or cuda")
        if self.shard not in (None, "fsdp2"):
            raise ValueError(f"shard is {self.shard!r}; it must be fsdp2, or left out")


@dataclass(frozen=True, kw_only=True)
class RunOptions(LoopOptions):
    """A training run for promptable segmentation."""

    data: tuple[SourceOptions, ...]
    """Sources of clips."""
    model: ModelOptions = field(default_factory=ModelOptions)
    pvs: PvsOptions = field(default_factory=PvsOptions)
    loss: LossOptions = field(default_factory=LossOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.data:
            raise ValueError("data is empty: name at least one source")


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"


def _wrong(where: str, value: Any, wanted: str) -> ValueError:
    return ValueError(f"{where} is {value!r}; it must be {wanted}")


def _convert(value: Any, kind: Any, where: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        return _convert(value, next(a for a in args if a is not type(None)), where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _wrong(where, value, "a list")
        if args[-1] is not Ellipsis and len(value) != len(args):
            raise _wrong(where, value, f"a list of {len(args)}")
        return tuple(_convert(v, args[0], f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _wrong(where, value, "a mapping")
        return dict(value)
    if dataclasses.is_dataclass(kind):
        return read_options(typing.cast(Any, kind), value, where)
    if kind is float:
        # PyYAML reads 4e-4 as a string
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise _wrong(where, value, "a number")
        try:
            return float(value)
        except ValueError:
            raise _wrong(where, value, "a number") from None
    if kind is int and (isinstance(value, bool) or not isinstance(value, int)):
        raise _wrong(where, value, "a whole number")
    if kind is bool and not isinstance(value, bool):
        raise _wrong(where, value, "true or false")
    if kind is str and not isinstance(value, str):
        raise _wrong(where, value, "text")
    return value


def read_options(kind: type[T], values: Any, where: str = "") -> T:
    """An options dataclass from plain values, nested ones included.

    Raises ValueError naming an unknown key (and the nearest known one), a value of another type, or a missing
    key.
    """
    if not isinstance(values, Mapping):
        raise _wrong(where or "the file", values, "a mapping of options")
    hints = typing.get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(typing.cast(Any, kind))]
    prefix = f"{where}." if where else ""
    for key in values:
        if key not in known:
            raise ValueError(f"unknown option {prefix}{key}: {_nearest(str(key), known)}")
    for f in dataclasses.fields(typing.cast(Any, kind)):
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and f.name not in values:
            raise ValueError(f"option {prefix}{f.name} is missing")
    converted = {key: _convert(value, hints[key], f"{prefix}{key}") for key, value in values.items()}
    return kind(**converted)


def _changed(values: Any, change: str) -> Any:
    """Plain values with one of them replaced, as `optim.lr=1e-3` or `data.0.batch=8` says."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise ValueError(f"{change!r} is not KEY=VALUE: write optim.lr=1e-3 or data.0.batch=8")
    *path, last = key.split(".")
    place = values
    for i, part in enumerate(path):
        inner = place[_index(place, part, key)] if isinstance(place, list) else place.get(part)
        if not isinstance(inner, dict | list):
            if isinstance(place, list):
                raise ValueError(f"{key}: {'.'.join(path[: i + 1])} is {inner!r}, which has no options")
            inner = place[part] = {}
        place = inner
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{change!r}: the value is not valid YAML: {error}") from error
    place[_index(place, last, key) if isinstance(place, list) else last] = value
    return values


def _index(values: list[Any], part: str, key: str) -> int:
    if not part.isdecimal() or int(part) >= len(values):
        raise ValueError(f"{key}: {part!r} is not a place in a list of {len(values)}, counted from 0")
    return int(part)


def read_file(kind: type[T], path: str | Path, changes: Sequence[str] = ()) -> T:
    """The options that a YAML file holds, such as `read_file(RunOptions, "run.yaml", ["optim.lr=1e-3"])`.

    changes: `KEY=VALUE`, the key's parts between dots, places in lists counted from 0, the value as in YAML.

    Raises ValueError for a file that is not YAML or an option that is not known, FileNotFoundError without
    the file.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    try:
        if changes and not isinstance(values, dict):
            raise _wrong("the file", values, "a mapping of options")
        for change in changes:
            values = _changed(values, change)
        return read_options(kind, values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def as_plain(options: Any) -> Any:
    """Options as plain values, for a checkpoint and for `read_options`."""
    if dataclasses.is_dataclass(options) and not isinstance(options, type):
        return {f.name: as_plain(getattr(options, f.name)) for f in dataclasses.fields(options)}
    if isinstance(options, tuple | list):
        return [as_plain(v) for v in options]
    return options
