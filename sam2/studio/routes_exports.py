"""Export jobs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from starlette.requests import HTTPConnection
from starlette.responses import FileResponse

from sam2.studio import schemas
from sam2.studio.context import MySession, TheStudio, client_of, studio_of
from sam2.studio.exports import Job
from sam2.studio.session import MissingError
from sam2.studio.studio import owner_of

router = APIRouter()


def _job(connection: HTTPConnection, export_id: Annotated[str, Path(max_length=60)]) -> Job:
    return studio_of(connection).exports.find(owner_of(client_of(connection)), export_id)


MyJob = Annotated[Job, Depends(_job)]


@router.post("/sessions/{session_id}/exports", status_code=202)
def start_export(mine: MySession, asked: schemas.NewExport) -> dict[str, Any]:
    """Begins to write a format; progress comes by WebSocket too."""
    return mine.studio.exports.start(mine.session, asked.format, asked.options).to_json()


@router.get("/exports/{export_id}")
def get_export(job: MyJob) -> dict[str, Any]:
    """How far an export is."""
    return job.to_json()


@router.get("/exports/{export_id}/file", response_class=FileResponse)
def get_file(job: MyJob) -> FileResponse:
    """The file of an export that is done."""
    if job.state != "done" or job.name is None:
        raise MissingError(
            f"the export is {job.state}: there is no file" + (" yet" * (job.state == "running"))
        )
    return FileResponse(job.folder / job.name, filename=job.name)


@router.delete("/exports/{export_id}", status_code=204)
def remove_export(studio: TheStudio, job: MyJob) -> None:
    """Cancels an export, or deletes its file."""
    studio.exports.remove(job)
