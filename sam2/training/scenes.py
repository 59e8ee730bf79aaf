"""Micro-batches from pools of generated scenes, with every pixel's label and targets of all kinds.

Shapes: T frames, B scenes, N targets of all scenes, S the model's input size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from sam2.data.pool import ClipPool
from sam2.data.targets import Painting
from sam2.training.batches import LoadedBatch, pick_frames
from sam2.training.pvs import Batch
from sam2.training.sway import Crop, anything, cut_up, swaying

GROUND = 128
"""Labels from here on are pieces of the ground, smaller ones objects; 0 is whatever is no target."""
SMALLEST_ZOOM = 48
"""Side of the smallest crop around an object, pixels of the scene."""
ZOOMED_SPAN = (0.25, 0.9)
"""Bounds of the share of such a crop's side that the object spans."""
SMALLEST_FOCUS = 60
"""Pixels of the smallest object that is zoomed in on."""
FOCUS = 0.4
"""Share of such a crop's prompts that are about its object."""


@dataclass(frozen=True)
class SceneOptions:
    """What is taken from the scenes of a pool."""

    batch: int = 8
    """Scenes in a micro-batch."""
    frames: int = 1
    """Frames of a scene; of a still, those that a swaying camera sees (`sam2.training.sway`)."""
    objects: int = 12
    """Targets prompted in a scene: in stills drawn with replacement, in clips at most so many."""
    parts: float = 0.15
    """Share of them that are parts of objects."""
    ground: float = 0.15
    """Share that are pieces of the ground."""
    crop: float = 0.5
    """Smallest side of a random crop, as a share of the scene's."""
    zoom: float = 0.0
    """Share of scenes cropped around one of their objects, as a predictor that zooms in sees them."""
    follow: float = 0.0
    """Share of those clips in which the crop moves and grows with the object, as in `sam2.close_tracker`."""
    anything: float = 0.0
    """Share of the targets under a swaying camera whose borders no looks explain."""
    weight: float = 1.0
    """Share of micro-batches, relative to the other pools."""


@dataclass(frozen=True)
class SceneBatch(Batch):
    """A batch that also knows every pixel's object: labels uint8 [T, B, S, S], see `GROUND`."""

    labels: Tensor = field(kw_only=True)

    def to(self, device: torch.device) -> SceneBatch:
        """The same on a device."""
        shared = super().to(device)
        labels = self.labels.to(device, non_blocking=True)
        return SceneBatch(shared.images, shared.masks, shared.picture, shared.by_mask, labels=labels)


def label_table(painting: Painting) -> np.ndarray:
    """uint8 [256]: owner number to label."""
    table = np.zeros(256, np.uint8)
    wholes = [t for t in painting.targets if t.kind == "whole"]
    grounds = [t for t in painting.targets if t.kind == "ground"]
    for first, targets in ((GROUND, grounds), (1, wholes)):
        for n, target in enumerate(targets[: GROUND - 1]):
            table[list(target.owners)] = first + n
    return table


def _resized(frames: np.ndarray, size: int, how: Image.Resampling) -> np.ndarray:
    if frames.shape[1:3] == (size, size):
        return frames
    return np.stack([np.asarray(Image.fromarray(f).resize((size, size), how)) for f in frames])


def _anywhere(full: int, crop: float, rng: np.random.Generator) -> Crop:
    """Top, left and side of a random crop of a scene of side `full`."""
    side = round(full * rng.uniform(crop, 1)) if rng.random() < 0.8 else full
    y, x = rng.integers(0, full - side + 1, 2)
    return int(y), int(x), side


def _around(mask: np.ndarray, rng: np.random.Generator) -> Crop:
    """Top, left and side of a crop in which the object of the mask [H, H] spans a quarter to nine tenths."""
    full = len(mask)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    span = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    side = min(full, max(SMALLEST_ZOOM, round(span / np.exp(rng.uniform(*np.log(ZOOMED_SPAN))))))
    corner = []
    for inside in (rows, columns):
        middle = (inside[0] + inside[-1] + 1) / 2 + rng.normal(0, 0.08) * side
        corner.append(int(np.clip(middle - side / 2, 0, full - side)))
    return corner[0], corner[1], side


def _following(masks: np.ndarray, first: Crop, rng: np.random.Generator) -> list[Crop]:
    """Crops that go with the object of the masks [T, H, H]: each stays while the object is away, or until it
    has left the middle, or changed its size, by more than random bounds."""
    full = masks.shape[1]
    drift, change = rng.uniform(0.03, 0.15), rng.uniform(1.1, 1.5)
    crops: list[Crop] = []
    ratio = 0.0
    for mask in masks:
        y, x, side = crops[-1] if crops else first
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            span = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
            ratio = ratio or side / span
            middle = np.array([rows[0] + rows[-1] + 1, columns[0] + columns[-1] + 1]) / 2
            wanted = float(np.clip(ratio * span, min(SMALLEST_ZOOM, first[2]), full))
            off = np.abs(middle - (y + side / 2, x + side / 2)).max() / side
            if crops and (off > drift or not 1 / change < wanted / side < change):
                side = round(wanted)
                y, x = (int(v) for v in (middle - side / 2).clip(0, full - side))
        crops.append((y, x, side))
    return crops


def _cut(frames: np.ndarray, crops: Sequence[Crop], size: int, how: Image.Resampling) -> np.ndarray:
    """Frames [T, S, S, ...] of a crop each, or of the one that serves all."""
    if len(crops) == 1:
        y, x, side = crops[0]
        return _resized(frames[:, y : y + side, x : x + side], size, how)
    cut = [frame[None, y : y + side, x : x + side] for frame, (y, x, side) in zip(frames, crops, strict=True)]
    return np.concatenate([_resized(part, size, how) for part in cut])


def _altered(
    frames: np.ndarray, owners: np.ndarray, size: int, crops: Sequence[Crop], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Frames [T, S, S, 3] and owners [T, S, S] after cropping (see `_cut`), mirroring, other colours."""
    frames = _cut(frames, crops, size, Image.Resampling.BILINEAR)
    owners = _cut(owners, crops, size, Image.Resampling.NEAREST)
    if rng.random() < 0.5:
        frames, owners = frames[:, :, ::-1], owners[:, :, ::-1]
    if rng.random() < 0.15:
        frames, owners = frames[:, ::-1], owners[:, ::-1]
    if rng.random() < 0.15:
        frames, owners = frames.swapaxes(1, 2), owners.swapaxes(1, 2)
    if rng.random() < 0.3:
        frames = frames[..., rng.permutation(3)]
    if rng.random() < 0.5:
        mean = frames.mean()
        changed = (frames - mean) * rng.uniform(0.7, 1.3) + mean + rng.uniform(-25, 25)
        frames = changed.clip(0, 255).astype(np.uint8)
    return frames, owners


def _draw_focus(painting: Painting, owners: np.ndarray, rng: np.random.Generator) -> tuple[int, ...] | None:
    """Owners of an object, or a part of one, to zoom in on: one that shows in owners [H, W]."""
    area = np.bincount(owners.ravel(), minlength=256)
    seen = [
        t.owners
        for t in painting.targets
        if t.kind in ("whole", "part") and area[list(t.owners)].sum() >= SMALLEST_FOCUS
    ]
    return seen[int(rng.integers(len(seen)))] if seen else None


def _draw_targets(
    painting: Painting,
    owners: np.ndarray,
    options: SceneOptions,
    focus: tuple[int, ...] | None,
    rng: np.random.Generator,
) -> list[tuple[int, ...]]:
    """Owner numbers, as in owners [T, S, S], of targets that show enough at first, many of them of the focus.

    In stills the same target again has other prompts; followed through a clip, it would say the same again,
    so there each comes once and there may be fewer of them.
    """
    size = owners.shape[-1]
    area = np.bincount(owners[0].ravel(), minlength=256)
    least = max(20, size * size // 900)
    kinds: dict[str, list[tuple[int, ...]]] = {"whole": [], "part": [], "ground": []}
    for target in painting.targets:
        if target.kind in kinds and least <= area[list(target.owners)].sum() <= 0.97 * size * size:
            kinds[target.kind].append(target.owners)
    drawn: list[tuple[int, ...]] = []
    for _ in range(options.objects):
        if focus is not None and rng.random() < FOCUS:
            drawn.append(focus)
            continue
        draw = rng.random()
        kind = (
            "ground"
            if draw < options.ground
            else "part"
            if draw < options.ground + options.parts
            else "whole"
        )
        choice = kinds[kind] or kinds["whole"]
        if choice:
            drawn.append(choice[int(rng.integers(len(choice)))])
    if len(owners) > 1:
        drawn = list(dict.fromkeys(drawn))
    return drawn


class SceneBatches(Dataset[LoadedBatch]):
    """Micro-batch k of a run, for any k: a function of the seed and k alone."""

    def __init__(
        self, pools: Sequence[ClipPool], options: Sequence[SceneOptions], size: int, seed: int, total: int
    ) -> None:
        """total: micro-batches of the whole run."""
        self.pools, self.options = list(pools), list(options)
        self.size, self.seed, self.total = size, seed, total
        weights = np.array([o.weight for o in options], dtype=np.float64)
        self.shares = weights / weights.sum()

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, k: int) -> LoadedBatch:
        rng = np.random.default_rng((self.seed, 4, k))
        which = int(rng.choice(len(self.pools), p=self.shares))
        pool, options = self.pools[which], self.options[which]
        frames: list[Tensor] = []
        labels: list[Tensor] = []
        masks: list[Tensor] = []
        picture: list[int] = []
        by_mask: list[bool] = []
        while len(frames) < options.batch:
            painting = pool.painting(int(rng.integers(len(pool))))
            times = pick_frames(len(painting.frames), options.frames, 2, rng)
            if options.frames > 1 and rng.random() < 0.5:
                times.reverse()
            sways = len(painting.frames) == 1 and options.frames > 1
            pieces: list[tuple[int, ...]] = []
            if sways:
                painting, pieces = cut_up(painting, rng)
            owners = painting.owners[times]
            focus = _draw_focus(painting, owners[0], rng) if rng.random() < options.zoom else None
            if focus is None:
                crops = [_anywhere(owners.shape[1], options.crop, rng)]
            else:
                crops = [_around(np.isin(owners[0], focus), rng)]
                if options.follow and rng.random() < options.follow:
                    crops = _following(np.isin(owners, focus), crops[0], rng)
            if sways:
                crops = swaying(crops[0], owners.shape[1], options.frames, rng)
            shown, owners = _altered(painting.frames[times], owners, self.size, crops, rng)
            found = _draw_targets(painting, owners, options, focus, rng)
            if not found:
                continue
            odd: list[tuple[int, ...]] = []
            if sways:
                shows = np.bincount(owners[0].ravel(), minlength=256)
                share = round(options.anything * options.objects)
                regions = [anything(painting.targets, pieces, shows, rng) for _ in range(share)]
                odd = list(dict.fromkeys(region for region in regions if region is not None))
                found = found[: options.objects - share]
                if not odd and not found:
                    continue
            by_mask += [True] * len(odd) + [False] * len(found)
            picture += [len(frames)] * (len(odd) + len(found))
            masks += [torch.from_numpy(np.isin(owners, target)) for target in odd + found]
            frames.append(torch.from_numpy(np.ascontiguousarray(shown.transpose(0, 3, 1, 2))))
            labels.append(torch.from_numpy(label_table(painting)[owners]))
        batch = SceneBatch(
            torch.stack(frames, 1),
            torch.stack(masks, 1),
            torch.tensor(picture),
            torch.tensor(by_mask) if any(by_mask) else None,
            labels=torch.stack(labels, 1),
        )
        return LoadedBatch(batch, (), options.batch)
