"""`sam2 auto`: masks of everything in one picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from sam2.cli.arguments import (
    add_backend,
    add_model,
    add_output,
    add_precision,
    add_verb,
    at_least,
    out_folder,
)

_EXAMPLE = """\
example:
  sam2 auto photo.jpg --points-per-side 16 --min-area 200 --format overlay,coco
"""

# Options of SAM2AutomaticMaskGenerator: (name, type, default, help).
_GRID = (
    ("points-per-side", at_least(1), 32, "the grid asks this many points a side"),
    ("points-per-batch", at_least(1), 64, "points that go through the model together"),
    ("pred-iou-thresh", float, 0.8, "keep masks whose predicted IoU is above this"),
    ("stability-score-thresh", float, 0.95, "keep masks at least this stable around the threshold"),
    ("stability-score-offset", float, 1.0, "stability compares thresholds this far apart (logits)"),
    ("box-nms-thresh", float, 0.7, "of two masks whose boxes overlap by more (IoU) the better stays"),
    ("crop-n-layers", at_least(0), 0, "also look into crops: layer i has 4^i of them"),
    ("crop-nms-thresh", float, 0.7, "as --box-nms-thresh, between crops"),
    ("crop-n-points-downscale-factor", at_least(1), 1, "the grid is this much coarser from layer to layer"),
)


def add_to(verbs: argparse._SubParsersAction) -> None:
    """Registers the verb."""
    parser = add_verb(
        verbs,
        "auto",
        "find masks of everything in a picture",
        "Asks the model at every point of a grid and keeps the masks that are good and distinct.",
        _EXAMPLE,
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="JPEG, PNG, WebP, TIFF, …")
    grid = parser.add_argument_group("grid and sieve")
    for name, kind, default, text in _GRID:
        grid.add_argument(
            f"--{name}", type=kind, default=default, metavar="N", help=f"{text} (default {default})"
        )
    grid.add_argument(
        "--min-area",
        type=at_least(0),
        default=0,
        metavar="N",
        help="drop masks of fewer pixels of the picture (default 0)",
    )
    grid.add_argument(
        "--min-region-area",
        type=at_least(0),
        default=0,
        metavar="N",
        help="fill holes and drop islands up to this many pixels of the low-resolution mask (default 0)",
    )
    grid.add_argument("--m2m", action="store_true", help="refine each mask by a second pass")
    add_model(parser)
    add_backend(parser)
    add_precision(parser)
    add_output(parser, ["overlay", "coco"])
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Reads, asks the model, writes."""
    from sam2.cli.formats import Formats
    from sam2.cli.pictures import input_details, read_input, write_results
    from sam2.formats import Found, FrameMasks, ObjectInfo, OutputFolder, Source

    formats = Formats.of(args, is_video=False)
    picture = read_input(args.image)
    with OutputFolder(out_folder(args, args.image), formats.entries, args.force) as folder:
        from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
        from sam2.cli.load import choose_model
        from sam2.formats.stills import MAX_LABELS
        from sam2.masks import rle

        choice = choose_model(args.model, args.device, args.backend, args.precision)
        grid = {name.replace("-", "_"): getattr(args, name.replace("-", "_")) for name, *_ in _GRID}
        generator = SAM2AutomaticMaskGenerator(
            choice.image_model(),
            **grid,
            min_mask_region_area=args.min_region_area,
            use_m2m=args.m2m,
            output_mode="uncompressed_rle",
            dtype=choice.dtype,
        )
        records = [one for one in generator.generate(picture) if one["area"] >= args.min_area]
        found = {
            number: Found(
                rle.compress(one["segmentation"]),
                one["predicted_iou"],
                None,
                {
                    "stability_score": round(one["stability_score"], 4),
                    "point": [round(value, 1) for value in one["point_coords"][0]],
                },
            )
            for number, one in enumerate(records, start=1)
        }
        if formats.has("davis") and len(found) > MAX_LABELS:
            import warnings

            warnings.warn(
                f"an indexed PNG holds {MAX_LABELS} objects: davis.png has the first of {len(found)}",
                stacklevel=1,
            )
        source = Source(
            picture=lambda _: picture,
            size=(picture.shape[0], picture.shape[1]),
            is_video=False,
            objects={number: ObjectInfo() for number in found},
            file_name=args.image.name,
            label_objects=False,
        )
        details = {
            "model": choice.to_json(generator.predictor.model),
            "input": input_details(args.image, picture),
            "options": {
                **grid,
                "min_area": args.min_area,
                "min_region_area": args.min_region_area,
                "m2m": args.m2m,
            },
        }
        frame = FrameMasks(0, args.image.name, None, found)
        summary = f"{len(found)} mask{'' if len(found) == 1 else 's'} in {args.image}"
        write_results(folder, args, formats, source, frame, details, summary)
    return 0
