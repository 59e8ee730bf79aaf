"""`sam2 segment`: objects that the user points at, in one picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sam2.cli.arguments import (
    add_backend,
    add_model,
    add_output,
    add_precision,
    add_verb,
    box,
    out_folder,
    point,
)

if TYPE_CHECKING:
    from sam2.formats import Found
    from sam2.prompts.files import ObjectPrompts
    from sam2.sam2_image_predictor import SAM2ImagePredictor

_EXAMPLE = """\
examples:
  sam2 segment photo.jpg --point 420,310
  sam2 segment photo.jpg --box 80,60,500,420 --point 120,90,0 --format cutout,coco --out out/mug
"""

_PROMPT_FILE = """\
many objects, see docs/prompts.md: {"version": 1, "objects": [{"id": 1, "name": "cup", "prompts": [
{"frame": 0, "points": [[420, 310]], "labels": [1]}]}]};
"box": [x0, y0, x1, y1] and "mask": "FILE" are prompts as well"""


def add_to(verbs: argparse._SubParsersAction) -> None:
    """Registers the verb."""
    parser = add_verb(
        verbs,
        "segment",
        "cut out an object that you point at in a picture",
        "Cuts out one object of a picture from points, a box or a rough mask; or many from a prompt file.",
        _EXAMPLE,
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="JPEG, PNG, WebP, TIFF, …")
    add_prompts(parser)
    parser.add_argument(
        "--multimask",
        action="store_true",
        help="three candidates for one object, the best first, where a prompt may mean several things",
    )
    add_model(parser)
    add_backend(parser)
    add_precision(parser)
    add_output(parser, ["overlay", "png"])
    parser.set_defaults(run=run)


def add_prompts(parser: argparse.ArgumentParser) -> None:
    """The options that point at objects."""
    group = parser.add_argument_group("prompts", "pixels of the picture, x from the left, y from the top")
    group.add_argument(
        "--point",
        type=point,
        action="append",
        metavar="X,Y[,LABEL]",
        help="repeatable; label 1 (default): on the object, 0: off it",
    )
    group.add_argument("--box", type=box, metavar="X0,Y0,X1,Y1", help="a box around the object")
    group.add_argument("--mask", metavar="FILE", help="a picture of the object's mask, of the input's size")
    group.add_argument("--prompts", metavar="FILE.json", help=_PROMPT_FILE)


def run(args: argparse.Namespace) -> int:
    """Reads, asks the model, writes."""
    from sam2.cli.asked import asked_objects
    from sam2.cli.formats import Formats, mark_of
    from sam2.cli.pictures import input_details, read_input, write_results
    from sam2.formats import FrameMasks, ObjectInfo, OutputFolder, Source
    from sam2.prompts.files import prompts_to_json

    formats = Formats.of(args, is_video=False)
    picture = read_input(args.image)
    height, width = picture.shape[:2]
    objects = asked_objects(args)
    formats.check_ids(entry.id for entry in objects)
    for entry in objects:
        for prompt in entry.prompts:
            prompt.check_inside(height, width)
            if prompt.frame != 0:
                raise ValueError(
                    f"object {entry.id} has a prompt on frame {prompt.frame}, but a picture has frame 0 only"
                )
    if args.multimask and len(objects) > 1:
        raise ValueError(f"--multimask gives candidates for one object, but there are {len(objects)}")

    with OutputFolder(out_folder(args, args.image), formats.entries, args.force) as folder:
        from sam2.cli.load import choose_model
        from sam2.sam2_image_predictor import SAM2ImagePredictor

        choice = choose_model(args.model, args.device, args.backend, args.precision)
        predictor = SAM2ImagePredictor(choice.image_model(), dtype=choice.dtype)
        predictor.set_image(picture)
        found: dict[int, Found] = {}
        for entry in objects:
            answers = _answers(predictor, entry, args.multimask)
            found |= dict(enumerate(answers, start=1)) if args.multimask else {entry.id: answers[0]}
        source = Source(
            picture=lambda _: picture,
            size=(height, width),
            is_video=False,
            objects={key: ObjectInfo() for key in found}
            if args.multimask
            else {entry.id: ObjectInfo(entry.name) for entry in objects},
            file_name=args.image.name,
            marks={0: [mark_of(prompt) for entry in objects for prompt in entry.prompts]},
            candidates=args.multimask,
        )
        details = {
            "model": choice.to_json(predictor.model),
            "input": input_details(args.image, picture),
            "prompts": prompts_to_json(objects),
            "multimask": args.multimask,
        }
        frame = FrameMasks(0, args.image.name, None, found)
        what = "candidate" if args.multimask else "object"
        best = max(found.values(), key=lambda one: one.predicted_iou)
        summary = (
            f"{len(found)} {what}{'' if len(found) == 1 else 's'} in {args.image}; "
            f"area {best.area} pixels, predicted IoU {best.predicted_iou:.2f}"
        )
        write_results(folder, args, formats, source, frame, details, summary)
    return 0


def _answers(predictor: SAM2ImagePredictor, entry: ObjectPrompts, multimask: bool) -> list[Found]:
    """The masks for one object, best first."""
    from sam2.formats import Found

    prompt = entry.prompts[0]
    logits = None
    if prompt.mask is not None:
        logits = predictor.mask_to_input(prompt.mask.pixels)
    masks, ious, _ = predictor.predict(
        point_coords=None if prompt.points is None else prompt.points.coords,
        point_labels=None if prompt.points is None else prompt.points.labels,
        box=None if prompt.box is None else prompt.box.array,
        mask_input=logits,
        multimask_output=multimask,
    )
    presence = float(predictor.presence[0])
    best_first = sorted(range(len(ious)), key=lambda i: -ious[i])
    return [Found.of(masks[i] > 0, float(ious[i]), presence) for i in best_first]
