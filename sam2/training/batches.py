"""Clips to micro-batches. Micro-batch k is a function of the seed and of k alone, so a run resumes exactly.

Shapes: T frames, B pictures a frame, N objects of all pictures, S the model's input size.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sam2.data.clip import Clip
from sam2.data.readers import ClipDataset
from sam2.preprocess import resize_frame
from sam2.training.options import SourceOptions
from sam2.training.pvs import Batch

ENDLESS = 2**24
"""Sources of more clips than this are taken in order, not shuffled."""
TRIES = 8
"""Clips tried in place of a corrupt or empty one before the batch gives up."""


class ClipSource(Protocol):
    """Anything that holds clips by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Clip: ...


class Generated:
    """An endless source: clip i is what a generator makes of seed `first + i`."""

    def __init__(self, make: Callable[..., Clip], args: dict[str, Any]) -> None:
        args = dict(args)
        self.first = int(args.pop("seed", 0))
        self.make = partial(make, **args)

    def __len__(self) -> int:
        return 2**31 - 1 - self.first

    def __getitem__(self, index: int) -> Clip:
        return self.make(self.first + index)


def open_source(name: str, args: dict[str, Any]) -> ClipSource:
    """A source by its name in `sam2.data`: a class of clips, or a function of a seed that makes one.

    Raises ValueError for a name or an argument that does not exist there.
    """
    module_name, _, attribute = f"sam2.data.{name.removeprefix('sam2.data.')}".rpartition(".")
    try:
        target = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"there is no data source {name!r}: {error}") from error
    try:
        inspect.signature(target).bind_partial(**args)
    except TypeError as error:
        raise ValueError(f"data source {name!r}: {error}") from error
    if inspect.isfunction(target) and "seed" in inspect.signature(target).parameters:
        return Generated(target, args)
    opened: ClipSource = target(**args)
    if len(opened) == 0:
        raise ValueError(f"data source {name!r} with {args} holds no clip")
    return opened


@dataclass(frozen=True)
class Sample:
    """One clip ready for a batch: frames uint8 [T, 3, S, S], masks bool [T, n, S, S]."""

    frames: Tensor
    masks: Tensor


@dataclass(frozen=True)
class LoadedBatch:
    """A micro-batch, and what was passed over to make it: (name, reason) a sample."""

    batch: Batch
    skipped: tuple[tuple[str, str], ...]
    seen: int


def pick_frames(length: int, frames: int, max_stride: int, rng: np.random.Generator) -> list[int]:
    """A run of `frames` frame numbers at one distance, forth and back where the clip is too short."""
    if frames == 1:
        return [int(rng.integers(length))]
    reach = max(1, min(max_stride, (length - 1) // (frames - 1)))
    stride = int(rng.integers(1, reach + 1))
    span = (frames - 1) * stride + 1
    start = int(rng.integers(max(1, length - span + 1)))
    period = max(1, 2 * (length - 1))
    steps = [(start + i * stride) % period for i in range(frames)]
    return [min(i, period - i) if length > 1 else 0 for i in steps]


def _resize_masks(masks: NDArray[np.bool_], size: int) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(masks))
    if masks.shape[-2:] == (size, size):
        return tensor
    return F.interpolate(tensor.float(), size=(size, size), mode="area") > 0.5


def read_clip(
    source: ClipSource, number: int, options: SourceOptions, rng: np.random.Generator
) -> tuple[Clip, list[int]]:
    """A clip and which of its frames to take, in order; only those are decoded where the source allows it."""
    if isinstance(source, ClipDataset):
        numbers = pick_frames(source.num_frames(number), options.frames, options.stride, rng)
        distinct = sorted(set(numbers))
        return source.load(number, distinct), [distinct.index(i) for i in numbers]
    clip = source[number]
    return clip, pick_frames(len(clip), options.frames, options.stride, rng)


def _window(height: int, width: int, least: float, rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a random window, each side of `least` or more of the whole."""
    sides = [max(1, round(side * share)) for side, share in zip((height, width), rng.uniform(least, 1, 2))]
    starts = [int(rng.integers(side - part + 1)) for side, part in zip((height, width), sides)]
    return slice(starts[0], starts[0] + sides[0]), slice(starts[1], starts[1] + sides[1])


def _jittered(frames: NDArray[np.uint8], reach: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Brightness, contrast and saturation changed alike in all frames [T, H, W, 3]."""
    light, contrast, colour = rng.uniform(1 - reach, 1 + reach, 3)
    values = frames.astype(np.float32) * light
    grey = values.mean(axis=-1, keepdims=True)
    values = grey + (values - grey) * colour
    mean = values.mean()
    changed: NDArray[np.uint8] = (mean + (values - mean) * contrast).clip(0, 255).astype(np.uint8)
    return changed


def make_sample(
    clip: Clip,
    numbers: Sequence[int],
    options: SourceOptions,
    size: int,
    rng: np.random.Generator,
    needs_objects: bool = True,
) -> Sample | None:
    """These frames of a clip with objects drawn from it; None where no object is left to be pointed at.

    Objects are among those visible in the first frame. needs_objects: without, a picture alone will do.
    """
    numbers = list(numbers)
    if len(numbers) > 1 and rng.random() < options.reverse:
        numbers.reverse()
    pictures, truth = clip.frames[numbers], clip.masks[numbers]
    if options.crop < 1:
        rows, columns = _window(pictures.shape[1], pictures.shape[2], options.crop, rng)
        pictures, truth = pictures[:, rows, columns], truth[:, :, rows, columns]
    visible = np.flatnonzero(truth[0].any(axis=(1, 2)))
    chosen = np.sort(rng.permutation(visible)[: options.objects])
    frames = np.stack([resize_frame(picture, size) for picture in pictures])
    masks = _resize_masks(truth[:, chosen], size)
    kept = masks[0].flatten(1).any(dim=1)
    if needs_objects and not kept.any():
        return None
    if options.jitter:
        frames = _jittered(frames, options.jitter, rng)
    picture = torch.from_numpy(frames).permute(0, 3, 1, 2)
    masks = masks[:, kept]
    if rng.random() < options.flip:
        picture, masks = picture.flip(-1), masks.flip(-1)
    return Sample(picture.contiguous(), masks.contiguous())


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of equal length to one batch."""
    picture = torch.cat([torch.full((s.masks.shape[1],), b) for b, s in enumerate(samples)])
    return Batch(
        torch.stack([s.frames for s in samples], dim=1), torch.cat([s.masks for s in samples], dim=1), picture
    )


@lru_cache(maxsize=8)
def _order(seed: int, source: int, epoch: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, 1, source, epoch)).permutation(length)


class MicroBatches(Dataset[LoadedBatch]):
    """Micro-batch k of a run, for any k."""

    def __init__(
        self,
        options: Sequence[SourceOptions],
        size: int,
        seed: int,
        total: int,
        needs_objects: bool = True,
    ) -> None:
        """total: micro-batches of the whole run; needs_objects: see `make_sample`."""
        self.needs_objects = needs_objects
        self.options = list(options)
        self.sources = [open_source(o.source, o.args) for o in options]
        self.size = size
        self.seed = seed
        weights = np.array([o.weight for o in options], dtype=np.float64)
        draw = np.random.default_rng((seed, 0)).random(total)
        last = len(self.options) - 1
        self.plan = np.minimum(np.searchsorted(np.cumsum(weights / weights.sum()), draw, side="right"), last)
        self.rank = np.empty(total, np.int64)
        for s in range(len(self.options)):
            at = self.plan == s
            self.rank[at] = np.arange(int(at.sum()))

    def __len__(self) -> int:
        return len(self.plan)

    def _clip_number(self, source: int, position: int) -> int:
        length = len(self.sources[source])
        if length > ENDLESS:
            return position % length
        epoch, place = divmod(position, length)
        return int(_order(self.seed, source, epoch, length)[place])

    def __getitem__(self, k: int) -> LoadedBatch:
        s = int(self.plan[k])
        options = self.options[s]
        samples: list[Sample] = []
        skipped: list[tuple[str, str]] = []
        for j in range(options.batch):
            rng = np.random.default_rng((self.seed, 2, k, j))
            number = self._clip_number(s, int(self.rank[k]) * options.batch + j)
            for _ in range(TRIES):
                try:
                    clip, frames = read_clip(self.sources[s], number, options, rng)
                    sample = make_sample(clip, frames, options, self.size, rng, self.needs_objects)
                except (ValueError, OSError) as error:
                    skipped.append((f"{options.source}[{number}]", f"{type(error).__name__}: {error}"))
                    sample = None
                if sample is not None:
                    samples.append(sample)
                    break
                number = int(rng.integers(len(self.sources[s])))
        if not samples:
            reason = skipped[-1][1] if skipped else "no object is visible"
            raise ValueError(f"data source {options.source!r}: no clip of {TRIES} tries is of use ({reason})")
        return LoadedBatch(collate(samples), tuple(skipped), len(samples) + len(skipped))


def load(batches: MicroBatches, numbers: range, workers: int, pin: bool) -> Iterator[LoadedBatch]:
    """The micro-batches of these numbers in order, made ahead by worker processes where there are some."""
    if not workers:
        for k in numbers:
            yield batches[k]
        return
    # its own generator: the loader must not draw from the global one, on which exact resumption rests
    yield from DataLoader(
        batches,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=4,
        pin_memory=pin,
        generator=torch.Generator(),
        worker_init_fn=_single_thread,
    )


def _single_thread(_: int) -> None:
    torch.set_num_threads(1)
