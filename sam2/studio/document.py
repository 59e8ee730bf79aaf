"""What a session holds at one moment, as values that never change: undo is going back to an earlier one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Prompt:
    """All that a person asked of one object on one frame."""

    points: tuple[tuple[float, float, int], ...] = ()
    """x and y in pixels, and 1 on the object or 0 off it."""
    box: tuple[float, float, float, float] | None = None
    mask: str | None = None
    """Compressed RLE counts of a painted mask; with points, where they start from."""
    choice: int | None = None
    """Which of the masks offered for an ambiguous prompt."""

    @property
    def is_empty(self) -> bool:
        return not self.points and self.box is None and self.mask is None

    def extends(self, other: Prompt) -> bool:
        """Whether this is the other prompt with more points."""
        count = len(other.points)
        return (
            self.box == other.box
            and self.mask is None
            and 0 < count < len(self.points)
            and self.points[:count] == other.points
        )

    def to_json(self) -> dict[str, Any]:
        """For the event log."""
        return {
            "points": [list(p) for p in self.points],
            "box": self.box,
            "mask": self.mask,
            "choice": self.choice,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Prompt:
        """From the event log."""
        return cls(
            tuple((float(x), float(y), int(label)) for x, y, label in values["points"]),
            None if values["box"] is None else tuple(values["box"]),
            values["mask"],
            values["choice"],
        )


@dataclass(frozen=True)
class Result:
    """One object on one frame, as it was computed."""

    counts: str
    """Compressed RLE counts at the size of the medium."""
    iou: float
    """Predicted IoU."""
    presence: float
    """The model's probability that the object is there."""
    record: tuple[int, int, int]
    """Address, length and checksum of what the model needs of it to go on."""
    reverse: bool | None = None
    """The direction in which a propagation reached the frame; None where it was prompted."""
    apart: float = 0.0
    """1 - IoU with the mask that an earlier pass gave, 0 where there was none."""

    def to_json(self) -> list[Any]:
        """For the log of results."""
        return [self.counts, self.iou, self.presence, list(self.record), self.reverse, self.apart]

    @classmethod
    def from_json(cls, values: list[Any]) -> Result:
        """From the log of results."""
        counts, iou, presence, record, reverse, apart = values
        return cls(counts, iou, presence, (record[0], record[1], record[2]), reverse, apart)


@dataclass(frozen=True)
class Track:
    """One object: prompts and results by frame.

    Invariant: a prompted frame's mask is in `asked`; what a propagation gave it stays in `tracked` beneath.
    """

    prompts: Mapping[int, Prompt] = field(default_factory=dict)
    asked: Mapping[int, Result] = field(default_factory=dict)
    tracked: Mapping[int, Result] = field(default_factory=dict)

    def shown(self, frame: int) -> Result | None:
        """What a person sees."""
        return self.asked.get(frame) or self.tracked.get(frame)

    def prior(self, frame: int, prompt: Prompt) -> Result | None:
        """The mask that a prompt corrects: the one shown where it adds points to the prompt before; where it
        is another prompt, what a propagation gave."""
        before = self.prompts.get(frame)
        if before is not None and prompt.extends(before):
            return self.asked[frame]
        return self.tracked.get(frame)

    def frames(self) -> set[int]:
        """Frames with a mask."""
        return {*self.asked, *self.tracked}

    def with_prompt(self, frame: int, prompt: Prompt, result: Result) -> Track:
        return replace(self, prompts={**self.prompts, frame: prompt}, asked={**self.asked, frame: result})

    def without_prompt(self, frame: int) -> Track:
        return replace(self, prompts=_without(self.prompts, frame), asked=_without(self.asked, frame))

    def with_tracked(self, results: Mapping[int, Result]) -> Track:
        return replace(self, tracked={**self.tracked, **results})


def _without(values: Mapping[int, Any], key: int) -> dict[int, Any]:
    return {k: v for k, v in values.items() if k != key}


@dataclass(frozen=True)
class Document:
    """The objects of a session in their order, with all that belongs to them."""

    tracks: Mapping[int, Track] = field(default_factory=dict)

    def with_track(self, obj: int, track: Track) -> Document:
        return Document({**self.tracks, obj: track})

    def without(self, obj: int) -> Document:
        return Document(_without(self.tracks, obj))

    def shown(self, frame: int) -> dict[int, Result]:
        """What a person sees on a frame, by object."""
        found = ((obj, track.shown(frame)) for obj, track in self.tracks.items())
        return {obj: result for obj, result in found if result is not None}

    def masked(self) -> list[list[int]]:
        """[first, last] of runs of frames with results."""
        return runs({frame for track in self.tracks.values() for frame in track.frames()})

    @property
    def is_prompted(self) -> bool:
        """Whether there is anything to propagate."""
        return any(track.prompts for track in self.tracks.values())


def runs(frames: Iterable[int]) -> list[list[int]]:
    """[first, last] of runs of numbers."""
    found: list[list[int]] = []
    for frame in sorted(frames):
        if found and found[-1][1] == frame - 1:
            found[-1][1] = frame
        else:
            found.append([frame, frame])
    return found


class History:
    """Documents, each but the first made by one edit; undo and redo go to and fro without limit."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, Document]] = [("", Document())]
        self._at = 0

    @property
    def now(self) -> Document:
        return self._steps[self._at][1]

    def records(self) -> set[tuple[int, int, int]]:
        """Places of all records that undo and redo can come back to."""
        tracks = (track for _, document in self._steps for track in document.tracks.values())
        return {r.record for track in tracks for r in (*track.asked.values(), *track.tracked.values())}

    @property
    def label(self) -> str:
        """The edit that made the present document."""
        return self._steps[self._at][0]

    @property
    def can_undo(self) -> bool:
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        return self._at < len(self._steps) - 1

    def edit(self, label: str, document: Document) -> None:
        """A new step; what was undone is gone."""
        del self._steps[self._at + 1 :]
        self._steps.append((label, document))
        self._at += 1

    def amend(self, label: str, document: Document) -> None:
        """The present step goes on: another frame of a pass, or the first prompt of a new object."""
        del self._steps[self._at + 1 :]
        self._steps[self._at] = (label, document)

    def undo(self) -> None:
        self._at -= 1

    def redo(self) -> None:
        self._at += 1
