"""The judge on real photos and clips: its machinery on made-up ones, and the outlines that it brings."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from video_samples import encode

from sam2.build_sam import build_sam2
from sam2.checkpoint import save_checkpoint
from sam2.cli import main
from sam2.evaluation import classical, real, real_clips, real_report
from sam2.evaluation.classical import FAMILIES, GrabCut
from sam2.evaluation.clicks import Guess
from sam2.evaluation.report import Interval

pytestmark = pytest.mark.usefixtures("one_thread")
SQUARE = [20, 16, 44, 16, 44, 40, 20, 40]


def picture(shift: int = 0) -> NDArray[np.uint8]:
    """A red square with a soft texture on a like-textured blue ground, [64, 80, 3]."""
    noise = np.random.default_rng(5).normal(0, 6, (64, 80, 3))
    image = np.full((64, 80, 3), (40.0, 60.0, 170.0))
    image[16:40, 20 + shift : 44 + shift] = (190.0, 50.0, 40.0)
    return np.clip(image + np.roll(noise, shift, axis=1), 0, 255).astype(np.uint8)


@pytest.fixture
def outlines(tmp_path: Path) -> Path:
    """Two objects in a picture that is there and one in a picture that is not."""
    Image.fromarray(picture()).save(tmp_path / "square.png")
    here = {"source": "media", "picture": "square.png", "note": "all of it"}
    objects = [
        {**here, "name": "square", "polygons": [SQUARE]},
        {**here, "name": "frame", "polygons": [SQUARE], "holes": [[26, 22, 38, 22, 38, 34, 26, 34]]},
        {**here, "name": "far", "picture": "absent.png", "polygons": [SQUARE]},
    ]
    (tmp_path / "objects.json").write_text(json.dumps({"about": "made up", "objects": objects}))
    return tmp_path / "objects.json"


def test_outlines_become_masks_and_absent_pictures_are_left_out(outlines: Path) -> None:
    (photo,) = real.photos(real.read_outlines(outlines), outlines.parent)
    assert (photo.name, photo.names, photo.image.shape) == (
        "media/square.png",
        ["square", "frame"],
        (64, 80, 3),
    )
    square, frame = photo.masks
    assert square.sum() == 24 * 24
    assert square[16:40, 20:44].all()
    assert frame.sum() == 24 * 24 - 12 * 12
    assert not frame[28, 32]


class Late:
    """Answers with nothing at first and with the truth from the second click or the box's first click on."""

    def __init__(self, truth: NDArray[np.bool_]) -> None:
        self.truth = truth
        self.asked: list[tuple[str, list[int]]] = []

    def set_image(self, image: NDArray[np.uint8]) -> None:
        assert image.shape == (*self.truth.shape, 3)

    def clicks(self, coords: NDArray[np.float32], labels: NDArray[np.int32], state: Any) -> Guess:
        self.asked.append(("clicks", labels[0].tolist()))
        right = self.truth[None] & (len(labels[0]) > 1)
        return Guess(right, np.stack([right, self.truth[None]], axis=1), len(labels[0]))

    def boxes(self, boxes: NDArray[np.float32]) -> Guess:
        assert boxes.tolist() == [[20, 16, 44, 40]]
        nothing = np.zeros_like(self.truth)[None]
        return Guess(nothing, nothing[:, None], "boxed")

    def box_clicks(
        self, boxes: NDArray[np.float32], coords: NDArray[np.float32], labels: NDArray[np.int32], state: Any
    ) -> Guess:
        assert state == "boxed"
        self.asked.append(("box", labels[0].tolist()))
        return Guess(self.truth[None], self.truth[None, None], state)


def test_a_tool_is_asked_click_by_click(outlines: Path) -> None:
    (photo,) = real.photos(real.read_outlines(outlines)[:1], outlines.parent)
    late = Late(photo.masks[0])
    (trial,) = real.score_photo("late", late, photo)
    assert trial.iou == {
        "click_1": 0, "click_3": 1, "click_5": 1, "best_of_3": 1, "box": 0, "box_clicks_2": 1
    }  # fmt: skip
    assert [kind for kind, _ in late.asked] == ["clicks"] * 5 + ["box"] * 2
    assert trial.clicks.shape == (5, 2)
    x, y = trial.clicks[0]
    assert abs(x - 31.5) <= 1
    assert abs(y - 27.5) <= 1
    assert (trial.row()["tool"], trial.row()["object"], trial.area) == ("late", "square", 576)


@pytest.mark.parametrize("family", FAMILIES)
def test_classical_tools_find_what_stands_out(family: str, outlines: Path) -> None:
    pytest.importorskip("cv2")
    pytest.importorskip("skimage")
    (photo,) = real.photos(real.read_outlines(outlines)[:1], outlines.parent)
    # of GrabCut a share that reaches beyond the object, which fills much of this small picture
    make = partial(GrabCut, 0.6) if family == "GrabCut" else list(FAMILIES[family].values())[-1]
    (trial,) = real.score_photo(family, make(), photo)
    assert trial.iou["click_1"] > 0.9
    assert trial.iou["click_5"] > 0.9
    assert trial.iou["box"] > 0.9
    assert trial.iou["box_clicks_2"] > 0.9


def track_file(folder: Path) -> Path:
    """A clip of the square going right by two pixels a frame, out of view in no frame; outlined on three."""
    encode(folder / "going.mp4", [picture(2 * t) for t in range(9)])
    moved = {
        str(t): {"polygons": [[v + 2 * t * (1 - i % 2) for i, v in enumerate(SQUARE)]]} for t in (0, 4, 8)
    }
    track = {"clip": "going.mp4", "name": "square", "note": "", "frames": moved}
    (folder / "clips.json").write_text(json.dumps({"objects": [track, {**track, "clip": "absent.mp4"}]}))
    return folder / "clips.json"


def test_flow_carries_first_masks(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    (clip, tracks), *more = real_clips.present(real_clips.read_tracks(track_file(tmp_path)), tmp_path).items()
    assert not more
    first = tracks[0].outlines[0].mask((64, 80))
    tools = {"late": Late(first), "grab": FAMILIES["GrabCut"]["GrabCut 0.3"]()}
    tools["late"].boxes = lambda boxes: Guess(first[None], first[None, None], None)  # type: ignore[method-assign]
    done = {(f.tool, f.prompt): f for f in real_clips.follow_with_flow(tools, clip, tracks)}
    assert list(done["late + flow", "box"].ious) == [0, 4, 8]
    assert done["late + flow", "box"].j > 0.8
    assert done["late + flow", "click_1"].j == 0
    assert done["grab + flow", "box"].j > 0.8


def test_families_are_judged_by_their_best_setting_and_margins_by_object() -> None:
    table = {
        "a 1": {"click_1": Interval(0.2, 0, 1), "box": Interval(0.9, 0, 1)},
        "a 2": {"click_1": Interval(0.4, 0, 1), "box": Interval(0.1, 0, 1)},
    }
    best = real_report.best_settings(table, {"a": ["a 1", "a 2"]})["a"]
    assert (best["click_1"].mean, best["box"].mean) == (0.4, 0.9)

    def trial(tool: str, name: str, iou: float) -> real.Trial:
        ious = dict.fromkeys(real.PROMPTS, iou)
        return real.Trial(tool, f"{name}.png", name, 1, ious, {}, np.zeros((1, 2), np.float32))

    trials = [trial("we", "x", 0.5), trial("we", "y", 0.9), trial("poor", "x", 0), trial("poor", "y", 0)]
    trials += [trial("good", "x", 0.4), trial("good", "y", 0.8)]
    gap = real_report.margins(trials, "we")["box"]
    assert gap.mean == pytest.approx(0.1)
    assert gap.low == pytest.approx(0.1)


def test_the_command_scores_a_checkpoint(
    outlines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    pytest.importorskip("skimage")
    tracks = track_file(tmp_path)
    objects, followed = real.read_outlines(outlines), real_clips.read_tracks(tracks)
    monkeypatch.setattr(real, "read_outlines", lambda: objects)
    monkeypatch.setattr(real_clips, "read_tracks", lambda: followed)
    monkeypatch.setattr(classical, "FAMILIES", {name: FAMILIES[name] for name in ("GrabCut", "watershed")})
    weights = tmp_path / "own.safetensors"
    save_checkpoint(build_sam2(device="cpu"), weights)
    made = {kind: tmp_path / f"real.{kind}" for kind in ("csv", "json", "png")}
    asked = [
        "--checkpoint",
        str(weights),
        "--media",
        str(tmp_path),
        "--classical",
        "--clips",
        "--device",
        "cpu",
    ]
    out = ["--csv", str(made["csv"]), "--json", str(made["json"]), "--sheet", str(made["png"])]
    assert main(["eval", "real", *asked, *out]) == 0
    printed = capsys.readouterr().out
    assert "own.safetensors − best other" in printed
    assert "mean IoU of 2 objects in 1 photos" in printed
    assert "GrabCut + flow" in printed
    with open(made["csv"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (1 + 2 + 2)
    content = json.loads(made["json"].read_text())
    assert set(content["photos"]["own.safetensors"]) == set(real.PROMPTS)
    assert 0 <= content["clips"]["own.safetensors"]["box"]["mean"] <= 1
    with Image.open(made["png"]) as sheet:
        assert sheet.width > 1000


def test_a_protocol_is_asked_for_where_data_is_not_real(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "somewhere"]) == 2
    assert "--protocol NAME" in capsys.readouterr().err


def test_clips_that_are_not_here_are_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "real", "--clips", "--media", str(tmp_path)]) == 2
    assert "none of the clips is in" in capsys.readouterr().err


def test_the_outlines_lie_in_their_pictures() -> None:
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    objects = real.read_outlines()
    assert len(objects) >= 40
    assert len({(o.picture, o.name) for o in objects}) == len(objects)
    for o in objects:
        path = real.folder_of(o.source) / o.picture
        if o.source == "media" and not path.exists():
            continue
        with Image.open(path) as opened:
            width, height = opened.size
        for ring in (*o.outline.polygons, *o.outline.holes):
            x, y = np.asarray(ring).reshape(-1, 2).T
            assert min(x.min(), y.min()) >= 0, o.name
            assert x.max() <= width, o.name
            assert y.max() <= height, o.name
        assert o.outline.mask((height, width)).sum() > 300, o.name


def test_the_tracks_begin_in_view() -> None:
    tracks = real_clips.read_tracks()
    assert len(tracks) >= 13
    for track in tracks:
        frames = list(track.outlines)
        assert frames == sorted(frames)
        assert len(frames) >= 4
        assert track.outlines[frames[0]].polygons
