"""What there is: the studio itself, folders, and uploads."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, File, Query, UploadFile

from sam2 import __version__
from sam2.formats import describe
from sam2.studio.context import TheClient, TheStudio
from sam2.studio.media import VIDEO_SUFFIXES
from sam2.studio.state import POLICIES
from sam2.video import PICTURE_SUFFIXES

router = APIRouter()


@router.get("/info")
def info(studio: TheStudio) -> dict[str, Any]:
    """The studio: version, models, what it opens and exports."""
    limits = studio.limits
    return {
        "version": __version__,
        **studio.models.describe(),
        "policies": list(POLICIES),
        "root": studio.library.root.name or "/",
        "path": studio.settings.start,
        "limits": {
            "upload_bytes": limits.upload_bytes,
            "pixels": limits.pixels,
            "points": limits.points,
            "objects": limits.objects,
        },
        "export_formats": describe(),
        "media": {"pictures": sorted(PICTURE_SUFFIXES), "videos": sorted(VIDEO_SUFFIXES)},
    }


@router.get("/browse")
def browse(
    studio: TheStudio, client: TheClient, path: Annotated[str, Query(max_length=1000)] = ""
) -> dict[str, Any]:
    """What lies in a folder, and which of it is marked as done."""
    parent, entries = studio.library.browse(path)
    done = studio.done(client)
    return {
        "path": path,
        "parent": parent,
        "entries": [{**entry, "done": entry["path"] in done} for entry in entries],
    }


@router.post("/uploads", status_code=201)
def upload(studio: TheStudio, file: Annotated[UploadFile, File()]) -> dict[str, str]:
    """Takes a picture or a video, checks that it can be read, and answers the path to open it by."""
    with studio.library.upload(file.filename or "") as (target, path), open(target, "wb") as out:
        while block := file.file.read(2**20):
            out.write(block)
    return {"path": path}
