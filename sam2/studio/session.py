"""One medium at work: its edits, its propagation, and what the model needs for them.

Everything that changes a session runs in the scheduler's thread; what others read is replaced, never altered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sam2.masks.colors import object_color
from sam2.studio.document import Document, Prompt, Result, Track
from sam2.studio.eventlog import EventLog
from sam2.studio.media import Library, Shown
from sam2.studio.models import Slot
from sam2.studio.replay import replay
from sam2.studio.state import CHANGED, POLICIES, REPLAYED, Look, MissingError, State
from sam2.studio.suggestions import Suggestions

if TYPE_CHECKING:
    from sam2.studio.engine import Bench

__all__ = ["MissingError", "Session"]


@dataclass(eq=False)
class Pass:
    """A propagation at work."""

    direction: str
    start: int
    total: int
    frames: set[int] = field(default_factory=set)
    """Those that it has reached."""
    stopped: bool = False

    def to_json(self) -> dict[str, Any]:
        done = len(self.frames)
        return {"direction": self.direction, "start": self.start, "done": done, "total": self.total}


class Session(State):
    """One medium of one client.

    Args:
        log: with an `open` event at least.
        library: where the medium lies.
        slot: gives a model by name.

    Raises:
        LogError: the log is none of this version.
    """

    def __init__(self, log: EventLog, library: Library, slot: Callable[[str], Slot]) -> None:
        super().__init__(log)
        self.shown = Shown(library, self.path)
        self.job: Pass | None = None
        self.used = 0.0
        self.replaying = False
        self.fault: str | None = None
        """Why lost results could not be computed again."""
        self._library = library
        self._slot = slot
        self.suggestions = Suggestions()
        self._bench: Bench | None = None
        self._prepared = 0

    def to_json(self) -> dict[str, Any]:
        """The session as the page knows it."""
        session = super().to_json()
        job = self.job  # read last: where there is none, all that it found is in
        return {
            **session,
            "job": None if job is None else job.to_json(),
            "ready": self.is_embedded(self._prepared),
            "restoring": bool(self.to_replay) and self.fault is None,
            "fault": self.fault,
        }

    def slot(self) -> Slot:
        """The session's model, which begins to load where it has not."""
        return self._slot(self.model)

    def is_restored(self) -> bool:
        """Whether everything is as it was before a restart, or will never be."""
        return not self.to_replay or self.fault is not None

    def ready(self) -> bool:
        """Whether the model can be asked: it is loaded, or has failed and will say so."""
        return self.slot().settled

    @property
    def is_busy(self) -> bool:
        """Work of its own goes on."""
        return self.job is not None or self.replaying

    @property
    def is_awake(self) -> bool:
        """Frames and features are held."""
        return self._bench is not None or self.shown.is_open

    def is_embedded(self, frame: int) -> bool:
        """Whether a prompt on this frame is answered without encoding it first."""
        return self._bench is not None and self._bench.is_embedded(frame)

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
        self._prepared = frame
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

    def set_policy(self, name: str) -> None:
        """Goes on with another choice of memories; masks stay as they are.

        Raises:
            ValueError: there is none of that name.
        """
        if name not in POLICIES:
            raise ValueError(f"there is no policy {name[:100]!r}; there are {', '.join(POLICIES)}")
        if name != self.policy:
            self.stop()
            self.sleep()
            self._record("policy", name=name)
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
                again = frame in job.frames
                job.frames.add(frame)
                self.used = time.monotonic()
                self.hub.tell({"type": "masks", "again": again, **self.masks_json(frame)})
                self.hub.tell({"type": "progress", "done": len(job.frames), "total": job.total})
                yield
        except (OSError, ValueError) as error:
            self.hub.tell({"type": "error", "detail": str(error)})
            raise
        except Exception as error:
            self.hub.tell({"type": "error", "detail": f"following broke off: {error!r}"})
            raise
        finally:
            if self.job is job:
                self.job = None
                self.tell()

    # ------------------------------------------------------------------ replay

    def replay(self) -> Iterator[None]:
        """Computes lost results again from the events, a prompt or a frame a step."""
        same = True
        try:
            for step in replay(self, self.to_replay):
                same = same and step
                yield
            if not same and REPLAYED not in self.notes:
                self._record("weights", note=REPLAYED, sha256=self.bench().model.digest)
            self.to_replay, self.fault = [], None
        except (OSError, ValueError) as error:
            self.fault = f"the masks of this session are lost and cannot be computed again: {error}"
            self.sleep()
        finally:
            self.replaying = False
        self.tell()

    @property
    def has_its_weights(self) -> bool:
        """Whether the weights at work are those that the masks before were made with."""
        return self._bench is None or self.digest in (None, self._bench.model.digest)

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
            if self.digest != model.digest and not self.to_replay:
                if self.digest is None:
                    self._record("model", name=self.model, sha256=model.digest)
                else:
                    self._record("weights", note=CHANGED, sha256=model.digest)
            reader = self._library.open(self.path)
            found = self._library.describe(reader, self.path)
            if found != self.info:
                reader.close()
                raise ValueError(
                    f"{self.path} is not the file it was ({self.info.frames} frames of {self.info.width} x "
                    f"{self.info.height}, now {found.frames} of {found.width} x {found.height}): put the old "
                    "one back, or delete the session and open it anew"
                )
            self._bench = Bench(model, reader, self.log, self.policy)
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
