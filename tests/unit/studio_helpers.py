"""A studio over a folder of small media, with a miniature model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image
from tracking_helpers import clip, mini_predictor

from sam2.studio.app import create_app
from sam2.studio.models import Model
from sam2.studio.settings import Limits, Settings
from sam2.video import VideoSink

HOST = "127.0.0.1:8765"


def load(name: str, _device: str | None) -> Model:
    """A miniature model for the default, and a failure for any other name."""
    if name != "mini":
        raise ValueError(f"{name} is damaged")
    return Model(name, mini_predictor(), "0" * 64)


def make_media(root: Path, frames: int = 8) -> Path:
    """picture.png, photos/1.jpg, photos/2.jpg and clip.mp4 in a folder."""
    (root / "photos").mkdir(parents=True)
    pictures = clip(frames)
    Image.fromarray(pictures[0]).save(root / "picture.png")
    for number in (1, 2):
        Image.fromarray(pictures[number]).save(root / "photos" / f"{number}.jpg")
    with VideoSink(root / "clip.mp4", fps=10) as sink:
        for picture in pictures:
            sink.write(picture)
    return root


class Browser(TestClient):
    """A browser with a cookie of its own."""

    def open(self, path: str) -> dict[str, Any]:
        """A session with one object."""
        session = self.done(self.post("/api/sessions", json={"path": path}))
        if not session["objects"]:
            self.done(self.post(f"/api/sessions/{session['id']}/objects", json={}))
        return session

    def click(self, session: str, *points: list[float], frame: int = 0, obj: int = 1) -> dict[str, Any]:
        """Prompts an object with points."""
        return self.done(self.put(f"/api/sessions/{session}/prompts/{frame}/{obj}", json={"points": points}))

    def state(self, session: str) -> dict[str, Any]:
        return self.done(self.get(f"/api/sessions/{session}"))

    def masks(self, session: str) -> list[Any]:
        """All masks of a session, without revisions."""
        frames = self.done(self.get(f"/api/sessions/{session}/masks"))
        return [(one["frame"], one["objects"]) for one in frames]

    def propagate(self, session: str, **asked: Any) -> dict[str, Any]:
        """Propagates to the end."""
        self.done(self.post(f"/api/sessions/{session}/propagate", json={"start": 0, **asked}))
        return self.until(session, lambda state: state["job"] is None)

    def until(self, session: str, condition: Any, seconds: float = 30) -> dict[str, Any]:
        """The session once it is as wanted."""
        end = time.monotonic() + seconds
        while not condition(state := self.state(session)):
            assert time.monotonic() < end, state
            time.sleep(0.01)
        return state

    def exported(self, session: str, name: str, **options: Any) -> dict[str, Any]:
        """A finished export."""
        asked = {"format": name, "options": options}
        job = self.done(self.post(f"/api/sessions/{session}/exports", json=asked))
        while job["state"] == "running":
            time.sleep(0.01)
            job = self.done(self.get(f"/api/exports/{job['id']}"))
        return job

    def events(self, session: str) -> Any:
        """The WebSocket of a session."""
        return self.socket(f"/api/sessions/{session}/events")

    def socket(self, path: str) -> Any:
        """A WebSocket as this browser opens it."""
        cookie = f"sam2_client={self.cookies.get('sam2_client', '')}"
        return self.websocket_connect(path, headers={"host": HOST, "cookie": cookie})

    @staticmethod
    def done(response: Any) -> Any:
        """The answer of a request that must succeed."""
        assert response.status_code < 300, (response.status_code, response.text)
        return response.json()


@contextmanager
def serving(
    root: Path, limits: Limits | None = None, loader: Any = load, **settings: Any
) -> Iterator[Browser]:
    """A running studio and a browser."""
    app = create_app(Settings(root, limits=limits or Limits(), **settings), loader)
    with Browser(app, base_url=f"http://{HOST}") as browser:
        yield browser


def another(browser: Browser) -> Browser:
    """Another browser at the same studio."""
    return Browser(browser.app, base_url=f"http://{HOST}")


def disk_mask(width: int, height: int, radius: int) -> dict[str, Any]:
    """A painted mask on the wire."""
    from sam2.masks import rle

    y, x = np.mgrid[:height, :width]
    return dict(rle.encode((x - width / 2) ** 2 + (y - height / 2) ** 2 < radius**2))
