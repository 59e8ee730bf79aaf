"""`evaluate`: a data set, a model and a protocol to a table by object, means and a sheet of the worst.

Clips are independent, so several processes may share them; the result does not depend on how many.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from sam2.build_sam import build_sam2, build_sam2_video_predictor, resolve_model
from sam2.data.clip import Clip
from sam2.data.readers import open_dataset
from sam2.evaluation.amg import automatic_recall
from sam2.evaluation.clicks import Sam2Segmenter, score_still
from sam2.evaluation.report import Example, Interval, Worst, intervals, write_summary, write_table
from sam2.evaluation.vos import PROMPTS, Footage, correct_offline, correct_online, follow, is_scored
from sam2.ops.precision import dtype_of
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.video import PictureError, VideoError

STILLS = ("clicks", "noc", "automatic")
CLIPS = (*PROMPTS, "offline", "online")


@dataclass(frozen=True)
class EvaluationOptions:
    """What is evaluated, and how."""

    data: str
    """A data set that `sam2.data.readers.open_dataset` opens."""
    protocol: str
    """`clicks` (IoU at 1, 3 and 5 clicks and from boxes), `noc` (the same, 20 clicks), `automatic`; for clips
    a first prompt (`mask`, `box`, `1 click`, `3 clicks`, `5 clicks`), `offline` or `online`."""
    model: str | None = None
    """Anything `resolve_model` knows; the default model where it is not given."""
    checkpoint: str | None = None
    """Its weights, where `model` is a configuration."""
    overrides: tuple[str, ...] = ()
    """Override strings for its configuration."""
    device: str | None = None
    """The best there is where it is not given."""
    precision: str = "float32"
    """What the model computes in: `float32`, `bfloat16` or `float16`."""
    split: str | None = None
    """Of the data set, where it has any."""
    limit: int | None = None
    """Take so many pictures or clips, spread over the set."""
    workers: int = 1
    """Processes."""
    every_frame: bool = True
    """Track through all frames of a clip, not the annotated ones alone."""

    def __post_init__(self) -> None:
        if self.protocol not in STILLS + CLIPS:
            raise ValueError(f"unknown protocol {self.protocol!r}; give one of {', '.join(STILLS + CLIPS)}")
        dtype_of(self.precision)
        if self.workers < 1 or (self.limit is not None and self.limit < 1):
            raise ValueError("workers and limit must be at least 1")


@dataclass
class Result:
    """Rows by object, and what goes on the sheet."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    unscored: list[str] = field(default_factory=list)
    error: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found."""

    means: dict[str, Interval]
    """Of each column."""
    objects: int
    clips: int
    """Pictures or clips looked at, those that could not be read included."""
    unread: list[str]
    """Why clips could not be read."""
    unscored: list[str]
    """Objects that the protocol cannot score."""
    kinds: dict[str, tuple[int, dict[str, Interval]]] = field(default_factory=dict)
    """Objects and means of each kind, in generated scenes, which know what they show."""


class _Judge:
    """Scores clips one at a time; each process holds one."""

    def __init__(self, options: EvaluationOptions) -> None:
        self.options = options
        self.data = open_dataset(options.data, split=options.split)
        config, checkpoint = resolve_model(options.model)
        checkpoint = options.checkpoint or checkpoint
        common: dict[str, Any] = {"device": options.device, "hydra_overrides_extra": options.overrides}
        dtype = dtype_of(options.precision)
        if options.protocol in STILLS:
            model = build_sam2(config, checkpoint, **common)
            self.segmenter = Sam2Segmenter(SAM2ImagePredictor(model, dtype=dtype))
        else:
            # as published: masks are followed without hole filling and the like
            processed = options.protocol != "mask"
            self.tracker = build_sam2_video_predictor(
                config, checkpoint, apply_postprocessing=processed, dtype=dtype, **common
            )
        if options.protocol == "automatic":
            self.generator = SAM2AutomaticMaskGenerator(self.segmenter.predictor.model, dtype=dtype)

    def __call__(self, index: int) -> Result:
        try:
            clip = self.data[index]
        except (ValueError, OSError) as error:
            return Result(error=str(error))
        try:
            result = self._scored(index, clip)
            kind_of = dict(zip(clip.object_ids, clip.kinds))
            for row in result.rows if kind_of else ():
                row["kind"] = kind_of[row["object"]]
            return result
        except (VideoError, PictureError) as error:  # of a frame between the annotated ones
            return Result(error=str(error))

    def _scored(self, index: int, clip: Clip) -> Result:
        if self.options.protocol in STILLS:
            return self._still(clip)
        seen = None
        if self.options.every_frame:
            frames, annotated = self.data.footage(index)
            seen = Footage(frames, annotated)
        result = self._clip(clip, seen)
        for n, number in enumerate(clip.object_ids):
            if not is_scored(clip, n):
                reason = f"not seen between the first and the last of {len(clip)} annotated frames"
                result.unscored.append(f"{clip.name} #{number}: {reason}")
        return result

    def _still(self, clip: Clip) -> Result:
        if self.options.protocol == "automatic":
            return Result([s.row() for s in automatic_recall(self.generator, clip)])
        clicks = 20 if self.options.protocol == "noc" else 5
        scores, first = score_still(self.segmenter, clip, clicks)
        worst = Worst()
        for score, mask in zip(scores, first):
            truth = clip.masks[0, clip.object_ids.index(score.object_id)]
            caption = f"{score.picture} #{score.object_id}, 1 click"
            worst.add(Example(clip.frames[0], truth, mask, score.clicks[0], caption))
        return Result([s.row() for s in scores], worst.examples)

    def _clip(self, clip: Clip, seen: Footage | None) -> Result:
        protocol = self.options.protocol
        if protocol in ("offline", "online"):
            run = correct_offline if protocol == "offline" else correct_online
            return Result([s.row() for s in run(self.tracker, clip, footage=seen)])
        scores, found = follow(self.tracker, clip, protocol, seen, self.data.exclusive)
        worst = Worst()
        for score in scores:
            place = clip.object_ids.index(score.object_id)
            shown = clip.masks[:, place].any(axis=(1, 2))
            t = int(np.flatnonzero(shown)[-1])
            caption = f"{score.clip} #{score.object_id}, frame {t}"
            truth, mask = clip.masks[t, place], found[t, place]
            worst.add(Example(clip.frames[t], truth, mask, 0.5 * (score.j + score.f), caption))
        return Result([s.row() for s in scores], worst.examples)


_judge: _Judge | None = None


def _start(options: EvaluationOptions, threads: int) -> None:
    global _judge
    torch.set_num_threads(threads)
    _judge = _Judge(options)


def _work(index: int) -> Result:
    assert _judge is not None
    return _judge(index)


def _results(options: EvaluationOptions, numbers: Sequence[int]) -> Iterator[Result]:
    if options.workers == 1:
        judge = _Judge(options)
        for index in numbers:
            yield judge(index)
        return
    threads = max(1, (os.cpu_count() or 1) // options.workers)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context, _start, (options, threads)) as pool:
        yield from pool.map(_work, numbers)


def evaluate(options: EvaluationOptions, out: str | Path) -> Evaluation:
    """Runs a protocol; writes `objects.csv`, `summary.json` and `worst.png` under `out`.

    Clips that cannot be read and objects that cannot be scored are listed in the summary. Raises ValueError
    where nothing could be scored.
    """
    data = open_dataset(options.data, split=options.split)
    count = len(data) if options.limit is None else min(options.limit, len(data))
    numbers = [i * len(data) // count for i in range(count)] if count else []
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    unread: list[str] = []
    unscored: list[str] = []
    worst = Worst()
    start = time.monotonic()
    results = _results(options, numbers)
    for result in tqdm(results, total=len(numbers), desc=options.protocol, disable=None):
        rows += result.rows
        unscored += result.unscored
        for example in result.examples:
            worst.add(example)
        if result.error is not None:
            unread.append(result.error)
    if not rows:
        first = [*unread, *unscored][:1]
        reason = f" ({first[0]})" if first else ""
        raise ValueError(f"{options.data}: no object could be scored in {len(numbers)} clips{reason}")
    group = "picture" if "picture" in rows[0] else "clip"
    if options.protocol == "offline":
        rounds = max(row["frames"] for row in rows)
        last = {(row["clip"], row["object"]): row for row in rows}
        means = intervals(list(last.values()), group, ("jf", "j", "f", "presence"))
        for number in range(1, rounds + 1):
            upto = {(r["clip"], r["object"]): r for r in rows if r["frames"] <= number}
            means |= {f"jf_round_{number}": intervals(list(upto.values()), group, ["jf"])["jf"]}
    else:
        names = [n for n, v in rows[0].items() if isinstance(v, int | float) and n not in ("object", "area")]
        means = intervals(rows, group, names)
    kinds: dict[str, tuple[int, dict[str, Interval]]] = {}
    final = list({(row[group], row["object"]): row for row in rows}.values())  # after the last round
    for kind in dict.fromkeys(row["kind"] for row in final if "kind" in row):
        alike = [row for row in final if row.get("kind") == kind]
        kinds[kind] = len(alike), intervals(alike, group, [name for name in means if name in alike[0]])
    objects = len({(row[group], row["object"]) for row in rows})
    write_table(folder / "objects.csv", rows)
    facts = {
        "data": options.data,
        "protocol": options.protocol,
        "model": options.model or "default",
        "checkpoint": options.checkpoint,
        "objects": objects,
        "kinds": {
            kind: {"objects": alike, "means": {name: vars(value) for name, value in of.items()}}
            for kind, (alike, of) in kinds.items()
        },
        "clips": len(numbers),
        "unread": unread,
        "unscored": unscored,
        "seconds": round(time.monotonic() - start, 1),
    }
    write_summary(folder / "summary.json", means, **facts)
    worst.write(folder / "worst.png")
    return Evaluation(means, objects, len(numbers), unread, unscored, kinds)
