"""A clip in the page: two objects, tracking, scrubbing, correction, undo, export; the camera."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from browser_helpers import FRAMES, Tab, disc, iou, places

# pycocotools' own arrays do not know NumPy 2's copy keyword
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
MIDDLE = 3


def test_the_whole_way_of_a_clip(tab: Tab, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    tab.visit("clip.mp4")
    one, other = places(0)
    tab.click(*one)
    tab.masks(1)
    tab.page.keyboard.press("n")
    tab.click(*other)
    tab.masks(2)
    tab.track()
    for index, place in enumerate(places(FRAMES - 1)):
        assert iou(tab.mask(FRAMES - 1, index), disc(place)) > 0.6

    scrubbed = _scrub(tab)
    assert scrubbed[-1] == 0
    assert len(set(scrubbed)) >= 4

    tab.goto_frame(MIDDLE)
    tab.masks(2)
    before = tab.mask(FRAMES - 1, 1)
    tab.page.keyboard.press("p")
    x, y = places(MIDDLE)[1]
    tab.drag((x - 8, y + 40), (x + 8, y + 40))
    tab.masks(2)
    tab.page.wait_for_timeout(100)
    assert tab.mask(MIDDLE, 1)[int(y) + 40, int(x)]
    tab.track()
    assert not np.array_equal(tab.mask(FRAMES - 1, 1), before)
    tab.page.keyboard.press("Control+z")
    tab.page.keyboard.press("Control+z")
    tab.see("#stage[data-waiting='0']")
    tab.page.wait_for_function("() => document.getElementById('redo').disabled === false")
    tab.page.wait_for_timeout(300)
    assert np.array_equal(tab.mask(FRAMES - 1, 1), before)

    with av.open(str(tab.export("overlay", tmp_path))) as video:
        assert sum(1 for _ in video.decode(video=0)) == FRAMES
    coco = COCO(str(tab.export("coco", tmp_path)))
    assert len(coco.getAnnIds()) == 2 * FRAMES
    assert len(coco.getCatIds()) == 2


def _scrub(tab: Tab) -> list[int]:
    """Drags along the timeline from its end to its begin; the frames that were shown."""
    tab.page.evaluate("""() => { const canvas = document.getElementById("picture"); window.seen = [];
        new MutationObserver(() => seen.push(Number(canvas.dataset.frame)))
            .observe(canvas, { attributeFilter: ["data-frame"] }); }""")
    box = tab.page.locator("#thumbs").bounding_box()
    tab.page.mouse.move(box["x"] + box["width"] - 3, box["y"] + 20)
    tab.page.mouse.down()
    for step in range(20, -1, -1):
        tab.page.mouse.move(box["x"] + 3 + (box["width"] - 6) * step / 20, box["y"] + 20)
        tab.page.wait_for_timeout(40)
    tab.page.mouse.up()
    tab.see("#picture[data-frame='0']")
    return tab.page.evaluate("seen")


def test_the_camera_is_tracked(tab: Tab) -> None:
    tab.visit()
    tab.page.click("#live-start")
    tab.see("#picture[data-live]")
    box = tab.page.locator("#canvas").bounding_box()
    tab.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.see("#picture[data-masks='1']")
    tab.page.click("#live-stop")
    tab.page.wait_for_selector("#live-bar", state="hidden")
