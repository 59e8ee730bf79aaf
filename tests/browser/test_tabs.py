"""One session in two tabs."""

from __future__ import annotations

from browser_helpers import Tab, places


def test_two_tabs_edit_one_session_and_lose_nothing(tab: Tab) -> None:
    other = Tab(tab.page.context.new_page(), tab.studio)
    for each in (tab, other):
        each.visit("clip.mp4")
    one, two = places(0)
    tab.click(*one)
    for each in (tab, other):
        each.masks(1)
    other.page.keyboard.press("n")
    other.click(*two)
    for each in (tab, other):
        each.masks(2)

    # both at once, each its own object
    tab.click(one[0] + 4, one[1] + 4)
    other.click(two[0] + 4, two[1] + 4)
    for each in (tab, other):
        each.masks(2)
        each.page.wait_for_function(
            """async id => { const session = await (await fetch("/api/sessions/" + id)).json();
                return session.prompts.every((prompt) => prompt.points.length === 2); }""",
            arg=tab.session()["id"],
        )
    # both at once, the same object: the later one counts, and undo comes back to the earlier one
    other.page.click(".pick >> nth=0")
    for each in (tab, other):
        each.settle()
    before = tab.session()["revision"]
    tab.click(one[0] - 6, one[1])
    other.click(one[0], one[1] - 6)
    for each in (tab, other):
        each.see("#stage[data-waiting='0']")
    tab.page.wait_for_function(
        """async ([id, before]) =>
            (await (await fetch("/api/sessions/" + id)).json()).revision === before + 2""",
        arg=[tab.session()["id"], before],
    )
    lasts = []
    for _ in range(2):
        points = next(p["points"] for p in tab.session()["prompts"] if p["object"] == 1)
        lasts.append(tuple(points[-1][:2]))
        tab.page.keyboard.press("Control+z")
        tab.page.wait_for_timeout(300)
        tab.see("#stage[data-waiting='0']")
    assert {(one[0] - 6, one[1]), (one[0], one[1] - 6)} == set(lasts)

    tab.page.fill(".object-name >> nth=0", "left")
    tab.page.keyboard.press("Enter")
    other.page.wait_for_function("() => document.querySelector('.object-name').value === 'left'")
    other.page.select_option("#policy", "motion")
    tab.page.wait_for_function("() => document.getElementById('policy').value === 'motion'")
    tab.track()
    other.goto_frame(3)
    other.masks(2)
    assert other.faults == []
