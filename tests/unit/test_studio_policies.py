"""The choice of memories, and what is said of masks whose weights are no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from studio_helpers import Browser, load, make_media, serving
from tracking_helpers import mini_predictor

from sam2.memory.named import POLICY_NAMES
from sam2.studio.models import Model
from sam2.studio.replay import Rerun
from sam2.studio.state import CHANGED, POLICIES, REPLAYED

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_media(tmp_path / "root", frames=10)


def tracked(browser: Browser, policy: str) -> str:
    """A clip tracked with a policy, corrected, and tracked again."""
    session: str = browser.open("clip.mp4")["id"]
    browser.done(browser.patch(f"/api/sessions/{session}", json={"policy": policy}))
    browser.click(session, [20, 18, 1])
    browser.propagate(session)
    browser.click(session, [30, 30, 1], frame=5)
    browser.propagate(session, start=5, direction="both", frames=3)
    return session


def lose(root: Path, session: str, *names: str) -> None:
    for name in names or ("results.jsonl",):
        (root / ".sam2-studio" / "sessions" / session / name).unlink()


def test_the_policies_are_those_of_the_package() -> None:
    assert POLICIES == POLICY_NAMES


@pytest.mark.parametrize("policy", ["stride", "motion", "distractor", "tree"])
def test_a_policy_is_kept_and_replayed(root: Path, policy: str) -> None:
    with serving(root) as browser:
        assert policy in browser.get("/api/info").json()["policies"]
        session = tracked(browser, policy)
        state, masks = browser.state(session), browser.masks(session)
        assert state["policy"] == policy
        assert state["masked"] == [[0, 9]]
        cookie = browser.cookies["sam2_client"]
    lose(root, session)
    with serving(root) as browser:
        browser.cookies.set("sam2_client", cookie)
        again = browser.until(session, lambda state: not state["restoring"])
        assert browser.masks(session) == masks
        assert (again["policy"], again["notes"]) == (policy, [])


def test_a_tree_that_changes_its_mind_gives_earlier_frames_again(root: Path) -> None:
    with serving(root) as browser:
        session = browser.open("clip.mp4")["id"]
        browser.done(browser.patch(f"/api/sessions/{session}", json={"policy": "tree"}))
        browser.click(session, [20, 18, 1])
        with browser.events(session) as tab:
            browser.done(browser.post(f"/api/sessions/{session}/propagate", json={"start": 0}))
            seen, done = [], [0]
            while done[-1] < 10:
                event = tab.receive_json()
                if event["type"] == "masks":
                    seen.append((event["frame"], event["again"]))
                if event["type"] == "progress":
                    done.append(event["done"])
        firsts = [frame for frame, again in seen if not again]
        assert firsts == sorted(set(firsts))
        assert done == sorted(done)
        assert max(done) == 10


def test_a_rerun_gives_each_step_to_its_event() -> None:
    def steps(*frames: tuple[int, Any]) -> Any:
        return iter([(frame, False, {1: result}) for frame, result in frames])

    logged = [(0, "a"), (1, "b"), (0, "c"), (2, "d")]
    same = Rerun(steps(*logged))
    assert [same.results(frame)[1] for frame, _ in logged] == ["a", "b", "c", "d"]
    other = Rerun(steps((0, "A"), (1, "B"), (2, "D")))
    assert [other.results(frame)[1] for frame, _ in logged] == ["A", "B", "A", "D"]


def test_an_unknown_policy_is_refused(root: Path) -> None:
    with serving(root) as browser:
        session = browser.open("clip.mp4")["id"]
        answer = browser.patch(f"/api/sessions/{session}", json={"policy": "best"})
        assert answer.status_code == 422
        assert "motion" in answer.json()["detail"]


def other_weights(name: str, _device: str | None) -> Model:
    predictor = mini_predictor()
    with torch.no_grad():
        for weight in predictor.sam_mask_decoder.parameters():
            weight.mul_(1.3)
    return Model(name, predictor, "1" * 64)


def test_masks_that_cannot_be_computed_again_are_told_of(root: Path) -> None:
    def broken(name: str, _device: str | None) -> Model:
        raise ValueError("weights are damaged")

    with serving(root) as browser:
        session = browser.open("clip.mp4")["id"]
        browser.click(session, [20, 18, 1])
        cookie = browser.cookies["sam2_client"]
    lose(root, session)
    with serving(root, loader=broken) as browser:
        browser.cookies.set("sam2_client", cookie)
        state = browser.until(session, lambda state: not state["restoring"])
        assert "weights are damaged" in state["fault"]


@pytest.mark.parametrize("lost", [True, False])
def test_other_weights_are_told_of(root: Path, lost: bool) -> None:
    with serving(root) as browser:
        session = tracked(browser, "fifo")
        masks = browser.masks(session)
        cookie = browser.cookies["sam2_client"]
    if lost:
        lose(root, session)
    with serving(root, loader=other_weights) as browser:
        browser.cookies.set("sam2_client", cookie)
        state = browser.until(session, lambda state: not state["restoring"])
        assert state["notes"] == ([REPLAYED] if lost else [])
        assert (browser.masks(session) == masks) == (not lost)
        browser.click(session, [8, 8, 1], frame=9)
        wanted = [REPLAYED] if lost else [CHANGED]
        assert browser.state(session)["notes"] == wanted
    with serving(root, loader=load) as browser:
        browser.cookies.set("sam2_client", cookie)
        assert browser.state(session)["notes"] == wanted, "it is a part of the log"
