"""Masks that are offered: under the pointer, and of everything in a picture."""

from __future__ import annotations

from browser_helpers import Tab, disc, iou

AT = (70, 80)


def test_a_preview_follows_the_pointer_and_changes_nothing(tab: Tab) -> None:
    tab.visit("disc.png")
    tab.page.wait_for_selector("#preparing", state="hidden")
    seen = """([x, y]) => { const canvas = document.getElementById("canvas");
        const box = canvas.getBoundingClientRect(); const ratio = canvas.width / box.width;
        return canvas.getContext("2d")
            .getImageData((x - box.left) * ratio, (y - box.top) * ratio, 1, 1).data[3] > 0; }"""
    beside = list(tab.place(AT[0] + 12, AT[1] + 6))
    assert not tab.page.evaluate(seen, beside)
    with tab.page.expect_response("**/preview"):
        tab.page.mouse.move(*tab.place(*AT))
    tab.page.wait_for_function(seen, arg=beside)
    tab.page.mouse.move(*tab.place(5, 5))
    tab.page.uncheck("#hover-shown")
    tab.page.wait_for_function(f"at => !({seen})(at)", arg=beside)
    assert tab.session()["prompts"] == []


def test_automatic_masks_are_found_and_a_click_keeps_one(tab: Tab) -> None:
    tab.visit("disc.png")
    tab.page.keyboard.press("a")
    tab.page.wait_for_selector("#auto-progress", state="hidden")
    found = tab.page.locator("#auto-list li").count()
    assert found >= 1
    tab.click(*AT)
    tab.masks(1)
    assert iou(tab.mask(0), disc(AT)) > 0.7
    (prompt,) = tab.session()["prompts"]
    assert prompt["mask"]
    assert not prompt["points"]
    assert tab.page.locator("#auto-list li").count() == found - 1
    tab.page.keyboard.press("Escape")
    tab.page.wait_for_selector("#auto", state="hidden")
    tab.page.keyboard.press("Control+z")
    tab.masks(0)


def test_automatic_masks_end_when_they_are_closed(tab: Tab) -> None:
    tab.visit("other.png")
    tab.page.keyboard.press("a")
    tab.page.wait_for_selector("#auto")
    tab.page.keyboard.press("Escape")
    tab.page.wait_for_selector("#auto", state="hidden")
    tab.page.wait_for_function(
        """async id => (await (await fetch(`/api/sessions/${id}/auto`)).json()).frame === null""",
        arg=tab.session()["id"],
    )
    tab.click(150, 60)
    tab.masks(1)
    assert tab.session()["prompts"][0]["points"], "a click is a click again"
