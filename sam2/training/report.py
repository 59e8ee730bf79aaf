"""What a run tells: a CSV of metrics, TensorBoard where it is installed, a list of skipped samples."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from torch import Tensor


class Means:
    """Means over micro-batches: plain values by their number, pairs `NAME`, `NAME_n` by their counts.

    Tensors are summed on their device; `take` is the one point that waits for it.
    """

    def __init__(self) -> None:
        self._plain: dict[str, tuple[Any, int]] = {}
        self._counted: dict[str, Any] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        """Takes in one micro-batch."""
        for name, value in values.items():
            value = value.detach()
            if f"{name}_n" in values or name.endswith("_n"):
                self._counted[name] = self._counted.get(name, 0) + value
            else:
                total, count = self._plain.get(name, (0, 0))
                self._plain[name] = (total + value, count + 1)

    def take(self) -> dict[str, float]:
        """The means so far; begins anew. A mean of nothing is left out."""
        means = {name: float(total) / count for name, (total, count) in self._plain.items()}
        for name, total in self._counted.items():
            if not name.endswith("_n") and float(self._counted[f"{name}_n"]) > 0:
                means[name] = float(total) / float(self._counted[f"{name}_n"])
        self._plain, self._counted = {}, {}
        return means


class MetricsFile:
    """A CSV with one row a report; its columns grow as metrics appear. On resumption later rows go."""

    def __init__(self, path: Path, resume_step: int) -> None:
        """resume_step: rows of later steps are dropped (0: all of them)."""
        self.path = path
        self.rows: list[dict[str, str]] = []
        if resume_step and path.is_file():
            with open(path, newline="", encoding="utf-8") as file:
                self.rows = [
                    r for r in csv.DictReader(file) if r.get("step") and int(r["step"]) <= resume_step
                ]
        self.columns = list(self.rows[0]) if self.rows else []
        self._rewrite()

    def write(self, row: dict[str, float]) -> None:
        """Adds a row."""
        text = {
            name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in row.items()
        }
        self.rows.append(text)
        fresh = [name for name in text if name not in self.columns]
        if fresh:
            self.columns += fresh
            self._rewrite()
            return
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow(text)

    def _rewrite(self) -> None:
        aside = self.path.with_suffix(".part")
        with open(aside, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(aside, self.path)


class Reporter:
    """Writes a run's metrics under its folder and a line to the terminal."""

    def __init__(self, out: Path, resume_step: int) -> None:
        self.file = MetricsFile(out / "metrics.csv", resume_step)
        self.board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self.board = SummaryWriter(str(out / "tensorboard"), purge_step=resume_step or None)

    def write(self, step: int, minutes: float, values: dict[str, float]) -> None:
        """One report."""
        self.file.write({"step": step, "minutes": minutes, **values})
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)
        shown = " ".join(f"{name} {value:.4g}" for name, value in values.items())
        print(f"step {step} ({minutes:.1f} min) {shown}", flush=True)

    def close(self) -> None:
        """Flushes TensorBoard."""
        if self.board is not None:
            self.board.close()
