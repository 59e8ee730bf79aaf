"""The studio as a process, its page as a user sees it, and small media to work on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
WIDTH, HEIGHT, FRAMES = 240, 160, 6
RADIUS = 26
PATIENCE = 60_000
"""Milliseconds that anything may take: a machine may be busy."""


def scene(*discs: tuple[tuple[float, float], tuple[int, int, int]]) -> np.ndarray:
    """Discs on a dark ground, `[HEIGHT, WIDTH, 3]`."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.stack([40 + x // 12, 60 + y // 8, np.full_like(x, 70)], axis=-1)
    for (at_x, at_y), color in discs:
        picture[(x - at_x) ** 2 + (y - at_y) ** 2 < RADIUS**2] = color
    return picture.astype(np.uint8)


def disc(at: tuple[float, float]) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return (x - at[0]) ** 2 + (y - at[1]) ** 2 < RADIUS**2


def write_picture(path: Path, at: tuple[float, float]) -> None:
    Image.fromarray(scene((at, (250, 220, 40)))).save(path)


def places(frame: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the clip's two discs are."""
    return (50 + 8 * frame, 50), (190 - 8 * frame, 110)


def write_clip(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, 10)
        for index in range(FRAMES):
            one, other = places(index)
            picture = scene((one, (250, 220, 40)), (other, (230, 70, 60)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


class Studio:
    """`sam2 studio` over a folder; started again it listens where it did before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self._port = "0"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "sam2", "studio", self.folder, "--no-browser", "--port", self._port]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [*map(str, command)], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", self._process.stdout.readline())
        assert found is not None
        self.url, self._port = found[0], found[1]
        self._await()

    def _await(self) -> None:
        for _ in range(600):
            try:
                urllib.request.urlopen(self.url + "api/info", timeout=60).close()
                return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("the studio does not answer")

    def kill(self) -> None:
        """As a power cut would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Tab:
    """The page."""

    def __init__(self, page: Any, studio: Studio) -> None:
        self.page = page
        self.studio = studio
        self.faults: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("response", lambda answer: answer.status >= 500 and self.faults.append(answer.url))
        page.on("console", lambda line: "Content Security" in line.text and self.faults.append(line.text))

    def visit(self, path: str = "") -> None:
        self.page.goto(f"{self.studio.url}#{path}")
        self.page.wait_for_selector("body[data-started]")
        if path:
            self.page.wait_for_selector("#picture[data-frame]")

    def see(self, selector: str) -> None:
        self.page.wait_for_selector(selector, state="attached")

    def masks(self, count: int) -> None:
        """Waits until so many masks are on the picture and nothing is under way."""
        self.see(f"#picture[data-masks='{count}']")
        self.see("#stage[data-waiting='0']")

    def settle(self) -> None:
        """Waits until the session stays as it is: an answer that still comes counts, and moves the page."""
        while True:
            self.see("#stage[data-waiting='0']")
            before = self.session()["revision"]
            self.page.wait_for_timeout(300)
            if self.session()["revision"] == before:
                return

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel's middle is on the screen."""
        scale, left, top = map(float, self.page.get_attribute("#picture", "data-view").split())
        box = self.page.locator("#canvas").bounding_box()
        return box["x"] + left + (x + 0.5) * scale, box["y"] + top + (y + 0.5) * scale

    def click(self, x: float, y: float, **options: Any) -> None:
        self.page.mouse.click(*self.place(x, y), **options)

    def drag(self, *points: tuple[float, float]) -> None:
        self.page.mouse.move(*self.place(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.place(*point), steps=5)
        self.page.mouse.up()

    def color(self, x: int, y: int) -> np.ndarray:
        """What the lower canvas shows at a pixel's middle, RGB."""
        script = """([x, y]) => { const canvas = document.getElementById("picture");
            const box = canvas.getBoundingClientRect(); const ratio = canvas.width / box.width;
            const at = [(x - box.left) * ratio, (y - box.top) * ratio];
            return [...canvas.getContext("2d").getImageData(...at, 1, 1).data.slice(0, 3)]; }"""
        return np.array(self.page.evaluate(script, list(self.place(x, y))))

    def api(self, path: str) -> Any:
        """What the server answers this user."""
        return self.page.evaluate("path => fetch('/api' + path).then((answer) => answer.json())", path)

    def session(self) -> dict[str, Any]:
        name = self.page.get_attribute("#picture", "data-session")
        return self.api(f"/sessions/{name}")

    def mask(self, frame: int, index: int = 0) -> np.ndarray:
        """A mask as the server has it, `[HEIGHT, WIDTH]` bool."""
        from sam2.masks import rle

        session = self.session()
        shown = self.api(f"/sessions/{session['id']}/masks?first={frame}&last={frame}")[0]["objects"]
        found = {item["id"]: item["mask"] for item in shown}
        return rle.decode(found[session["objects"][index]["id"]])

    def goto_frame(self, frame: int) -> None:
        self.page.fill("#frame-number", str(frame + 1))
        self.page.keyboard.press("Enter")
        self.see(f"#picture[data-frame='{frame}']")
        self.page.focus("#canvas")

    def track(self) -> None:
        """Follows the objects forwards to the end."""
        self.settle()
        before = self.session()["revision"]
        self.page.focus("#canvas")
        self.page.keyboard.press("f")
        self.page.wait_for_function(
            """async ([id, before]) => {
            const session = await (await fetch("/api/sessions/" + id)).json();
            return session.job === null && session.revision > before; }""",
            arg=[self.session()["id"], before],
            polling=200,
        )
        self.page.wait_for_selector("#track-stop", state="hidden")

    def export(self, name: str, folder: Path) -> Path:
        """Exports through the dialog; the file."""
        self.page.click("#export-open")
        self.page.select_option("#export-format", name)
        with self.page.expect_download() as download:
            count = self.page.locator(".job").count()
            self.page.click("#export-form button[type=submit]")
            self.page.click(f".job:first-child:nth-last-child({count + 1})[data-state=done] a")
        path = folder / download.value.suggested_filename
        download.value.save_as(path)
        self.page.keyboard.press("Escape")
        return path


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))
