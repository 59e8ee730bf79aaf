"""`sam2 track`: objects followed through a video."""

from __future__ import annotations

import argparse
from pathlib import Path

from sam2.cli.arguments import add_model, add_output, add_verb, at_least, out_folder
from sam2.cli.segment import add_prompts

DIRECTIONS = ("forward", "backward", "both")

_EXAMPLE = """\
examples:
  sam2 track clip.mp4 --point 320,180
  sam2 track clip.mp4 --frame 40 --box 80,60,240,200 --direction both --format overlay,davis,coco
  sam2 track frames/ --prompts prompts.json --out out/clip

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
        "video", type=Path, metavar="VIDEO", help="MP4, MOV, WebM, AVI, GIF, …, or a folder of pictures"
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
    add_model(parser)
    add_output(parser, ["overlay", "davis"])
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Reads, tracks, writes as it goes."""
    from sam2.cli.asked import asked_objects
    from sam2.cli.follow import follow
    from sam2.cli.formats import Formats
    from sam2.formats import OutputFolder
    from sam2.video import open_video

    formats = Formats.of(args, is_video=True)
    objects = asked_objects(args, args.frame)
    formats.check_ids(entry.id for entry in objects)
    with open_video(args.video) as reader:
        last = reader.num_frames - 1
        for entry in objects:
            for prompt in entry.prompts:
                if prompt.frame > last:
                    raise ValueError(
                        f"object {entry.id}: frame {prompt.frame} is out of range: {args.video} has "
                        f"frames 0 to {last}"
                    )
                if prompt.mask is not None and (prompt.points is not None or prompt.box is not None):
                    raise ValueError(
                        f"object {entry.id}, frame {prompt.frame}: in a video a mask stands alone: "
                        "leave out the points and the box"
                    )
                prompt.check_inside(reader.height, reader.width)
        if args.start is not None and args.start > last:
            raise ValueError(f"--start {args.start} is out of range: {args.video} has frames 0 to {last}")
        with OutputFolder(out_folder(args, args.video), formats.entries, args.force) as folder:
            return follow(args, formats, reader, objects, folder)
