"""What a camera and a file do to a picture: blur, exposure, colour cast, haze, vignette, noise, JPEG."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

Rng = np.random.Generator


@dataclass(frozen=True)
class Photograph:
    """What camera and file do to the picture; all zero and one: nothing."""

    blur: float = 0.0
    """Pixels at a picture of 128."""
    noise: float = 0.0
    """Standard deviation, grey levels."""
    quality: int = 100
    """JPEG quality; 100: not compressed."""
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    exposure: float = 1.0
    gamma: float = 1.0
    lift: float = 0.0
    """Haze: grey levels added to black, white staying white."""
    vignette: float = 0.0
    """Share of light lost in the corners."""
    grain_at: tuple[int, int] = (0, 0)


def any_photograph(rng: Rng, d: float) -> Photograph:
    """Faults drawn at random, none at difficulty 0."""

    def maybe(chance: float) -> bool:
        return bool(rng.random() < chance * d)

    cast = np.exp(rng.normal(0, 0.07 * d, 3))
    dark = maybe(0.07)
    exposure = rng.uniform(0.2, 0.55) if dark else float(np.exp(rng.normal(0, 0.12 * d)))
    return Photograph(
        blur=rng.uniform(0.2, 1.2) if maybe(0.3) else 0.0,
        noise=rng.uniform(6, 18) if dark else rng.exponential(3.0) if maybe(0.6) else 0.0,
        quality=int(rng.integers(25, 90)) if maybe(0.35) else 100,
        gain=(float(cast[0]), float(cast[1]), float(cast[2])),
        exposure=exposure,
        gamma=float(np.exp(rng.normal(0, 0.15 * d))),
        lift=rng.uniform(10, 70) if maybe(0.12) else 0.0,
        vignette=rng.uniform(0.1, 0.5) if maybe(0.3) else 0.0,
        grain_at=(int(rng.integers(0, 256)), int(rng.integers(0, 256))),
    )


@lru_cache(maxsize=1)
def _grain() -> np.ndarray:
    return np.random.Generator(np.random.PCG64(77)).normal(0, 256, (1024, 1024, 3)).astype(np.int16)


@lru_cache(maxsize=8)
def _vignette(size: int) -> Image.Image:
    axis = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    return Image.fromarray(np.minimum((axis[:, None] + axis) * 127.5, 255).astype(np.uint8))


def exposed(how: Photograph, picture: Image.Image) -> Photograph:
    """``how`` with an exposure under which something of ``picture`` can be seen."""
    level = float(np.asarray(picture.convert("L").resize((16, 16), Image.Resampling.BOX)).mean())
    darkest, brightest = (28.0, 200.0) if how.exposure < 0.6 else (72.0, 185.0)
    gain = float(np.mean(how.gain))
    at_most = max(brightest / (level * gain + 1), 0.05)
    return replace(
        how, exposure=float(np.clip(how.exposure, min(darkest / (level * gain + 1), 5.0), at_most))
    )


def photograph(picture: Image.Image, how: Photograph) -> np.ndarray:
    """uint8 [H, W, 3]: ``picture`` as a camera and a file would give it."""
    size = picture.width
    if how.blur:
        picture = picture.filter(ImageFilter.BoxBlur(how.blur * size / 128))
    if how.vignette:
        picture.paste((0, 0, 0), (0, 0), _vignette(size).point([int(v * how.vignette) for v in range(256)]))
    if how.exposure != 1.0 or how.gain != (1.0, 1.0, 1.0) or how.gamma != 1.0 or how.lift:
        level = 255 * (np.arange(256) / 255) ** how.gamma
        level = how.lift + level * (255 - how.lift) / 255
        table = (
            np.concatenate([np.clip(level * how.exposure * g, 0, 255) for g in how.gain]).astype(int).tolist()
        )
        picture = picture.point(table)
    if how.noise:
        x, y = how.grain_at
        grain = _grain()[y : y + size, x : x + size]
        if grain.shape[0] < size or grain.shape[1] < size:
            grain = _grain().take(range(y, y + size), 0, mode="wrap").take(range(x, x + size), 1, mode="wrap")
        noisy = np.asarray(picture).astype(np.int16)
        noisy += (grain * np.int16(round(how.noise))) >> 8
        picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    if how.quality < 100:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=how.quality)
        picture = Image.open(file)
    return np.array(picture)
