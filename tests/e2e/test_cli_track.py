"""`sam2 track`: what is written says what the tracker said, whatever the direction, and survives Ctrl-C."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import time
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from e2e_helpers import MINIATURE, command, environment, picture_of, times_of, tone_of, write_clip
from PIL import Image
from pycocotools.coco import COCO

from sam2.build_sam import build_sam2_video_predictor
from sam2.close_tracker import CloseTracker
from sam2.masks.png import read_label_map, read_mask
from sam2.video import open_video

# pycocotools' own arrays do not know NumPy 2's copy keyword
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

POINT = (np.array([[32.0, 32.0]]), np.array([1]))


@pytest.fixture(scope="module")
def predictor(checkpoint):
    """The library itself, to compare with."""
    return build_sam2_video_predictor(ckpt_path=checkpoint, device="cpu")


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


def frames_of(folder):
    return [entry["frame"] for entry in result_of(folder)["frames"]]


def test_every_format_holds_the_masks_of_the_library(sam2, tmp_path, frames_folder, checkpoint, predictor):
    outcome = sam2(
        "track", frames_folder, "--point", "32,32", "--no-zoom", "--model", checkpoint, "--out", "out",
        "--format", "overlay,davis,png", "--format", "coco,yolo,cutout,background,cvat,labelstudio,csv",
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    out = tmp_path / "out"
    session = predictor.init_state(str(frames_folder))
    predictor.add_new_points_or_box(session, 0, 1, *POINT)
    coco = COCO(out / "coco.json")
    written = {entry["frame"]: entry["objects"][0] for entry in result_of(out)["frames"]}
    for result in predictor.propagate(session):
        index, mask = result.frame_idx, result.masks[0].numpy()
        name = f"{index:05d}"
        np.testing.assert_array_equal(read_mask(out / f"png/1/{name}.png"), mask)
        np.testing.assert_array_equal(read_label_map(out / f"davis/{name}.png") == 1, mask)
        with Image.open(out / f"cutout/1/{name}.png") as cut:
            np.testing.assert_array_equal(np.asarray(cut)[..., 3] > 0, mask)
        annotation = coco.loadAnns(coco.getAnnIds(imgIds=index + 1))[0]
        assert coco.imgs[index + 1]["file_name"] == f"{name}.jpg"
        np.testing.assert_array_equal(coco.annToMask(annotation), mask)
        assert (out / f"yolo/labels/train/{name}.txt").read_text().startswith("0 ")
        assert written[index]["area"] == mask.sum()
        assert written[index]["predicted_iou"] == pytest.approx(float(result.predicted_iou[0]), abs=1e-4)
        presence = torch.sigmoid(result.object_score_logits[0]).item()
        assert written[index]["presence"] == pytest.approx(presence, abs=1e-4)
    assert sorted(written) == list(range(5))
    with open_video(out / "overlay.mp4") as overlay:
        assert (overlay.width, overlay.height, overlay.num_frames) == (96, 64, 5)
        assert float(overlay.fps) == pytest.approx(24)
        changed = np.abs(overlay[3].astype(int) - picture_of(shift=9)).max(axis=2) > 40
        assert changed[read_mask(out / "png/1/00003.png")].mean() > 0.9
    with open_video(out / "background.mp4") as changed_video:
        assert (changed_video.width, changed_video.height, changed_video.num_frames) == (96, 64, 5)
    with open(out / "masks.csv", newline="") as table:
        areas = {int(row["frame"]): int(row["area"]) for row in csv.DictReader(table)}
    assert areas == {index: entry["area"] for index, entry in written.items()}
    (track,) = ElementTree.parse(out / "cvat.xml").getroot().findall("track")
    assert [shape.attrib["frame"] for shape in track if shape.attrib["outside"] == "0"] == list("01234")
    (task,) = json.loads((out / "labelstudio/tasks.json").read_text())
    assert task["data"]["video"].endswith("=frames")
    assert "1 object in 5 frames" in outcome.out


def test_the_overlay_keeps_times_and_sound(sam2, tmp_path, checkpoint):
    times = [0.0, 0.1, 0.25, 0.3, 0.7]
    clip = write_clip(tmp_path / "clip.mp4", times=times, sound=True)
    assert sam2("track", clip, "--point", "32,32", "--model", checkpoint).code == 0
    overlay = tmp_path / "out/clip/overlay.mp4"
    assert times_of(overlay) == pytest.approx(times, abs=1e-3)
    assert tone_of(overlay) == pytest.approx(440, abs=5)
    assert [entry["time"] for entry in result_of(tmp_path / "out/clip")["frames"]] == pytest.approx(times)


@pytest.mark.parametrize(
    ("options", "expected", "start"),
    [
        (["--direction", "forward"], [2, 3, 4], 2),
        (["--direction", "backward"], [0, 1, 2], 2),
        (["--direction", "both"], [0, 1, 2, 3, 4], 2),
        (["--direction", "both", "--frames", "2"], [1, 2, 3], 2),
        (["--start", "0"], [0, 1, 2, 3, 4], 0),
        (["--start", "1", "--frames", "1"], [1], 1),
        (["--direction", "backward", "--start", "0"], [0], 0),
        (["--direction", "both", "--start", "4"], [0, 1, 2, 3, 4], 4),
    ],
)
def test_directions(sam2, tmp_path, checkpoint, options, expected, start):
    clip = write_clip(tmp_path / "clip.mp4")
    outcome = sam2(
        "track", clip, "--frame", 2, "--point", "38,32", *options, "--model", checkpoint, "--out", "o",
        "--format", "overlay,coco,png",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    out = tmp_path / "o"
    assert frames_of(out) == expected
    assert result_of(out)["start"] == start
    assert result_of(out)["interrupted"] is False
    assert sorted(path.stem for path in (out / "png/1").iterdir()) == [f"{i:05d}" for i in expected]
    assert [image["file_name"][:5] for image in COCO(out / "coco.json").dataset["images"]] == [
        f"{i:05d}" for i in expected
    ]
    assert times_of(out / "overlay.mp4") == pytest.approx(
        [0.1 * (i - expected[0]) for i in expected], abs=1e-3
    )


def test_both_directions_give_what_the_library_gives(sam2, tmp_path, checkpoint, predictor):
    clip = write_clip(tmp_path / "clip.mp4", count=7)
    ask = ["track", clip, "--frame", 3, "--point", "41,32", "--direction", "both", "--format", "png"]
    ask.append("--no-zoom")
    assert sam2(*ask, "--model", checkpoint, "--out", "o").code == 0
    session = predictor.init_state(str(clip))
    predictor.add_new_points_or_box(session, 3, 1, np.array([[41.0, 32.0]]), np.array([1]))
    expected = {}
    for reverse in (True, False):
        for index, _, logits in predictor.propagate_in_video(session, 3, reverse=reverse):
            expected[index] = (logits[0, 0] > 0).numpy()
    for index, mask in expected.items():
        np.testing.assert_array_equal(read_mask(tmp_path / f"o/png/1/{index:05d}.png"), mask)


def test_many_objects_prompted_on_different_frames(sam2, tmp_path, frames_folder, checkpoint, predictor):
    rough = np.zeros((64, 96), dtype=bool)
    rough[4:20, 60:90] = True
    Image.fromarray(rough).save(tmp_path / "rough.png")
    objects = [
        {"id": 9, "name": "disc", "prompts": [{"points": [[32, 32], [90, 5]], "labels": [1, 0]},
                                              {"frame": 3, "box": [20, 10, 60, 60]}]},
        {"id": 2, "prompts": [{"frame": 2, "mask": "rough.png"}]},
    ]  # fmt: skip
    (tmp_path / "p.json").write_text(json.dumps({"version": 1, "objects": objects}))
    outcome = sam2(
        "track", frames_folder, "--prompts", "p.json", "--no-zoom", "--model", checkpoint, "--out", "o",
        "--format", "png,davis,coco,overlay",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "2 objects in 5 frames" in outcome.out

    session = predictor.init_state(str(frames_folder))
    predictor.add_new_points_or_box(session, 0, 9, np.array([[32, 32], [90, 5]]), np.array([1, 0]))
    predictor.add_new_points_or_box(session, 3, 9, box=np.array([20, 10, 60, 60]))
    predictor.add_new_mask(session, 2, 2, rough)
    for result in predictor.propagate(session):
        name = f"{result.frame_idx:05d}.png"
        for object_id, mask in zip(result.obj_ids, result.masks.numpy(), strict=True):
            np.testing.assert_array_equal(read_mask(tmp_path / f"o/png/{object_id}/{name}"), mask)
        # in the indexed picture each pixel belongs to the object that claims it most
        logits = result.logits[:, 0]
        winner = np.array(result.obj_ids)[logits.argmax(dim=0).numpy()] * (logits.amax(dim=0) > 0).numpy()
        np.testing.assert_array_equal(read_label_map(tmp_path / f"o/davis/{name}"), winner)
    names = {category["name"] for category in COCO(tmp_path / "o/coco.json").dataset["categories"]}
    assert names == {"disc", "object"}  # what has no name is not of another's class


def test_objects_are_followed_from_near_where_the_model_says_so(sam2, tmp_path, checkpoint, predictor):
    clip = write_clip(tmp_path / "clip.mp4", count=7)
    objects = [
        {"id": 1, "prompts": [{"frame": 3, "box": [20, 10, 60, 60]}]},
        {"id": 4, "prompts": [{"frame": 3, "points": [[41, 32]], "labels": [1]}]},
    ]
    (tmp_path / "p.json").write_text(json.dumps({"version": 1, "objects": objects}))
    ask = ["track", clip, "--prompts", "p.json", "--direction", "both", "--format", "png"]
    assert sam2(*ask, "--model", checkpoint, "--out", "o").code == 0
    assert result_of(tmp_path / "o")["zoom"]
    expected = {}
    with open_video(clip) as video, CloseTracker(predictor, video) as tracker:
        tracker.prompt(3, 1, box=[20, 10, 60, 60])
        tracker.prompt(3, 4, points=[[41, 32]], labels=[1])
        for reverse in (True, False):
            expected |= {r.frame_idx: r.masks.numpy() for r in tracker.propagate(3, reverse=reverse)}
    assert sorted(expected) == list(range(7))
    for index, masks in expected.items():
        for object_id, mask in zip((1, 4), masks):
            np.testing.assert_array_equal(read_mask(tmp_path / f"o/png/{object_id}/{index:05d}.png"), mask)


def test_memory_is_let_go_without_changing_results():
    torch.manual_seed(0)
    predictor = build_sam2_video_predictor("mini", None, device="cpu", hydra_overrides_extra=MINIATURE)
    frames = [picture_of(32, 24, shift=index % 8) for index in range(40)]
    reach = predictor.memory_policy.horizon()
    found = {}
    for forgetting in (False, True):
        session = predictor.init_state(frames)
        predictor.add_new_points_or_box(session, 0, 1, np.array([[10.0, 12.0]]), np.array([1]))
        found[forgetting] = []
        for result in predictor.propagate(session):
            found[forgetting].append(result.logits)
            if forgetting:
                session.forget_tracked((result.frame_idx, 0), reach)
        kept = len(session.tracks[1].bank)
        assert kept <= 2 * reach + 2 if forgetting else kept == 40
        assert len(session.tracks[1].found) == kept
    assert torch.equal(torch.stack(found[True]), torch.stack(found[False]))


def start_tracking(clip, checkpoint, out, *prompts):
    """The command at work, two frames done."""
    process = subprocess.Popen(
        command("track", clip, *prompts, "--model", checkpoint, "--out", out,
                "--format", "overlay,davis,coco"),
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(list(out.glob(".sam2-*/davis/[0-9]*.png"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


ASKED = "sam2: stopping after this frame; Ctrl-C again drops everything\n"


def test_ctrl_c_keeps_what_is_finished_and_says_so(tmp_path, checkpoint):
    clip = write_clip(tmp_path / "clip.mp4", count=300, sound=True)
    out = tmp_path / "o"
    process = start_tracking(clip, checkpoint, out, "--point", "32,32")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert stderr == ASKED
    done = int(re.search(r"after (\d+) of 300 frames; what is finished is kept", stdout)[1])
    assert 2 <= done < 300
    assert result_of(out)["interrupted"] is True
    assert frames_of(out) == list(range(done))
    assert len(list((out / "davis").iterdir())) == done
    assert len(COCO(out / "coco.json").imgs) == done
    with open_video(out / "overlay.mp4") as overlay:
        assert overlay.num_frames == done
    assert {path.name for path in out.iterdir()} == {"overlay.mp4", "davis", "coco.json", "result.json"}


def test_a_second_ctrl_c_drops_everything(tmp_path, checkpoint):
    clip = write_clip(tmp_path / "clip.mp4", count=300)
    out = tmp_path / "o"
    # so many objects that the frame at work is not done when the second Ctrl-C comes
    objects = [{"id": i + 1, "prompts": [{"points": [[i, 32]]}]} for i in range(80)]
    (tmp_path / "p.json").write_text(json.dumps({"version": 1, "objects": objects}))
    process = start_tracking(clip, checkpoint, out, "--prompts", tmp_path / "p.json")
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == ASKED
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (130, "")
    assert stderr == "sam2: interrupted; nothing was written\n"
    assert not out.exists()
