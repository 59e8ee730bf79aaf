"""WebSockets: what happens in a session, and the live camera."""

from __future__ import annotations

import asyncio
import contextlib

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from sam2.studio.context import client_of, studio_of
from sam2.studio.hub import Outbox
from sam2.studio.session import MissingError

router = APIRouter()


@router.websocket("/sessions/{session_id}/events")
async def events(socket: WebSocket, session_id: str) -> None:
    """Tells a page what happens; a slow page gets the newest only."""
    try:
        session = studio_of(socket).session(client_of(socket), session_id)
    except MissingError as error:
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
        while True:
            await socket.receive_bytes()
    except (WebSocketDisconnect, RuntimeError, KeyError):
        pass
    finally:
        session.hub.leave(outbox)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
            await task
