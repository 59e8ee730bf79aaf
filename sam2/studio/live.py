"""A camera in the browser: its pictures go through a stream tracker, the newest only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sam2.masks import rle
from sam2.studio.schemas import LivePrompt
from sam2.video import picture_size, read_picture

if TYPE_CHECKING:
    from sam2.studio.models import Model

MAX_SIDE = 4096
"""Pixels; larger pictures of a camera are refused."""


class LiveTracker:
    """Objects followed through the pictures of one camera. Every call runs in the model's thread."""

    def __init__(self, model: Model) -> None:
        self._tracker = model.predictor.stream()
        self._seq = -1

    def step(self, jpeg: bytes) -> dict[str, Any]:
        """The masks of all objects on the next picture.

        Raises:
            ValueError: not a picture, or a huge one.
        """
        width, height = picture_size(jpeg)
        if max(width, height) > MAX_SIDE:
            raise ValueError(f"the picture is {width} x {height}: send at most {MAX_SIDE} pixels a side")
        picture = read_picture(jpeg)
        self._seq += 1
        return self._answer(self._tracker.step(picture))

    def prompt(self, asked: LivePrompt) -> dict[str, Any]:
        """Prompts an object on the newest picture.

        Raises:
            ValueError: a prompt that does not fit; no picture yet.
        """
        from sam2.tracking import ObjectPrompt

        points = [point[:2] for point in asked.points] or None
        labels = [point[2] for point in asked.points] or None
        return self._answer(self._tracker.prompt(ObjectPrompt(asked.object, points, labels, asked.box)))

    def remove(self, obj: int) -> None:
        """Forgets an object; nothing where there is none."""
        if obj in self._tracker.session.obj_ids:
            self._tracker.remove(obj)

    def close(self) -> None:
        """Lets memories go."""
        self._tracker.close()

    def _answer(self, result: Any) -> dict[str, Any]:
        masks = result.masks.cpu().numpy()
        scores = zip(masks, result.predicted_iou.tolist(), result.object_score_logits.sigmoid().tolist())
        objects = [
            {"id": obj, "mask": dict(rle.encode(mask)), "iou": round(iou, 4), "presence": round(presence, 4)}
            for obj, (mask, iou, presence) in zip(result.obj_ids, scores)
        ]
        return {"type": "masks", "seq": self._seq, "objects": objects}
