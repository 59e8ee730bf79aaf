"""Does memory keep what it was given? Real photos under a moving camera, each object followed from near.

    OMP_NUM_THREADS=1 python bench/panned.py [--checkpoint FILE] [--limit N]

Each of the photos of `sam2 eval real` becomes a clip of a dozen frames: the camera pans over it, turns and
comes nearer. Nothing in it moves by itself and nothing is hidden, so whoever reads memory keeps the object.
Every outlined object is prompted on the first frame, by its mask and by its box, and followed by
`CloseTracker`. Prints mean IoU on the frames after, with 95% bootstrap intervals over objects, as Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from sam2.build_sam import build_sam2_video_predictor, resolve_model
from sam2.checkpoint import load_checkpoint
from sam2.close_tracker import CloseTracker
from sam2.evaluation.clicks import boxes_of, masks_iou
from sam2.evaluation.real import Photo, photos, read_outlines
from sam2.evaluation.report import bootstrap

FRAMES = 12
LONGEST = 640
"""Longer side of the clips, pixels."""
TURN, NEARER, PAN = 0.1, 0.2, 0.12
"""Over the whole clip: radians, share of the size, share of the sides."""


class Panned:
    """A picture as a clip."""

    def __init__(self, picture: Image.Image, size: tuple[int, int], seed: int) -> None:
        """size: width and height of the frames."""
        self.picture = picture
        self.width, self.height = size
        rng = np.random.default_rng(seed)
        self.signs = rng.choice([-1.0, 1.0], 3)

    def __len__(self) -> int:
        return FRAMES

    def __getitem__(self, index: int) -> np.ndarray:
        """uint8 [H, W] or [H, W, 3]."""
        at = index / (FRAMES - 1)
        scale = self.picture.width / self.width / (1 + NEARER * at)
        turn = TURN * at * self.signs[0]
        c, s = np.cos(turn) * scale, np.sin(turn) * scale
        x = self.picture.width * (0.5 + 0.5 * PAN * at * self.signs[1])
        y = self.picture.height * (0.5 + 0.5 * PAN * at * self.signs[2])
        half_x, half_y = self.width / 2, self.height / 2
        to_picture = (c, -s, x - c * half_x + s * half_y, s, c, y - s * half_x - c * half_y)
        how = Image.Resampling.NEAREST if self.picture.mode == "L" else Image.Resampling.BILINEAR
        return np.asarray(
            self.picture.transform((self.width, self.height), Image.Transform.AFFINE, to_picture, how)
        )


def follow(predictor: object, photo: Photo, seed: int) -> dict[str, list[float]]:
    """Mean IoU of every object, by prompt."""
    height, width = photo.image.shape[:2]
    shrink = min(LONGEST / max(height, width), 1.0)
    size = round(width * shrink), round(height * shrink)
    clip = Panned(Image.fromarray(photo.image), size, seed)
    truths = []
    for mask in photo.masks:
        masks = Panned(Image.fromarray((mask * 255).astype(np.uint8)), size, seed)
        truths.append([masks[t] > 127 for t in range(FRAMES)])
    truths = [truth for truth in truths if truth[0].sum() >= 64]
    found: dict[str, list[float]] = {}
    for kind in ("mask", "box"):
        ious: list[list[float]] = [[] for _ in truths]
        with CloseTracker(predictor, clip) as tracker:  # type: ignore[arg-type]
            for number, truth in enumerate(truths):
                prompt = truth[0] if kind == "mask" else boxes_of(truth[0][None])[0]
                tracker.prompt(0, number, **{kind: prompt})
            for result in tracker.propagate():
                masks_now = result.masks.cpu().numpy()
                for number, truth in enumerate(truths):
                    if result.frame_idx and truth[result.frame_idx].any():
                        ious[number].append(float(masks_iou(masks_now[number], truth[result.frame_idx])))
        found[kind] = [float(np.mean(row)) for row in ious if row]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, help="weights, instead of the packaged ones")
    parser.add_argument("--size", type=int, default=256, help="side of the model's input (default 256)")
    parser.add_argument("--limit", type=int, help="so many photos")
    args = parser.parse_args(arguments)
    side = [f"model.image_size={args.size}"]
    predictor = build_sam2_video_predictor(*resolve_model(None), device="cpu", hydra_overrides_extra=side)
    if args.checkpoint:
        load_checkpoint(predictor, args.checkpoint)
    scores: dict[str, list[float]] = {"mask": [], "box": []}
    for seed, photo in enumerate(islice(photos(read_outlines()), args.limit)):
        for kind, ious in follow(predictor, photo, seed).items():
            scores[kind] += ious
    print("| prompt | J | objects |\n|---|---|---|")
    for kind, ious in scores.items():
        mean = bootstrap(ious, range(len(ious)))
        print(f"| {kind} | {mean} | {len(ious)} |")


if __name__ == "__main__":
    main()
