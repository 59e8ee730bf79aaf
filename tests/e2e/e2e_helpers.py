"""Small media, and the command in a process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    def refused(self, *words: str) -> bool:
        """Whether it ended as a user error should: status 2 and one line that holds all of `words`."""
        lines = self.err.splitlines()
        assert self.code == 2, self
        assert len(lines) == 1, self.err
        assert lines[0].startswith("sam2: error: "), self.err
        for word in words:
            assert word in lines[0], lines[0]
        return True


def picture_of(width: int = 96, height: int = 64, shift: int = 0) -> np.ndarray:
    """A bright disc over a gradient, `shift` pixels to the right."""
    y, x = np.mgrid[:height, :width]
    picture = np.stack([x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), x * 0 + 60], axis=-1)
    picture[(x - width / 3 - shift) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2] = (250, 240, 30)
    return picture.astype(np.uint8)


def command(*arguments: object) -> Sequence[str]:
    return [sys.executable, "-m", "sam2", *map(str, arguments)]


def environment() -> dict[str, str]:
    """This process's, with the repository importable and few threads."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
