"""What README and docs tell people to type is run here, with the packaged model."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2.cli import main
from sam2.video import VideoSink

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.slow


def blocks(page: Path, language: str) -> list[str]:
    return [body for tag, body in BLOCK.findall(page.read_text()) if tag == language]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with the files that the pages speak of."""
    y, x = np.mgrid[:360, :480]
    picture = np.stack([x / 2, y / 2, (x + y) / 4], axis=-1).astype(np.uint8)
    picture[120:280, 130:290] = (230, 60, 40)
    Image.fromarray(picture).save(tmp_path / "photo.jpg", quality=95)
    with VideoSink(tmp_path / "clip.mp4", fps=10, size=(480, 360)) as sink:
        for t in range(8):
            sink.write(np.roll(picture, 4 * t, axis=1))
    return tmp_path


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_python_of_a_page_runs(page: Path, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    names: dict[str, object] = {}
    for body in blocks(page, "python"):
        exec(compile(body, str(page), "exec"), names)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "console")], ids=lambda p: p.name)
def test_commands_of_a_page_run(page: Path, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    run = 0
    for body in blocks(page, "console"):
        for line in re.sub(r"\\\n\s*", "", body).splitlines():
            line = line.removeprefix("$ ").split("  #")[0]
            if line.startswith("sam2 "):
                assert main(shlex.split(line)[1:]) in (0, None), line
                run += 1
    assert run, f"{page.name} has console blocks without a sam2 command"
