"""The last lines of a command: what was done and where the results are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def report(summary: str, folder: Path, written: Sequence[Path]) -> None:
    """Prints the summary, and each entry of the output folder on a line."""
    print(summary)
    for path in written:
        if path.is_dir():
            count = sum(1 for file in path.rglob("*") if file.is_file())
            print(f"  {folder / path.name}/ ({count} file{'' if count == 1 else 's'})")
        else:
            print(f"  {folder / path.name}")
