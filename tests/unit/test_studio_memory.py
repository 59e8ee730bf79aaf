"""What a studio keeps, in memory and on the disk: no more than is needed, and nothing is lost by it."""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from studio_helpers import Browser, another, make_media, serving

from sam2.studio import eventlog, studio
from sam2.studio.eventlog import EventLog
from sam2.studio.settings import Limits
from sam2.studio.state import State

pytestmark = pytest.mark.usefixtures("one_thread")

HEAVY = {"Session", "Document", "Track", "Result", "Bench", "ContainerReader", "FrameFeatures", "MemoryEntry"}
"""Kinds that hold a session's state, its medium, or what the model made of it."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_media(tmp_path / "root")


def living() -> Counter[str]:
    gc.collect()
    return Counter(name for one in gc.get_objects() if (name := type(one).__name__) in HEAVY)


def settled(condition: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def the_studio(browser: Browser) -> studio.Studio:
    found: studio.Studio = browser.app.state.studio  # type: ignore[attr-defined]
    return found


def in_memory(browser: Browser) -> int:
    return len(the_studio(browser)._store.in_memory())


def work(browser: Browser) -> tuple[str, object]:
    """A clip with an object, tracked; its masks."""
    session = browser.open("clip.mp4")["id"]
    browser.click(session, [20, 18, 1])
    browser.propagate(session)
    assert browser.exported(session, "coco")["state"] == "done"
    return session, browser.masks(session)


def test_many_clients_leave_nothing_behind_and_find_everything_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studio, "SWEEP", 0.05)
    with serving(root, Limits(idle_seconds=0.2)) as browser:
        assert settled(lambda: in_memory(browser) == 0)
        before = living()
        clients = [another(browser) for _ in range(2)]
        found = [work(client) for client in clients]
        assert settled(lambda: in_memory(browser) == 0)
        assert not living() - before
        for client, (session, masks) in zip(clients, found, strict=True):
            assert client.masks(session) == masks
            assert client.open("clip.mp4")["id"] == session
            state = client.done(client.post(f"/api/sessions/{session}/undo"))
            assert state["masked"] == [[0, 0]]


def test_no_more_sessions_are_held_than_the_limit(root: Path) -> None:
    with serving(root, Limits(held_sessions=2)) as browser:
        for path in ("picture.png", "photos/1.jpg", "photos/2.jpg", "photos"):
            session = browser.open(path)["id"]
            browser.click(session, [20, 18, 1])
        one = the_studio(browser)
        for held in one._store.in_memory():
            one.scheduler.request("test", held.sleep).result()
        one.scheduler.request("test", one._sweep).result()
        assert in_memory(browser) == 2
        assert len(browser.get("/api/sessions").json()) == 4


def test_a_session_that_a_page_shows_stays_the_same_one(root: Path) -> None:
    with serving(root, Limits(idle_seconds=0.0)) as browser:
        session = browser.open("picture.png")["id"]
        with browser.events(session) as tab:
            browser.click(session, [20, 18, 1])
            one = the_studio(browser)
            one.scheduler.request("test", one._sweep).result()
            revision = browser.click(session, [4, 4, 1])["revision"]
            while (event := tab.receive_json())["session"]["revision"] < revision:
                pass
            assert event["session"]["prompts"][0]["points"] == [[4, 4, 1]]


def test_done_marks_are_known_without_the_sessions(root: Path) -> None:
    with serving(root, Limits(idle_seconds=0.0)) as browser:
        session = browser.open("picture.png")["id"]
        browser.done(browser.patch(f"/api/sessions/{session}", json={"done": True}))
        cookie = browser.cookies["sam2_client"]
        assert settled(lambda: in_memory(browser) == 0)
        entries = browser.done(browser.get("/api/browse"))["entries"]
        assert [one["path"] for one in entries if one["done"]] == ["picture.png"]
        assert in_memory(browser) == 0
    with serving(root) as browser:
        browser.cookies.set("sam2_client", cookie)
        entries = browser.done(browser.get("/api/browse"))["entries"]
        assert [one["path"] for one in entries if one["done"]] == ["picture.png"]


def wasted(browser: Browser) -> tuple[str, Path]:
    """A session of which most was done and undone again; its folder."""
    session = browser.open("clip.mp4")["id"]
    browser.click(session, [20, 18, 1])
    for start in range(4):
        browser.propagate(session, start=start)
        browser.done(browser.post(f"/api/sessions/{session}/undo"))
    browser.propagate(session, frames=2)
    root = the_studio(browser).settings.folder
    return session, root / "sessions" / session


@pytest.mark.parametrize("killed", ["never", "before the swap", "after the swap", "disk full"])
def test_results_are_compacted_when_most_of_them_are_dead(
    root: Path, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    with serving(root) as browser:
        session, folder = wasted(browser)
        browser.click(session, [30, 30, 1], frame=1)
        browser.done(browser.post(f"/api/sessions/{session}/undo"))
        masks = browser.masks(session)
        cookie = browser.cookies["sam2_client"]
        size = (folder / "results.bin").stat().st_size
    monkeypatch.setattr(eventlog, "COMPACT", 1)
    with monkeypatch.context() as patched:
        if killed == "before the swap":
            patched.setattr(os, "replace", killer)
        elif killed == "after the swap":
            patched.setattr(Path, "unlink", killer)
        elif killed == "disk full":
            patched.setattr(os, "replace", full)
        if killed in ("before the swap", "after the swap"):
            with pytest.raises(KeyboardInterrupt):
                State(EventLog(folder))
            patched.undo()
            monkeypatch.setattr(eventlog, "COMPACT", 2**60)
        with serving(root) as browser:
            browser.cookies.set("sam2_client", cookie)
            state = browser.state(session)
            assert not state["restoring"], "nothing is computed again"
            assert browser.masks(session) == masks
            (left,) = folder.glob("results*.bin")
            assert (left.stat().st_size < size / 2) == (killed in ("never", "after the swap"))
            redone = browser.done(browser.post(f"/api/sessions/{session}/redo"))
            assert [prompt["frame"] for prompt in redone["prompts"]] == [0, 1]
            assert browser.propagate(session, start=1)["masked"] == [[0, 7]]
            assert not list(folder.glob("*.part"))
    with serving(root) as browser:
        browser.cookies.set("sam2_client", cookie)
        assert browser.state(session)["masked"] == [[0, 7]]


def killer(*_args: object, **_options: object) -> None:
    raise KeyboardInterrupt


def full(*_args: object) -> None:
    raise OSError(28, "No space left on device")
