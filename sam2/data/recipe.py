"""Endless rows of generated scenes: scene number -> scene, and a stream made by worker processes."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from .clip import Clip
from .cutouts import Cutouts
from .motion import paint_clip
from .scenes import paint_still
from .targets import Painting
from .without import checked


@dataclass(frozen=True)
class Recipe:
    """Scenes numbered from 0, also as clips (``[i]``); each follows from the recipe and its number alone."""

    size: int = 128
    """Side of the pictures, pixels."""
    length: int = 1
    """Frames in a clip; 1: stills."""
    difficulty: tuple[float, float] = (0.0, 1.0)
    """Bounds between which a scene's difficulty is drawn evenly."""
    ramp: int = 0
    """Over so many scenes the upper bound climbs from the lower one to its own value; 0: at once."""
    seed: int = 0
    """Recipes of different seeds share no scene (up to 2**31 scenes each)."""
    without: tuple[str, ...] = ()
    """What the scenes shall not have: names of `sam2.data.without.NAMES`, which says what each means."""
    cutouts: tuple[str, ...] = ()
    """Folders of pictures with an alpha channel, put in place of some objects (`sam2.data.cutouts`); scenes
    follow from what these hold, too."""
    cutout_share: float = 0.5
    """Share of the objects that are such pictures, where there are any."""

    def __post_init__(self) -> None:
        low, high = self.difficulty
        if not 0 <= low <= high <= 1:
            raise ValueError(f"difficulty must be two rising numbers within 0..1, not {self.difficulty}")
        if self.size < 16 or self.length < 1:
            raise ValueError(
                f"size must be at least 16 and length at least 1, not {self.size} and {self.length}"
            )
        if self.seed < 0 or self.ramp < 0:
            raise ValueError(f"seed and ramp must not be negative, not {self.seed} and {self.ramp}")
        if not 0 <= self.cutout_share <= 1:
            raise ValueError(f"the share of cutouts must be between 0 and 1, not {self.cutout_share}")
        object.__setattr__(self, "cutouts", tuple(self.cutouts))
        object.__setattr__(self, "without", checked(self.without))  # in one order: recipes are compared

    def difficulty_at(self, number: int) -> float:
        low, high = self.difficulty
        if number < self.ramp:
            high = low + (high - low) * (number + 1) / self.ramp
        draw = np.random.Generator(np.random.PCG64((self.seed, number, 3))).random()
        return float(low + (high - low) * draw)

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, number: int) -> Clip:
        return self.paint(number).clip()

    def paint(self, number: int) -> Painting:
        """Scene ``number``."""
        seed = (self.seed << 31) + number
        cutouts = Cutouts(self.cutouts, self.cutout_share) if self.cutouts else None
        if self.length == 1:
            return paint_still(seed, self.size, self.difficulty_at(number), self.without, cutouts)
        return paint_clip(seed, self.size, self.length, self.difficulty_at(number), self.without, cutouts)


class SceneStream(Iterator[Painting]):
    """Endless scenes of a recipe, in their order whatever the number of workers.

    ``position`` is the number of the scene that comes next; a stream that starts there goes on exactly.
    Worker processes are started afresh ("spawn"), so a script that uses them needs the usual
    ``if __name__ == "__main__"``. Close it, or use it as a context manager, to end them.
    """

    def __init__(self, recipe: Recipe, workers: int = 0, start: int = 0, ahead: int = 8) -> None:
        if workers < 0 or start < 0 or ahead < 1:
            raise ValueError(
                f"workers and start must not be negative, ahead at least 1, not {workers}, {start}, {ahead}"
            )
        self.recipe = recipe
        self.position = start
        self._ahead = ahead * max(workers, 1)
        self._coming: deque[Future[Painting]] = deque()
        self._pool = (
            ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) if workers else None
        )

    def __next__(self) -> Painting:
        if self._pool is None:
            scene = self.recipe.paint(self.position)
        else:
            while len(self._coming) < self._ahead:
                self._coming.append(self._pool.submit(self.recipe.paint, self.position + len(self._coming)))
            scene = self._coming.popleft().result()
        self.position += 1
        return scene

    def close(self) -> None:
        """End the workers; what they had prepared is dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
            self._coming.clear()

    def __enter__(self) -> SceneStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
