"""The work of `sam2 track`: prompts in, frame after frame out to the writers, memory flat."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from signal import SIGINT, SIGTERM
from types import FrameType
from typing import Any

import torch
from tqdm import tqdm

from sam2.cli.formats import RESULT, Formats, mark_of
from sam2.cli.load import choose_model
from sam2.cli.report import report
from sam2.cli.results import ResultFile
from sam2.close_tracker import CloseResult, CloseTracker, follows_closely
from sam2.formats import Found, FrameMasks, Marks, ObjectInfo, OutputFolder, Source
from sam2.memory import TreePolicy
from sam2.prompts.files import ObjectPrompts, prompts_to_json
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking.engine import FrameResult
from sam2.tracking.session import VideoSession
from sam2.video import VideoReader
from sam2.video.folders import FolderReader

INTERRUPTED = 130


@dataclass(frozen=True)
class Pass:
    """One run of the tracker.

    Invariant: `frames` begins at `start` or beside it, and is not empty.
    """

    start: int
    frames: range
    """The frames whose masks are wanted, in the order in which they come."""

    @property
    def reverse(self) -> bool:
        """Towards the beginning."""
        return self.frames.step < 0


def plan(
    direction: str, prompted: Sequence[int], num_frames: int, start: int | None, limit: int | None
) -> list[Pass]:
    """The runs that give every wanted frame once. Backwards comes first, so that files can be written in
    the order of frames.

    Args:
        direction: "forward", "backward" or "both".
        prompted: the frames with prompts.
        start: the starting frame; the first prompted one where None (the last, for "backward").
        limit: at most so many frames in each direction, the starting frame included.
    """
    if start is None:
        start = max(prompted) if direction == "backward" else min(prompted)
    count = num_frames if limit is None else limit
    back = range(start, max(start - count, -1), -1)
    ahead = range(start, min(start + count, num_frames))
    if direction == "forward" or (len(back) == 1 and direction == "both"):
        return [Pass(start, ahead)]
    if len(back) == 1:
        return [Pass(start, ahead[:1])]
    if direction == "backward" or len(ahead) == 1:
        return [Pass(start, back)]
    return [Pass(start, back), Pass(start, ahead[1:])]


def follow(
    args: argparse.Namespace,
    formats: Formats,
    reader: VideoReader,
    objects: Sequence[ObjectPrompts],
    folder: OutputFolder,
) -> int:
    """Tracks, writes, and returns the exit status."""
    choice = choose_model(args.model, args.device, args.backend, args.precision)
    predictor = choice.video_predictor()
    prompted = [prompt.frame for entry in objects for prompt in entry.prompts]
    passes = plan(args.direction, prompted, reader.num_frames, args.start, args.frames)
    source = _source(args, reader, objects, passes)
    with ExitStack() as stack:
        video = _followed(args, predictor, reader, len(objects))
        stack.callback(video.close)
        result = ResultFile(
            args.verb,
            {
                "model": choice.to_json(predictor),
                "input": _input_details(args, reader),
                "prompts": prompts_to_json(objects),
                "policy": args.policy,
                "zoom": isinstance(video, CloseTracker),
                "direction": args.direction,
                "start": passes[0].start,
            },
        )
        writers = []
        for writer in formats.open(folder.staging, source):
            stack.callback(writer.close)
            writers.append(writer)
        stop = stack.enter_context(Stop())
        began = time.monotonic()
        _prompt(predictor, video, objects)
        done = 0
        for one in passes:
            waiting: list[FrameMasks] = []
            for found in _tracked(predictor, video, one, stop):
                frame = _frame(found, reader, formats.has("davis"))
                result.add(frame)
                for writer in writers:
                    if not (writer.in_order and one.reverse):
                        writer.add(frame)
                if one.reverse:
                    waiting.append(replace(frame, labels=None))  # as large as the picture
                done += 1
            for frame in reversed(waiting):
                for writer in writers:
                    if writer.in_order:
                        writer.add(frame)
            if stop.asked:
                break
        if not done:
            raise KeyboardInterrupt
        wanted = sum(len(one.frames) for one in passes)
        for writer in writers:
            writer.finish()
        result.write(folder.staging / RESULT, interrupted=done < wanted)
        seconds = time.monotonic() - began
        summary = (
            f"{len(objects)} object{'' if len(objects) == 1 else 's'} in {done} frame"
            f"{'' if done == 1 else 's'} of {args.video}; {seconds:.1f} s, {done / seconds:.1f} frames/s"
        )
        if done < wanted:
            summary = (
                f"stopped by Ctrl-C after {done} of {wanted} frames; what is finished is kept\n{summary}"
            )
        stop.finishing = True
        report(summary, folder.folder, folder.commit())
    return INTERRUPTED if done < wanted else 0


def _input_details(args: argparse.Namespace, reader: VideoReader) -> dict[str, Any]:
    return {
        "path": str(args.video),
        "width": reader.width,
        "height": reader.height,
        "frames": reader.num_frames,
        "fps": round(float(reader.fps), 6),
    }


def marks_of(objects: Sequence[ObjectPrompts]) -> dict[int, list[Marks]]:
    """What was pointed at, by frame."""
    marks: dict[int, list[Marks]] = defaultdict(list)
    for entry in objects:
        for prompt in entry.prompts:
            marks[prompt.frame].append(mark_of(prompt))
    return marks


def _source(
    args: argparse.Namespace, reader: VideoReader, objects: Sequence[ObjectPrompts], passes: Sequence[Pass]
) -> Source:
    covered = [frame for one in passes for frame in (one.frames[0], one.frames[-1])]
    return Source(
        picture=reader.__getitem__,
        size=(reader.height, reader.width),
        is_video=True,
        objects={entry.id: ObjectInfo(entry.name) for entry in objects},
        file_name=args.video.resolve().name,
        frames=reader.num_frames,
        fps=float(reader.fps),
        timestamps=reader.timestamps[min(covered) : max(covered) + 1],
        sound=reader.path if reader.has_audio else None,
        marks=marks_of(objects),
    )


def _followed(
    args: argparse.Namespace, predictor: SAM2VideoPredictor, reader: VideoReader, objects: int
) -> VideoSession | CloseTracker:
    """The video, seen whole, or each object from near: as asked, else where that pays."""
    if follows_closely(predictor, objects, args.policy) if args.zoom is None else args.zoom:
        return CloseTracker(predictor, reader, policy=args.policy)
    return predictor.init_state(reader, policy=args.policy)


def _prompt(
    predictor: SAM2VideoPredictor, video: VideoSession | CloseTracker, objects: Sequence[ObjectPrompts]
) -> None:
    for entry in objects:
        for prompt in entry.prompts:
            pointed: dict[str, Any] = {
                "points": None if prompt.points is None else prompt.points.coords,
                "labels": None if prompt.points is None else prompt.points.labels,
                "box": None if prompt.box is None else prompt.box.array,
            }
            mask = None if prompt.mask is None else prompt.mask.pixels
            if isinstance(video, CloseTracker):
                video.prompt(prompt.frame, entry.id, mask=mask, **pointed)
            elif mask is not None:
                predictor.add_new_mask(video, prompt.frame, entry.id, mask)
            else:
                predictor.add_new_points_or_box(video, prompt.frame, entry.id, **pointed)


def _tracked(
    predictor: SAM2VideoPredictor, video: VideoSession | CloseTracker, one: Pass, stop: Stop
) -> Iterator[FrameResult | CloseResult]:
    """Results of one run, each of them final."""
    distance = abs(one.frames[-1] - one.start)
    if isinstance(video, CloseTracker):
        yield from _tracked_closely(video, one, distance, stop)
        return
    policy = predictor.engine.policy(video)
    revised: list[int] = []
    with closing(predictor.propagate(video, one.start, distance, one.reverse)) as results:  # type: ignore[type-var]
        for found in results:
            if isinstance(policy, TreePolicy):  # later frames may choose another pathway
                revised.append(found.frame_idx)
            else:
                if found.frame_idx in one.frames:
                    yield found
                video.forget_tracked((found.frame_idx, one.start), policy.horizon())
            if stop.asked:
                break
    for frame_idx in revised:
        if frame_idx in one.frames:
            yield predictor.engine.result(video, frame_idx)


def _tracked_closely(video: CloseTracker, one: Pass, distance: int, stop: Stop) -> Iterator[CloseResult]:
    with closing(video.propagate(one.start, distance, one.reverse)) as results:  # type: ignore[type-var]
        for found in tqdm(results, desc="follow from near", total=distance + 1, disable=None):
            if found.frame_idx in one.frames:
                yield found
            video.forget_tracked((found.frame_idx, one.start))
            if stop.asked:
                break


def _frame(found: FrameResult | CloseResult, reader: VideoReader, with_labels: bool) -> FrameMasks:
    index = found.frame_idx
    file_name = reader.files[index].name if isinstance(reader, FolderReader) else f"{index:05d}.png"
    return masks_of(found, file_name, float(reader.timestamps[index]), with_labels)


def masks_of(
    found: FrameResult | CloseResult, file_name: str, when: float | None, with_labels: bool
) -> FrameMasks:
    """A result as writers take it; `with_labels` gives each pixel to the object that claims it most."""
    logits = found.logits[:, 0]
    masks = (logits > 0).cpu().numpy()
    presence = found.object_score_logits.float().sigmoid().tolist()
    labels = None
    if with_labels:
        strongest, which = logits.max(dim=0)
        ids = torch.tensor(found.obj_ids, dtype=torch.uint8, device=logits.device)
        labels = torch.where(strongest > 0, ids[which], 0).cpu().numpy()
    objects = {
        object_id: Found.of(masks[i], float(found.predicted_iou[i]), presence[i])
        for i, object_id in enumerate(found.obj_ids)
    }
    return FrameMasks(found.frame_idx, file_name, when, objects, labels)


class Stop:
    """Whether the user wants to stop.

    In its `with` block, the first Ctrl-C (or SIGTERM) sets `asked`; a second one interrupts at once, unless
    `finishing` is set: results are then getting their names.

    Args:
        wake: called with the first Ctrl-C, to end whatever is waited for.
    """

    def __init__(self, wake: Callable[[], None] | None = None) -> None:
        self._wake = wake
        self.asked = False
        self.finishing = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            self._before = {number: signal.signal(number, self._hear) for number in (SIGINT, SIGTERM)}
        return self

    def __exit__(self, *_exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        if self.finishing:
            return
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if self._wake is not None:
            self._wake()
        print("sam2: stopping after this frame; Ctrl-C again drops everything", file=sys.stderr, flush=True)
