"""Passes of the studio that follow each object from near."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studio_helpers import Browser, make_media, serving
from tracking_helpers import mini_predictor

from sam2.close_tracker import CLOSE_OBJECTS, CloseTracker
from sam2.masks import rle
from sam2.studio.models import Model
from sam2.video import open_video

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_media(tmp_path / "root")


def load(name: str, _device: str | None) -> Model:
    """A miniature model that zooms."""
    return Model(name, mini_predictor(presence=8, zoom=True), "0" * 64)


@pytest.fixture
def browser(root: Path) -> Iterator[Browser]:
    with serving(root, loader=load) as browser:
        yield browser


def decoded(one: dict[str, Any]) -> np.ndarray:
    return rle.decode(one["mask"]).astype(bool)


def shown(browser: Browser, session: str) -> dict[tuple[int, int], np.ndarray]:
    """Masks by frame and object."""
    return {(t, o["id"]): decoded(o) for t, objects in browser.masks(session) for o in objects}


def test_a_pass_gives_what_the_close_tracker_gives(root: Path, browser: Browser) -> None:
    session = browser.open("clip.mp4")["id"]
    first = decoded(browser.click(session, [20, 18, 1], frame=2))
    browser.propagate(session, start=2, direction="both")
    found = shown(browser, session)
    predictor = load("mini", None).predictor
    with open_video(root / "clip.mp4") as video, CloseTracker(predictor, video) as tracker:
        tracker.prompt(2, 1, mask=first)
        alone = {r.frame_idx: r.masks[0].numpy() for r in tracker.propagate(2)}
        tracker.forget_tracked((2,))
        alone |= {r.frame_idx: r.masks[0].numpy() for r in tracker.propagate(2, reverse=True)}
    assert {frame for frame, _ in found} == set(alone) == set(range(8))
    for frame, mask in alone.items():
        if frame != 2:
            assert np.array_equal(found[frame, 1], mask), frame


def test_a_pass_goes_on_from_a_frame_without_a_prompt(browser: Browser) -> None:
    session = browser.open("clip.mp4")["id"]
    browser.click(session, [20, 18, 1])
    browser.propagate(session, frames=4)
    before = shown(browser, session)
    assert {frame for frame, _ in before} == set(range(5))
    browser.propagate(session, start=4)
    after = shown(browser, session)
    assert {frame for frame, _ in after} == set(range(8))
    for key, mask in before.items():
        assert np.array_equal(after[key], mask), key


def test_an_object_has_no_masks_before_its_first_prompt(browser: Browser) -> None:
    session = browser.open("clip.mp4")["id"]
    browser.click(session, [20, 18, 1])
    browser.done(browser.post(f"/api/sessions/{session}/objects", json={}))
    browser.click(session, [30, 20, 1], frame=5, obj=2)
    browser.propagate(session)
    assert sorted(frame for frame, obj in shown(browser, session) if obj == 2) == [5, 6, 7]


def test_lost_masks_are_computed_again(root: Path) -> None:
    with serving(root, loader=load) as browser:
        session = browser.open("clip.mp4")["id"]
        browser.click(session, [20, 18, 1])
        browser.propagate(session, frames=5)
        browser.click(session, [30, 30, 1], frame=3)
        browser.propagate(session, start=3, direction="both")
        browser.propagate(session, start=5, frames=1)
        masks, cookie = browser.masks(session), browser.cookies["sam2_client"]
    (root / ".sam2-studio" / "sessions" / session / "results.jsonl").unlink()
    with serving(root, loader=load) as browser:
        browser.cookies.set("sam2_client", cookie)
        browser.until(session, lambda state: not state["restoring"])
        assert browser.masks(session) == masks


def test_more_objects_are_followed_in_whole_frames_whatever_came_before(browser: Browser) -> None:
    session = browser.open("clip.mp4")["id"]
    browser.click(session, [20, 18, 1])
    browser.propagate(session)
    for obj in range(2, CLOSE_OBJECTS + 2):
        browser.done(browser.post(f"/api/sessions/{session}/objects", json={}))
        browser.click(session, [4 + 5 * obj, 14, 1], obj=obj)
    browser.propagate(session, start=2)
    found = shown(browser, session)
    assert {frame for frame, obj in found if obj == 1} == set(range(8))
    assert {frame for frame, obj in found if obj == CLOSE_OBJECTS + 1} == {0, *range(2, 8)}
    browser.click(session, [20, 18, 1], [30, 30, 0], frame=5)
    browser.propagate(session, start=5, direction="backward")
    marks = browser.done(browser.get(f"/api/sessions/{session}/marks"))
    assert marks["timeline"]
