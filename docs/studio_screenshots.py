"""Writes the pictures of the studio's page, `docs/studio-*.png`, from `examples/media` and the default model.

python docs/studio_screenshots.py [--chromium /usr/bin/chromium] [--out docs]
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from PIL import Image
from playwright.sync_api import Page, sync_playwright

MEDIA = Path(__file__).parents[1] / "examples" / "media"
LARGEST = 250_000  # bytes of one picture
PATIENCE = 180_000


@contextmanager
def studio(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "sam2", "studio", str(folder), "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert found is not None
        yield found[0]
    finally:
        process.kill()
        process.wait()


def save(page: Page, path: Path) -> None:
    """As PNG with as many colours as fit the size."""
    page.mouse.move(2, 2)
    page.wait_for_timeout(700)
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for colors in (256, 192, 128, 96, 64):
        shot.quantize(colors, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < LARGEST:
            return
    raise ValueError(f"{path} is {path.stat().st_size} bytes, more than {LARGEST}")


def place(page: Page, x: float, y: float) -> tuple[float, float]:
    scale, left, top = map(float, (page.get_attribute("#picture", "data-view") or "").split())
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    return box["x"] + left + x * scale, box["y"] + top + y * scale


def settle(page: Page, masks: int) -> None:
    page.wait_for_selector(f"#picture[data-masks='{masks}']", state="attached")
    page.wait_for_selector("#stage[data-waiting='0']")


def drag(page: Page, left: float, top: float, right: float, bottom: float) -> None:
    page.mouse.move(*place(page, left, top))
    page.mouse.down()
    page.mouse.move(*place(page, right, bottom), steps=4)
    page.mouse.up()


def show(page: Page, url: str, name: str) -> None:
    page.goto(f"{url}#{name}")
    page.wait_for_selector("body[data-started]")
    page.wait_for_function("name => document.getElementById('name').textContent === name", arg=name)
    page.wait_for_selector("#picture[data-frame]", state="attached")
    page.wait_for_selector("#preparing", state="hidden")


def name_object(page: Page, index: int, name: str) -> None:
    field = page.locator(".object-name").nth(index)
    field.fill(name)
    field.press("Enter")
    page.focus("#canvas")


def picture(page: Page, url: str, out: Path) -> None:
    show(page, url, "launch.png")
    page.keyboard.press("p")
    page.fill("#brush-size", "18")
    drag(page, 230, 102, 230, 305)
    settle(page, 1)
    name_object(page, 0, "rocket")
    page.keyboard.press("c")
    page.keyboard.press("n")
    page.mouse.click(*place(page, 60, 168))
    settle(page, 2)
    name_object(page, 1, "saucer")
    save(page, out / "studio-picture.png")


def clip(page: Page, url: str, out: Path) -> None:
    show(page, url, "saucer.mp4")
    page.wait_for_timeout(500)
    drag(page, 28, 106, 121, 193)
    settle(page, 1)
    name_object(page, 0, "saucer")
    page.keyboard.press("n")
    page.keyboard.press("p")
    page.fill("#brush-size", "18")
    drag(page, 230, 102, 230, 305)
    settle(page, 2)
    page.keyboard.press("c")
    name_object(page, 1, "rocket")
    page.keyboard.press("f")
    page.wait_for_selector("#track-stop:not([hidden])")
    page.wait_for_selector("#track-stop", state="hidden")
    page.fill("#frame-number", "9")
    page.keyboard.press("Enter")
    page.wait_for_selector("#picture[data-frame='8']", state="attached")
    page.evaluate("document.activeElement.blur()")
    save(page, out / "studio-clip.png")
    page.emulate_media(color_scheme="dark")
    save(page, out / "studio-dark.png")
    page.click("#language")
    page.click("#export-open")
    save(page, out / "studio-chinese.png")
    page.keyboard.press("Escape")
    page.click("#language")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 844})
    save(page, out / "studio-narrow.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        for name in ("chelsea.jpg", "coffee.jpg", "rocket.jpg", "saucer.mp4"):
            shutil.copy(MEDIA / name, folder)
        with av.open(str(MEDIA / "saucer.mp4")) as video:
            next(video.decode(video=0)).to_image().save(Path(folder) / "launch.png")
        browser = playwright.chromium.launch(
            executable_path=arguments.chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        with studio(Path(folder)) as url:
            page = browser.new_context(viewport={"width": 1200, "height": 740}, locale="en-GB").new_page()
            page.set_default_timeout(PATIENCE)
            picture(page, url, arguments.out)
            clip(page, url, arguments.out)


if __name__ == "__main__":
    main()
