"""One export from beginning to end: whole or not at all, with progress, and one file where one is wanted."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from sam2.formats.folder import OutputFolder
from sam2.formats.frames import FrameMasks, Source
from sam2.formats.registry import find


def export(
    name: str,
    folder: str | os.PathLike[str],
    source: Source,
    frames: Iterable[FrameMasks],
    options: Mapping[str, Any] | None = None,
    *,
    progress: Callable[[int], None] | None = None,
    zipped_as: str | None = None,
    force: bool = False,
) -> Path:
    """Write one format into a folder and return what was made, a file or a folder.

    Frames are taken one after another, by rising index, and forgotten. Nothing remains where anything raises,
    ``frames`` and ``progress`` included: raise there to cancel.

    Args:
        name: one of ``registry.FORMATS``.
        folder: gets the format's entry, such as overlay.mp4 or davis/.
        options: of the format, by name.
        progress: called after each frame with the number of frames done.
        zipped_as: a stem: make exactly one file STEM-ENTRY, a zip archive where the format makes a folder.
        force: replace an earlier result.

    Raises:
        ValueError: an unknown format or option, one that does not fit the source, or no frame.
        OutputExistsError, OutputWriteError: see ``folder.OutputFolder``.
    """
    chosen = find(name)
    chosen.check(source.is_video, source.objects)
    settings = chosen.options.of(options or {})
    entry = chosen.entry(settings, source.is_video)
    is_folder = not Path(entry).suffix
    target = entry if zipped_as is None else f"{zipped_as}-{entry}{'.zip' if is_folder else ''}"
    with OutputFolder(Path(folder), [target], force) as output:
        made = output.staging / entry
        with closing(chosen.open(made, source, settings)) as writer:
            done = 0
            for frame in frames:
                writer.add(frame)
                done += 1
                if progress is not None:
                    progress(done)
            if not done:
                raise ValueError(f"there is no frame to export as {name}")
            writer.finish()
        if is_folder:
            made.mkdir(exist_ok=True)  # without objects there may be no file
        if target.endswith(".zip"):
            _zip(made, output.staging / target)
        elif target != entry:
            made.rename(output.staging / target)
        return output.commit()[0]


def _zip(folder: Path, archive: Path) -> None:
    """Pack a folder, whose name is the archive's first level, and delete it on the way."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            stored = file.suffix in (".png", ".jpg", ".webm", ".mov")
            packed.write(
                file,
                Path(folder.name) / file.relative_to(folder),
                zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED,
            )
            file.unlink()
    shutil.rmtree(folder)
