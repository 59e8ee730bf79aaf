"""What a session is, as its events made it: objects, prompts, masks, and how far one can undo."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sam2.masks import rle
from sam2.studio.document import Document, History, Prompt, Result, Track
from sam2.studio.eventlog import VERSION, EventLog, LogError, Place
from sam2.studio.hub import Hub
from sam2.studio.media import MediumInfo

POLICIES = ("fifo", "stride", "motion", "distractor", "tree")
"""Which memories a frame reads, by name: those of `sam2.memory.named`, which needs torch. Recorded, since
another one would give other masks. The first is a new session's."""
LASTING = ("open", "model", "policy", "weights", "done")
"""Events that need no results."""
REPLAYED, CHANGED = "replayed-with-other-weights", "goes-on-with-other-weights"
"""What a person should know of a session's masks."""


log = logging.getLogger(__name__)


class MissingError(LookupError):
    """Something that is not there."""


@dataclass(frozen=True)
class Look:
    """How an object is called and drawn."""

    name: str
    color: str
    visible: bool = True
    opacity: float = 0.45
    outline: bool = True


class State:
    """A session as far as its events tell, with the log that they are written to first.

    Args:
        log: with an `open` event at least.

    Raises:
        LogError: the log is none of this version.
    """

    def __init__(self, log: EventLog) -> None:
        if not log.events or log.events[0].get("type") != "open" or log.events[0].get("version") != VERSION:
            raise LogError(f"{log.folder} holds no session of version {VERSION}")
        opened = log.events[0]
        self.id = log.folder.name
        self.client: str = opened["client"]
        self.path: str = opened["path"]
        self.info = MediumInfo(**opened["medium"])
        self.hub = Hub()
        self.log = log
        self.history = History()
        self.done = False
        self.model: str = opened["model"]
        self.policy: str = opened["policy"]
        self.notes: tuple[str, ...] = ()
        """`REPLAYED`, `CHANGED`."""
        self.digest: str | None = None
        """SHA-256 of the weights that the model was last used with."""
        self.to_replay: list[dict[str, Any]] = []
        """Events whose results are lost and must be computed again."""
        self._looks: dict[int, Look] = {}
        self._next_object = 1
        self._seq = -1
        self._restore()

    # ------------------------------------------------------------------ what others read

    @property
    def document(self) -> Document:
        return self.history.now

    @property
    def revision(self) -> int:
        """Number of the last event."""
        return self._seq

    def to_json(self) -> dict[str, Any]:
        """The session as the page knows it."""
        document = self.document
        return {
            "id": self.id,
            "path": self.path,
            **asdict(self.info),
            "model": self.model,
            "policy": self.policy,
            "notes": list(self.notes),
            "objects": [self.object_json(obj) for obj in document.tracks],
            "prompts": [
                {
                    "frame": frame,
                    "object": obj,
                    "points": [list(point) for point in prompt.points],
                    "box": prompt.box,
                    "mask": prompt.mask is not None,
                    "choice": prompt.choice,
                }
                for obj, track in document.tracks.items()
                for frame, prompt in sorted(track.prompts.items())
            ],
            "masked": document.masked(),
            "revision": self._seq,
            "can_undo": self.history.can_undo,
            "can_redo": self.history.can_redo,
            "done": self.done,
        }

    def object_json(self, obj: int) -> dict[str, Any]:
        """An object as the page knows it."""
        return {"id": obj, **asdict(self.look(obj))}

    def look(self, obj: int) -> Look:
        """How an object is called and drawn."""
        return self._looks[obj]

    def masks_json(self, frame: int) -> dict[str, Any]:
        """What is shown on a frame."""
        revision = self._seq  # read first: what an edit makes of it meanwhile is at least as new
        objects = [
            {"id": obj, "mask": self.mask_json(r.counts), "iou": r.iou, "presence": r.presence}
            for obj, r in self.document.shown(frame).items()
        ]
        return {"frame": frame, "revision": revision, "objects": objects}

    def mask_json(self, counts: str) -> dict[str, Any]:
        """A mask on the wire."""
        return dict(rle.decompress({"size": [self.info.height, self.info.width], "counts": counts}))

    def track(self, obj: int) -> Track:
        """An object.

        Raises:
            MissingError: there is none of that id.
        """
        try:
            return self.document.tracks[obj]
        except KeyError:
            known = ", ".join(map(str, self.document.tracks)) or "none yet"
            raise MissingError(f"object {obj} does not exist; objects of this session: {known}") from None

    def check_frame(self, frame: int) -> None:
        """Raises MissingError where the medium has no such frame."""
        if not 0 <= frame < self.info.frames:
            raise MissingError(f"frame {frame} does not exist: there are frames 0 to {self.info.frames - 1}")

    # ------------------------------------------------------------------ events

    def _restore(self) -> None:
        results = self.log.results()
        needed = [e["seq"] for e in self.log.events if e["type"] in ("prompt", "tracked")]
        if any(seq not in results for seq in needed):
            self.to_replay = self.log.events
        self._apply_all(results)
        if not self.to_replay and self.log.is_wasteful(kept := self.history.records()):
            self._compact(kept)
        self.log.forget_lines()

    def _apply_all(self, results: Mapping[int, dict[int, Result]]) -> None:
        for event in self.log.events:
            if not self.to_replay or event["type"] in LASTING:
                self.apply(event, results.get(event["seq"], {}))
        self._seq = self.log.events[-1]["seq"]

    def _compact(self, kept: set[Place]) -> None:
        try:
            self.log.compact(kept)
        except (OSError, LogError) as error:
            log.warning("the results of session %s stay as large as they are: %s", self.id, error)
            return
        self.history, self._looks = History(), {}
        self._apply_all(self.log.results())

    def begin_anew(self) -> None:
        """Forgets all that events made and all results, before the events are replayed."""
        self.log.forget_results()
        self.history, self._looks = History(), {}

    def _record(self, kind: str, results: dict[int, Result] | None = None, **values: Any) -> None:
        """Writes an event and what was computed for it, and takes both over."""
        event = {"seq": self._seq + 1, "time": round(time.time(), 3), "type": kind, **values}
        if results is not None:
            self.log.put_results(event["seq"], results)
        self.log.append(event)
        self.apply(event, results or {})

    def apply(self, event: dict[str, Any], results: dict[int, Result]) -> None:
        """What an event does, given what was computed for it. The only way in which a session changes."""
        getattr(self, f"_on_{event['type']}")(event, results)
        self._seq = event["seq"]  # last: who reads meanwhile may see more, never less

    def _on_open(self, event: dict[str, Any], _results: dict[int, Result]) -> None:
        self.model, self.policy, self.notes = event["model"], event["policy"], ()

    def _on_model(self, event: dict[str, Any], _results: dict[int, Result]) -> None:
        self.model, self.digest = event["name"], event["sha256"]

    def _on_policy(self, event: dict[str, Any], _results: dict[int, Result]) -> None:
        self.policy = event["name"]

    def _on_weights(self, event: dict[str, Any], _results: dict[int, Result]) -> None:
        self.digest = event["sha256"]
        self.notes = tuple(sorted({*self.notes, event["note"]}))

    def _on_done(self, event: dict[str, Any], _results: dict[int, Result]) -> None:
        self.done = event["done"]

    def _on_look(self, event: dict[str, Any], _results: dict[int, Result]) -> None:
        self._looks = {**self._looks, event["object"]: Look(**event["look"])}

    def _on_object(self, event: dict[str, Any], _results: dict[int, Result]) -> None:
        obj = event["object"]
        self._on_look(event, {})
        self._next_object = obj + 1
        self.history.edit(f"object {obj}", self.document.with_track(obj, Track()))

    def _on_remove(self, event: dict[str, Any], _results: dict[int, Result]) -> None:
        self.history.edit("remove", self.document.without(event["object"]))

    def _on_prompt(self, event: dict[str, Any], results: dict[int, Result]) -> None:
        obj, frame = event["object"], event["frame"]
        track, prompt = self.document.tracks[obj], Prompt.from_json(event["prompt"])
        # the first prompt of a new object is one step with its making
        first = self.history.label == f"object {obj}"
        (self.history.amend if first else self.history.edit)(
            "prompt", self.document.with_track(obj, track.with_prompt(frame, prompt, results[obj]))
        )

    def _on_clear(self, event: dict[str, Any], _results: dict[int, Result]) -> None:
        track = self.document.tracks[event["object"]].without_prompt(event["frame"])
        self.history.edit("clear", self.document.with_track(event["object"], track))

    def _on_pass(self, event: dict[str, Any], _results: dict[int, Result]) -> None:
        self.history.edit("pass", self.document)

    def _on_tracked(self, event: dict[str, Any], results: dict[int, Result]) -> None:
        document = self.document
        for obj, result in results.items():
            track = document.tracks[obj].with_tracked({event["frame"]: result})
            document = document.with_track(obj, track)
        self.history.amend("pass", document)

    def _on_undo(self, _event: dict[str, Any], _results: dict[int, Result]) -> None:
        self.history.undo()

    def _on_redo(self, _event: dict[str, Any], _results: dict[int, Result]) -> None:
        self.history.redo()
