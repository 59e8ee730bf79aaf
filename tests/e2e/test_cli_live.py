"""`sam2 track` on streams: standard input, addresses, a camera; and what their faults leave."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from e2e_helpers import command, environment, picture_of, times_of, write_clip
from media_server import serving
from PIL import Image

from sam2.build_sam import build_sam2_video_predictor
from sam2.masks.png import read_mask
from sam2.tracking import ObjectPrompt
from sam2.video import open_video

FRAMES = [picture_of(shift=3 * index) for index in range(4)]
RAW = b"".join(frame.tobytes() for frame in FRAMES)


def jpeg(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.fixture(scope="module")
def predictor(checkpoint):
    """The library itself, to compare with."""
    return build_sam2_video_predictor(ckpt_path=checkpoint, device="cpu")


@pytest.fixture
def stdin(monkeypatch):
    """Makes bytes the standard input of this process."""

    def give(data: bytes) -> None:
        class Stdin:
            buffer = io.BytesIO(data)

        monkeypatch.setattr("sys.stdin", Stdin)

    return give


def result_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def test_raw_pixels_through_a_pipe(sam2, stdin, tmp_path, checkpoint, predictor):
    stdin(RAW + b"half a frame")
    outcome = sam2(
        "track", "-", "--input-format", "rgb24", "--size", "96x64", "--fps", "10", "--point", "35,32",
        "--frame", "1", "--model", checkpoint, "--format", "png,davis,coco,overlay",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "1 object in 3 frames of standard input" in outcome.out
    assert outcome.err == "sam2: warning: 1 packets of standard input did not decode\n"
    out = tmp_path / "out/stdin"
    with predictor.stream() as tracker:
        tracker.push(FRAMES[0])
        for index in (1, 2, 3):
            asked = [ObjectPrompt(1, points=[[35, 32]], labels=[1])] if index == 1 else []
            expected = tracker.step(FRAMES[index], asked).masks[0].numpy()
            np.testing.assert_array_equal(read_mask(out / f"png/1/{index:05d}.png"), expected)
    result = result_of(out)
    assert [entry["frame"] for entry in result["frames"]] == [1, 2, 3]
    assert [entry["time"] for entry in result["frames"]] == pytest.approx([0.1, 0.2, 0.3])
    assert result["input"] == {"path": "standard input", "width": 96, "height": 64}
    assert result["interrupted"] is False
    assert result["stream"] == {"frames": 3, "dropped": 0, "corrupt": 1, "fault": None}
    assert times_of(out / "overlay.mp4") == pytest.approx([0, 0.1, 0.2], abs=1e-3)
    assert {path.name for path in out.iterdir()} == {
        "png",
        "davis",
        "coco.json",
        "overlay.mp4",
        "result.json",
    }


def test_mjpeg_with_a_damaged_picture_and_a_change_of_size(sam2, stdin, tmp_path, checkpoint):
    pictures = [jpeg(frame) for frame in FRAMES]
    pictures[1] = pictures[1][: len(pictures[1]) // 2]
    pictures[3] = jpeg(picture_of(width=48, height=32))
    stdin(b"".join(pictures))
    outcome = sam2("track", "-", "--point", "32,32", "--fps", "5", "--model", checkpoint, "--out", "o")
    assert outcome.code == 0, outcome.err
    assert "1 packets of standard input did not decode" in outcome.err
    result = result_of(tmp_path / "o")
    assert [entry["time"] for entry in result["frames"]] == pytest.approx([0, 0.4, 0.6])
    assert result["stream"]["corrupt"] == 1
    with open_video(tmp_path / "o/overlay.mp4") as overlay:  # later sizes are brought to the first
        assert (overlay.num_frames, overlay.width, overlay.height) == (3, 96, 64)
    assert sorted(path.name for path in (tmp_path / "o/davis").iterdir()) == [
        f"{i:05d}.png" for i in range(3)
    ]


@pytest.fixture
def server(tmp_path):
    write_clip(tmp_path / "clip.ts", count=6)
    with serving((tmp_path / "clip.ts").read_bytes()) as host:
        yield host


def test_an_address_whose_password_nobody_sees(sam2, server, tmp_path, checkpoint):
    outcome = sam2(
        "track", f"http://me:secret@{server}/clip.ts", "--drop", "none", "--point", "32,32", "--frames", "4",
        "--model", checkpoint, "--format", "coco",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    host, port = server.split(":")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"http-{host}-{port}-clip.ts"]
    text = (tmp_path / f"out/http-{host}-{port}-clip.ts/result.json").read_text()
    assert len(json.loads(text)["frames"]) == 4
    assert "secret" not in text + outcome.out + outcome.err


def test_a_source_that_is_lost_keeps_what_is_done(sam2, server, tmp_path, checkpoint):
    outcome = sam2(
        "track", f"http://{server}/cut.ts", "--drop", "none", "--point", "32,32", "--model", checkpoint,
        "--out", "o",
    )  # fmt: skip
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1].startswith(f"sam2: error: http://{server}/cut.ts was lost: ")
    result = result_of(tmp_path / "o")
    assert "was lost" in result["stream"]["fault"]
    done = len(result["frames"])
    assert done >= 4
    with open_video(tmp_path / "o/overlay.mp4") as overlay:
        assert overlay.num_frames == done


def test_prompts_that_a_stream_never_reaches(sam2, stdin, tmp_path, checkpoint):
    objects = [
        {"id": 1, "prompts": [{"points": [[32, 32]]}, {"frame": 2, "points": [[38, 32]]}]},
        {"id": 5, "prompts": [{"frame": 9, "points": [[5, 5]]}]},
    ]
    (tmp_path / "p.json").write_text(json.dumps({"version": 1, "objects": objects}))
    raw = ["track", "-", "--input-format", "rgb24", "--size", "96x64", "--model", checkpoint]
    stdin(RAW)
    outcome = sam2(*raw, "--prompts", "p.json", "--out", "o", "--format", "png")
    assert outcome.code == 0, outcome.err
    assert "object 5: its prompt on frame 9 was not reached, the last frame was 3" in outcome.err
    assert [path.name for path in (tmp_path / "o/png").iterdir()] == ["1"]
    stdin(RAW)
    assert sam2(*raw, "--point", "5,5", "--frame", "4", "--out", "p").refused(
        "4 frames", "before the first prompt"
    )
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-", "--direction", "both"], ["--direction", "as its frames come"]),
        (["-", "--start", "3"], ["--start"]),
        (["-", "--format", "cvat"], ["cvat", "how long"]),
        (["-", "--size", "96"], ["'96'", "640x480"]),
        (["-", "--input-format", "rgb24"], ["size="]),
        (["-", "--timeout", "0"], ["timeout is 0"]),
        (["-"], ["standard input cannot be opened as video"]),
        (["camera:77"], ["camera:77"]),
        (["http://127.0.0.1:9/x"], ["cannot be opened"]),
        (["clip.mp4", "--fps", "5"], ["--fps is for live sources", "clip.mp4"]),
    ],
)
def test_what_cannot_be_tracked(sam2, stdin, tmp_path, checkpoint, arguments, words):
    stdin(b"")
    assert sam2("track", *arguments, "--point", "5,5", "--model", checkpoint).refused(*words)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def waiting(out: Path, checkpoint: Path, *options: str) -> subprocess.Popen:
    """The command with four frames done and its standard input open."""
    process = subprocess.Popen(
        command("track", "-", "--input-format", "rgb24", "--size", "96x64", "--point", "32,32", "--model",
                checkpoint, "--out", out, "--format", "davis", *options),
        env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(RAW)
    process.stdin.flush()
    deadline = time.monotonic() + 180
    while len(list(out.glob(".sam2-*/davis/*.png"))) < len(FRAMES):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def test_a_stall_keeps_what_is_done(tmp_path, checkpoint):
    process = waiting(tmp_path / "p", checkpoint, "--timeout", "3")
    code = process.wait(timeout=120)  # its standard input is still open
    _, stderr = process.communicate()
    assert code == 1, stderr
    assert b"standard input gave no frame for 3 s" in stderr
    assert len(result_of(tmp_path / "p")["frames"]) == 4


def test_ctrl_c_ends_a_stream_that_waits(tmp_path, checkpoint):
    process = waiting(tmp_path / "o", checkpoint, "--timeout", "300")
    process.send_signal(signal.SIGINT)
    code = process.wait(timeout=60)
    stdout, stderr = process.communicate()
    assert code == 130, stderr
    assert stderr.decode() == "sam2: stopping after this frame; Ctrl-C again drops everything\n"
    assert b"stopped by Ctrl-C" in stdout
    result = result_of(tmp_path / "o")
    assert result["interrupted"] is True
    assert len(result["frames"]) == 4
