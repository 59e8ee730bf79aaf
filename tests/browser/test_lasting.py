"""What was done stays: over a reload, and over the server's death."""

from __future__ import annotations

import numpy as np
from browser_helpers import Studio, Tab, places


def test_reload_and_kill_keep_everything(tab: Tab, studio: Studio) -> None:
    tab.visit("clip.mp4")
    tab.click(*places(0)[0])
    tab.masks(1)
    tab.page.fill(".object-name", "bright disc")
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_timeout(200)
    mask, prompts = tab.mask(0), tab.session()["prompts"]

    tab.page.reload()
    tab.masks(1)
    assert tab.page.input_value(".object-name") == "bright disc"
    assert tab.session()["prompts"] == prompts

    studio.kill()
    tab.page.wait_for_selector("#offline", state="visible")
    studio.start()
    tab.page.wait_for_selector("#offline", state="hidden")
    tab.masks(1)
    assert tab.page.input_value(".object-name") == "bright disc"
    assert tab.session()["prompts"] == prompts
    assert np.array_equal(tab.mask(0), mask)
    tab.page.keyboard.press("Control+z")
    tab.page.wait_for_timeout(300)
