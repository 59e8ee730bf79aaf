"""The examples and the demo, with the packaged model, as a newcomer runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location

import numpy as np
import pytest
from e2e_helpers import REPOSITORY, environment
from PIL import Image

from sam2.masks import geometry
from sam2.masks.coco import from_segmentation
from sam2.masks.png import read_label_map
from sam2.masks.polygons import polygons_to_mask
from sam2.video import open_video

EXAMPLES = REPOSITORY / "examples"
# What the packaged model reaches on the demo's own objects, less a margin for other machines.
PHOTO_IOU, CLIP_IOU = 0.6, 0.5
# The outline of the eye in chelsea.jpg with its dark rim, drawn by hand.
EYE = np.array(
    [(148.8, 86.9), (157.5, 85.6), (171.2, 85.2), (182.5, 88.1), (195.0, 95.6), (205.0, 106.2),
     (208.8, 113.8), (209.4, 123.8), (205.0, 135.0), (195.0, 141.2), (185.0, 143.8), (173.8, 145.0),
     (162.5, 143.1), (151.2, 136.9), (142.5, 128.8), (136.9, 118.8), (134.4, 107.5), (135.0, 97.5),
     (138.8, 90.6)]
)  # fmt: skip


@pytest.fixture(scope="module")
def make_clip():
    """The module that composes the clip, and so knows its true masks."""
    spec = spec_from_file_location("make_clip", EXAMPLES / "media/make_clip.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(folder, script, *arguments):
    return subprocess.run(
        [sys.executable, EXAMPLES / script, *arguments],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=550,
    )  # fmt: skip


def test_the_clip_is_what_its_script_makes(make_clip):
    with open_video(EXAMPLES / "media/saucer.mp4") as clip:
        assert (clip.width, clip.height, clip.num_frames) == (480, 320, 40)
        for index, (frame, mask) in enumerate(make_clip.frames()):
            if index % 13 == 0:
                difference = np.abs(clip[index].astype(int) - np.asarray(frame)).mean()
                assert difference < 4
                assert 2000 < mask.sum() < 20_000


def test_media_have_a_source():
    sources = (EXAMPLES / "media/SOURCES.md").read_text()
    files = [path.name for path in (EXAMPLES / "media").iterdir() if path.suffix in (".jpg", ".png", ".mp4")]
    assert files
    assert all(f"`{name}`" in sources for name in files)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder of the demo's results."""
    folder = tmp_path_factory.mktemp("demo")
    done = run(folder, "demo.py", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "out/photo/overlay.png" in done.stdout
    assert "out/clip/overlay.mp4" in done.stdout
    return folder / "out"


@pytest.mark.slow
def test_the_demo_cuts_out_the_cat_s_eye(demo):
    data = json.loads((demo / "photo/coco.json").read_text())
    mask = from_segmentation(data["annotations"][0]["segmentation"], (300, 451))
    assert geometry.iou(mask, polygons_to_mask([EYE], (300, 451))) > PHOTO_IOU
    with Image.open(demo / "photo/overlay.png") as overlay:
        assert overlay.size == (451, 300)


@pytest.mark.slow
def test_the_demo_follows_the_object_through_the_clip(demo, make_clip):
    ious = [
        geometry.iou(read_label_map(demo / f"clip/davis/{index:05d}.png") == 1, mask)
        for index, (_, mask) in enumerate(make_clip.frames())
    ]
    assert np.mean(ious) > CLIP_IOU
    with open_video(demo / "clip/overlay.mp4") as overlay:
        assert (overlay.num_frames, float(overlay.fps)) == (40, 15)
    assert json.loads((demo / "clip/result.json").read_text())["interrupted"] is False


@pytest.mark.slow
@pytest.mark.parametrize(("script", "result"), [("image.py", "out/image.png"), ("video.py", "out/video.mp4")])
def test_an_example_runs_and_says_where_its_result_is(tmp_path, script, result):
    done = run(tmp_path, script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == result
    assert (tmp_path / result).stat().st_size > 1000
