"""Sessions: media at work."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from sam2.masks import rle
from sam2.studio import schemas
from sam2.studio.context import MySession, TheClient, TheStudio
from sam2.studio.document import Prompt

router = APIRouter(prefix="/sessions")
Number = Annotated[int, Path(ge=0, lt=2**31)]
IMMUTABLE = {"cache-control": "private, max-age=31536000, immutable"}
SPAN = 256
"""Frames of masks in one answer."""


@router.post("")
def open_session(studio: TheStudio, client: TheClient, asked: schemas.OpenSession) -> dict[str, Any]:
    """Opens a medium; opened again, it is the same session."""
    session = studio.open(client, asked.path, asked.model)
    session = studio.session(client, session.id)
    studio.prepare(session, 0)
    return session.to_json()


@router.get("")
def list_sessions(studio: TheStudio, client: TheClient) -> list[dict[str, Any]]:
    """The client's sessions."""
    return [session.to_json() for session in studio.sessions(client)]


@router.get("/{session_id}")
def get_session(mine: MySession) -> dict[str, Any]:
    """One session."""
    return mine.session.to_json()


@router.patch("/{session_id}")
async def change_session(mine: MySession, asked: schemas.ChangeSession) -> dict[str, Any]:
    """Marks a session as done, or goes on with another model or another choice of memories."""
    if asked.model is not None:
        mine.studio.models.check(asked.model)

    def change() -> dict[str, Any]:
        if asked.done is not None:
            mine.session.set_done(asked.done)
        if asked.model is not None:
            mine.session.set_model(asked.model)
        if asked.policy is not None:
            mine.session.set_policy(asked.policy)
        return mine.session.to_json()

    answer: dict[str, Any] = await mine.ask(change)
    if asked.model is not None or asked.policy is not None:
        mine.studio.prepare(mine.session, 0)
    return answer


@router.delete("/{session_id}", status_code=204)
async def delete_session(mine: MySession) -> None:
    """Deletes a session with its masks; the medium stays."""
    work = mine.studio.scheduler.request(mine.session.client, lambda: mine.studio.delete(mine.session))
    await asyncio.wrap_future(work)


# ---------------------------------------------------------------------- frames


@router.get("/{session_id}/frames/{frame}.jpg", response_class=Response)
def frame_jpeg(
    mine: MySession, frame: Number, width: Annotated[int | None, Query(ge=1, le=16384)] = None
) -> Response:
    """A frame as JPEG."""
    mine.session.check_frame(frame)
    return Response(mine.session.shown.jpeg(frame, width), media_type="image/jpeg", headers=IMMUTABLE)


@router.get("/{session_id}/thumbs/{frame}.jpg", response_class=Response)
def thumb_jpeg(mine: MySession, frame: Number) -> Response:
    """A frame as a small JPEG."""
    mine.session.check_frame(frame)
    return Response(mine.session.shown.jpeg(frame, 160, 70), media_type="image/jpeg", headers=IMMUTABLE)


@router.get("/{session_id}/masks/{frame}")
def get_masks(mine: MySession, frame: Number) -> dict[str, Any]:
    """The masks of one frame."""
    mine.session.check_frame(frame)
    return mine.session.masks_json(frame)


@router.get("/{session_id}/masks")
def get_many_masks(
    mine: MySession,
    first: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    last: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
) -> list[dict[str, Any]]:
    """The masks of frames `first` to `last`, at most 256 of them."""
    end = min(mine.session.info.frames - 1, first + SPAN - 1, first + SPAN if last is None else last)
    return [mine.session.masks_json(frame) for frame in range(first, end + 1)]


# ---------------------------------------------------------------------- objects and prompts


@router.post("/{session_id}/objects", status_code=201)
async def add_object(mine: MySession, asked: schemas.NewObject) -> dict[str, Any]:
    """A new object."""

    def add() -> dict[str, Any]:
        return mine.session.object_json(
            mine.session.add_object(asked.name, asked.color, mine.studio.limits.objects)
        )

    answer: dict[str, Any] = await mine.ask(add)
    return answer


@router.patch("/{session_id}/objects/{obj}")
async def change_object(mine: MySession, obj: Number, asked: schemas.ChangeObject) -> dict[str, Any]:
    """Another name, colour, visibility, …"""
    changes = asked.model_dump(exclude_none=True)

    def change() -> dict[str, Any]:
        mine.session.change_object(obj, **changes)
        return mine.session.object_json(obj)

    answer: dict[str, Any] = await mine.ask(change)
    return answer


@router.delete("/{session_id}/objects/{obj}")
async def remove_object(mine: MySession, obj: Number) -> dict[str, Any]:
    """Takes an object away."""
    await mine.ask(lambda: mine.session.remove_object(obj))
    return mine.session.to_json()


@router.put("/{session_id}/prompts/{frame}/{obj}")
async def put_prompt(mine: MySession, frame: Number, obj: Number, asked: schemas.PutPrompt) -> dict[str, Any]:
    """Prompts an object on a frame, in place of what was asked there before."""
    mine.session.track(obj)
    mine.session.check_frame(frame)
    prompt = _prompt(mine, asked)
    answer: dict[str, Any] = await mine.ask(
        lambda: mine.session.prompt(frame, obj, prompt),
        needs_model=not prompt.is_empty,
        key=("prompt", frame, obj),
    )
    return answer


def _prompt(mine: MySession, asked: schemas.PutPrompt) -> Prompt:
    counts = None
    if asked.mask is not None:
        info = mine.session.info
        if asked.mask.size != (info.height, info.width):
            raise ValueError(
                f"the mask is {list(asked.mask.size)}, but the medium is {[info.height, info.width]} "
                "(height, width)"
            )
        if sum(asked.mask.counts) != info.height * info.width:
            raise ValueError(f"the mask's counts add up to {sum(asked.mask.counts)}, not to its pixels")
        counts = str(rle.compress({"size": list(asked.mask.size), "counts": asked.mask.counts})["counts"])
    return Prompt(tuple(asked.points), asked.box, counts, asked.choice)


@router.delete("/{session_id}/prompts/{frame}/{obj}")
async def clear_prompt(mine: MySession, frame: Number, obj: Number) -> dict[str, Any]:
    """Takes back what was asked of an object on a frame."""
    mine.session.check_frame(frame)
    answer: dict[str, Any] = await mine.ask(
        lambda: mine.session.clear_prompt(frame, obj), key=("prompt", frame, obj)
    )
    return answer


@router.post("/{session_id}/preview")
async def preview(mine: MySession, asked: schemas.Preview) -> dict[str, Any]:
    """The mask that points would give; nothing is changed or logged."""
    mine.session.check_frame(asked.frame)
    prompt = Prompt(tuple(asked.points))
    answer: dict[str, Any] = await mine.ask(
        lambda: mine.session.preview(asked.frame, prompt), needs_model=True, key="preview"
    )
    return answer


@router.post("/{session_id}/embed", status_code=202)
def embed(mine: MySession, asked: schemas.OneFrame) -> dict[str, Any]:
    """Prepares a frame, so that prompts on it are answered at once."""
    mine.session.check_frame(asked.frame)
    mine.studio.prepare(mine.session, asked.frame)
    return {"frame": asked.frame, "ready": mine.session.is_embedded(asked.frame)}


@router.post("/{session_id}/undo")
async def undo(mine: MySession) -> dict[str, Any]:
    """Goes back one step."""
    await mine.ask(mine.session.undo)
    return mine.session.to_json()


@router.post("/{session_id}/redo")
async def redo(mine: MySession) -> dict[str, Any]:
    """Goes forward again."""
    await mine.ask(mine.session.redo)
    return mine.session.to_json()


# ---------------------------------------------------------------------- suggestions


@router.post("/{session_id}/auto", status_code=202)
async def begin_auto(mine: MySession, asked: schemas.OneFrame) -> dict[str, Any]:
    """Looks for everything on a frame; candidates come by WebSocket, some at a time."""

    def begin() -> dict[str, Any]:
        mine.studio.run(mine.session, mine.session.suggestions.begin_auto(mine.session, asked.frame))
        return {"frame": asked.frame, "candidates": []}

    answer: dict[str, Any] = await mine.ask(begin, needs_model=True)
    return answer


@router.get("/{session_id}/auto")
def get_auto(mine: MySession) -> dict[str, Any]:
    """The candidates found so far."""
    auto = mine.session.suggestions.auto
    return {"frame": None, "candidates": []} if auto is None else auto.to_json()


@router.delete("/{session_id}/auto", status_code=204)
def end_auto(mine: MySession) -> None:
    """Looks no further, and forgets the candidates."""
    mine.session.suggestions.auto = None


@router.get("/{session_id}/marks")
def get_marks(mine: MySession) -> dict[str, Any]:
    """Marks for the timeline."""
    return mine.session.suggestions.marks(mine.session)


# ---------------------------------------------------------------------- propagation


@router.post("/{session_id}/propagate", status_code=202)
async def propagate(mine: MySession, asked: schemas.Propagate) -> dict[str, Any]:
    """Follows all objects through the video; masks come by WebSocket."""
    session = mine.session

    def begin() -> dict[str, Any]:
        mine.studio.run(session, session.begin(asked.start, asked.direction, asked.frames))
        return session.to_json()

    answer: dict[str, Any] = await mine.ask(begin, needs_model=True)
    return answer


@router.post("/{session_id}/cancel")
async def cancel(mine: MySession) -> dict[str, Any]:
    """Ends a propagation before its next frame; what it found stays."""
    job = mine.session.job
    if job is not None:
        job.stopped = True

    def settle() -> dict[str, Any]:
        mine.session.stop()
        mine.session.tell()
        return mine.session.to_json()

    answer: dict[str, Any] = await mine.ask(settle)
    return answer
