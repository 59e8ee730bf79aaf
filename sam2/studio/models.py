"""Models, each loaded once, in a thread of its own. Torch is imported when the first one is asked for."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam2.sam2_video_predictor import SAM2VideoPredictor


RETRY = 30.0
"""Seconds after which a model that failed to load is tried again."""


KEPT = 120.0
"""Seconds for which a model that nobody uses is kept."""


class ModelError(ValueError):
    """A model that cannot be used."""


@dataclass(frozen=True, eq=False)
class Model:
    """A model ready to work."""

    name: str
    predictor: SAM2VideoPredictor
    digest: str
    """SHA-256 of the weights file."""


class Slot:
    """A model that loads, is ready, or failed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.model: Model | None = None
        self.error: str | None = None
        self.asked = self._began = time.monotonic()

    def is_stale(self) -> bool:
        """It failed so long ago that another try makes sense."""
        return self.error is not None and time.monotonic() - self._began > RETRY

    @property
    def settled(self) -> bool:
        """Loading has ended, one way or the other."""
        return self.model is not None or self.error is not None

    def get(self) -> Model:
        """The model.

        Raises:
            ModelError: it did not load.
        """
        if self.model is None:
            raise ModelError(f"the model {self.name} does not load: {self.error}")
        return self.model


Loader = Callable[[str, "str | None"], Model]


class Models:
    """The models of one studio.

    Args:
        default: what sessions begin with, as `--model` takes it; None for the packaged model.
        device: of all models; None for the best there is.
        changed: called when a model was loaded or failed.
        load: loads a model by name and device.
    """

    def __init__(
        self,
        default: str | None,
        device: str | None,
        changed: Callable[[], None],
        load: Loader | None = None,
    ) -> None:
        self.default = default or "mini"
        self._device = device
        self._changed = changed
        self._load = load or load_model
        self._slots: dict[str, Slot] = {}
        self._lock = threading.Lock()
        self._known: list[dict[str, Any]] | None = None

    def slot(self, name: str) -> Slot:
        """A model by name; it begins to load where it has not yet, or failed a while ago."""
        with self._lock:
            slot = self._slots.get(name)
            if slot is None or slot.is_stale():
                slot = self._slots[name] = Slot(name)
                threading.Thread(target=self._fill, args=(slot,), name=f"load {name}", daemon=True).start()
            slot.asked = time.monotonic()
            return slot

    def _fill(self, slot: Slot) -> None:
        try:
            slot.model = self._load(slot.name, self._device)
        except Exception as error:  # whatever a damaged file makes torch raise is the user's to read
            slot.error = " ".join(str(error).split()) or type(error).__name__
        try:
            if self._known is None:
                self._known = _known_models()
        finally:
            self._changed()

    def release(self, used: set[str]) -> None:
        """Lets models go that no session uses and that nobody asked for lately, except the default."""
        late = time.monotonic() - KEPT
        with self._lock:
            for name in [n for n, slot in self._slots.items() if slot.settled and slot.asked < late]:
                if name not in used and name != self.default:
                    del self._slots[name]

    def check(self, name: str) -> None:
        """Raises ModelError for a name that may not be asked for: files come from the command line only."""
        known = {model["name"]: model for model in self._listed()}
        if name not in known:
            raise ModelError(f"there is no model {name[:100]!r}; there are {', '.join(known)}")
        if not known[name]["available"]:
            raise ModelError(f"the model {name} is not on this machine: `sam2 models` says how to fetch it")

    def describe(self) -> dict[str, Any]:
        """The models for a menu; only the default until torch is there (`loading`)."""
        failed = {name for name, slot in tuple(self._slots.items()) if slot.error is not None}
        first = self._slots.get(self.default)
        return {
            "models": [
                {
                    **model,
                    "default": model["name"] == self.default,
                    "available": model["available"] and model["name"] not in failed,
                }
                for model in self._listed()
            ],
            "loading": self._known is None or first is None or not first.settled,
        }

    def _listed(self) -> list[dict[str, Any]]:
        listed = list(self._known or [{"name": "mini", "title": "mini", "available": True}])
        if self.default not in [model["name"] for model in listed]:
            listed.insert(0, {"name": self.default, "title": Path(self.default).name, "available": True})
        return listed


def load_model(name: str, device: str | None, precision: str = "float32") -> Model:
    """A model by name, hub id or file, for tracking, and what it computes in.

    Raises:
        ValueError, FileNotFoundError: there is none, or it cannot be read.
    """
    from sam2.build_sam import build_sam2_video_predictor, resolve_model
    from sam2.ops.precision import dtype_of

    config, checkpoint = resolve_model(name)
    if checkpoint is None:
        raise ModelError(f"{name} is a configuration, which has no weights: name a checkpoint instead")
    digest = hashlib.sha256()
    with open(checkpoint, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    predictor = build_sam2_video_predictor(config, checkpoint, device=device, dtype=dtype_of(precision))
    return Model(name, predictor, digest.hexdigest())


def _known_models() -> list[dict[str, Any]]:
    from sam2.build_sam import MODELS

    return [
        {
            "name": info.name,
            "title": f"{info.name} ({info.parameters / 1e6:.0f} M): {info.description}",
            "available": info.local_checkpoint() is not None,
        }
        for info in MODELS.values()
    ]
