"""Faults of machine and network: a full disk, a medium that changes, a camera faster than the model."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from studio_helpers import Browser, make_media, serving
from tracking_helpers import HEIGHT, WIDTH, clip

from sam2.studio import exports, live
from sam2.studio.engine import Bench
from sam2.studio.eventlog import EventLog
from sam2.studio.settings import Limits
from sam2.studio.state import State
from sam2.video import VideoSink

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_media(tmp_path / "root")


@pytest.fixture
def browser(root: Path) -> Iterator[Browser]:
    with serving(root) as browser:
        yield browser


def test_a_full_disk_refuses_an_edit_and_loses_nothing(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = browser.open("picture.png")["id"]
    browser.click(session, [20, 18, 1])
    state, masks = browser.state(session), browser.masks(session)

    def full(*_args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(EventLog, "append", full)
        answer = browser.put(f"/api/sessions/{session}/prompts/0/1", json={"points": [[4, 4, 1]]})
        assert answer.status_code == 409
        assert "disk is full" in answer.json()["detail"]
    assert browser.state(session) == state
    assert browser.masks(session) == masks
    browser.click(session, [4, 4, 1])


def test_a_full_disk_fails_an_export_with_a_message(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = browser.open("clip.mp4")["id"]
    browser.click(session, [20, 18, 1])

    def full(*_args: Any, **_options: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(exports, "export", full)
        job = browser.exported(session, "davis")
    assert job["state"] == "failed"
    assert "space" in job["detail"]
    assert browser.get(f"/api/exports/{job['id']}/file").status_code == 404
    assert browser.exported(session, "davis")["state"] == "done"


def test_an_export_is_cancelled(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    session = browser.open("clip.mp4")["id"]
    browser.click(session, [20, 18, 1])
    begun, go = threading.Event(), threading.Event()
    real = exports._source

    def slow(*args: Any) -> Any:
        begun.set()
        go.wait(10)
        return real(*args)

    monkeypatch.setattr(exports, "_source", slow)
    job = browser.done(browser.post(f"/api/sessions/{session}/exports", json={"format": "overlay"}))["id"]
    assert begun.wait(10)
    assert browser.delete(f"/api/exports/{job}").status_code == 204
    go.set()
    assert browser.get(f"/api/exports/{job}").status_code == 404


def test_a_medium_that_changed_or_went_is_told_of(browser: Browser, root: Path) -> None:
    session = browser.open("picture.png")["id"]
    Image.new("RGB", (20, 20)).save(root / "picture.png")
    answer = browser.put(f"/api/sessions/{session}/prompts/0/1", json={"points": [[4, 4, 1]]})
    if answer.status_code != 200:  # else the frame was prepared before
        assert "is not the file it was" in answer.json()["detail"]
    (root / "photos" / "1.jpg").unlink()
    assert browser.post("/api/sessions", json={"path": "photos/1.jpg"}).status_code == 404


def test_odd_videos(browser: Browser, root: Path) -> None:
    """One frame, portrait, a folder of frames, and times that are uneven."""
    frames = clip(4)
    with VideoSink(root / "one.mp4", fps=10) as sink:
        sink.write(frames[0])
    with VideoSink(root / "tall.mp4", fps=10) as sink:
        for frame in frames:
            sink.write(np.ascontiguousarray(frame.transpose(1, 0, 2)))
    with VideoSink(root / "uneven.mp4", timestamps=[0.0, 0.1, 0.5, 0.6]) as sink:
        for frame in frames:
            sink.write(frame)
    for path, size, count in (
        ("one.mp4", (WIDTH, HEIGHT), 1),
        ("tall.mp4", (HEIGHT, WIDTH), 4),
        ("uneven.mp4", (WIDTH, HEIGHT), 4),
        ("photos", (WIDTH, HEIGHT), 2),
    ):
        session = browser.open(path)
        assert session["kind"] == "video"
        assert (session["width"], session["height"], session["frames"]) == (*size, count)
        browser.click(session["id"], [18, 18, 1])
        assert browser.propagate(session["id"])["masked"] == [[0, count - 1]]
        picture = browser.get(f"/api/sessions/{session['id']}/frames/0.jpg?width=16")
        assert Image.open(io.BytesIO(picture.content)).width == 16


def test_a_video_of_ten_bits_and_hdr_is_shown_tracked_and_exported(browser: Browser, root: Path) -> None:
    # not by libx265, which writes beyond its buffers where frames are small
    with av.open(str(root / "hdr.mp4"), "w") as container:
        options = {"x264-params": "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"}
        stream = container.add_stream("libx264", rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p10le"
        for picture in clip(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    session = browser.open("hdr.mp4")
    assert (session["width"], session["height"], session["frames"]) == (WIDTH, HEIGHT, 4)
    answer = browser.get(f"/api/sessions/{session['id']}/frames/3.jpg")
    shown = np.asarray(Image.open(io.BytesIO(answer.content)), dtype=float)
    assert np.corrcoef(shown.ravel(), clip(4)[3].ravel().astype(float))[0, 1] > 0.9
    browser.click(session["id"], [18, 18, 1])
    assert browser.propagate(session["id"])["masked"] == [[0, 3]]
    assert browser.exported(session["id"], "overlay")["state"] == "done"


def test_a_camera_faster_than_the_model_has_pictures_dropped(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = []
    for frame in clip(6):
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG")
        pictures.append(file.getvalue())
    real, taken = live.LiveTracker.step, []

    def slow(self: Any, picture: bytes) -> Any:
        taken.append(picture)
        time.sleep(0.2)
        return real(self, picture)

    monkeypatch.setattr(live.LiveTracker, "step", slow)
    with browser.socket("/api/live") as camera:
        camera.send_bytes(pictures[0])
        assert camera.receive_json() == {"type": "masks", "seq": 0, "objects": []}
        camera.send_json({"type": "prompt", "object": 3, "points": [[20, 18, 1]]})
        assert camera.receive_json()["objects"][0]["id"] == 3
        for picture in pictures * 20:
            camera.send_bytes(picture)
        assert camera.receive_json()["objects"][0]["mask"]["size"] == [HEIGHT, WIDTH]
        while taken[-1] != pictures[-1] or len(taken) < 3:
            camera.receive_json()
        assert len(taken) < 30, "only the newest picture waits"
        for bad in (b"no picture", b""):
            camera.send_bytes(bad)
            assert camera.receive_json()["type"] in ("error", "masks")
        camera.send_json({"type": "dance"})
        while camera.receive_json()["type"] != "error":
            pass


def test_objects_have_a_bound(root: Path) -> None:

    with serving(root, Limits(objects=2, sessions=1)) as browser:
        session = browser.open("picture.png")["id"]
        browser.done(browser.post(f"/api/sessions/{session}/objects", json={}))
        assert browser.post(f"/api/sessions/{session}/objects", json={}).status_code == 422
        assert browser.post("/api/sessions", json={"path": "clip.mp4"}).status_code == 422
        assert browser.delete(f"/api/sessions/{session}").status_code == 204
        assert browser.get(f"/api/sessions/{session}").status_code == 404
        assert not (root / ".sam2-studio" / "sessions" / session).exists()
        browser.done(browser.post("/api/sessions", json={"path": "clip.mp4"}))


def test_a_pass_that_breaks_off_says_so(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    session = browser.open("clip.mp4")["id"]
    browser.click(session, [20, 18, 1])

    def broken(*_args: Any) -> Any:
        raise RuntimeError("out of everything")

    with browser.events(session) as tab, monkeypatch.context() as patched:
        patched.setattr(Bench, "track", broken)
        browser.propagate(session)
        while (event := tab.receive_json())["type"] != "error":
            pass
    assert "out of everything" in event["detail"]
    assert "out of everything" in caplog.text
    browser.propagate(session)
    assert len(browser.masks(session)) == 8


def test_where_no_pass_is_told_of_all_that_it_found_is_told(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = browser.open("clip.mp4")["id"]
    before = browser.click(name, [20, 18, 1])["revision"]
    studio = browser.app.state.studio  # type: ignore[attr-defined]
    (session,) = studio._store.in_memory()
    described, here, begun = State.to_json, threading.current_thread(), []

    def while_a_pass_begins(self: State) -> dict[str, Any]:
        if threading.current_thread() is here and not begun:
            begun.append(True)
            session.begin(0, "forward", None)
        return described(self)

    with monkeypatch.context() as patched:
        patched.setattr(State, "to_json", while_a_pass_begins)
        state = session.to_json()
    assert state["revision"] > before
    assert state["job"] is not None
