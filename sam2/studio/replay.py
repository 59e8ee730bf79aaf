"""A session's lost results computed again from its events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sam2.studio.document import Prompt, Result

if TYPE_CHECKING:
    from sam2.studio.session import Session

Step = tuple[int, bool, dict[int, Result]]
"""A frame of a propagation, whether it ran backwards, and what it gave by object."""


class Rerun:
    """A propagation run again, asked for the frames that the log names.

    With the weights of the log its steps come as the log has them. With others, a policy that changes its
    mind may do so elsewhere: then the frame's newest results stand.
    """

    def __init__(self, steps: Iterator[Step]) -> None:
        self._steps = steps
        self._ahead = next(steps, None)
        self._found: dict[int, dict[int, Result]] = {}

    def results(self, frame: int) -> dict[int, Result]:
        """What the propagation gave on a frame."""
        while self._ahead is not None and (frame not in self._found or self._ahead[0] == frame):
            at, _, results = self._ahead
            self._found[at] = {**self._found.get(at, {}), **results}
            self._ahead = next(self._steps, None)
            if at == frame:
                break
        return self._found.get(frame, {})


def replay(session: Session, events: list[dict[str, Any]]) -> Iterator[bool]:
    """Computes the results of a session's events again, a prompt or a frame a step.

    Yields:
        whether the weights are those that the log tells of.

    Raises:
        OSError, ValueError: medium or model are gone or changed.
    """
    session.begin_anew()
    rerun = Rerun(iter(()))
    for event in events:
        kind, results = event["type"], None
        if kind == "prompt":
            track = session.document.tracks[event["object"]]
            answer = session.bench().prompt(track, event["frame"], Prompt.from_json(event["prompt"]))
            results = {event["object"]: answer.result}
        elif kind == "tracked":
            results = rerun.results(event["frame"])
        elif kind in ("model", "policy"):
            session.sleep()
        if results is not None:
            session.log.put_results(event["seq"], results)
        session.apply(event, results or {})
        if kind == "pass":
            start, direction, limit = event["start"], event["direction"], event["frames"]
            rerun = Rerun(session.bench().track(session.document, start, direction, limit, lambda: False))
        if results is not None or kind == "model":  # a model is loaded before the next step
            yield session.has_its_weights
