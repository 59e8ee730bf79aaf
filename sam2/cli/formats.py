"""The export formats that the user asked for, with their options."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sam2.formats.options import Options
from sam2.formats.registry import FORMATS, ExportFormat, Writer

if TYPE_CHECKING:
    from sam2.formats.frames import Marks, Source
    from sam2.prompts.files import FramePrompt

RESULT = "result.json"


@dataclass(frozen=True)
class Chosen:
    """A format and what was chosen of it."""

    format: ExportFormat
    options: Options


@dataclass(frozen=True)
class Formats:
    """The formats of one run, each once."""

    chosen: Sequence[Chosen]
    is_video: bool

    @classmethod
    def of(cls, args: argparse.Namespace, *, is_video: bool) -> Formats:
        """From --format and --option.

        Raises:
            ValueError: a format that does not fit the input, an option of a format that was not asked for,
                or one that there is not.
        """
        names = list(dict.fromkeys(args.formats or args.default_formats))
        values: dict[str, dict[str, str]] = {name: {} for name in names}
        for name, key, value in args.options or ():
            if name not in values:
                raise ValueError(f"--option {name}.{key}: ask for --format {name} as well")
            values[name][key] = value
        chosen = []
        for name in names:
            FORMATS[name].check(is_video, ())
            try:
                chosen.append(Chosen(FORMATS[name], FORMATS[name].options.of(values[name])))
            except ValueError as error:
                raise ValueError(f"--option {name}: {error}") from None
        return cls(chosen, is_video)

    @property
    def entries(self) -> list[str]:
        """What the output folder may get."""
        return [*(one.format.entry(one.options, self.is_video) for one in self.chosen), RESULT]

    def has(self, name: str) -> bool:
        """Whether a format is among them."""
        return any(one.format.name == name for one in self.chosen)

    def check_ids(self, object_ids: Iterable[int]) -> None:
        """Raises ValueError where a format cannot hold the ids."""
        ids = list(object_ids)
        for one in self.chosen:
            one.format.check(self.is_video, ids)

    def open(self, staging: Path, source: Source) -> Iterator[Writer]:
        """A writer for each, one after another: close each before or after the next is made."""
        for one in self.chosen:
            path = staging / one.format.entry(one.options, self.is_video)
            yield one.format.open(path, source, one.options)


def mark_of(prompt: FramePrompt) -> Marks:
    """A prompt as overlays draw it."""
    from sam2.formats.frames import Marks

    return Marks(
        None if prompt.points is None else prompt.points.coords,
        None if prompt.points is None else prompt.points.labels,
        None if prompt.box is None else prompt.box.array,
    )
