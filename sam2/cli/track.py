"""`sam2 track`: objects followed through a video."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sam2.cli.arguments import (
    add_backend,
    add_model,
    add_output,
    add_precision,
    add_verb,
    at_least,
    out_folder,
)
from sam2.cli.segment import add_prompts

if TYPE_CHECKING:
    from sam2.cli.formats import Formats
    from sam2.prompts.files import ObjectPrompts

DIRECTIONS = ("forward", "backward", "both")
CACHE_BYTES = 2**29
"""Of decoded frames: overlays read a frame again when others have been read ahead of it, at 8K too."""
POLICIES = ("fifo", "stride", "motion", "distractor", "tree")

_EXAMPLE = """\
examples:
  sam2 track clip.mp4 --point 320,180
  sam2 track clip.mp4 --frame 40 --box 80,60,240,200 --direction both --format overlay,davis,coco
  sam2 track frames/ --prompts prompts.json --out out/clip
  sam2 track camera:0 --box 80,60,240,200 --frames 300
  ffmpeg -i clip.mp4 -f mjpeg - | sam2 track - --point 320,180

Ctrl-C stops after the frame at work and keeps what is finished; a second one drops everything.
"""


def add_to(verbs: argparse._SubParsersAction) -> None:
    """Registers the verb."""
    parser = add_verb(
        verbs,
        "track",
        "follow objects through a video",
        "Follows one object through a video from points, a box or a mask on any frame; or many from a "
        "prompt file.",
        _EXAMPLE,
    )
    parser.add_argument(
        "video",
        metavar="VIDEO",
        help="MP4, MOV, WebM, AVI, GIF, …, or a folder of pictures; or live: camera:0, an rtsp:// or http:// "
        "address, - for standard input",
    )
    add_prompts(parser)
    parser.add_argument(
        "--frame",
        type=at_least(0),
        default=0,
        metavar="N",
        help="the frame of --point, --box and --mask (default 0, the first)",
    )
    span = parser.add_argument_group("what to track")
    span.add_argument(
        "--direction",
        choices=DIRECTIONS,
        default="forward",
        help="from the starting frame on (default), back, or both",
    )
    span.add_argument(
        "--start",
        type=at_least(0),
        metavar="N",
        help="the starting frame; default: the first that has a prompt (backward: the last)",
    )
    span.add_argument(
        "--frames", type=at_least(1), metavar="N", help="at most so many frames in each direction"
    )
    parser.add_argument(
        "--policy",
        choices=POLICIES,
        default="fifo",
        help="which past frames are remembered; fifo (default): the last ones, as published; stride: every "
        "fourth; motion (SAMURAI), distractor (DAM4SAM), tree (SAM2Long, some three times the work): see "
        "docs/policies.md",
    )
    parser.add_argument(
        "--zoom",
        action=argparse.BooleanOptionalAction,
        help="follow each object from near, in windows that move with it; two encodings an object and frame "
        "(default: for a model that says so, as the packaged one does, and up to 6 objects of a file)",
    )
    live = parser.add_argument_group("live sources", "tracked forwards until they end, or Ctrl-C")
    live.add_argument(
        "--input-format",
        metavar="NAME",
        help="of standard input: mjpeg, rgb24 (raw pixels, with --size), or a container; default: found out",
    )
    live.add_argument("--size", type=size, metavar="WxH", help="of raw pixels; or asked of a camera")
    live.add_argument(
        "--fps", type=float, metavar="N", help="of input without times of its own; or asked of a camera"
    )
    live.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="give up where no frame comes for so long; default 10",
    )
    live.add_argument(
        "--drop",
        choices=("oldest", "none"),
        help="oldest: drop frames that come too fast (default, but for standard input: none)",
    )
    add_model(parser)
    add_backend(parser)
    add_precision(parser)
    add_output(parser, ["overlay", "davis"])
    parser.set_defaults(run=run)


def size(text: str) -> tuple[int, int]:
    """640x480"""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write width and height as 640x480")
    return int(match[1]), int(match[2])


def run(args: argparse.Namespace) -> int:
    """Reads, tracks, writes as it goes."""
    from sam2.cli.asked import asked_objects
    from sam2.cli.formats import Formats
    from sam2.video import is_live

    formats = Formats.of(args, is_video=True)
    objects = asked_objects(args, args.frame)
    formats.check_ids(entry.id for entry in objects)
    for entry in objects:
        for prompt in entry.prompts:
            if prompt.mask is not None and (prompt.points is not None or prompt.box is not None):
                raise ValueError(
                    f"object {entry.id}, frame {prompt.frame}: in a video a mask stands alone: "
                    "leave out the points and the box"
                )
    return (_run_live if is_live(args.video) else _run_file)(args, formats, objects)


def _run_file(args: argparse.Namespace, formats: Formats, objects: list[ObjectPrompts]) -> int:
    from sam2.cli.follow import follow
    from sam2.formats import OutputFolder
    from sam2.video import open_video

    for name in ("input_format", "size", "fps", "timeout", "drop"):
        if getattr(args, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} is for live sources, and {args.video} is a file")
    args.video = Path(args.video)
    with open_video(args.video, cache_bytes=CACHE_BYTES) as reader:
        last = reader.num_frames - 1
        for entry in objects:
            for prompt in entry.prompts:
                if prompt.frame > last:
                    raise ValueError(
                        f"object {entry.id}: frame {prompt.frame} is out of range: {args.video} has "
                        f"frames 0 to {last}"
                    )
                prompt.check_inside(reader.height, reader.width)
        if args.start is not None and args.start > last:
            raise ValueError(f"--start {args.start} is out of range: {args.video} has frames 0 to {last}")
        with OutputFolder(out_folder(args, args.video), formats.entries, args.force) as folder:
            return follow(args, formats, reader, objects, folder)


def _run_live(args: argparse.Namespace, formats: Formats, objects: list[ObjectPrompts]) -> int:
    from sam2.cli.stream import follow_live
    from sam2.formats import OutputFolder
    from sam2.video.live import shown_name

    if args.zoom:
        raise ValueError("--zoom is for files: frames of a live source are seen whole")
    if args.direction != "forward" or args.start is not None:
        raise ValueError("--direction and --start are for files: a live source is tracked as its frames come")
    name = re.sub(r"[^\w.-]+", "-", shown_name(args.video)).strip("-") or "stdin"
    with OutputFolder(args.out or Path("out") / name, formats.entries, args.force) as folder:
        return follow_live(args, formats, objects, folder)
