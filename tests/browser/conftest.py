"""A studio in a process of its own, and the system's Chromium with its page. Without a Chromium these tests
are skipped, and the run ends by saying so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_helpers import Studio, Tab, write_clip, write_picture

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE not in item.path.parents:
            continue
        if CHROMIUM is None:
            item.add_marker(pytest.mark.skip(reason="there is no Chromium"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [report.nodeid for report in terminalreporter.stats.get("skipped", [])]
    missed = [nodeid for nodeid in skipped if nodeid.startswith("tests/browser/")]
    if not missed or CHROMIUM is not None:
        return
    terminalreporter.section("THE PAGE WAS NOT TESTED: there is no Chromium", sep="!", red=True)
    terminalreporter.write_line("Install one (apt-get install chromium), or name it in CHROMIUM. Not run:")
    for nodeid in missed:
        terminalreporter.write_line(f"  {nodeid}")


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """Over a folder with pictures and a clip."""
    folder = tmp_path_factory.mktemp("media")
    for name, at in [("disc.png", (70, 80)), ("other.png", (150, 60))]:
        write_picture(folder / name, at)
    write_clip(folder / "clip.mp4")
    studio = Studio(folder)
    yield studio
    studio.kill()


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium, studio: Studio) -> Iterator[Tab]:
    """A page of a user of its own. It may neither throw, nor be answered with 5xx, nor break the policy."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    tab = Tab(context.new_page(), studio)
    yield tab
    context.close()
    assert tab.faults == []
