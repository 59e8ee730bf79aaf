"""What the studio refuses: strangers, foreign pages, paths that lead outside, and too much of anything."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from starlette.websockets import WebSocketDisconnect
from studio_helpers import HOST, Browser, another, make_media, serving

from sam2.studio.server import address, listen
from sam2.studio.settings import Limits, Settings

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outside = tmp_path_factory.mktemp("outside")
    root = make_media(outside / "root", frames=3)
    Image.new("RGB", (8, 8)).save(outside / "secret.png")
    (root / "link.png").symlink_to(outside / "secret.png")
    (root / "up").symlink_to(outside)
    (root / "inside.png").symlink_to(root / "picture.png")
    (root / "loop").symlink_to(root / "loop")
    Image.new("RGB", (8, 8)).save(root / ".hidden.png")
    (root / "notes.txt").write_text("no picture")
    return root


@pytest.fixture(scope="module")
def browser(root: Path) -> Iterator[Browser]:
    with serving(root, Limits(json_bytes=20_000, upload_bytes=100_000, pixels=100 * 100)) as browser:
        yield browser


@pytest.mark.parametrize(
    "path",
    [
        "../secret.png",
        "photos/../../secret.png",
        "/etc/hostname",
        "link.png",
        "up/secret.png",
        "up",
        "loop",
        ".hidden.png",
        ".sam2-studio/sessions",
        "photos/./../.sam2-studio",
        "..\\secret.png",
        "picture.png\x00.txt",
        "@uploads",
        "@uploads/../..",
        "@uploads/../../../secret.png",
        "a" * 900,
    ],
)
def test_paths_that_lead_outside_are_refused(browser: Browser, path: str) -> None:
    assert browser.post("/api/sessions", json={"path": path}).status_code in (403, 404)
    assert browser.get("/api/browse", params={"path": path}).status_code in (403, 404)


def test_browsing_shows_media_and_folders_only(browser: Browser) -> None:
    entries = browser.done(browser.get("/api/browse"))["entries"]
    assert [entry["name"] for entry in entries] == ["photos", "clip.mp4", "inside.png", "picture.png"]
    inner = browser.done(browser.get("/api/browse", params={"path": "photos"}))
    assert (inner["parent"], [entry["path"] for entry in inner["entries"]]) == (
        "",
        ["photos/1.jpg", "photos/2.jpg"],
    )
    assert browser.post("/api/sessions", json={"path": "notes.txt"}).status_code == 422
    assert browser.post("/api/sessions", json={"path": "inside.png"}).status_code == 200
    for path in ("/page/../settings.py", "/page/%2e%2e/settings.py", "/page/..%2fsettings.py"):
        assert browser.get(path).status_code == 404


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "192.168.1.7:8765", "127.0.0.1.evil.example", ""]
)
def test_a_name_that_is_not_ours_is_refused(browser: Browser, host: str) -> None:
    answer = browser.get("/api/info", headers={"host": host})
    assert answer.status_code == 403
    assert "host" in answer.json()["detail"]


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8765"]
)
def test_a_foreign_origin_is_refused(browser: Browser, origin: str) -> None:
    answer = browser.post("/api/sessions", json={"path": "picture.png"}, headers={"origin": origin})
    assert answer.status_code == 403
    session = browser.open("picture.png")["id"]
    for path in (f"/api/sessions/{session}/events", "/api/live"):
        with (
            pytest.raises(WebSocketDisconnect) as refused,
            browser.websocket_connect(path, headers={"host": HOST, "origin": origin}),
        ):
            pass
        assert refused.value.code == 4403


def test_our_own_page_is_welcome_under_each_loopback_name(browser: Browser) -> None:
    for host in (HOST, "localhost:8765", "[::1]:8765"):
        headers = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
        assert browser.get("/api/info", headers=headers).status_code == 200
    assert browser.get("/api/info", headers={"sec-fetch-site": "cross-site"}).status_code == 403


def test_answers_carry_strict_headers_and_an_unguessable_cookie(browser: Browser) -> None:
    fresh = another(browser)
    answer = fresh.get("/api/info")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert len(fresh.cookies["sam2_client"]) >= 32
    ids = {another(browser).open("picture.png")["id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(len(one) >= 20 for one in ids)


def test_beyond_loopback_a_token_is_demanded(root: Path) -> None:
    with serving(root, token=TOKEN, host="0.0.0.0") as browser:
        assert browser.get("/api/info").status_code == 401
        assert browser.get("/").status_code == 401
        assert browser.get("/api/info", headers={"authorization": "Bearer wrong"}).status_code == 401
        assert browser.get("/api/info", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        with pytest.raises(WebSocketDisconnect) as refused, browser.socket("/api/live"):
            pass
        assert refused.value.code == 4401
        first = browser.get("/", params={"token": TOKEN}, follow_redirects=False)
        assert (first.status_code, first.headers["location"]) == (303, "/"), "the token leaves the address"
        assert browser.get("/api/info").status_code == 200, "the cookie serves from then on"
        assert browser.get("/api/info", headers={"host": "evil.example"}).status_code == 403
        assert browser.get("/api/info", headers={"host": "192.168.1.7:8765"}).status_code == 200


def test_what_is_too_large_is_refused(browser: Browser) -> None:
    session = browser.open("picture.png")["id"]
    huge = {"points": [[1, 1, 1]] * 5000}
    assert browser.put(f"/api/sessions/{session}/prompts/0/1", json=huge).status_code == 413
    parts = (b"x" * 1000 for _ in range(30))
    assert browser.post("/api/sessions", content=parts).status_code == 413, "chunked, without a length"
    upload = {"file": ("a.png", b"\0" * 300_000)}
    answer = browser.post("/api/uploads", files=upload)
    assert answer.status_code == 413
    assert "bytes" in answer.json()["detail"]


def test_uploads_are_checked_before_they_have_a_name(browser: Browser, root: Path, tmp_path: Path) -> None:
    good = (root / "picture.png").read_bytes()
    path = browser.done(browser.post("/api/uploads", files={"file": ("../../my photo.png", good)}))["path"]
    assert path.startswith("@uploads/")
    assert path.endswith("/my photo.png")
    assert browser.open(path)["kind"] == "picture"
    big = tmp_path / "big.png"
    Image.new("L", (200, 200)).save(big)
    for name, content in {
        "a.png": good[: len(good) // 2],
        "b.png": b"",
        "c.mp4": b"no video",
        "d.exe": good,
        "e.png": big.read_bytes(),
        "f.mp4": (root / "clip.mp4").read_bytes()[:400],
        "": good,
        ".png": good,
    }.items():
        answer = browser.post("/api/uploads", files={"file": (name or "noname", content)})
        assert answer.status_code == 422, name
        assert answer.json()["detail"]
    left = [file for file in (root / ".sam2-studio" / "uploads").rglob("*") if file.is_file()]
    assert [file.name for file in left] == ["my photo.png"]


def test_what_makes_no_sense_is_explained(browser: Browser) -> None:
    session = browser.open("picture.png")["id"]
    prompts = f"/api/sessions/{session}/prompts"
    for path, body, status in (
        (f"{prompts}/0/1", {"points": [[500, 5, 1]]}, 422),
        (f"{prompts}/0/1", {"points": [[5, 5, 2]]}, 422),
        (f"{prompts}/0/1", {"box": [5, 5, 5, 9]}, 422),
        (f"{prompts}/0/1", {"mask": {"size": [1, 1], "counts": [1]}}, 422),
        (f"{prompts}/0/1", {"mask": {"size": [36, 48], "counts": [1]}}, 422),
        (f"{prompts}/9/1", {"points": [[5, 5, 1]]}, 404),
        (f"{prompts}/0/77", {"points": [[5, 5, 1]]}, 404),
    ):
        answer = browser.put(path, json=body)
        assert answer.status_code == status, (body, answer.text)
        assert answer.json()["detail"]
    assert browser.post(f"/api/sessions/{session}/propagate", json={"start": 0}).status_code == 422
    assert browser.post(f"/api/sessions/{session}/exports", json={"format": "coco"}).status_code == 422
    listed = browser.done(browser.get("/api/info"))["models"]
    for model in ("/etc/passwd", "none", *(one["name"] for one in listed if not one["available"])):
        assert browser.patch(f"/api/sessions/{session}", json={"model": model}).status_code == 422
    assert browser.get("/api/sessions/none/frames/0.jpg").status_code == 404


def test_a_folder_that_cannot_be_written_keeps_its_state_elsewhere(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shutil.copy(root / "picture.png", tmp_path / "file")
    settings = Settings(tmp_path / "file")  # a file where a folder is wanted, since root may write anywhere
    assert settings.folder.is_relative_to(tmp_path / "sam2-studio")


def test_the_address_carries_the_token_and_a_taken_port_is_no_obstacle() -> None:
    with listen("127.0.0.1", 0) as first, listen("127.0.0.1", first.getsockname()[1]) as second:
        port = second.getsockname()[1]
        assert port != first.getsockname()[1]
    settings = Settings(Path(), host="::", token=TOKEN)
    assert address(settings, 1234).endswith(f":1234/?token={TOKEN}")
    assert address(Settings(Path()), 1234) == "http://127.0.0.1:1234/"
