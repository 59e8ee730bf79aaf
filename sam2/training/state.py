"""Checkpoints of a run: written aside and renamed, read back to the bit."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch


def random_states() -> dict[str, Any]:
    """States of the generators of python, numpy and torch, as plain values and tensors."""
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": [name, keys.tolist(), *rest],  # type: ignore[union-attr]
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Undoes `random_states`."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def save_aside(content: Any, path: Path) -> None:
    """Writes with `torch.save` beside `path`, then renames: whoever reads finds the old file or the new one.

    Raises OSError (a full disk, say) with the old file as it was and nothing left beside it.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(aside, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except RuntimeError as error:
        # torch's zip writer reports a failed write as a RuntimeError
        raise OSError(f"could not write {path}: {error}") from error
    finally:
        aside.unlink(missing_ok=True)


def load_state(path: Path) -> dict[str, Any]:
    """A checkpoint on the CPU; no code in it is run.

    Raises FileNotFoundError, or ValueError where the file is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path} to resume from: start without --resume")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a checkpoint of a run: {error}") from error
    return state
