"""What `sam2 finetune` gains on pictures unlike any the model knows: cells under a microscope.

    OMP_NUM_THREADS=1 python bench/finetune_domain.py --out out/cells [--model NAME] [--minutes 8]

Draws 50 labelled pictures to learn from and 12 to judge by. A click stands in the middle of a cell, on its
dark nucleus, but the whole faint cell is wanted. Scores the model on the 12 (`sam2 eval --protocol clicks`),
fine-tunes it on the 50 with the defaults of `sam2 finetune`, scores it again, and prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from sam2.evaluation.run import EvaluationOptions, evaluate
from sam2.training.finetune import FinetuneOptions, finetune

SIZE = 384
LEARN, JUDGE = 50, 12


def _noise(rng: np.random.Generator, grain: float) -> np.ndarray:
    """Blurred noise [SIZE, SIZE] of mean 0 and deviation 1."""
    blurred = ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), grain)
    return (blurred - blurred.mean()) / blurred.std()


def _blob(rng: np.random.Generator, x: float, y: float, radius: float, wobble: float) -> np.ndarray:
    """How many pixels inside a wavy disc each pixel [SIZE, SIZE] lies; negative outside."""
    depth = np.full((SIZE, SIZE), -1.0)
    top, left = (max(0, int(c - 2 * radius)) for c in (y, x))
    yy, xx = np.mgrid[top : min(SIZE, int(y + 2 * radius)), left : min(SIZE, int(x + 2 * radius))]
    angle = np.arctan2(yy - y, xx - x)
    edge = np.ones_like(angle)
    for k in range(2, 6):
        edge += wobble / k * rng.normal() * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    depth[yy, xx] = radius * edge - np.hypot(xx - x, yy - y)
    return depth


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture uint8 [SIZE, SIZE, 3] and its labels uint8 [SIZE, SIZE]: 0 between the cells, then 1, 2, …"""
    rng = np.random.default_rng(seed)
    stain = np.array([0.62, 0.42, 0.68]) + rng.normal(0, 0.03, 3)
    picture = np.array([0.86, 0.78, 0.85]) + 0.03 * (_noise(rng, 1.0) + _noise(rng, 8.0))[..., None]
    labels = np.zeros((SIZE, SIZE), np.uint8)
    places: list[tuple[float, float, float]] = []
    for _ in range(200):
        x, y, radius = rng.uniform(30, SIZE - 30), rng.uniform(30, SIZE - 30), rng.uniform(26, 54)
        if all(np.hypot(x - a, y - b) > 0.95 * (radius + r) for a, b, r in places):
            places.append((x, y, radius))
    for number, (x, y, radius) in enumerate(places[:14], 1):
        inside = _blob(rng, x, y, radius, 0.35)
        cell = (inside > 0) & (labels == 0)
        labels[cell] = number
        body = 0.05 * _noise(rng, 2.0)
        picture[cell] = (stain + [0.17, 0.27, 0.13] + body[..., None])[cell]
        rim = cell & (inside < 1.5)
        picture[rim] -= 0.05
        shift = rng.uniform(-0.12, 0.12, 2) * radius
        nucleus = cell & (_blob(rng, x + shift[0], y + shift[1], rng.uniform(0.34, 0.46) * radius, 0.2) > 0)
        picture[nucleus] = (stain - [0.3, 0.28, 0.2] + body[..., None])[nucleus]
    return (255 * picture.clip(0, 1)).astype(np.uint8), labels


def make(folder: Path, first: int, count: int) -> Path:
    """Writes pictures and masks as `sam2 finetune` reads them."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        picture, labels = draw(seed)
        Image.fromarray(picture).save(folder / "images" / f"{seed:03d}.jpg", quality=92)
        Image.fromarray(labels).save(folder / "masks" / f"{seed:03d}.png")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("out/cells"))
    parser.add_argument("--model", help="as for `sam2 finetune`; default: the packaged model")
    parser.add_argument("--minutes", type=float, default=8.0, help="given to fine-tuning (default 8)")
    args = parser.parse_args()
    learn, judge = make(args.out / "learn", 0, LEARN), make(args.out / "judge", 1000, JUDGE)

    def judged(model: str | None, name: str) -> dict[str, float]:
        done = evaluate(EvaluationOptions(str(judge), "clicks", model, device="cpu"), args.out / name)
        return {column: round(100 * interval.mean, 1) for column, interval in done.means.items()}

    before = judged(args.model, "before")
    wall, processor = time.monotonic(), time.process_time()
    result = finetune(
        FinetuneOptions(
            data=str(learn), out=str(args.out), model=args.model, minutes=args.minutes, device="cpu"
        ),
        lambda line: print(line, flush=True),
    )
    wall, processor = time.monotonic() - wall, time.process_time() - processor
    after = judged(str(result.model), "after")
    facts = {
        "before": before,
        "after": after,
        "gain_1_click": round(after["iou_1_clicks"] - before["iou_1_clicks"], 1),
        "steps": result.steps,
        "reason": result.reason,
        "cpu_minutes": round(processor / 60, 1),
        "wall_minutes": round(wall / 60, 1),
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
