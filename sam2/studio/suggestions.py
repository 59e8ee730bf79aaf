"""What a person may want to look at: everything in a picture, and doubtful frames of a video."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sam2.studio.document import Document

if TYPE_CHECKING:
    from sam2.studio.session import Session


@dataclass(eq=False)
class Auto:
    """Masks of everything on one frame, as far as they were found."""

    frame: int
    candidates: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {"frame": self.frame, "candidates": self.candidates}


class Suggestions:
    """Suggestions of one session, which each call is given; nothing of them is logged."""

    def __init__(self) -> None:
        self.auto: Auto | None = None
        self._marks: tuple[int, dict[str, Any]] | None = None

    def begin_auto(self, session: Session, frame: int) -> Iterator[None]:
        """Begins to look for everything on a frame; each step finds a few candidates.

        Raises:
            MissingError: no such frame.
        """
        session.check_frame(frame)
        auto = self.auto = Auto(frame)
        return self._auto_steps(session, auto)

    def _auto_steps(self, session: Session, auto: Auto) -> Iterator[None]:
        from sam2.studio.automatic import everything

        predictor = session.bench().model.predictor
        for done, total, found in everything(predictor, session.shown.frame(auto.frame)):
            if self.auto is not auto:  # asked anew
                return
            new = [{"mask": session.mask_json(offer.counts), "iou": offer.iou} for offer in found]
            auto.candidates = [*auto.candidates, *new]
            session.hub.tell(
                {"type": "auto", "frame": auto.frame, "done": done, "total": total, "candidates": new}
            )
            session.used = time.monotonic()
            yield

    def marks(self, session: Session) -> dict[str, Any]:
        """Presence and predicted IoU of every mask, where passes disagree, and where to look next."""
        document, revision = session.document, session.revision
        if self._marks is None or self._marks[0] != revision:
            self._marks = revision, _find_marks(session, document)
        return self._marks[1]


def _find_marks(session: Session, document: Document) -> dict[str, Any]:
    timeline: list[dict[str, Any]] = []
    apart: dict[int, float] = {}
    for obj, track in document.tracks.items():
        for frame in sorted(track.frames()):
            shown = track.shown(frame)
            assert shown is not None
            mark = {"object": obj, "frame": frame, "presence": shown.presence, "iou": shown.iou}
            timeline.append(mark)
            apart[frame] = max(apart.get(frame, 0.0), shown.apart)
    look_next = []
    if session.info.kind == "video" and session.slot().model is not None:
        from sam2.studio.engine import doubts

        look_next = [
            {"frame": frame, "object": obj, "score": round(score, 4)}
            for frame, obj, score in doubts(document, session.log)
        ]
    return {
        "timeline": timeline,
        "disagreement": [{"frame": f, "score": s} for f, s in sorted(apart.items()) if s > 0],
        "look_next": look_next,
    }
