"""The studio's web application: the page, its REST interface and its WebSockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response

from sam2 import __version__
from sam2.studio import routes_exports, routes_live, routes_media, routes_sessions
from sam2.studio.guard import Guard
from sam2.studio.media import MediumError, PathRefusedError
from sam2.studio.models import Loader
from sam2.studio.scheduler import BusyError, StoppedError, SupersededError
from sam2.studio.session import MissingError
from sam2.studio.settings import Settings
from sam2.studio.studio import Studio

PAGE = Path(__file__).parent / "page"


class _Page(StaticFiles):
    """The page's files, looked at anew by the browser each time, which costs a short answer."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


STATUS: dict[type[Exception], int] = {
    MissingError: 404,
    FileNotFoundError: 404,
    PathRefusedError: 403,
    MediumError: 422,
    SupersededError: 409,
    BusyError: 429,
    StoppedError: 409,
    ValueError: 422,
    OSError: 409,
}


async def _explain(_request: Request, error: Exception) -> JSONResponse:
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    text = str(error)
    if isinstance(error, OSError) and error.errno in (28, 122):
        text = "the disk is full: make room, then try again; nothing was lost"
    body: dict[str, Any] = {"detail": text}
    if isinstance(error, SupersededError):
        body["superseded"] = True
    return JSONResponse(body, status)


def create_app(settings: Settings, load: Loader | None = None) -> FastAPI:
    """The application; the model begins to load when it starts.

    Args:
        load: loads a model by name and device; None for `models.load_model`.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        studio = Studio(settings, load)
        app.state.studio = studio
        studio.models.slot(studio.models.default)
        try:
            yield
        finally:
            studio.close()

    app = FastAPI(
        title="sam2 studio",
        version=__version__,
        lifespan=lifespan,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    for kind in STATUS:
        app.add_exception_handler(kind, _explain)
    for part in (routes_media, routes_sessions, routes_exports, routes_live):
        app.include_router(part.router, prefix="/api")

    @app.get("/", include_in_schema=False)
    def index() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers={"cache-control": "no-cache"})

    app.mount("/page", _Page(directory=PAGE, check_dir=False), name="page")
    app.add_middleware(Guard, settings=settings)
    return app
