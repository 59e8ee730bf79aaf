"""A picture in the page: click, refine, paint, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from browser_helpers import HEIGHT, WIDTH, Tab, disc, iou

if TYPE_CHECKING:
    from playwright.sync_api import APIResponse, Route

# pycocotools' own arrays do not know NumPy 2's copy keyword
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
AT = (70, 80)


def test_a_click_paints_the_object_and_the_export_reads_back(tab: Tab, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    tab.visit()
    tab.page.click("#welcome-open")
    tab.page.click("#browse-list >> text=disc.png")
    tab.see("#picture[data-frame='0']")
    inside, outside = tab.color(*AT), tab.color(200, 30)
    tab.click(*AT)
    tab.masks(1)
    assert np.abs(tab.color(*AT) - inside).max() > 40
    assert np.abs(tab.color(200, 30) - outside).max() < 8
    tab.click(AT[0] + 10, AT[1] + 8)
    tab.click(AT[0] - 45, AT[1], button="right")
    tab.masks(1)
    points = tab.session()["prompts"][0]["points"]
    assert points == [[70, 80, 1], [80, 88, 1], [25, 80, 0]]
    refined = tab.mask(0)
    assert iou(refined, disc(AT)) > 0.8

    path = tab.export("coco", tmp_path)
    coco = COCO(str(path))
    (annotation,) = coco.loadAnns(coco.getAnnIds())
    assert iou(coco.annToMask(annotation).astype(bool), refined) == 1


def test_undo_takes_a_click_back_and_redo_brings_it(tab: Tab) -> None:
    tab.visit("disc.png")
    tab.click(*AT)
    tab.masks(1)
    tab.page.keyboard.press("Control+z")
    tab.masks(0)
    tab.page.keyboard.press("Control+Shift+z")
    tab.masks(1)


def test_what_the_brush_paints_is_the_mask(tab: Tab) -> None:
    tab.visit("other.png")
    tab.page.keyboard.press("p")
    tab.drag((30, 30), (60, 30))
    tab.masks(1)
    painted = tab.mask(0)
    assert painted[30, 30:60].all()
    assert painted.sum() < 0.1 * WIDTH * HEIGHT
    tab.page.keyboard.press("e")
    tab.drag((45, 10), (45, 50))
    tab.settle()
    erased = tab.mask(0)
    assert not erased[20:40, 45].any()
    assert erased[30, 20]


def test_an_answer_that_comes_late_takes_no_mask_away(tab: Tab) -> None:
    late: list[tuple[Route, APIResponse]] = []
    is_held = True

    def hold(route: Route) -> None:
        if is_held:
            late.append((route, route.fetch()))
        else:
            route.continue_()

    tab.page.route("**/masks?first=*", hold)
    tab.visit("other.png")
    tab.page.keyboard.press("p")
    tab.page.wait_for_timeout(300)
    tab.drag((30, 30), (60, 30))
    tab.masks(1)
    assert late
    is_held = False
    for route, answer in late:
        route.fulfill(response=answer)
    tab.page.wait_for_timeout(300)
    tab.masks(1)
    tab.page.keyboard.press("e")
    tab.drag((45, 10), (45, 50))
    tab.settle()
    erased = tab.mask(0)
    assert not erased[20:40, 45].any()
    assert erased[30, 20]


def test_a_box_can_be_dragged_and_an_ambiguous_click_chosen_from(tab: Tab) -> None:
    tab.visit("disc.png")
    tab.click(*AT)
    tab.masks(1)
    if tab.page.is_visible("#choices"):
        tab.page.keyboard.press("3")
        tab.see(".choice:nth-child(3)[aria-pressed=true]")
        tab.masks(1)
        assert tab.session()["prompts"][0]["choice"] == 2
    tab.drag((AT[0] - 28, AT[1] - 28), (AT[0] + 28, AT[1] + 28))
    tab.masks(1)
    assert tab.session()["prompts"][0]["box"] == [42, 52, 99, 109]
    assert iou(tab.mask(0), disc(AT)) > 0.8


def test_the_page_reads_and_writes_runs_as_the_package_does(tab: Tab) -> None:
    from sam2.masks import rle

    tab.visit()
    generator = np.random.default_rng(0)
    masks = [generator.random((7, 5)) > limit for limit in (0, 0.3, 0.7, 1.1)]
    script = """async ([runs, size]) => {
        const rle = await import("/page/js/mask/rle.js");
        return runs.map((counts) => {
            const [h, w] = size;
            const bitmap = rle.bitmapOf({ size, counts }, w, h);
            const held = [...bitmap.keys()].map((i) => rle.holds({ size, counts }, i % w, Math.floor(i / w)));
            return { bitmap: [...bitmap], held, again: rle.runsOf(bitmap, w, h).counts,
                     area: rle.areaOf({ counts }) };
        }); }"""
    runs = [rle.encode(mask)["counts"] for mask in masks]
    for mask, counts, answer in zip(masks, runs, tab.page.evaluate(script, [runs, [7, 5]]), strict=True):
        assert np.array_equal(np.array(answer["bitmap"]).reshape(7, 5), mask)
        assert answer["again"] == json.loads(json.dumps(counts))
        assert answer["area"] == mask.sum()
        assert np.array_equal(np.array(answer["held"]).reshape(7, 5), mask)


def test_next_previous_and_done_in_a_folder(tab: Tab) -> None:
    tab.visit("disc.png")
    tab.page.click("#done")
    tab.see("#done[aria-pressed=true]")
    tab.page.focus("#canvas")
    tab.page.keyboard.press("PageDown")
    tab.page.wait_for_function("() => document.getElementById('name').textContent === 'other.png'")
    tab.page.keyboard.press("PageUp")
    tab.page.wait_for_function("() => document.getElementById('name').textContent === 'disc.png'")
    tab.see("#done[aria-pressed=true]")
