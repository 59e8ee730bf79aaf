"""Export jobs: formats written aside in threads of their own, with progress, fetched when they are done."""

from __future__ import annotations

import contextlib
import logging
import secrets
import shutil
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sam2.formats import Found, FrameMasks, Marks, ObjectInfo, Source, export, find
from sam2.studio.document import Document, Prompt
from sam2.studio.hub import Hub
from sam2.studio.media import Library, MediumError
from sam2.studio.session import MissingError, Session
from sam2.video import VideoReader

AT_ONCE = 2
"""Exports that run at once; others wait."""
KEPT = 16
"""Finished exports kept for a client; older ones are deleted."""

log = logging.getLogger(__name__)


class CancelledError(Exception):
    """The export was cancelled."""


@dataclass(eq=False)
class Job:
    """One export."""

    id: str
    client: str
    hub: Hub
    folder: Path
    total: int
    state: str = "running"
    """"running", "done" or "failed"."""
    done: int = 0
    name: str | None = None
    """Of the finished file."""
    detail: str | None = None
    """Why it failed."""
    cancelled: threading.Event = field(default_factory=threading.Event)

    def to_json(self) -> dict[str, Any]:
        """The job as the page knows it."""
        progress = 1.0 if self.state == "done" else round(self.done / max(self.total, 1), 4)
        return {
            "id": self.id,
            "state": self.state,
            "progress": progress,
            "name": self.name,
            "detail": self.detail,
        }

    def tell(self) -> None:
        self.hub.tell({"type": "export", **self.to_json()})


class Exports:
    """The export jobs of a studio.

    Args:
        folder: where files are made; what an earlier studio left in it is deleted.
        library: where media and pictures for backgrounds are found.
    """

    def __init__(self, folder: Path, library: Library) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        self._library = library
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="sam2-studio-export")

    def start(self, session: Session, name: str, options: Mapping[str, Any]) -> Job:
        """Begins an export of what a session holds now.

        Raises:
            ValueError: an unknown format or option, or nothing to export.
        """
        document = session.document
        kept = [obj for obj in document.tracks if session.look(obj).visible]
        frames = sorted({f for obj in kept for f in document.tracks[obj].frames()})
        if not frames:
            raise ValueError(
                "there is no mask to export: click on an object first, or show one that is hidden"
            )
        chosen = find(name)
        chosen.check(session.info.kind == "video", kept)
        checked = chosen.options.of(self._with_paths(chosen.options.schema(), options))
        values = {key: getattr(checked, key) for key in chosen.options.schema()}
        shown = Document({obj: document.tracks[obj] for obj in kept})
        job = Job(
            secrets.token_urlsafe(16), session.client, session.hub, self._folder, frames[-1] - frames[0] + 1
        )
        job.folder = self._folder / job.id
        with self._lock:
            self._jobs[job.id] = job
        self._pool.submit(self._run, job, session, name, values, shown, range(frames[0], frames[-1] + 1))
        return job

    def _with_paths(self, schema: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        """Options whose pictures are paths of files in the library."""
        return {
            key: str(self._library.find(str(value)))
            if value and schema.get(key, {}).get("type") == "picture"
            else value
            for key, value in options.items()
        }

    def find(self, client: str, job_id: str) -> Job:
        """A job of this client.

        Raises:
            MissingError: there is none.
        """
        job = self._jobs.get(job_id)
        if job is None or job.client != client:
            raise MissingError(f"there is no export {job_id[:60]!r}: start it again")
        return job

    def remove(self, job: Job) -> None:
        """Cancels a job, or deletes its file."""
        job.cancelled.set()
        with self._lock:
            self._jobs.pop(job.id, None)
        if job.state != "running":
            shutil.rmtree(job.folder, ignore_errors=True)

    def _run(
        self,
        job: Job,
        session: Session,
        name: str,
        options: dict[str, Any],
        document: Document,
        frames: range,
    ) -> None:
        try:
            with self._library.open(session.path) as reader:
                source = _source(session, document, reader, frames)
                made = export(
                    name,
                    job.folder,
                    source,
                    _frames(session, document, reader, frames),
                    options,
                    progress=lambda done: self._progress(job, done),
                    zipped_as=Path(session.path).stem,
                )
            if job.cancelled.is_set():
                raise CancelledError
            job.name, job.state = made.name, "done"
        except CancelledError:
            job.state, job.detail = "failed", "cancelled"
            shutil.rmtree(job.folder, ignore_errors=True)
        except Exception as error:  # a codec may raise anything; the page says what
            log.info("export %s failed", name, exc_info=True)
            text = str(error) or type(error).__name__
            job.state, job.detail = "failed", text.replace(str(job.folder), "the export folder")
            shutil.rmtree(job.folder, ignore_errors=True)
        job.tell()
        self._tidy(job.client)

    @staticmethod
    def _progress(job: Job, done: int) -> None:
        if job.cancelled.is_set():
            raise CancelledError
        job.done = done
        job.tell()

    def _tidy(self, client: str) -> None:
        with self._lock:
            finished = [j for j in self._jobs.values() if j.client == client and j.state != "running"]
            old = finished[:-KEPT]
            for job in old:
                del self._jobs[job.id]
        for job in old:
            shutil.rmtree(job.folder, ignore_errors=True)

    def close(self) -> None:
        """Cancels all jobs and deletes all files."""
        for job in tuple(self._jobs.values()):
            job.cancelled.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        with contextlib.suppress(OSError):
            shutil.rmtree(self._folder)


def _source(session: Session, document: Document, reader: VideoReader, frames: range) -> Source:
    is_video = session.info.kind == "video"
    return Source(
        picture=reader.__getitem__,
        size=(session.info.height, session.info.width),
        is_video=is_video,
        objects={obj: _info(session, obj) for obj in document.tracks},
        file_name=Path(session.path).name,
        frames=session.info.frames,
        fps=session.info.fps,
        timestamps=reader.timestamps[frames.start : frames.stop] if is_video else None,
        sound=reader.path if is_video and reader.has_audio else None,
        marks={
            frame: [
                _mark(track.prompts[frame]) for track in document.tracks.values() if frame in track.prompts
            ]
            for frame in frames
        },
    )


def _info(session: Session, obj: int) -> ObjectInfo:
    look = session.look(obj)
    red, green, blue = bytes.fromhex(look.color[1:])
    return ObjectInfo(look.name, color=(red, green, blue))


def _mark(prompt: Prompt) -> Marks:
    points = np.array(prompt.points, dtype=np.float64).reshape(-1, 3)
    return Marks(
        points[:, :2] if len(points) else None,
        points[:, 2].astype(np.int64) if len(points) else None,
        None if prompt.box is None else np.array(prompt.box),
    )


def _frames(session: Session, document: Document, reader: VideoReader, frames: range) -> Iterator[FrameMasks]:
    size = [reader.height, reader.width]
    is_video = session.info.kind == "video"
    files = getattr(reader, "files", None)
    for frame in frames:
        if frame >= len(reader):
            raise MediumError(f"{session.path} has fewer frames than before: open it anew")
        objects = {
            obj: Found({"size": size, "counts": result.counts}, result.iou, result.presence)
            for obj, result in document.shown(frame).items()
        }
        if not is_video:
            yield FrameMasks(0, Path(session.path).name, None, objects)
            return
        name = f"{frame:05d}.png" if files is None else files[frame].name
        yield FrameMasks(frame, name, float(reader.timestamps[frame]), objects)
