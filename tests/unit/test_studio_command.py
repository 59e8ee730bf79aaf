"""The command `sam2 studio`: what it refuses, and that a kill at any moment loses nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from studio_helpers import make_media

from sam2.cli import main
from sam2.studio.settings import Settings


def test_what_cannot_be_served_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["studio", str(tmp_path / "nothing"), "--no-browser"]) == 2
    assert "does not exist" in capsys.readouterr().err
    (tmp_path / "token").write_text("short")
    assert main(["studio", str(tmp_path), "--token-file", str(tmp_path / "token"), "--no-browser"]) == 2
    assert "16 characters" in capsys.readouterr().err
    with Settings(tmp_path).claimed():
        assert main(["studio", str(tmp_path), "--no-browser", "--port", "0"]) == 2
        assert "another studio serves" in capsys.readouterr().err


def start(root: Path) -> tuple[subprocess.Popen[str], httpx.Client]:
    command = [sys.executable, "-m", "sam2", "studio", str(root / "clip.mp4"), "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = re.search(r"http://\S+/", process.stdout.readline())
    assert found is not None
    return process, httpx.Client(base_url=found[0], timeout=120)


@pytest.mark.slow
def test_killed_while_it_propagates_it_shows_the_same_session(tmp_path: Path) -> None:
    root = make_media(tmp_path / "root", frames=20)
    process, browser = start(root)
    with process, browser:
        assert browser.get("/api/info").json()["path"] == "clip.mp4"
        session = browser.post("/api/sessions", json={"path": "clip.mp4"}).json()["id"]
        browser.post(f"/api/sessions/{session}/objects", json={}).raise_for_status()
        asked = {"points": [[20, 18, 1]]}
        browser.put(f"/api/sessions/{session}/prompts/0/1", json=asked).raise_for_status()
        browser.post(f"/api/sessions/{session}/propagate", json={"start": 0}).raise_for_status()
        while not (seen := browser.get(f"/api/sessions/{session}/masks").json()[3])["objects"]:
            time.sleep(0.02)
        cookies = dict(browser.cookies)
        process.kill()
    process, browser = start(root)
    with process, browser:
        browser.cookies.update(cookies)
        state = browser.get(f"/api/sessions/{session}").json()
        assert state["job"] is None
        assert state["masked"][0][1] >= 3
        again = browser.get(f"/api/sessions/{session}/masks").json()[3]
        assert again["objects"] == seen["objects"]
        process.terminate()
        assert process.wait(30) in (0, -15)
