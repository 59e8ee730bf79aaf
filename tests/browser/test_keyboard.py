"""The main path without a pointer."""

from __future__ import annotations

from browser_helpers import Tab, disc, iou


def test_open_click_refine_and_export_by_keyboard_alone(tab: Tab) -> None:
    tab.visit()
    press = tab.page.keyboard.press
    press("Control+o")
    tab.page.wait_for_function("() => document.activeElement.closest('#browse-list') !== null")
    while "disc.png" not in tab.page.evaluate("document.activeElement.textContent"):
        press("Tab")
    press("Enter")
    tab.see("#picture[data-frame='0']")
    tab.page.wait_for_function("() => document.activeElement.id === 'canvas'")
    for _ in range(60):
        press("Alt+ArrowLeft")
    for _ in range(10):
        press("Alt+ArrowUp")
    press("Alt+ArrowDown")
    press("Enter")
    tab.masks(1)
    (x, y, positive) = tab.session()["prompts"][0]["points"][0]
    assert positive == 1
    assert disc((70, 80))[y, x]
    for _ in range(3):
        press("Shift+ArrowRight")
    press("Shift+Enter")
    tab.masks(1)
    assert [point[2] for point in tab.session()["prompts"][0]["points"]] == [1, 0]
    assert iou(tab.mask(0), disc((70, 80))) > 0.5
    press("b")
    press("Enter")
    press("Enter")  # a box without an area asks nothing
    press("c")
    tab.page.wait_for_timeout(100)
    assert len(tab.session()["prompts"][0]["points"]) == 2
    press("Backspace")
    tab.page.wait_for_function("() => document.getElementById('stage').dataset.waiting === '0'")
    press("s")
    tab.page.wait_for_selector("#export-dialog[open]")
    while tab.page.evaluate("document.activeElement.type") != "submit":
        press("Tab")
    press("Enter")
    tab.page.wait_for_selector(".job[data-state=done] a")
    while tab.page.evaluate("document.activeElement.tagName") != "A":
        press("Tab")
    with tab.page.expect_download() as download:
        press("Enter")
    assert download.value.suggested_filename
    press("Escape")
    press("?")
    tab.page.wait_for_selector("#help-dialog[open]")
