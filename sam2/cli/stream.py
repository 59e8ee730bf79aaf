"""The work of `sam2 track` on live sources: frame in, masks out, nothing kept but what was written."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from sam2 import __version__
from sam2.cli.follow import INTERRUPTED, Stop, marks_of, masks_of
from sam2.cli.formats import RESULT, Formats
from sam2.cli.load import choose_model
from sam2.cli.report import report
from sam2.formats import FrameMasks, ObjectInfo, OutputFolder, Source
from sam2.prompts.files import ObjectPrompts, prompts_to_json
from sam2.tracking import FrameResult, ObjectPrompt, StreamingTracker
from sam2.video import LiveFrame, LiveSource, VideoError, VideoWarning, open_live

FAULT = 1
NEED_LENGTH = ("cvat", "labelstudio")
"""Formats that say at their beginning how many frames there are."""


def open_asked(args: argparse.Namespace) -> LiveSource:
    """The source with the options that the user gave."""
    given = {"format": args.input_format, "size": args.size, "fps": args.fps, "drop": args.drop}
    if args.timeout is not None:
        given["timeout"] = args.timeout
    return open_live(args.video, **given)


def follow_live(
    args: argparse.Namespace, formats: Formats, objects: Sequence[ObjectPrompts], folder: OutputFolder
) -> int:
    """Tracks and writes until the source ends, `--frames` are done or the user stops; the exit status.

    Where the source fails once frames were tracked, these are kept.

    Raises:
        VideoError: no frame came. ValueError: a format that needs the whole video, or a prompt that does
            not fit.
    """
    _check_formats(formats)
    choice = choose_model(args.model, args.device, args.backend, args.precision)
    predictor = choice.video_predictor()
    start = min(prompt.frame for entry in objects for prompt in entry.prompts)
    with ExitStack() as stack:
        live = stack.enter_context(open_asked(args))
        stop = stack.enter_context(Stop(live.stop))
        screen = _screen(live, stop, objects)
        tracker = stack.enter_context(predictor.stream(policy=args.policy))
        details = {
            "model": choice.to_json(predictor),
            "input": {"path": live.name, "width": screen.size[1], "height": screen.size[0]},
            "prompts": prompts_to_json(objects),
            "policy": args.policy,
            "direction": "forward",
            "start": start,
        }
        source = _source(live, screen, objects)
        outputs = stack.enter_context(
            LiveOutputs(formats, source, folder.staging, {"command": args.verb, **details})
        )
        began = time.monotonic()
        results = _tracked(tracker, screen, objects, args.frames)
        fault = _written(tqdm(results, desc="track", disable=None), outputs)
        if not outputs.frames:
            if stop.asked:
                raise KeyboardInterrupt
            raise VideoError(
                f"{live.name} ended after {tracker.frame_idx + 1} frames, before the first prompt, on frame "
                f"{start}"
            )
        outputs.finish(live, stop.asked, fault)
        stop.finishing = True
        _tell_what_is_missing(objects, live, tracker.frame_idx)
        summary = _summary(live.name, len(objects), outputs.frames, time.monotonic() - began)
        if stop.asked:
            summary = f"stopped by Ctrl-C; what is finished is kept\n{summary}"
        report(summary, folder.folder, folder.commit())
        if fault is not None:
            print(f"sam2: error: {fault}; what was finished is kept", file=sys.stderr)
            return FAULT
    return INTERRUPTED if stop.asked else 0


def _check_formats(formats: Formats) -> None:
    for name in NEED_LENGTH:
        if formats.has(name):
            raise ValueError(
                f"the format {name} needs to know how long the video is: choose another --format"
            )


def _screen(live: LiveSource, stop: Stop, objects: Sequence[ObjectPrompts]) -> Screen:
    """The frames of a source whose first one has come, and holds all prompts."""
    first = next(live, None)
    if first is None:
        if stop.asked:
            raise KeyboardInterrupt
        raise VideoError(f"{live.name} ended before its first frame")
    screen = Screen(chain([first], live), first.frame.shape[:2])
    for entry in objects:
        for prompt in entry.prompts:
            prompt.check_inside(*screen.size)
    return screen


def _written(results: Iterable[FrameResult], outputs: LiveOutputs) -> str | None:
    """Writes results as they come; what the source failed with after some, None where it ended."""
    try:
        for found in results:
            outputs.add(found)
    except VideoError as error:
        if not outputs.frames:
            raise
        return str(error)
    return None


def _summary(name: str, objects: int, frames: int, seconds: float) -> str:
    return (
        f"{objects} object{'' if objects == 1 else 's'} in {frames} frame{'' if frames == 1 else 's'} of "
        f"{name}; {seconds:.1f} s, {frames / seconds:.1f} frames/s"
    )


class Screen:
    """Frames at the size of the first one, and the newest of them as a picture to draw on."""

    def __init__(self, frames: Iterable[LiveFrame], size: tuple[int, int]) -> None:
        self.size = size
        self._frames = frames
        self._shown = np.zeros((0, 0, 3), np.uint8)

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        """(timestamp, picture)"""
        height, width = self.size
        for item in self._frames:
            self._shown = item.frame
            if item.frame.shape[:2] != self.size:
                self._shown = np.array(Image.fromarray(item.frame).resize((width, height)))
            yield item.timestamp, self._shown

    def picture(self, _index: int) -> np.ndarray:
        """The newest frame, uint8 [H, W, 3]: writers take each frame as it comes."""
        return self._shown.copy()


class LiveOutputs:
    """All that is written of a stream, frame by frame: every format asked for, and result.json.

    A context manager: leaving it closes the files, complete or not.
    """

    def __init__(self, formats: Formats, source: Source, folder: Path, details: Mapping[str, Any]) -> None:
        self.frames = 0
        self._with_labels = formats.has("davis")
        self._open = ExitStack()
        try:
            self._writers = []
            for writer in formats.open(folder, source):
                self._open.callback(writer.close)
                self._writers.append(writer)
            self._result = LiveResult(folder / RESULT, details)
            self._open.callback(self._result.close)
        except BaseException:
            self._open.close()
            raise

    def add(self, found: FrameResult) -> None:
        """Frames come in order."""
        frame = masks_of(found, f"{found.frame_idx:05d}.png", found.timestamp, self._with_labels)
        self._result.add(frame)
        for writer in self._writers:
            writer.add(frame)
        self.frames += 1

    def finish(self, live: LiveSource, interrupted: bool, fault: str | None) -> None:
        """Completes the files; `fault`: what the source failed with."""
        for writer in self._writers:
            writer.finish()
        stream = {"frames": self.frames, "dropped": live.dropped, "corrupt": live.corrupt, "fault": fault}
        self._result.finish({"interrupted": interrupted, "stream": stream})

    def __enter__(self) -> LiveOutputs:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._open.close()


class LiveResult:
    """result.json, written as the frames come."""

    def __init__(self, path: Path, details: Mapping[str, Any]) -> None:
        head = json.dumps({"sam2": __version__, **details}, indent=2, allow_nan=False)
        self._file: IO[str] = open(path, "x", encoding="utf-8", newline="")  # noqa: SIM115
        self._file.write(f'{head[:-2]},\n  "frames": [')
        self._comma = ""

    def add(self, frame: FrameMasks) -> None:
        """Frames come in order."""
        self._file.write(f"{self._comma}\n    {json.dumps(frame.to_json(), allow_nan=False)}")
        self._comma = ","

    def finish(self, ending: Mapping[str, Any]) -> None:
        """Completes the file with what is known only at the end."""
        self._file.write(f"\n  ],{json.dumps(ending, indent=2, allow_nan=False)[1:]}\n")
        self._file.close()

    def close(self) -> None:
        """Closes the file, complete or not."""
        self._file.close()


def _source(live: LiveSource, screen: Screen, objects: Sequence[ObjectPrompts]) -> Source:
    return Source(
        picture=screen.picture,
        size=screen.size,
        is_video=True,
        objects={entry.id: ObjectInfo(entry.name) for entry in objects},
        file_name=live.name,
        marks=marks_of(objects),
    )


def _tracked(
    tracker: StreamingTracker, screen: Screen, objects: Sequence[ObjectPrompts], limit: int | None
) -> Iterator[FrameResult]:
    """Results from the first frame with a prompt on, at most `limit`."""
    asked: dict[int, list[ObjectPrompt]] = defaultdict(list)
    for entry in objects:
        for prompt in entry.prompts:
            points = prompt.points
            asked[prompt.frame].append(
                ObjectPrompt(
                    entry.id,
                    None if points is None else points.coords,
                    None if points is None else points.labels,
                    None if prompt.box is None else prompt.box.array,
                    None if prompt.mask is None else prompt.mask.pixels,
                )
            )
    start = min(asked)
    for timestamp, frame in screen:
        index = tracker.frame_idx + 1
        if index < start:
            tracker.push(frame)
            continue
        yield tracker.step(frame, asked.get(index, ()), timestamp)
        if limit is not None and index + 1 == start + limit:
            return


def _tell_what_is_missing(objects: Sequence[ObjectPrompts], live: LiveSource, last: int) -> None:
    """Warnings about prompts that were never reached, and about frames that were lost."""
    for entry in objects:
        for prompt in entry.prompts:
            if prompt.frame > last:
                warnings.warn(
                    f"object {entry.id}: its prompt on frame {prompt.frame} was not reached, the last frame "
                    f"was {last}",
                    VideoWarning,
                    stacklevel=2,
                )
    if live.corrupt:
        warnings.warn(f"{live.corrupt} packets of {live.name} did not decode", VideoWarning, stacklevel=2)
    if live.dropped:
        warnings.warn(
            f"{live.dropped} frames of {live.name} were dropped because they came faster than they could be "
            "tracked; --drop none makes the source wait",
            VideoWarning,
            stacklevel=2,
        )
