"""Compose `saucer.mp4`: the cup and saucer of one photo fly across another, and pass behind a rocket.

    python examples/media/make_clip.py [OUT.mp4]

The object grows, turns and sways; the camera drifts. Since it is composed, the true mask of every frame is
known: `--masks DIR` writes them as PNG.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from sam2.masks.png import write_binary_png
from sam2.video import VideoSink

HERE = Path(__file__).parent
WIDTH, HEIGHT, FRAMES, FPS = 480, 320, 40, 15
SMOOTH = 4  # outlines are drawn this much larger and then reduced

# Outlines in pixels of coffee.jpg (ellipses by their boxes) and of rocket.jpg.
SAUCER, RIM = (77, 58, 480, 388), (174, 19, 411, 207)
SPOON = ((396, 78), (404, 67), (418, 67), (424, 76), (414, 110), (398, 110))
ROCKET = (
    (321, 127), (327, 134), (331, 142), (333, 150), (333, 176), (335, 182), (336, 270), (336, 380),
    (310, 380), (309, 182), (311, 176), (311, 150), (314, 141), (317, 133),
)  # fmt: skip


def cup() -> Image.Image:
    """The cup on its saucer, RGBA."""
    photo = Image.open(HERE / "coffee.jpg").convert("RGB")
    outline = Image.new("L", (photo.width * SMOOTH, photo.height * SMOOTH))
    draw = ImageDraw.Draw(outline)
    for ellipse in (SAUCER, RIM):
        draw.ellipse([SMOOTH * value for value in ellipse], fill=255)
    draw.polygon([(SMOOTH * x, SMOOTH * y) for x, y in SPOON], fill=255)
    photo.putalpha(outline.resize(photo.size, Image.Resampling.BOX))
    return photo.crop((70, 10, 490, 396))


def sky() -> tuple[Image.Image, Image.Image]:
    """The night sky with the rocket, and the rocket's outline."""
    photo = Image.open(HERE / "rocket.jpg").convert("RGB")
    outline = Image.new("L", (photo.width * SMOOTH, photo.height * SMOOTH))
    ImageDraw.Draw(outline).polygon([(SMOOTH * x, SMOOTH * y) for x, y in ROCKET], fill=255)
    return photo, outline.resize(photo.size, Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(0.7))


def frames() -> Iterator[tuple[Image.Image, np.ndarray]]:
    """Each frame, and the mask bool [H, W] of the cup's visible part."""
    photo, rocket = sky()
    flyer = cup()
    for index in range(FRAMES):
        t = index / (FRAMES - 1)
        # the camera: a window of 600 x 400 that drifts over the photo
        left, top = 34 - 24 * t, 14 + 10 * math.sin(2 * math.pi * t)
        window = (left, top, left + 600, top + 400)
        scene = photo.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, window)
        front = rocket.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, window)
        # the cup: its centre in the frame, its size, its tilt
        x, y = 75 + 320 * t, 150 - 45 * math.sin(math.pi * t) + 12 * math.sin(7 * t)
        scale = 0.22 + 0.11 * t
        turned = flyer.rotate(12 * math.sin(2.5 * math.pi * t), Image.Resampling.BICUBIC)
        small = turned.resize(
            (round(flyer.width * scale), round(flyer.height * scale)), Image.Resampling.LANCZOS
        )
        layer = Image.new("RGBA", (WIDTH, HEIGHT))
        layer.paste(small, (round(x - small.width / 2), round(y - small.height / 2)))
        shown = np.asarray(layer.getchannel("A"), np.float32) * (255 - np.asarray(front, np.float32)) / 255
        frame = Image.composite(layer.convert("RGB"), scene, Image.fromarray(shown.astype(np.uint8)))
        yield frame, shown >= 128


def main() -> None:
    parser = argparse.ArgumentParser(description="Compose the clip of the examples.")
    parser.add_argument("out", nargs="?", type=Path, default=HERE / "saucer.mp4")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="also write the true masks")
    args = parser.parse_args()
    with VideoSink(args.out, fps=FPS, crf=23, force=True) as sink:
        for index, (frame, mask) in enumerate(frames()):
            sink.write(np.array(frame))
            if args.masks is not None:
                write_binary_png(args.masks / f"{index:05d}.png", mask, force=True)
    print(f"{args.out}: {args.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
