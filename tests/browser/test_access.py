"""axe-core finds no serious fault, in light, dark and narrow, in English and Chinese, with each dialog."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest
from browser_helpers import Tab, places

GRAVE = {"serious", "critical"}


def _faults(page: Any) -> list[str]:
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")["violations"]
    return [
        f"{fault['id']}: {node['html'][:120]}"
        for fault in found
        if fault["impact"] in GRAVE
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize(
    ("scheme", "width", "locale"), [("light", 1280, "en"), ("dark", 1280, "zh-CN"), ("dark", 390, "en")]
)
def test_axe_finds_no_grave_fault(tab: Tab, scheme: str, width: int, locale: str) -> None:
    page = tab.page
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    page.add_init_script(f"localStorage.setItem('sam2.language', '{locale[:2]}')")
    tab.visit()
    assert _faults(page) == []
    tab.visit("clip.mp4")
    tab.click(*places(0)[0])
    tab.masks(1)
    assert page.get_attribute("html", "lang") == ("zh-CN" if locale == "zh-CN" else "en")
    assert _faults(page) == []
    for button, dialog in [("#open", "open"), ("#export-open", "export"), ("#help", "help")]:
        page.click(button)
        page.wait_for_selector(f"#{dialog}-dialog[open]")
        assert _faults(page) == []
        page.keyboard.press("Escape")
