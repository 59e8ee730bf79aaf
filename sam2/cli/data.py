"""`sam2 data`: check a data set's files, look at it, or generate one."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from sam2.cli.arguments import add_verb, at_least

FORMATS = ("vos", "sav", "sa1b", "coco", "pairs", "pool")
CODECS = ("jpeg", "raw")
WITHOUT = ("texture", "shading", "occlusion", "parts", "camouflage", "blur", "glyphs")
"""As `sam2.data.without.NAMES`, which is not read before it is needed."""
_EXAMPLE = """\
examples:
  sam2 data check DAVIS --split val
  sam2 data show photos --out sheet.png
  sam2 data make pool --count 20000 --size 256
"""


def add_to(verbs: argparse._SubParsersAction) -> None:
    """Registers the verb and what it does."""
    parser = verbs.add_parser(
        "data",
        help="check, show or generate training data",
        description="Works on data sets: DAVIS and its like, SA-V, SA-1B, COCO, images + masks, generated.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")

    one = add_verb(
        actions,
        "check",
        "read every file of a data set and name those at fault",
        "Prints a line for each problem; status 1 where there is one.",
        "example:\n  sam2 data check DAVIS --split val\n",
    )
    _add_source(one)
    one.set_defaults(run=check)

    one = add_verb(
        actions,
        "show",
        "a sheet of pictures with their objects outlined",
        "Draws pictures or clips, spread over the data set, with their objects.",
        "example:\n  sam2 data show photos --out sheet.png\n",
    )
    _add_source(one)
    one.add_argument("--out", type=Path, default=Path("sheet.png"), help="default: sheet.png")
    one.add_argument("--count", type=at_least(1), default=12, help="pictures or clips (default 12)")
    one.add_argument("--frames", type=at_least(1), default=4, help="frames of each clip (default 4)")
    one.add_argument("--force", action="store_true", help="replace a sheet that is there already")
    one.set_defaults(run=show)

    one = add_verb(
        actions,
        "make",
        "generate scenes with all their masks",
        "Writes a pool of generated pictures or clips. Begun again, it keeps the finished part.",
        "example:\n  sam2 data make pool --count 20000 --size 256\n  sam2 data make clips --length 8\n",
    )
    one.add_argument("out", type=Path, metavar="OUT", help="folder of the pool")
    one.add_argument("--count", type=at_least(1), default=10_000, help="scenes (default 10000)")
    one.add_argument("--size", type=at_least(16), default=128, help="side in pixels (default 128)")
    one.add_argument("--length", type=at_least(1), default=1, help="frames; 1 (default): pictures")
    one.add_argument(
        "--difficulty", type=_bounds, default=(0.0, 1.0), metavar="LOW,HIGH", help="within 0..1 (default 0,1)"
    )
    one.add_argument(
        "--ramp", type=at_least(0), default=0, help="scenes over which difficulty climbs (default 0)"
    )
    one.add_argument("--seed", type=at_least(0), default=0, help="another seed, other scenes (default 0)")
    one.add_argument(
        "--without",
        type=_names,
        default=(),
        metavar="NAME,...",
        help=f"leave out some of {', '.join(WITHOUT)} (default: nothing)",
    )
    one.add_argument(
        "--cutouts",
        action="append",
        default=[],
        metavar="DIR",
        help="pictures with an alpha channel, put in place of some objects; may be given several times",
    )
    one.add_argument(
        "--cutout-share",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="of the objects, 0 to 1 (default 0.5)",
    )
    one.add_argument(
        "--workers", type=at_least(1), default=os.cpu_count() or 1, help="processes (default: all cores)"
    )
    one.add_argument("--codec", choices=CODECS, default="jpeg", help="of pictures (default jpeg)")
    one.add_argument("--quality", type=at_least(1), default=95, help="of JPEG (default 95)")
    one.set_defaults(run=make)


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, metavar="PATH", help="a folder, or the JSON of COCO instances")
    parser.add_argument("--format", choices=FORMATS, help="found out where it is not given")
    parser.add_argument("--split", metavar="NAME", help="only the videos listed in NAME.txt (DAVIS: val)")


def _bounds(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not LOW,HIGH: write 0,0.5") from None
    return low, high


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in WITHOUT]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(WITHOUT)}")
    return names


def check(args: argparse.Namespace) -> int:
    """Prints all problems."""
    from sam2.data import readers

    problems = readers.check(args.data, args.format, args.split)
    for problem in problems:
        print(problem)
    if problems:
        count = len(problems)
        print(f"sam2: {count} problem{'' if count == 1 else 's'} in {args.data}", file=sys.stderr)
        return 1
    dataset = readers.open_dataset(args.data, args.format, args.split)
    print(f"{len(dataset)} clips ({dataset.format}), no problems")
    return 0


def show(args: argparse.Namespace) -> int:
    """Writes the sheet."""
    from PIL import Image

    from sam2.data.readers import open_dataset
    from sam2.masks.files import atomic_path
    from sam2.masks.overlay import overlay
    from sam2.masks.sheets import sheet

    dataset = open_dataset(args.data, args.format, args.split)
    count = min(args.count, len(dataset))
    cells, captions, columns = [], [], 1
    for place in range(count):
        index = place * len(dataset) // count
        length = dataset.num_frames(index)
        frames = sorted({t * length // args.frames for t in range(min(args.frames, length))})
        clip = dataset.load(index, frames)
        columns = max(columns, len(frames))
        for t, number in enumerate(frames):
            masks = {n + 1: mask for n, mask in enumerate(clip.masks[t]) if mask.any()}
            cells.append(overlay(clip.frames[t], masks))
            captions.append(dataset.names[index] + (f", {number}" if length > 1 else ""))
    if not cells:
        raise ValueError(f"{args.data} holds no annotated clip or picture")
    page = sheet(cells, captions, columns=columns if columns > 1 else min(4, count), cell_width=320)
    with atomic_path(args.out, force=args.force) as aside:
        Image.fromarray(page).save(aside)
    print(f"{count} of {len(dataset)} clips: {args.out}")
    return 0


def make(args: argparse.Namespace) -> int:
    """Generates until the pool holds what was asked for."""
    from sam2.data.cutouts import files
    from sam2.data.pool import write_pool
    from sam2.data.recipe import Recipe

    recipe = Recipe(
        args.size,
        args.length,
        args.difficulty,
        args.ramp,
        args.seed,
        args.without,
        tuple(args.cutouts),
        args.cutout_share,
    )
    if args.cutouts:
        files(recipe.cutouts)  # a wrong folder is told of before workers start
    try:
        pool = write_pool(args.out, recipe, args.count, args.workers, args.codec, args.quality, report=True)
    except KeyboardInterrupt:
        print(f"sam2: interrupted; what {args.out} holds stays, begin again to go on", file=sys.stderr)
        return 130
    print(f"{len(pool)} scenes: {args.out}")
    return 0
