"""WebSockets: what happens in a session, and the live camera."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import ValidationError

from sam2.studio.context import client_of, studio_of
from sam2.studio.hub import Outbox
from sam2.studio.live import LiveTracker
from sam2.studio.scheduler import BusyError
from sam2.studio.schemas import LivePrompt, LiveRemove
from sam2.studio.session import MissingError
from sam2.studio.studio import Studio, owner_of

router = APIRouter()
GONE = (WebSocketDisconnect, RuntimeError, asyncio.CancelledError)
"""What a closed connection raises."""


@router.websocket("/sessions/{session_id}/events")
async def events(socket: WebSocket, session_id: str) -> None:
    """Tells a page what happens; a slow page gets the newest only."""
    try:
        session = await asyncio.to_thread(studio_of(socket).session, client_of(socket), session_id)
    except MissingError as error:
        await socket.accept()
        await socket.close(4404, str(error)[:120])
        return
    await socket.accept()
    outbox = Outbox(asyncio.get_running_loop())
    session.hub.join(outbox)
    outbox.put({"type": "session", "session": session.to_json()})

    async def sending() -> None:
        while True:
            await socket.send_json(await outbox.get())

    task = asyncio.create_task(sending())
    try:
        while (await socket.receive())["type"] != "websocket.disconnect":
            pass
    finally:
        session.hub.leave(outbox)
        task.cancel()
        with contextlib.suppress(*GONE):
            await task


class Camera:
    """One camera's connection: of pictures that wait only the newest is kept, and at most a few prompts."""

    PROMPTS = 16

    def __init__(self, socket: WebSocket, studio: Studio, model: str) -> None:
        self._socket = socket
        self._studio = studio
        self._owner = owner_of(client_of(socket))
        self._slot = studio.models.slot(model)
        self._picture: bytes | None = None
        self._asked: list[LivePrompt | LiveRemove] = []
        self._filled = asyncio.Event()
        self._tracker: LiveTracker | None = None

    async def serve(self) -> None:
        """Until the browser goes."""
        task = asyncio.create_task(self._work())
        try:
            await self._receive()
        finally:
            task.cancel()
            with contextlib.suppress(*GONE):
                await task
            if self._tracker is not None:
                await self._ask(self._tracker.close)

    async def _receive(self) -> None:
        while (message := await self._socket.receive())["type"] != "websocket.disconnect":
            if (picture := message.get("bytes")) is not None:
                self._picture = picture
            else:
                await self._take(message.get("text") or "")
            self._filled.set()

    async def _take(self, text: str) -> None:
        try:
            values = json.loads(text)
            is_remove = isinstance(values, dict) and values.get("type") == "remove"
            asked = (LiveRemove if is_remove else LivePrompt).model_validate(values)
        except (ValidationError, ValueError) as error:
            await self._tell_error(error)
            return
        if len(self._asked) < self.PROMPTS:
            self._asked.append(asked)

    async def _tell_error(self, error: Exception) -> None:
        detail = str(error)
        if isinstance(error, ValidationError):
            detail = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
        await self._socket.send_json({"type": "error", "detail": detail})

    async def _ask(self, call: Any, *args: Any) -> Any:
        return await asyncio.wrap_future(
            self._studio.scheduler.request(self._owner, lambda: call(*args), ready=lambda: self._slot.settled)
        )

    async def _work(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            picture, self._picture = self._picture, None
            asked, self._asked = self._asked, []
            try:
                if self._tracker is None:
                    self._tracker = await self._ask(lambda: LiveTracker(self._slot.get()))
                for one in asked:
                    if isinstance(one, LiveRemove):
                        await self._ask(self._tracker.remove, one.object)
                    else:
                        await self._socket.send_json(await self._ask(self._tracker.prompt, one))
                if picture is not None:
                    await self._socket.send_json(await self._ask(self._tracker.step, picture))
            except (ValueError, OSError, BusyError) as error:
                await self._tell_error(error)


@router.websocket("/live")
async def live(socket: WebSocket, model: str | None = None) -> None:
    """Follows objects through a camera's pictures."""
    studio = studio_of(socket)
    await socket.accept()
    try:
        if model is not None:
            studio.models.check(model)
        with studio.one_camera():
            await Camera(socket, studio, model or studio.models.default).serve()
    except ValueError as error:
        await socket.send_json({"type": "error", "detail": str(error)})
        await socket.close(1013, str(error)[:120])
