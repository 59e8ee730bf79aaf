"""Live sources: streams of bytes, stalls, damage, changes of size, addresses on the loopback."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from media_server import serving
from PIL import Image
from video_samples import blank_packets, encode, noise, picture

from sam2.video import LiveStallError, VideoError, is_live, open_live


def jpeg(shade: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """A grainy picture with a mean of `shade`."""
    grain = np.random.default_rng(shade).integers(-9, 10, (size[1], size[0]))
    file = io.BytesIO()
    Image.fromarray(np.uint8(grain - np.rint(grain.mean()) + shade)).convert("RGB").save(
        file, "JPEG", quality=95
    )
    return file.getvalue()


SHADES = [30 + 20 * i for i in range(10)]


class Stalling(io.RawIOBase):
    """Gives its bytes, then nothing until released."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)
        self.released = threading.Event()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece = self._data.read(size)
        if not piece:
            self.released.wait(20)
        return piece


@pytest.mark.parametrize("format", [None, "mjpeg"])
def test_mjpeg(format: str | None) -> None:
    stream = io.BytesIO(b"".join(jpeg(shade) for shade in SHADES))
    with open_live(stream, format=format, fps=10) as live:
        frames = list(live)
    assert [round(float(item.frame.mean())) for item in frames] == pytest.approx(SHADES, abs=1)
    np.testing.assert_allclose([item.timestamp for item in frames], np.arange(10) / 10)
    assert frames[0].frame.shape == (48, 64, 3)
    assert frames[0].frame.dtype == np.uint8
    assert not any(item.resized for item in frames)
    assert (live.corrupt, live.dropped) == (0, 0)


def test_each_picture_comes_as_soon_as_it_is_whole() -> None:
    stream = Stalling(jpeg(20) + jpeg(200))
    with open_live(stream, timeout=5) as live:
        for shade in (20, 200):
            assert next(live).frame.mean() == pytest.approx(shade, abs=1)
        stream.released.set()
        assert list(live) == []


def test_damaged_pictures_are_counted_and_passed_over() -> None:
    pictures = [jpeg(shade) for shade in SHADES]
    pictures[3] = pictures[3][: len(pictures[3]) - 200]
    pictures[5] = pictures[5][:20] + b"\xff\xd9"
    pictures[7] = b"--boundary\r\nContent-Type: image/jpeg\r\n\r\n" + pictures[7]
    with open_live(io.BytesIO(b"".join(pictures)), fps=10) as live:
        shades = [round(float(item.frame.mean())) for item in live]
    assert shades == pytest.approx([shade for n, shade in enumerate(SHADES) if n not in (3, 5)], abs=1)
    assert live.corrupt == 2


@pytest.mark.parametrize("kept", [3, 30, 150, 500])
def test_a_picture_cut_anywhere_costs_no_other(kept: int) -> None:
    with open_live(io.BytesIO(jpeg(40)[:kept] + jpeg(80) + jpeg(120))) as live:
        assert [round(float(item.frame.mean())) for item in live] == pytest.approx([80, 120], abs=1)


def test_a_thumbnail_inside_a_picture_is_no_frame() -> None:
    file = io.BytesIO()
    exif = b"Exif\0\0" + jpeg(250, (16, 16))
    Image.new("RGB", (64, 48), (90, 90, 90)).save(file, "JPEG", exif=exif)
    with open_live(io.BytesIO(file.getvalue() * 3)) as live:
        assert [item.frame.shape for item in live] == [(48, 64, 3)] * 3


def test_a_change_of_size_is_flagged() -> None:
    stream = io.BytesIO(jpeg(20) + jpeg(40) + jpeg(60, (32, 20)) + jpeg(80, (32, 20)) + jpeg(100))
    with open_live(stream) as live:
        items = list(live)
    assert [item.resized for item in items] == [False, False, True, False, True]
    assert items[2].frame.shape == (20, 32, 3)


def test_raw_pixels() -> None:
    frames = [picture(i, 12, 20) for i in range(5)]
    data = b"".join(frame.tobytes() for frame in frames)
    with open_live(io.BytesIO(data + b"half a frame"), format="rgb24", size=(20, 12), fps=5) as live:
        items = list(live)
    assert len(items) == 5
    for item, frame in zip(items, frames, strict=True):
        np.testing.assert_array_equal(item.frame, frame)
        item.frame[:] = 0
    assert items[4].timestamp == pytest.approx(0.8)
    with pytest.raises(VideoError, match="size="):
        open_live(io.BytesIO(data), format="rgb24")


def test_a_container_through_a_pipe_keeps_its_times(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.ts", [picture(i) for i in range(25)], options={"g": "5"})
    read, write = os.pipe()

    def feed() -> None:
        with os.fdopen(write, "wb") as sink:
            sink.write(path.read_bytes())

    thread = threading.Thread(target=feed)
    thread.start()
    with os.fdopen(read, "rb") as stream, open_live(stream) as live:
        items = list(live)
    thread.join()
    np.testing.assert_allclose([item.timestamp for item in items], np.arange(25) / 25, atol=1e-3)
    assert np.abs(items[20].frame.astype(int) - picture(20)).mean() < 8


def test_a_corrupt_packet_does_not_end_the_stream(tmp_path: Path) -> None:
    frames = [noise(i) for i in range(30)]
    path = encode(tmp_path / "v.mp4", frames, options={"g": "10", "bf": "0"}, movflags="faststart")
    blank_packets(path, [14])
    with path.open("rb") as stream, open_live(stream) as live:
        items = list(live)
    assert live.corrupt >= 1
    assert 20 <= len(items) < 31
    assert items[-1].timestamp == pytest.approx(29 / 25, abs=0.01)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(jpeg(30) + jpeg(20))

    monkeypatch.setattr("sys.stdin", Stdin)
    with open_live("-") as live:
        assert len(list(live)) == 2


def test_a_stall_is_an_error_that_says_so() -> None:
    stream = Stalling(jpeg(30))
    live = open_live(stream, timeout=0.2)
    next(live)
    began = time.monotonic()
    with pytest.raises(LiveStallError, match=r"no frame for 0\.2 s"):
        next(live)
    assert 0.15 < time.monotonic() - began < 2
    with pytest.raises(TimeoutError):
        next(live)
    stream.released.set()
    live.close()


def test_a_stream_that_never_begins() -> None:
    stream = Stalling(b"")
    with open_live(stream, timeout=0.1) as live:
        with pytest.raises(LiveStallError):
            next(live)
        stream.released.set()


@pytest.mark.parametrize("data", [b"", b"these are words, not a video " * 50])
def test_what_is_not_a_video(data: bytes) -> None:
    with open_live(io.BytesIO(data)) as live, pytest.raises(VideoError, match="the stream cannot be opened"):
        list(live)


def wait_until_read(live: object, stream: io.BytesIO) -> None:
    thread = live._thread  # type: ignore[attr-defined]
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_a_slow_consumer_gets_the_newest_frames_when_old_ones_may_be_dropped() -> None:
    stream = io.BytesIO(b"".join(jpeg(shade) for shade in SHADES))
    with open_live(stream, fps=10, queue_frames=3, drop="oldest") as live:
        wait_until_read(live, stream)
        shades = [round(float(item.frame.mean())) for item in live]
    assert shades == pytest.approx(SHADES[-3:], abs=1)
    assert live.dropped == 7


def test_a_dropped_change_of_size_is_still_flagged() -> None:
    pictures = [jpeg(20), jpeg(40, (32, 20)), *(jpeg(shade, (32, 20)) for shade in (60, 80, 100))]
    stream = io.BytesIO(b"".join(pictures))
    with open_live(stream, queue_frames=2, drop="oldest") as live:
        wait_until_read(live, stream)
        assert [item.resized for item in live] == [True, False]


def test_a_slow_consumer_holds_the_source_back_otherwise() -> None:
    stream = io.BytesIO(b"".join(jpeg(shade) for shade in SHADES))
    with open_live(stream, queue_frames=2) as live:
        first = next(live)
        time.sleep(0.05)
        assert len(live._channel) <= 2
        assert first.frame.mean() == pytest.approx(SHADES[0], abs=1)
        assert len(list(live)) == 9
    assert live.dropped == 0


def test_closing_ends_the_thread_and_the_iteration() -> None:
    live = open_live(io.BytesIO(jpeg(20) * 100), queue_frames=2)
    next(live)
    live.close()
    assert list(live) == []
    assert not live._thread.is_alive()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    path = encode(tmp_path / "v.ts", [picture(i) for i in range(20)])
    with serving(path.read_bytes()) as host:
        yield f"http://{host}"


def test_an_address(server: str) -> None:
    with open_live(f"{server}/v.ts", drop="none", timeout=5) as live:
        assert len(list(live)) == 20


def test_a_connection_that_is_lost_is_told_from_an_end(server: str) -> None:
    with (
        open_live(f"{server}/cut.ts", drop="none", timeout=5) as live,
        pytest.raises(VideoError, match="was lost"),
    ):
        list(live)


def test_an_address_that_does_not_answer(server: str) -> None:
    with open_live(f"{server}/silent", timeout=0.3) as live, pytest.raises(LiveStallError):
        next(live)


def test_an_address_where_nobody_listens() -> None:
    with (
        open_live("http://127.0.0.1:9/x", timeout=5) as live,
        pytest.raises(VideoError, match="cannot be opened"),
    ):
        next(live)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("holiday.mp4", {}, "open_video"),
        ("ftp://somewhere", {}, "is not a live source"),
        ("-", {"timeout": 0}, "timeout is 0"),
        ("-", {"queue_frames": 0}, "queue_frames is 0"),
        ("-", {"drop": "newest"}, "'newest'"),
        ("-", {"size": (0, 5)}, "size is"),
        ("-", {"fps": -1}, "fps is -1"),
    ],
)
def test_options_that_cannot_be(source: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(VideoError, match=message):
        open_live(source, **options)  # type: ignore[arg-type]


def test_a_camera_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(VideoError, match=r"there is no /dev/video999"):
        open_live("camera:999")
    monkeypatch.setattr("sys.platform", "plan9")
    with pytest.raises(VideoError, match="format="):
        open_live("camera:0")


def test_a_source_that_nobody_holds_ends_its_thread() -> None:
    live = open_live(io.BytesIO(jpeg(20) * 100), queue_frames=1)
    next(live)
    thread = live._thread
    del live
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_stopping_wakes_a_consumer_that_waits() -> None:
    stream = Stalling(jpeg(30))
    with open_live(stream, timeout=20) as live:
        next(live)
        threading.Timer(0.1, live.stop).start()
        began = time.monotonic()
        assert list(live) == []
        assert time.monotonic() - began < 5
        stream.released.set()


def test_a_last_picture_that_is_not_whole_is_counted() -> None:
    with open_live(io.BytesIO(bytes(700)), format="rgb24", size=(20, 10)) as live:
        assert len(list(live)) == 1
    assert live.corrupt == 1


def test_a_stream_of_text_is_refused() -> None:
    with open_live(io.StringIO("words")) as live, pytest.raises(VideoError, match="mode 'rb'"):
        next(live)


def test_a_clock_that_begins_anew_never_runs_back(tmp_path: Path) -> None:
    one = encode(tmp_path / "v.ts", [picture(i) for i in range(10)], options={"bf": "0"}).read_bytes()
    with open_live(io.BytesIO(one + one)) as live:
        times = [item.timestamp for item in live]
    assert len(times) >= 18
    assert times == sorted(times)
    assert times[-1] < 1.5


@pytest.mark.parametrize("source", ["-", "camera:0", "/dev/video0", "rtsp://h/x", "http://h/x", "udp://h:1"])
def test_what_is_live(source: str) -> None:
    assert is_live(source)
    assert not is_live(f"folder/{source}")


def test_pictures_need_no_pyav() -> None:
    script = "import sys; from sam2.video import read_picture; assert 'av' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
