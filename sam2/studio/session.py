"""One medium at work: its event log, its history, and what the model makes of it.

Everything that changes a session runs in the scheduler's thread; what others read is replaced, never altered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from sam2.masks import rle
from sam2.masks.colors import object_color
from sam2.studio.document import Document, History, Prompt, Result, Track
from sam2.studio.eventlog import VERSION, EventLog, LogError
from sam2.studio.hub import Hub
from sam2.studio.media import Library, MediumInfo, Shown
from sam2.studio.models import Slot

if TYPE_CHECKING:
    from sam2.studio.engine import Bench

POLICY = "fifo"
"""Which memories a frame reads; recorded, since another one would give other masks."""


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


@dataclass(eq=False)
class Pass:
    """A propagation at work."""

    direction: str
    start: int
    total: int
    done: int = 0
    stopped: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"direction": self.direction, "start": self.start, "done": self.done, "total": self.total}


class Session:
    """One medium of one client.

    Args:
        log: with an `open` event at least.
        library: where the medium lies.
        slot: gives a model by name.

    Raises:
        LogError: the log is none of this version.
    """

    def __init__(self, log: EventLog, library: Library, slot: Callable[[str], Slot]) -> None:
        if not log.events or log.events[0].get("type") != "open" or log.events[0].get("version") != VERSION:
            raise LogError(f"{log.folder} holds no session of version {VERSION}")
        opened = log.events[0]
        self.id = log.folder.name
        self.client: str = opened["client"]
        self.path: str = opened["path"]
        self.info = MediumInfo(**opened["medium"])
        self.hub = Hub()
        self.log = log
        self.shown = Shown(library, self.path)
        self.history = History()
        self.job: Pass | None = None
        self.done = False
        self.model: str = opened["model"]
        self.used = time.monotonic()
        self._digest: str | None = None
        self._library = library
        self._slot = slot
        self._looks: dict[int, Look] = {}
        self._next_object = 1
        self._seq = -1
        self._bench: Bench | None = None
        self.to_replay: list[dict[str, Any]] = []
        """Events whose results are lost and must be computed again."""
        self.replaying = False
        self._restore()

    # ------------------------------------------------------------------ what others read

    @property
    def document(self) -> Document:
        return self.history.now

    @property
    def revision(self) -> int:
        """Number of the last event."""
        return self._seq

    def slot(self) -> Slot:
        """The session's model, which begins to load where it has not."""
        return self._slot(self.model)

    def ready(self) -> bool:
        """Whether the model can be asked: it is loaded, or has failed and will say so."""
        return self.slot().settled

    @property
    def is_awake(self) -> bool:
        """Frames and features are held."""
        return self._bench is not None

    def is_embedded(self, frame: int) -> bool:
        """Whether a prompt on this frame is answered without encoding it first."""
        return self._bench is not None and self._bench.is_embedded(frame)

    def to_json(self) -> dict[str, Any]:
        """The session as the page knows it."""
        document, job = self.document, self.job
        return {
            "id": self.id,
            "path": self.path,
            **asdict(self.info),
            "model": self.model,
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
            "job": None if job is None else job.to_json(),
            "ready": self.is_embedded(0),
            "restoring": bool(self.to_replay),
        }

    def object_json(self, obj: int) -> dict[str, Any]:
        """An object as the page knows it."""
        return {"id": obj, **asdict(self.look(obj))}

    def look(self, obj: int) -> Look:
        """How an object is called and drawn."""
        return self._looks[obj]

    def masks_json(self, frame: int) -> dict[str, Any]:
        """What is shown on a frame."""
        objects = [
            {"id": obj, "mask": self.mask_json(r.counts), "iou": r.iou, "presence": r.presence}
            for obj, r in self.document.shown(frame).items()
        ]
        return {"frame": frame, "revision": self._seq, "objects": objects}

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
        events, results = self.log.events, self.log.results()
        needed = [e["seq"] for e in events if e["type"] in ("prompt", "tracked")]
        if any(seq not in results for seq in needed):
            self.to_replay = events
        for event in events:
            if not self.to_replay or event["type"] in ("open", "model", "done"):
                self._apply(event, results.get(event["seq"], {}))
        self._seq = events[-1]["seq"]

    def _record(self, kind: str, results: dict[int, Result] | None = None, **values: Any) -> None:
        """Writes an event and what was computed for it, and takes both over."""
        event = {"seq": self._seq + 1, "time": round(time.time(), 3), "type": kind, **values}
        if results is not None:
            self.log.put_results(event["seq"], results)
        self.log.append(event)
        self._apply(event, results or {})

    def _apply(self, event: dict[str, Any], results: dict[int, Result]) -> None:
        """What an event does, given what was computed for it. The only way in which a session changes."""
        self._seq = event["seq"]
        getattr(self, f"_on_{event['type']}")(event, results)

    def _on_open(self, event: dict[str, Any], _results: dict[int, Result]) -> None:
        self.model = event["model"]

    def _on_model(self, event: dict[str, Any], _results: dict[int, Result]) -> None:
        self.model, self._digest = event["name"], event["sha256"]

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

    # ------------------------------------------------------------------ edits

    def add_object(self, name: str | None, color: str | None, limit: int) -> int:
        """A new object; returns its id, which is never used again."""
        if len(self.document.tracks) >= limit:
            raise ValueError(f"a session holds at most {limit} objects: remove one first")
        self.stop()
        obj = self._next_object
        red, green, blue = object_color(obj)
        look = Look(name or f"object {obj}", color or f"#{red:02x}{green:02x}{blue:02x}")
        self._record("object", object=obj, look=asdict(look))
        self.tell()
        return obj

    def change_object(self, obj: int, **changes: Any) -> None:
        """Another name, colour, opacity, …"""
        self.track(obj)
        look = replace(self._looks[obj], **changes)
        if look != self._looks[obj]:
            self._record("look", object=obj, look=asdict(look))
            self.tell()

    def remove_object(self, obj: int) -> None:
        """Takes an object with all its masks away."""
        self.track(obj)
        self.stop()
        self._record("remove", object=obj)
        self.tell()

    def prompt(self, frame: int, obj: int, prompt: Prompt) -> dict[str, Any]:
        """Prompts an object on a frame in place of what was asked there before; the answer for the page."""
        track = self.track(obj)
        self.check_frame(frame)
        if prompt.is_empty:
            return self.clear_prompt(frame, obj)
        self.stop()
        answer = self.bench().prompt(track, frame, prompt)
        self._record("prompt", {obj: answer.result}, object=obj, frame=frame, prompt=prompt.to_json())
        self.tell()
        return self._answer(frame, obj, answer.result, [(o.counts, o.iou) for o in answer.offers])

    def clear_prompt(self, frame: int, obj: int) -> dict[str, Any]:
        """Takes back what was asked of an object on a frame."""
        track = self.track(obj)
        if frame in track.prompts:
            self.stop()
            self._record("clear", object=obj, frame=frame)
            self.tell()
        return self._answer(frame, obj, self.track(obj).shown(frame), [])

    def _answer(
        self, frame: int, obj: int, result: Result | None, offers: list[tuple[str, float]]
    ) -> dict[str, Any]:
        return {
            "frame": frame,
            "object": obj,
            "mask": None if result is None else self.mask_json(result.counts),
            "iou": None if result is None else result.iou,
            "presence": None if result is None else result.presence,
            "choices": [{"mask": self.mask_json(counts), "iou": iou} for counts, iou in offers],
            "revision": self._seq,
        }

    def preview(self, frame: int, prompt: Prompt) -> dict[str, Any]:
        """The mask that a prompt would give to a new object; nothing changes."""
        self.check_frame(frame)
        answer = self.bench().prompt(Track(), frame, prompt, keep=False)
        return {"mask": self.mask_json(answer.result.counts), "iou": answer.result.iou}

    def embed(self, frame: int) -> None:
        """Prepares a frame, so that prompts on it are answered at once."""
        self.check_frame(frame)
        if not self.is_embedded(frame):
            self.bench().embed(frame)
            if frame == 0:
                self.tell()

    def undo(self) -> None:
        """Goes back one step; nothing where there is none."""
        self.stop()
        if self.history.can_undo:
            self._record("undo")
            self.tell()

    def redo(self) -> None:
        """Goes forward again."""
        self.stop()
        if self.history.can_redo:
            self._record("redo")
            self.tell()

    def set_done(self, done: bool) -> None:
        """Marks the medium as done."""
        if done != self.done:
            self._record("done", done=done)
            self.tell()

    def set_model(self, name: str) -> None:
        """Goes on with another model; masks stay as they are."""
        if name != self.model:
            self.stop()
            self.sleep()
            self._record("model", name=name, sha256=None)
            self.tell()

    # ------------------------------------------------------------------ propagation

    def stop(self) -> None:
        """Lets a propagation end before its next frame."""
        if self.job is not None:
            self.job.stopped = True
            self.job = None

    def begin(self, start: int, direction: str, limit: int | None) -> Iterator[None]:
        """Begins a propagation; the steps follow it, a frame each.

        Raises:
            MissingError: no such frame. ValueError: nothing to propagate.
        """
        self.check_frame(start)
        if not self.document.is_prompted:
            raise ValueError("there is nothing to propagate: click on an object first")
        self.stop()
        reach = self.info.frames if limit is None else limit
        ahead, behind = min(reach, self.info.frames - 1 - start), min(reach, start)
        total = {
            "forward": ahead + 1,
            "backward": behind + 1 if start else 0,
            "both": ahead + 1 + behind,
        }[direction]
        self.job = Pass(direction, start, total)
        self.bench()
        self._record("pass", start=start, direction=direction, frames=limit)
        self.tell()
        return self._steps(self.job, self.document, start, direction, limit)

    def _steps(
        self, job: Pass, document: Document, start: int, direction: Any, limit: int | None
    ) -> Iterator[None]:
        try:
            for frame, reverse, results in self.bench().track(
                document, start, direction, limit, lambda: job.stopped
            ):
                if job.stopped:
                    return
                self._record("tracked", results, frame=frame, reverse=reverse)
                job.done += 1
                self.used = time.monotonic()
                self.hub.tell({"type": "masks", **self.masks_json(frame)})
                self.hub.tell({"type": "progress", "done": job.done, "total": job.total})
                yield
        except (OSError, ValueError) as error:
            self.hub.tell({"type": "error", "detail": str(error)})
            raise
        finally:
            if self.job is job:
                self.job = None
                self.tell()

    # ------------------------------------------------------------------ replay

    def replay(self) -> Iterator[None]:
        """Computes lost results again from the events, a prompt or a frame a step."""
        events = self.to_replay
        self.log.forget_results()
        self.history, self._looks = History(), {}
        steps: Iterator[tuple[int, bool, dict[int, Result]]] = iter(())
        for event in events:
            results: dict[int, Result] | None = None
            if event["type"] == "prompt":
                track = self.document.tracks[event["object"]]
                prompt = Prompt.from_json(event["prompt"])
                results = {event["object"]: self.bench().prompt(track, event["frame"], prompt).result}
            elif event["type"] == "tracked":
                frame, reverse, results = next(steps)
                assert (frame, reverse) == (event["frame"], event["reverse"])
            elif event["type"] == "model" and event["name"] != self.model:
                self.sleep()
            if results is not None:
                self.log.put_results(event["seq"], results)
            self._apply(event, results or {})
            if event["type"] == "pass":
                steps = self.bench().track(
                    self.document, event["start"], event["direction"], event["frames"], lambda: False
                )
            if results is not None:
                yield
        self.to_replay = []
        self.tell()

    # ------------------------------------------------------------------ what is held

    def bench(self) -> Bench:
        """The medium under the model.

        Raises:
            ModelError: the model does not load. MediumError: the medium is gone or changed.
        """
        self.used = time.monotonic()
        if self._bench is None:
            from sam2.studio.engine import Bench

            model = self.slot().get()
            if self._digest != model.digest and not self.to_replay:
                self._record("model", name=self.model, sha256=model.digest)
            reader = self._library.open(self.path)
            found = self._library.describe(reader, self.path)
            if found != self.info:
                reader.close()
                raise ValueError(
                    f"{self.path} is not the file it was ({self.info.frames} frames of {self.info.width} x "
                    f"{self.info.height}, now {found.frames} of {found.width} x {found.height}): put the old "
                    "one back, or delete the session and open it anew"
                )
            self._bench = Bench(model, reader, self.log)
        return self._bench

    def sleep(self) -> None:
        """Lets frames and features go; they come back when they are needed."""
        if self._bench is not None:
            self._bench.close()
            self._bench = None
        self.shown.close()

    def tell(self) -> None:
        """Tells all pages how the session is now."""
        self.hub.tell({"type": "session", "session": self.to_json()})

    def close(self) -> None:
        """Lets everything go; the log stays."""
        self.stop()
        self.sleep()
        self.log.close()
