"""What every route needs: the studio, the client, and the client's session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Path
from starlette.requests import HTTPConnection

from sam2.studio.session import Session
from sam2.studio.studio import Studio

SessionId = Annotated[str, Path(max_length=60)]


def client_of(connection: HTTPConnection) -> str:
    """The client's secret, which the guard found in its cookie."""
    client: str = connection.scope["state"]["client"]
    return client


def studio_of(connection: HTTPConnection) -> Studio:
    """The studio."""
    studio: Studio = connection.app.state.studio
    return studio


class Mine:
    """A session of the client who asks, and the way to ask something of it."""

    def __init__(self, connection: HTTPConnection, session_id: SessionId) -> None:
        self.studio = studio_of(connection)
        self._tab = connection.headers.get("x-tab", "")
        """Which of the client's pages asks: a newer request takes the place of the same page's only."""
        self.session: Session = self.studio.session(client_of(connection), session_id)

    async def ask(self, call: Callable[[], Any], *, needs_model: bool = False, key: Any = None) -> Any:
        """The answer of a call in the model's thread."""
        return await asyncio.wrap_future(
            self.studio.ask(
                self.session, call, needs_model=needs_model, key=None if key is None else (self._tab, key)
            )
        )


TheStudio = Annotated[Studio, Depends(studio_of)]
TheClient = Annotated[str, Depends(client_of)]
MySession = Annotated[Mine, Depends(Mine)]
