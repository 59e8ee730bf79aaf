"""Protocols with tools whose answers are known, and whole runs on made data sets."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from training_helpers import TINY, tiny_model, toy_clip
from video_samples import encode

from sam2.build_sam import build_sam2_video_predictor
from sam2.checkpoint import save_checkpoint
from sam2.config import load_config
from sam2.data.clip import Clip
from sam2.data.pool import write_pool
from sam2.data.readers import open_dataset
from sam2.data.recipe import Recipe
from sam2.evaluation.amg import automatic_recall
from sam2.evaluation.clicks import Guess, StillScore, boxes_of, score_still, summary
from sam2.evaluation.report import Example, Worst, bootstrap, write_table
from sam2.evaluation.run import EvaluationOptions, evaluate
from sam2.evaluation.vos import Footage, correct_offline, correct_online, follow
from sam2.masks.png import write_binary_png
from sam2.masks.rle import encode_compressed
from sam2.video import open_video

pytestmark = pytest.mark.usefixtures("one_thread")


class Rings:
    """A tool that finds the object's box at first and one tenth more of it with each click."""

    def __init__(self, clip: Clip) -> None:
        self.truth = clip.masks[0]
        self.calls: list[tuple[Any, ...]] = []

    def set_image(self, image: np.ndarray) -> None:
        assert image.dtype == np.uint8

    def _found(self, coords: np.ndarray, share: float) -> np.ndarray:
        found = []
        for x, y in coords[:, 0].astype(int):
            (place,) = np.flatnonzero(self.truth[:, y, x])
            kept = np.flatnonzero(self.truth[place])
            mask = np.zeros_like(self.truth[place])
            mask.flat[kept[: round(share * len(kept))]] = True
            found.append(mask)
        return np.stack(found)

    def clicks(self, coords: np.ndarray, labels: np.ndarray, state: Any) -> Guess:
        step = 1 if state is None else state + 1
        self.calls.append((coords.shape, labels[:, -1].tolist(), state))
        chosen = self._found(coords, min(1.0, 0.4 + 0.1 * step))
        offered = np.stack([chosen, self._found(coords, 1.0)], axis=1) if step == 1 else chosen[:, None]
        return Guess(chosen, offered, step)

    def boxes(self, boxes: np.ndarray) -> Guess:
        height, width = self.truth.shape[1:]
        yy, xx = np.mgrid[:height, :width]
        inside = [(xx >= x0) & (xx < x1) & (yy >= y0) & (yy < y1) for x0, y0, x1, y1 in boxes]
        return Guess(np.stack(inside), np.stack(inside)[:, None], None)


def squares(frames: int = 1) -> Clip:
    """Two squares of 20 and 10 pixels that move down by a pixel a frame."""
    masks = np.zeros((frames, 2, 50, 60), bool)
    for t in range(frames):
        masks[t, 0, 5 + t : 25 + t, 5:25] = True
        masks[t, 1, 10 + t : 20 + t, 40:50] = True
    pictures = np.repeat(masks.any(1)[..., None] * np.uint8(200), 3, axis=-1)
    return Clip(pictures, masks, (3, 8), "squares")


def test_ious_after_clicks_box_and_oracle() -> None:
    clip = squares()
    tool = Rings(clip)
    scores, first = score_still(tool, clip, max_clicks=5, together=1)
    for score in scores:
        assert score.clicks == pytest.approx((0.5, 0.6, 0.7, 0.8, 0.9), abs=0.01)
        assert score.box == 1
        assert score.best_of_offered == 1
        assert score.clicks_to(0.85) == 5
        assert score.clicks_to(0.95) == 5
        assert "noc_85" not in score.row()
    assert [s.object_id for s in scores] == [3, 8]
    assert [s.area for s in scores] == [400, 100]
    assert first.sum(axis=(1, 2)).tolist() == [200, 50]
    # each object by itself, one click more at a time, all of them on what is missed
    assert [call[0] for call in tool.calls] == [(1, k, 2) for k in (1, 2, 3, 4, 5)] * 2
    assert all(call[1] == [1] for call in tool.calls)
    assert [call[2] for call in tool.calls[:3]] == [None, 1, 2]
    means = summary(scores)
    assert means["iou_1_clicks"] == pytest.approx(0.5)
    assert means["iou_best_of_3"] == 1


def test_noc_needs_twenty_clicks() -> None:
    scores, _ = score_still(Rings(squares()), squares(), max_clicks=20)
    assert scores[0].row()["noc_85"] == 5
    assert scores[0].row()["noc_90"] == 5
    never = StillScore("p", 1, 10, (0.1,) * 20, 0.1, 0.1)
    assert never.row()["noc_85"] == 20


def test_a_clip_is_no_still() -> None:
    with pytest.raises(ValueError, match="squares has 3 frames"):
        score_still(Rings(squares()), squares(3))


def test_boxes_reach_to_the_far_edge() -> None:
    assert boxes_of(squares().masks[0]).tolist() == [[5, 5, 25, 25], [40, 10, 50, 20]]


class Follower:
    """A video predictor whose masks are the truth, shifted by an error that clicks take away nearby."""

    zoom = False

    def __init__(self, clip: Clip, reach: int) -> None:
        self.clip = clip
        self.reach = reach
        self.clicks: list[tuple[int, int]] = []
        self.prompts: list[str] = []
        self.strength = {0: 1.0, 1: 1.0}

    def init_state(self, frames: Any) -> dict[int, set[int]]:
        self.opened = frames
        return {}

    def _mask(self, session: dict[int, set[int]], place: int, t: int) -> np.ndarray:
        near = min((t - f for f in session[place] if f <= t), default=99)
        truth = self.clip.masks[t, place]
        return truth if near <= self.reach else np.roll(truth, 9, axis=1)

    def _answer(self, session: dict[int, set[int]], t: int) -> tuple[int, list[int], torch.Tensor]:
        ids = sorted(session)
        masks = [(self._mask(session, place, t) - 0.5) * self.strength[place] for place in ids]
        return t, ids, torch.from_numpy(np.stack(masks))[:, None]

    def add_new_points_or_box(self, session: Any, frame: int, place: int, **prompt: Any) -> Any:
        session.setdefault(place, set()).add(frame)
        if "box" in prompt:
            self.prompts.append("box")
        else:
            self.clicks.append((place, frame))
        return self._answer(session, frame)

    def add_new_mask(self, session: Any, frame: int, place: int, mask: np.ndarray) -> Any:
        self.prompts.append("mask")
        session.setdefault(place, set()).add(frame)
        return self._answer(session, frame)

    def propagate_in_video(self, session: Any, start: int | None = None) -> Any:
        begin = min(min(frames) for frames in session.values()) if start is None else start
        for t in range(begin, len(self.clip)):
            yield self._answer(session, t)


@pytest.mark.parametrize(
    ("prompt", "clicks", "others"),
    [("mask", 0, ["mask"] * 2), ("box", 0, ["box"] * 2), ("1 click", 2, []), ("3 clicks", 6, [])],
)
def test_following_from_one_prompt(prompt: str, clicks: int, others: list[str]) -> None:
    clip = squares(8)
    tool: Any = Follower(clip, reach=9)
    scores, found = follow(tool, clip, prompt)
    assert (len(tool.clicks), tool.prompts) == (clicks, others)
    assert [(s.object_id, s.j, s.f, s.presence) for s in scores] == [(3, 100, 100, 1), (8, 100, 100, 1)]
    assert np.array_equal(found, clip.masks)
    with pytest.raises(ValueError, match="unknown prompt '2 clicks'"):
        follow(tool, clip, "2 clicks")


def test_objects_that_come_later_and_never() -> None:
    clip = squares(8)
    masks = clip.masks.copy()
    masks[:3, 1] = False
    late = Clip(clip.frames, masks, clip.object_ids, "late")
    scores, found = follow(Follower(late, 9), late, "mask")  # type: ignore[arg-type]
    assert [s.j for s in scores] == [100, 100]
    assert not found[:3, 1].any()
    masks[:, 1] = False
    never = Clip(clip.frames, masks, clip.object_ids, "never")
    assert [s.object_id for s in follow(Follower(never, 9), never)[0]] == [3]  # type: ignore[arg-type]


def test_a_pixel_goes_to_one_object_where_labels_are_exclusive() -> None:
    clip = squares(4)
    wide = clip.masks.copy()
    wide[:, 1] |= clip.masks[:, 0]
    overlapping = Clip(clip.frames, wide, clip.object_ids, "wide")
    both = follow(Follower(overlapping, 9), overlapping)[1]  # type: ignore[arg-type]
    assert both.all(axis=1).any()
    tool: Any = Follower(overlapping, 9)
    tool.strength = {0: 2.0, 1: 1.0}
    one = follow(tool, overlapping, exclusive=True)[1]
    assert not one.all(axis=1).any()
    assert np.array_equal(one[:, 0], wide[:, 0])


def test_the_tracker_sees_frames_without_annotation_too() -> None:
    clip = squares(9)
    sparse = Clip(clip.frames[::4], clip.masks[::4], clip.object_ids, "sparse")
    frames = [f"{t}.jpg" for t in range(9)]
    for run in (follow, correct_offline, correct_online):
        tool: Any = Follower(clip, reach=9)
        done: Any = run(tool, sparse, footage=Footage(frames, [0, 4, 8]))
        scores = done[0] if run is follow else done
        assert {(s.object_id, s.j) for s in scores} == {(3, 100), (8, 100)}
        assert tool.opened == frames
        assert {frame for _, frame in tool.clicks} <= {0, 4, 8}


def test_offline_rounds_correct_the_worst_frame() -> None:
    clip = squares(8)
    tool: Any = Follower(clip, reach=2)
    scores = [s for s in correct_offline(tool, clip, rounds=4, clicks=3) if s.object_id == 3]
    assert [s.frames for s in scores] == [1, 2, 3, 4]
    assert [s.j for s in scores] == sorted(s.j for s in scores)
    assert scores[0].j < 80
    assert scores[-1].j == 100
    frames = [frame for place, frame in tool.clicks if place == 0]
    assert frames[:6] == [0, 0, 0, 3, 3, 3]


def test_online_stops_where_the_object_is_lost() -> None:
    clip = squares(8)
    tool: Any = Follower(clip, reach=2)
    scores = correct_online(tool, clip, frames=8, clicks=3)
    assert [s.frames for s in scores] == [3, 3]
    assert [frame for place, frame in tool.clicks if place == 1] == [0, 0, 0, 3, 3, 3, 6, 6, 6]
    assert scores[0].j == 100
    few: Any = Follower(clip, reach=2)
    assert [s.frames for s in correct_online(few, clip, frames=2)] == [2, 2]


def test_recall_of_automatic_masks() -> None:
    clip = squares()
    half = clip.masks[0, 0].copy()
    half[:, :10] = False
    generator: Any = SimpleNamespace(generate=lambda _: [{"segmentation": half}])
    rows = [s.row() for s in automatic_recall(generator, clip)]
    assert [r["best_iou"] for r in rows] == [0.75, 0]
    assert [r["recall_75"] for r in rows] == [1, 0]


def test_intervals_draw_whole_groups() -> None:
    values = [0.0] * 50 + [1.0] * 50
    one_each = bootstrap(values, list(range(100)))
    two_groups = bootstrap(values, [0] * 50 + [1] * 50)
    assert one_each.mean == two_groups.mean == 0.5
    assert 0.38 < one_each.low < 0.45 < 0.55 < one_each.high < 0.62
    assert (two_groups.low, two_groups.high) == (0, 1)
    with pytest.raises(ValueError, match="0 values"):
        bootstrap([], [])


def test_the_sheet_keeps_the_worst(tmp_path: Path) -> None:
    clip = squares()
    worst = Worst(2)
    for score in (0.9, 0.1, 0.5, 0.3):
        worst.add(Example(clip.frames[0], clip.masks[0, 0], clip.masks[0, 1], score, "x"))
    assert [e.score for e in worst.examples] == [0.1, 0.3]
    worst.write(tmp_path / "worst.png")
    with Image.open(tmp_path / "worst.png") as page:
        assert page.width > 600


def test_tables_take_rows_of_different_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", [{"a": 1, "b": 0.25}, {"a": 2, "c": "x"}])
    assert (tmp_path / "t.csv").read_text().split() == ["a,b,c", "1,0.2500,", "2,,x"]


@pytest.fixture
def tiny_yaml(tmp_path: Path) -> str:
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump({"model": load_config("mini", TINY)}))
    return str(file)


def made_davis(root: Path) -> Path:
    for number in range(2):
        clip = toy_clip(number, frames=4, objects=2)
        for folder in ("JPEGImages", "Annotations"):
            (root / folder / f"clip{number}").mkdir(parents=True)
        for t in range(4):
            Image.fromarray(clip.frames[t]).save(root / "JPEGImages" / f"clip{number}" / f"{t:05d}.jpg")
            labels = (clip.masks[t] * np.arange(1, 3)[:, None, None]).max(0).astype(np.uint8)
            picture = Image.fromarray(labels)
            picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
            picture.save(root / "Annotations" / f"clip{number}" / f"{t:05d}.png")
    return root


def made_stills(root: Path) -> Path:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(3):
        clip = toy_clip(number, objects=2)
        Image.fromarray(clip.frames[0]).save(root / "images" / f"{number}.jpg")
        labels = (clip.masks[0] * np.arange(1, 3)[:, None, None]).max(0).astype(np.uint8)
        Image.fromarray(labels).save(root / "masks" / f"{number}.png")
    return root


def made_sav(root: Path, layout: str) -> Path:
    """SA-V as published, 24 frames a second and every fourth annotated: MP4 + JSON, or pictures by object."""
    clip = toy_clip(3, frames=9, objects=2)
    if layout == "train":
        root.mkdir()
        encode(root / "sav_1.mp4", list(clip.frames), rate=24, options={"crf": "4"})
        rows = [[encode_compressed(mask) for mask in masks] for masks in clip.masks[::4]]
        content = {"video_id": "sav_1", "masklet_id": [0, 1], "masklet": rows}
        (root / "sav_1_manual.json").write_text(json.dumps(content))
        return root
    for t, frame in enumerate(clip.frames):
        picture = root / f"JPEGImages_24fps/sav_1/{t:05d}.jpg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(picture)
        for n in range(2) if t % 4 == 0 else ():
            write_binary_png(root / f"Annotations_6fps/sav_1/{n:03d}/{t:05d}.png", clip.masks[t, n])
    return root


@pytest.mark.parametrize("layout", ["train", "val"])
def test_a_made_sav_set_gives_a_table(tmp_path: Path, tiny_yaml: str, layout: str) -> None:
    data = made_sav(tmp_path / "sav", layout)
    opened = open_dataset(data)
    assert not opened.exclusive
    frames, annotated = opened.footage(0)
    with open_video(frames) as video:
        assert (len(video), annotated) == (9, [0, 4, 8])
    options = EvaluationOptions(str(data), "3 clicks", tiny_yaml, device="cpu")
    done = evaluate(options, tmp_path / "out")
    assert (done.objects, done.clips, done.unread, done.unscored) == (2, 1, [], [])
    with open(tmp_path / "out" / "objects.csv", newline="") as file:
        assert [(r["clip"], r["object"]) for r in csv.DictReader(file)] == [("sav_1", "0"), ("sav_1", "1")]


def test_a_set_with_its_truth_withheld_is_said_so(tmp_path: Path, tiny_yaml: str) -> None:
    data = made_davis(tmp_path / "test")
    for path in (data / "Annotations").rglob("*.png"):
        if path.stem != "00000":
            path.unlink()
    options = EvaluationOptions(str(data), "mask", tiny_yaml, device="cpu")
    with pytest.raises(ValueError, match=r"#1: not seen between the first and the last of 1 annotated"):
        evaluate(options, tmp_path / "out")


def test_a_damaged_frame_between_annotated_ones_is_listed(tmp_path: Path, tiny_yaml: str) -> None:
    data = made_sav(tmp_path / "sav", "val")
    bad = data / "JPEGImages_24fps" / "sav_1" / "00002.jpg"
    bad.write_bytes(b"damaged")
    options = EvaluationOptions(str(data), "mask", tiny_yaml, device="cpu")
    with pytest.raises(ValueError, match=r"00002\.jpg"):
        evaluate(options, tmp_path / "out")
    few = EvaluationOptions(str(data), "mask", tiny_yaml, device="cpu", every_frame=False)
    assert evaluate(few, tmp_path / "out").objects == 2


@pytest.mark.parametrize("protocol", ["1 click", "offline", "online"])
def test_a_made_video_set_gives_a_table(tmp_path: Path, tiny_yaml: str, protocol: str) -> None:
    data = made_davis(tmp_path / "davis")
    torch.manual_seed(0)
    options = EvaluationOptions(str(data), protocol, tiny_yaml, device="cpu", limit=1)
    means = evaluate(options, tmp_path / "out").means
    assert 0 <= means["jf"].low <= means["jf"].mean <= means["jf"].high <= 100
    with open(tmp_path / "out" / "objects.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(r["clip"], r["object"]) for r in rows} == {("clip0", "1"), ("clip0", "2")}
    facts = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert facts["objects"] == 2
    assert facts["unread"] == []
    if protocol == "offline":
        assert "jf_round_4" in means
        assert means["jf_round_4"].mean == means["jf"].mean


def test_made_stills_give_a_table_and_a_sheet(tmp_path: Path, tiny_yaml: str) -> None:
    data = made_stills(tmp_path / "stills")
    (data / "images" / "1.jpg").write_bytes(b"damaged")
    options = EvaluationOptions(str(data), "clicks", tiny_yaml, device="cpu")
    means = evaluate(options, tmp_path / "out").means
    assert set(means) == {"iou_1_clicks", "iou_3_clicks", "iou_5_clicks", "iou_box", "iou_best_of_3"}
    facts = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert facts["objects"] == 4
    (unread,) = facts["unread"]
    assert "1.jpg" in unread
    assert (tmp_path / "out" / "worst.png").exists()


@pytest.mark.slow
def test_processes_do_not_change_the_table(tmp_path: Path, tiny_yaml: str) -> None:
    save_checkpoint(tiny_model(), tmp_path / "tiny.pt")
    data = made_davis(tmp_path / "davis")
    tables = []
    for workers in (1, 2):
        options = EvaluationOptions(
            str(data), "1 click", tiny_yaml, str(tmp_path / "tiny.pt"), device="cpu", workers=workers
        )
        evaluate(options, tmp_path / str(workers))
        tables.append((tmp_path / str(workers) / "objects.csv").read_text())
    assert tables[0] == tables[1]
    assert len(tables[0].splitlines()) == 5


def test_a_set_of_pictures_is_no_set_of_clips(tmp_path: Path, tiny_yaml: str) -> None:
    data = made_stills(tmp_path / "stills")
    with pytest.raises(ValueError, match=r"no object could be scored in 1 clips \(0 #1: not seen between"):
        evaluate(EvaluationOptions(str(data), "mask", tiny_yaml, device="cpu", limit=1), tmp_path / "out")
    with pytest.raises(ValueError, match="unknown protocol 'click'"):
        EvaluationOptions(str(data), "click")


def test_recall_on_made_stills(tmp_path: Path, tiny_yaml: str) -> None:
    data = made_stills(tmp_path / "stills")
    options = EvaluationOptions(str(data), "automatic", tiny_yaml, device="cpu", limit=1)
    means = evaluate(options, tmp_path / "out").means
    assert 0 <= means["recall_50"].mean <= 1


def test_a_model_that_zooms_follows_from_near():
    """The packaged model keeps two small discs, each in a window of its own, and one of them from clicks."""
    rng = np.random.default_rng(0)
    ground = rng.integers(90, 130, (96, 160, 3)).astype(np.uint8)
    y, x = np.mgrid[:96, :160]
    masks = np.stack(
        [
            [(x - 30 - 3 * t) ** 2 + (y - 30) ** 2 < 64, (x - 120) ** 2 + (y - 70 + 2 * t) ** 2 < 64]
            for t in range(4)
        ]
    )
    frames = np.repeat(ground[None], 4, axis=0)
    frames[masks[:, 0]] = (230, 60, 40)
    frames[masks[:, 1]] = (40, 80, 230)
    clip = Clip(frames, masks, (1, 2), "discs")
    predictor = build_sam2_video_predictor()
    for prompt in ("mask", "box", "3 clicks"):
        scores, found = follow(predictor, clip, prompt)
        assert found.shape == masks.shape
        assert min(score.j for score in scores) > 60


def test_generated_scenes_give_means_by_kind_of_target(tmp_path: Path, tiny_yaml: str) -> None:
    write_pool(tmp_path / "scenes", Recipe(64, 1, (0.3, 0.5), seed=5), 2)
    options = EvaluationOptions(str(tmp_path / "scenes"), "clicks", tiny_yaml, device="cpu")
    done = evaluate(options, tmp_path / "out")
    assert {"whole", "part"} <= set(done.kinds)
    assert sum(count for count, _ in done.kinds.values()) == done.objects
    together = sum(count * means["iou_box"].mean for count, means in done.kinds.values()) / done.objects
    assert together == pytest.approx(done.means["iou_box"].mean)
    with open(tmp_path / "out" / "objects.csv", newline="") as file:
        assert {row["kind"] for row in csv.DictReader(file)} == set(done.kinds)
    written = json.loads((tmp_path / "out" / "summary.json").read_text())["kinds"]
    assert {kind: of["objects"] for kind, of in written.items()} == {
        kind: count for kind, (count, _) in done.kinds.items()
    }
