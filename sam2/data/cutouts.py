"""Cutouts: pictures of objects with an alpha channel, put into generated scenes in place of drawn objects.

Any folder of PNG or WebP files serves: emoji, clip art, photos of products. A cutout is one object, however
many colours it has. It is placed, moved, hidden, lit and photographed as a drawn object is; in clips, half of
them bend at a joint.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from .textures import VARIANTS, Material, placement, sample
from .things import Part, Swing

Rng = np.random.Generator

LONGEST = 288
"""Side to which a cutout is reduced, pixels."""
SMALLEST = 40
"""Longer side of the smallest file that serves, pixels."""
FULL = 0.97
"""A picture whose box is covered to a greater share is a rectangle, not a cutout; see also `THIN`."""
SPARSE = 0.12
"""And one covered to a smaller share is a drawing of lines."""
THIN = 24
"""So is one that covers no whole square of its longer side over this."""
TRIES = 24
"""Files tried before folders are said to hold no cutouts."""


@dataclass(frozen=True)
class Cutouts:
    """Which objects of a scene are cutouts, and where these lie."""

    folders: tuple[str, ...]
    """Searched with all that is in them."""
    share: float = 0.5
    """Share of the objects."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"the share of cutouts must be between 0 and 1, not {self.share}")

    def parts(self, rng: Rng, contrast: float) -> list[Part]:
        """The parts of an object, in its own frame.

        contrast: strength of the texture laid over it, grey levels.
        Raises ValueError where the folders hold no cutout.
        """
        names = files(self.folders)
        for _ in range(TRIES):
            picture = read(names[int(rng.integers(len(names)))])
            if picture is not None:
                return _parts(_recoloured(picture, rng, contrast), rng)
        raise ValueError(
            f"hardly any of the {len(names)} pictures in {', '.join(self.folders)} is a cutout: it takes an "
            f"alpha channel that shows {SPARSE:.0%} to {FULL:.0%} of them, and {SMALLEST} pixels"
        )


@lru_cache(maxsize=8)
def files(folders: tuple[str, ...]) -> Sequence[Path]:
    """All PNG and WebP files of `folders` in their order by name. Raises ValueError where there are none."""
    found: list[Path] = []
    for folder in folders:
        if not Path(folder).is_dir():
            raise ValueError(f"there is no folder of cutouts {folder}")
        found += sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in (".png", ".webp"))
    if not found:
        raise ValueError(f"no .png or .webp file in {', '.join(folders)}")
    return found


@lru_cache(maxsize=1024)
def read(path: Path) -> Image.Image | None:
    """The cutout of a file as RGBA, at most `LONGEST` pixels long; None where it is none."""
    try:
        with warnings.catch_warnings():
            # Large clip art is welcome: it is reduced at once.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                picture = file.convert("RGBA")
            box = picture.getchannel("A").point([255 * (v > 127) for v in range(256)]).getbbox()
            if box is None:
                return None
            picture = picture.crop(box)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    longer = max(picture.size)
    if longer < SMALLEST:
        return None
    if longer > LONGEST:
        width, height = (max(round(side * LONGEST / longer), 1) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BOX, reducing_gap=2.0)
    alpha = picture.getchannel("A")
    covered = float((np.asarray(alpha) > 127).mean())
    square = max(max(picture.size) // THIN, 1)
    width, height = (side // square * square for side in picture.size)
    squares = alpha.crop((0, 0, width, height)).reduce(square) if width and height else None
    solid = squares is not None and np.asarray(squares).max() > 240
    return picture if SPARSE <= covered <= FULL and solid else None


def _recoloured(picture: Image.Image, rng: Rng, contrast: float) -> Image.Image:
    """In other colours now and then, with a texture, lighter or darker, as no two things look the same."""
    alpha, rgb = picture.getchannel("A"), picture.convert("RGB")
    if rng.random() < 0.4:
        hue, saturation, value = rgb.convert("HSV").split()
        turn = int(rng.normal(0, 30)) if rng.random() < 0.6 else int(rng.integers(256))
        less = rng.uniform(0.1, 1.1)
        hue = hue.point([(v + turn) % 256 for v in range(256)])
        saturation = saturation.point([min(round(v * less), 255) for v in range(256)])
        rgb = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    values = np.asarray(rgb, np.float32)
    if rng.random() < 0.6:
        levels = np.linspace(0, 255, 256, dtype=np.uint8)
        grey = Material(
            int(rng.integers(VARIANTS)), placement(rng, rng.uniform(0.5, 3)), np.repeat(levels, 3).tobytes()
        )
        width, height = picture.size
        half = max(width, height) / 2
        to_units = np.array([[1 / half, 0, -width / 2 / half], [0, 1 / half, -height / 2 / half], [0, 0, 1]])
        relief = np.asarray(sample(grey, to_units, width, height), np.float32) / 127.5 - 1
        values = values + relief * (contrast * rng.random())
    gain, lift = np.exp(rng.normal(0, 0.2)), rng.normal(0, 12)
    changed = Image.fromarray(((values - 128) * gain + 128 + lift).clip(0, 255).astype(np.uint8))
    changed.putalpha(alpha)
    return changed


def _parts(picture: Image.Image, rng: Rng) -> list[Part]:
    """One part, or two that turn against each other about a joint between them."""
    width, height = picture.size
    half = max(width, height) / 2
    x, y = width / 2 / half, height / 2 / half
    whole = Part(
        (),
        Material(-1, np.eye(3), bytes(768)),
        stamp=picture.getchannel("A"),
        stamp_box=(-x, -y, x, y),
        picture=picture.convert("RGB"),
    )
    joint = rng.uniform(0.3, 0.7)
    swing = Swing((0.0, 0.0), rng.uniform(0.05, 0.3), rng.uniform(0, 6), rng.uniform(0.1, 0.6))
    row = round(joint * height)
    if rng.random() < 0.5 or min(row, height - row) < 8:
        return [whole]
    # The lower half stands still; the overlap hides the gap that turning would open.
    overlap = max(height // 24, 1)
    columns = np.flatnonzero(np.asarray(picture.getchannel("A"))[row] > 127)
    pivot = (float(columns.mean()) / half - x if len(columns) else 0.0, row / half - y)
    halves = []
    for top, bottom in ((row - overlap, height), (0, row + overlap)):
        piece = picture.crop((0, top, width, bottom))
        halves.append(
            replace(
                whole,
                stamp=piece.getchannel("A"),
                picture=piece.convert("RGB"),
                stamp_box=(-x, top / half - y, x, bottom / half - y),
            )
        )
    return [halves[0], replace(halves[1], swing=replace(swing, pivot=pivot))]
