"""Files that are not in the folder: chosen or dropped; and fingers on a screen."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from browser_helpers import Studio, Tab, write_picture

AT = (120, 70)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    write_picture(tmp_path / "mine.png", AT)
    return tmp_path / "mine.png"


def is_worked_on(tab: Tab) -> None:
    tab.page.wait_for_selector("#open-dialog", state="hidden")
    tab.page.wait_for_function("() => document.getElementById('name').textContent === 'mine.png'")
    tab.see("#picture[data-frame='0']")
    tab.click(*AT)
    tab.masks(1)
    assert tab.session()["path"].startswith("@uploads/")


def test_a_file_is_uploaded(tab: Tab, picture: Path) -> None:
    tab.visit()
    tab.page.set_input_files("#upload-file", picture)
    is_worked_on(tab)
    tab.page.reload()
    tab.masks(1)


def test_a_file_is_dropped_on_the_page(tab: Tab, picture: Path, tmp_path: Path) -> None:
    tab.visit("disc.png")
    script = """([name, content]) => {
        const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
        const files = new DataTransfer();
        files.items.add(new File([bytes], name));
        for (const type of ["dragover", "drop"]) {
            const event = new DragEvent(type, { dataTransfer: files, bubbles: true, cancelable: true });
            document.getElementById("canvas").dispatchEvent(event);
        } }"""
    tab.page.evaluate(script, ["notes.png", base64.b64encode(b"no picture").decode()])
    tab.page.wait_for_selector(".notice.fault")
    tab.page.keyboard.press("Escape")
    tab.page.evaluate(script, [picture.name, base64.b64encode(picture.read_bytes()).decode()])
    is_worked_on(tab)


def test_two_fingers_zoom_and_one_clicks(chromium, studio: Studio) -> None:
    context = chromium.new_context(viewport={"width": 800, "height": 600}, has_touch=True)
    touch = Tab(context.new_page(), studio)
    touch.visit("disc.png")
    wire = context.new_cdp_session(touch.page)
    middle = touch.place(70, 80)

    def fingers(kind: str, *apart: float) -> None:
        points = [
            {"x": middle[0] + side * a, "y": middle[1], "id": side + 1} for a in apart for side in (-1, 1)
        ]
        wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def scale() -> float:
        return float(touch.page.get_attribute("#picture", "data-view").split()[0])

    before = scale()
    fingers("touchStart", 30)
    for apart in (40, 50, 60):
        fingers("touchMove", apart)
    fingers("touchEnd")
    touch.page.wait_for_function(
        "least => Number(document.getElementById('picture').dataset.view.split(' ')[0]) > least",
        arg=1.8 * before,
    )
    assert scale() < 2.2 * before
    x, y = touch.place(70, 80)
    assert (abs(x - middle[0]), abs(y - middle[1])) < (3, 3), "what was between the fingers stays there"
    assert touch.session()["prompts"] == []
    touch.page.touchscreen.tap(x, y)
    touch.masks(1)
    assert touch.session()["prompts"][0]["points"] == [[70, 80, 1]]
    assert touch.faults == []
    context.close()
