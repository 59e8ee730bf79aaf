"""The studio's main path: open, click, refine, propagate, correct, undo, export; the same after a kill."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from studio_helpers import Browser, another, disk_mask, make_media, serving
from tracking_helpers import HEIGHT, WIDTH

from sam2.masks import rle
from sam2.studio.settings import Limits

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_media(tmp_path_factory.mktemp("media"))


@pytest.fixture
def root(media: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(media, tmp_path / "root"))


@pytest.fixture
def browser(root: Path) -> Iterator[Browser]:
    with serving(root) as browser:
        yield browser


def test_a_picture_from_click_to_export(browser: Browser) -> None:
    session = browser.open("picture.png")
    assert (session["kind"], session["width"], session["height"]) == ("picture", WIDTH, HEIGHT)
    first = browser.click(session["id"], [20, 18, 1])
    assert first["mask"]["size"] == [HEIGHT, WIDTH]
    assert sum(first["mask"]["counts"]) == HEIGHT * WIDTH
    assert len(first["choices"]) == 3
    refined = browser.click(session["id"], [20, 18, 1], [5, 5, 0])
    assert refined["mask"] != first["mask"]
    assert refined["revision"] > first["revision"]
    assert not refined["choices"]
    job = browser.exported(session["id"], "coco")
    assert (job["state"], job["progress"]) == ("done", 1.0)
    file = browser.get(f"/api/exports/{job['id']}/file")
    annotation = json.loads(file.content)["annotations"][0]
    assert annotation["area"] == rle.area(refined["mask"])


def test_a_choice_among_the_masks_offered_is_kept_by_the_next_click(browser: Browser) -> None:
    session = browser.open("picture.png")["id"]
    offered = browser.click(session, [20, 18, 1])["choices"]
    for number in (2, 0):
        asked = {"points": [[20, 18, 1]], "choice": number}
        chosen = browser.done(browser.put(f"/api/sessions/{session}/prompts/0/1", json=asked))
        assert chosen["mask"] == offered[number]["mask"]
    assert browser.click(session, [20, 18, 1])["choices"] == offered, "the same prompt gives the same answer"


def test_a_painted_mask_is_taken_as_it_is(browser: Browser) -> None:
    session = browser.open("picture.png")["id"]
    painted = disk_mask(WIDTH, HEIGHT, 12)
    answer = browser.done(browser.put(f"/api/sessions/{session}/prompts/0/1", json={"mask": painted}))
    wanted, got = rle.decode(painted), rle.decode(answer["mask"])
    assert (wanted & got).sum() / (wanted | got).sum() > 0.85
    asked = {"mask": painted, "points": [[24, 18, 1]]}
    browser.done(browser.put(f"/api/sessions/{session}/prompts/0/1", json=asked))
    assert browser.state(session)["prompts"][0]["mask"]


def test_a_clip_propagated_corrected_and_undone(browser: Browser) -> None:
    session = browser.open("clip.mp4")["id"]
    browser.done(browser.post(f"/api/sessions/{session}/objects", json={"name": "cup", "color": "#00ff00"}))
    browser.click(session, [20, 18, 1])
    browser.click(session, [40, 10, 1], obj=2)
    assert browser.propagate(session)["masked"] == [[0, 7]]
    before = browser.masks(session)
    assert [len(objects) for _, objects in before] == [2] * 8

    corrected = browser.click(session, [30, 30, 1], frame=4)
    assert corrected["mask"] != before[4][1][0]["mask"]
    browser.propagate(session, start=4)
    after = browser.masks(session)
    assert after[:4] == before[:4]
    assert after[4][1][0]["mask"] == corrected["mask"], "the correction stands"
    assert [a[1][0] for a in after[5:]] != [b[1][0] for b in before[5:]]

    for _ in range(2):
        browser.done(browser.post(f"/api/sessions/{session}/undo"))
    assert browser.masks(session) == before
    for _ in range(2):
        browser.done(browser.post(f"/api/sessions/{session}/redo"))
    assert browser.masks(session) == after
    marks = browser.done(browser.get(f"/api/sessions/{session}/marks"))
    assert len(marks["timeline"]) == 16
    assert {one["frame"] for one in marks["disagreement"]} <= {5, 6, 7}


def test_propagation_backwards_and_both_ways(browser: Browser) -> None:
    session = browser.open("clip.mp4")["id"]
    browser.click(session, [20, 18, 1], frame=4)
    assert browser.propagate(session, start=4, direction="backward", frames=2)["masked"] == [[2, 4]]
    assert browser.propagate(session, start=4, direction="both")["masked"] == [[0, 7]]


def test_undo_has_no_end_and_takes_an_object_back_with_its_first_click(browser: Browser) -> None:
    session = browser.open("picture.png")["id"]
    for x in range(2, 44):
        browser.click(session, [x, 18, 1])
    for _ in range(41):
        browser.done(browser.post(f"/api/sessions/{session}/undo"))
    assert browser.state(session)["prompts"][0]["points"] == [[2, 18, 1]]
    assert browser.done(browser.post(f"/api/sessions/{session}/undo"))["objects"] == []
    assert not browser.state(session)["can_undo"]
    assert browser.done(browser.post(f"/api/sessions/{session}/undo"))["objects"] == [], "nothing to undo"


def edited(browser: Browser) -> str:
    """A clip with two objects, a propagation, a correction, another propagation and an undo."""
    session: str = browser.open("clip.mp4")["id"]
    browser.done(browser.post(f"/api/sessions/{session}/objects", json={}))
    browser.click(session, [20, 18, 1])
    browser.click(session, [20, 18, 1], [4, 4, 0])
    browser.click(session, [40, 10, 1], obj=2)
    browser.propagate(session, frames=5)
    browser.click(session, [30, 30, 1], frame=3)
    browser.propagate(session, start=3, direction="both")
    browser.click(session, [8, 8, 1], frame=6, obj=2)
    browser.done(browser.post(f"/api/sessions/{session}/undo"))
    browser.done(browser.patch(f"/api/sessions/{session}/objects/2", json={"name": "cup", "opacity": 0.2}))
    browser.done(browser.patch(f"/api/sessions/{session}", json={"done": True}))
    return session


def without_weather(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key not in ("ready", "restoring")}


@pytest.mark.parametrize("lost", ["nothing", "results.jsonl", "results.bin", "part", "torn"])
def test_a_restart_shows_the_same_session_and_a_replay_gives_the_same_masks(root: Path, lost: str) -> None:
    with serving(root) as browser:
        session = edited(browser)
        state, masks = browser.state(session), browser.masks(session)
        cookie = browser.cookies["sam2_client"]
        folder = root / ".sam2-studio" / "sessions" / session
        kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    # what a kill leaves is what lay on the disk at that moment
    for name, content in kept.items():
        (folder / name).write_bytes(content)
    if lost.startswith("results"):
        (folder / lost).unlink()
    elif lost == "part":
        os.truncate(folder / "results.bin", len(kept["results.bin"]) // 2)
    elif lost == "torn":
        (folder / "log.jsonl").write_bytes(kept["log.jsonl"] + b'12345678 {"seq": 99, "type": "und')
    with serving(root) as browser:
        browser.cookies.set("sam2_client", cookie)
        found = browser.until(session, lambda state: not state["restoring"])
        assert without_weather(found) == without_weather(state)
        assert browser.masks(session) == masks
        assert browser.open("clip.mp4")["id"] == session, "opened again, it is the same session"
        redone = browser.done(browser.post(f"/api/sessions/{session}/redo"))
        assert len(redone["prompts"]) == len(state["prompts"]) + 1


def test_a_session_goes_on_after_a_restart_as_it_would_have_without(root: Path, tmp_path: Path) -> None:
    apart = Path(shutil.copytree(root, tmp_path / "apart"))
    with serving(root) as browser:
        session = edited(browser)
        browser.click(session, [10, 30, 1], frame=5)
        browser.propagate(session, start=5)
        wanted = browser.masks(session)
    with serving(apart) as browser:
        session = edited(browser)
        cookie = browser.cookies["sam2_client"]
    with serving(apart) as browser:
        browser.cookies.set("sam2_client", cookie)
        browser.click(session, [10, 30, 1], frame=5)
        browser.propagate(session, start=5)
        assert browser.masks(session) == wanted


def test_another_browser_sees_nothing_of_a_session(browser: Browser) -> None:
    session = browser.open("picture.png")["id"]
    browser.click(session, [20, 18, 1])
    job = browser.exported(session, "coco")["id"]
    stranger = another(browser)
    assert stranger.get("/api/sessions").json() == []
    for path in (
        f"sessions/{session}",
        f"sessions/{session}/masks/0",
        f"exports/{job}",
        f"exports/{job}/file",
    ):
        assert stranger.get(f"/api/{path}").status_code == 404, path
    assert stranger.put(f"/api/sessions/{session}/prompts/0/1", json={}).status_code == 404
    assert stranger.delete(f"/api/sessions/{session}").status_code == 404
    assert stranger.open("picture.png")["id"] != session


def test_two_tabs_hear_of_one_another_and_propagation_goes_on_without_any(browser: Browser) -> None:
    session = browser.open("clip.mp4")["id"]
    with browser.events(session) as one, browser.events(session) as other:
        revision = browser.click(session, [20, 18, 1])["revision"]
        for tab in (one, other):
            while (event := tab.receive_json())["session"]["revision"] < revision:
                pass
            assert event["session"]["prompts"]
        browser.done(browser.post(f"/api/sessions/{session}/propagate", json={"start": 0}))
        while (event := one.receive_json())["type"] != "masks":
            pass
        assert event["objects"][0]["mask"]["size"] == [HEIGHT, WIDTH]
    assert browser.until(session, lambda state: state["job"] is None)["masked"] == [[0, 7]]


def test_cancel_keeps_what_was_found(browser: Browser) -> None:
    session = browser.open("clip.mp4")["id"]
    browser.click(session, [20, 18, 1])
    browser.done(browser.post(f"/api/sessions/{session}/propagate", json={"start": 0}))
    state = browser.done(browser.post(f"/api/sessions/{session}/cancel"))
    assert state["job"] is None
    assert browser.state(session)["masked"] == state["masked"], "no frame after the answer"


def test_an_edit_stops_a_propagation(browser: Browser) -> None:
    session = browser.open("clip.mp4")["id"]
    browser.click(session, [20, 18, 1])
    browser.done(browser.post(f"/api/sessions/{session}/propagate", json={"start": 0}))
    browser.click(session, [20, 18, 1], [4, 4, 0])
    assert browser.state(session)["job"] is None


def test_automatic_masks_come_in_parts_and_one_is_kept(browser: Browser) -> None:
    session = browser.open("picture.png")["id"]
    with browser.events(session) as tab:
        browser.done(browser.post(f"/api/sessions/{session}/auto", json={"frame": 0}))
        candidates, shares = [], [0.0]
        while shares[-1] < 1:
            if (event := tab.receive_json())["type"] == "auto":
                candidates += event["candidates"]
                shares.append(event["done"] / event["total"])
        assert shares == sorted(shares)
        assert len(shares) > 8, "others get their turn in between"
    found = browser.done(browser.get(f"/api/sessions/{session}/auto"))
    assert found == {"frame": 0, "candidates": candidates}
    assert browser.state(session)["revision"] == 2, "only opening, the object and the model are logged"


def test_preview_changes_nothing(browser: Browser) -> None:
    session = browser.open("picture.png")["id"]
    asked = {"frame": 0, "points": [[20, 18, 1]]}
    seen = browser.done(browser.post(f"/api/sessions/{session}/preview", json=asked))
    state = browser.state(session)
    assert (state["prompts"], state["masked"]) == ([], [])
    assert seen["mask"] == browser.click(session, [20, 18, 1])["mask"]


def test_idle_sessions_let_features_go(root: Path) -> None:
    with serving(root, Limits(idle_seconds=0.0)) as browser:
        session = browser.open("picture.png")["id"]
        first = browser.click(session, [20, 18, 1])
        browser.until(session, lambda state: not state["ready"])
        assert browser.click(session, [20, 18, 1])["mask"] == first["mask"]


def test_a_model_that_does_not_load_says_so(root: Path) -> None:
    def broken(name: str, device: str | None) -> Any:
        raise ValueError("weights are damaged: copy the file again")

    with serving(root, loader=broken) as browser:
        session = browser.open("picture.png")["id"]
        answer = browser.put(f"/api/sessions/{session}/prompts/0/1", json={"points": [[1, 1, 1]]})
        assert answer.status_code == 422
        assert "copy the file again" in answer.json()["detail"]
        assert browser.get(f"/api/sessions/{session}/frames/0.jpg").status_code == 200
        assert not browser.get("/api/info").json()["models"][0]["available"]


def test_hidden_objects_are_not_exported(browser: Browser) -> None:
    session = browser.open("clip.mp4")["id"]
    browser.click(session, [20, 18, 1])
    browser.propagate(session, frames=2)
    assert browser.exported(session, "overlay")["name"] == "clip-overlay.mp4"
    browser.done(browser.patch(f"/api/sessions/{session}/objects/1", json={"visible": False}))
    answer = browser.post(f"/api/sessions/{session}/exports", json={"format": "coco"})
    assert answer.status_code == 422
