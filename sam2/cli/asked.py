"""The user's prompts, from options for one object or from a file for many."""

from __future__ import annotations

import argparse

import numpy as np

from sam2.masks.png import read_mask
from sam2.prompts.files import FramePrompt, ObjectPrompts, read_prompts
from sam2.prompts.types import Box, Mask, Points


def asked_objects(args: argparse.Namespace, frame: int = 0) -> list[ObjectPrompts]:
    """The objects that the user pointed at; options speak of object 1 on `frame`.

    Raises:
        ValueError: no prompt, options and a file at once, or prompts that make no sense.
    """
    from_options = bool(args.point or args.box or args.mask)
    if args.prompts is not None:
        if from_options:
            raise ValueError(
                "--prompts takes the place of --point, --box and --mask: put all prompts into the file"
            )
        return read_prompts(args.prompts)
    if not from_options:
        raise ValueError(
            "there is no prompt: point at the object with --point x,y, --box x0,y0,x1,y1 or --mask FILE"
        )
    points = None
    if args.point:
        values = np.array(args.point, dtype=np.float64)
        points = Points(values[:, :2], values[:, 2].astype(np.int32))
    box = None if args.box is None else Box.of(args.box)
    mask = None if args.mask is None else Mask(read_mask(args.mask))
    return [ObjectPrompts(1, (FramePrompt(frame, points, box, mask, args.mask),))]
