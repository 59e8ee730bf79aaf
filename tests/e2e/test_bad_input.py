"""What people give by mistake: odd pictures work, the rest gets one line that says what to do, and nothing is
lost or half-written."""

from __future__ import annotations

import json
import os
import resource

import av
import numpy as np
import pytest
import torch
from e2e_helpers import MINIATURE, picture_of, write_clip
from PIL import Image

from sam2.build_sam import build_sam2, build_sam2_video_predictor
from sam2.checkpoint import save_checkpoint
from sam2.masks.png import read_mask
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.video import open_video

POINT = ["--point", "32,32"]


@pytest.fixture(scope="module")
def image_model(checkpoint):
    return build_sam2(ckpt_path=checkpoint, device="cpu")


@pytest.fixture(scope="module")
def video_predictor():
    torch.manual_seed(0)
    return build_sam2_video_predictor("mini", None, device="cpu", hydra_overrides_extra=MINIATURE)


@pytest.fixture
def session(video_predictor):
    with video_predictor.init_state([picture_of(shift=3 * i) for i in range(3)]) as session:
        yield session


@pytest.fixture
def refused(sam2, tmp_path, checkpoint):
    """Runs a command that must be refused with these words, leaving nothing behind."""

    def run(*arguments, words):
        before = sorted(tmp_path.rglob("*"))
        outcome = sam2(*arguments, "--model", checkpoint)
        assert outcome.refused(*words)
        assert outcome.out == ""
        assert sorted(tmp_path.rglob("*")) == before

    return run


# ---------------------------------------------------------------- files that are no pictures or videos


def text_file(path):
    path.write_text("these are not the pixels you are looking for")


def empty_file(path):
    path.write_bytes(b"")


def truncated_picture(path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, format="JPEG")
    path.write_bytes(path.read_bytes()[:2000])


def missing_file(path):
    assert not path.exists()


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (text_file, "not a picture"),
        (empty_file, "empty"),
        (truncated_picture, "truncated"),
        (missing_file, "does not exist"),
    ],
)
@pytest.mark.parametrize("verb", ["segment", "auto"])
def test_not_a_picture(refused, tmp_path, verb, make, word):
    make(tmp_path / "photo.jpg")
    refused(verb, "photo.jpg", *(POINT if verb == "segment" else []), words=["photo.jpg", word])


def truncated_video(path):
    write_clip(path, count=30)
    path.write_bytes(path.read_bytes()[:1500])


@pytest.mark.parametrize("make", [text_file, empty_file, truncated_video, missing_file])
def test_not_a_video(refused, tmp_path, make):
    make(tmp_path / "clip.mp4")
    refused("track", "clip.mp4", *POINT, words=["clip.mp4"])


def test_a_video_cut_off_at_its_end_gives_what_is_there(sam2, tmp_path, checkpoint):
    whole = write_clip(tmp_path / "whole.avi", count=6)
    with av.open(str(whole)) as container:
        fifth = [packet.pos for packet in container.demux(video=0)][4]
    (tmp_path / "clip.avi").write_bytes(whole.read_bytes()[: fifth + 20])
    outcome = sam2("track", "clip.avi", *POINT, "--model", checkpoint)
    assert outcome.code == 0
    assert outcome.err.startswith("sam2: warning: clip.avi")
    assert len(outcome.err.splitlines()) == 1
    with open_video(tmp_path / "out/clip/overlay.mp4") as overlay:
        assert overlay.num_frames == 4


def test_a_folder_where_a_picture_is_needed(refused, frames_folder):
    refused("segment", frames_folder, *POINT, words=["is a folder", "sam2 track"])


def test_an_empty_folder(refused, tmp_path):
    (tmp_path / "nothing").mkdir()
    refused("track", "nothing", *POINT, words=["nothing holds no frames"])


def test_a_folder_with_mixed_sizes(refused, frames_folder):
    Image.fromarray(picture_of(50, 40)).save(frames_folder / "00003.jpg")
    refused("track", frames_folder, *POINT, words=["00003.jpg is 50x40", "96x64", "one size"])


# ---------------------------------------------------------------- odd pictures that work


def grey(path):
    picture = Image.fromarray(picture_of()).convert("L")
    picture.save(path)
    return picture.convert("RGB")


def sixteen_bit(path):
    grey = np.asarray(Image.fromarray(picture_of()).convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 257).save(path)
    return Image.fromarray(grey).convert("RGB")


def rgba(path):
    opaque = np.full((64, 96, 1), 255, dtype=np.uint8)
    opaque[:, :20] = 0
    Image.fromarray(np.concatenate([picture_of(), opaque], axis=2)).save(path)
    expected = picture_of()
    expected[:, :20] = 255
    return Image.fromarray(expected)


def palette(path):
    picture = Image.fromarray(picture_of()).quantize(64)
    picture.save(path)
    return picture.convert("RGB")


def cmyk(path):
    picture = Image.fromarray(picture_of()).convert("CMYK")
    picture.save(path, format="TIFF")
    return picture.convert("RGB")


def exif_rotated(path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    Image.fromarray(np.rot90(picture_of())).save(path, exif=exif)
    return Image.fromarray(picture_of())


@pytest.mark.parametrize("make", [grey, sixteen_bit, rgba, palette, cmyk, exif_rotated])
def test_pictures_of_every_kind_work_upright(sam2, tmp_path, checkpoint, image_model, make):
    expected = make(tmp_path / "photo.png")
    predictor = SAM2ImagePredictor(image_model)
    predictor.set_image(np.array(expected))
    mask = predictor.predict(np.array([[32, 32]]), np.array([1]), multimask_output=False)[0][0] > 0
    outcome = sam2("segment", "photo.png", *POINT, "--model", checkpoint, "--format", "png,overlay")
    assert (outcome.code, outcome.err) == (0, "")
    np.testing.assert_array_equal(read_mask(tmp_path / "out/photo/png/1.png"), mask)
    with Image.open(tmp_path / "out/photo/overlay.png") as overlay:
        assert overlay.size == (96, 64)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (20_000, 100)])
def test_pictures_of_extreme_sizes_work(sam2, tmp_path, checkpoint, width, height):
    Image.fromarray(picture_of(width, height)).save(tmp_path / "photo.png")
    every = "overlay,davis,png,coco,yolo,cutout"
    outcome = sam2("segment", "photo.png", "--point", "0,0", "--model", checkpoint, "--format", every)
    assert (outcome.code, outcome.err) == (0, "")
    assert read_mask(tmp_path / "out/photo/png/1.png").shape == (height, width)


def test_a_video_of_one_pixel_works(sam2, tmp_path, checkpoint):
    folder = tmp_path / "dots"
    folder.mkdir()
    for index in range(2):
        Image.new("RGB", (1, 1), (200, 100, 0)).save(folder / f"{index}.png")
    assert sam2("track", "dots", "--point", "0,0", "--model", checkpoint).code == 0
    with open_video(tmp_path / "out/dots/overlay.mp4") as overlay:
        assert overlay.num_frames == 2


# ---------------------------------------------------------------- prompts

BAD_PROMPTS = [
    (["--point", "96.5,10"], ["(96.5, 10)", "outside", "96x64"]),
    (["--point", "-3,10"], ["(-3, 10)", "outside"]),
    (["--point", "nan,10"], ["finite"]),
    (["--point", "inf,10"], ["finite"]),
    (["--box", "50,10,50,40"], ["x1 > x0"]),
    (["--box", "10,40,50,30"], ["y1 > y0"]),
    (["--box", "10,nan,50,30"], ["finite"]),
    ([], ["no prompt", "--point"]),
    (["--mask", "small.png"], ["50x40", "96x64"]),
    (["--mask", "photo.png"], ["photo.png", "256 colours"]),
    (["--mask", "missing.png"], ["missing.png"]),
    (["--prompts", "missing.json"], ["missing.json"]),
    (["--prompts", "ok.json", "--point", "3,3"], ["--prompts", "--point"]),
]


@pytest.mark.parametrize(("options", "words"), BAD_PROMPTS)
@pytest.mark.parametrize("verb", ["segment", "track"])
def test_prompts_that_make_no_sense(refused, tmp_path, frames_folder, verb, options, words):
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    Image.new("1", (50, 40), 1).save(tmp_path / "small.png")
    (tmp_path / "ok.json").write_text(json.dumps({"version": 1, "objects": [obj(1, points=[[3, 3]])]}))
    refused(verb, "photo.png" if verb == "segment" else frames_folder, *options, words=words)


def obj(number, **prompt):
    return {"id": number, "prompts": [prompt]}


BAD_FILES = [
    ({"objects": [obj(1, points=[[3, 3]])]}, ["version"]),
    ({"version": 1, "objects": []}, ["at least one"]),
    ({"version": 1, "objects": [obj(1)]}, ["objects[0]", "no prompt"]),
    ({"version": 1, "objects": [obj(1, points=[[3, 3]], labels=[1, 0])]}, ["prompts[0]", "labels"]),
    ({"version": 1, "objects": [obj(1, points=[[3, 3, 3]])]}, ["[P, 2]"]),
    ({"version": 1, "objects": [obj(1, points=[[3, 3]], labels=[7])]}, ["1 (on the object)"]),
    ({"version": 1, "objects": [obj(1, points=[[3, None]])]}, ["prompts[0]"]),
    ({"version": 1, "objects": [obj(1, points=[[300, 3]])]}, ["(300, 3)", "outside"]),
    ({"version": 1, "objects": [obj(1, bx=[1, 2, 3, 4])]}, ["'bx'", "did you mean 'box'?"]),
    ({"version": 1, "objects": [obj(1, box=[1, 2, 3])]}, ["four numbers"]),
    ({"version": 1, "objects": [obj(0, points=[[3, 3]])]}, ["object id 0"]),
    ({"version": 1, "objects": [obj(1, box=[1, 2, 3, 4]), obj(1, points=[[3, 3]])]}, ["ids must differ"]),
    ({"version": 1, "objects": [obj(300, points=[[3, 3]])]}, ["300", "davis"]),
    ({"version": 1, "objects": [obj(1, frame=-1, points=[[3, 3]])]}, ["frame -1"]),
    ({"version": 1, "objects": [obj(1, frame=5, points=[[3, 3]])]}, ["frame 5", "0 to 4"]),
    ({"version": 1, "objects": [obj(1, mask="frames/00000.jpg", points=[[3, 3]])]}, ["prompts[0]"]),
]


@pytest.mark.parametrize(("content", "words"), BAD_FILES)
def test_prompt_files_that_make_no_sense(refused, tmp_path, frames_folder, content, words):
    (tmp_path / "p.json").write_text(json.dumps(content))
    refused("track", frames_folder, "--prompts", "p.json", words=words)


def test_a_prompt_file_that_is_no_json(refused, tmp_path, frames_folder):
    (tmp_path / "p.json").write_text('{"version": 1,')
    refused("track", frames_folder, "--prompts", "p.json", words=["p.json", "JSON"])


def test_a_mask_stands_alone_in_a_video(refused, tmp_path, frames_folder):
    Image.new("1", (96, 64), 1).save(tmp_path / "m.png")
    refused("track", frames_folder, "--mask", "m.png", *POINT, words=["mask stands alone"])


def test_frames_out_of_range(refused, frames_folder):
    refused("track", frames_folder, *POINT, "--frame", 5, words=["frame 5", "0 to 4"])
    refused("track", frames_folder, *POINT, "--start", 9, words=["--start 9", "0 to 4"])


def test_candidates_are_for_one_object(refused, tmp_path, photo):
    objects = [obj(1, points=[[3, 3]]), obj(2, points=[[4, 4]])]
    (tmp_path / "p.json").write_text(json.dumps({"version": 1, "objects": objects}))
    refused("segment", photo, "--prompts", "p.json", "--multimask", words=["--multimask"])


# ---------------------------------------------------------------- the same, through the library


def test_image_prompts_before_a_picture(image_model):
    with pytest.raises(ValueError, match="set_image"):
        SAM2ImagePredictor(image_model).predict(np.array([[1, 1]]), np.array([1]))


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ({}, "no prompt"),
        ({"point_coords": [[200, 3]], "point_labels": [1]}, "outside"),
        ({"point_coords": [[np.nan, 3]], "point_labels": [1]}, "finite"),
        ({"point_coords": [[3, 3]], "point_labels": [1, 0]}, "one for each point"),
        ({"point_coords": [3, 3], "point_labels": [1]}, r"\[N, 2\]"),
        ({"point_coords": [[3, 3]]}, "point_labels"),
        ({"box": [50, 10, 50, 40]}, "empty"),
        ({"mask_input": np.zeros((1, 64, 96), np.float32)}, "low-resolution mask"),
        ({"mask_input": np.zeros((1, 64, 96), np.uint8)}, "float logits"),
    ],
)
def test_image_prompts_that_make_no_sense(image_model, prompt, words):
    predictor = SAM2ImagePredictor(image_model)
    predictor.set_image(picture_of())
    given = {key: np.asarray(value) for key, value in prompt.items()}
    with pytest.raises(ValueError, match=words):
        predictor.predict(**given)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ({}, "no prompt"),
        ({"points": [[200, 3]], "labels": [1]}, "outside"),
        ({"points": [[np.nan, 3]], "labels": [1]}, "finite"),
        ({"points": [[3, 3]], "labels": [1, 0]}, "do not fit"),
        ({"box": [50, 10, 50, 40]}, "empty"),
        ({"box": [1, 2, 3]}, "x0, y0, x1, y1"),
        ({"points": [[3, 3]], "labels": [1], "frame_idx": 3}, "frame 3 is out of range"),
        ({"points": [[3, 3]], "labels": [1], "frame_idx": -1}, "frame -1 is out of range"),
    ],
)
def test_video_prompts_that_make_no_sense(video_predictor, session, prompt, words):
    with pytest.raises(ValueError, match=words):
        video_predictor.add_new_points_or_box(session, **{"frame_idx": 0, "obj_id": 1, **prompt})
    assert session.obj_ids == []


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones((40, 50), bool), "40, 50"),
        (np.full((64, 96), 7.5), "True and False"),
        (np.ones((1, 64, 96), bool), "1, 64, 96"),
    ],
)
def test_video_masks_that_make_no_sense(video_predictor, session, mask, words):
    with pytest.raises(ValueError, match=words):
        video_predictor.add_new_mask(session, 0, 1, mask)
    assert session.obj_ids == []


def test_unknown_objects(video_predictor, session):
    video_predictor.add_new_points_or_box(session, 0, 4, [[30, 30]], [1])
    with pytest.raises(ValueError, match=r"object id 5 is unknown.*: 4"):
        video_predictor.clear_all_prompts_in_frame(session, 0, 5)
    with pytest.raises(ValueError, match="object id 5 is unknown"):
        video_predictor.remove_object(session, 5, strict=True)


def test_tracking_without_a_prompt(video_predictor, session):
    with pytest.raises(RuntimeError, match="prompt an object"):
        next(video_predictor.propagate_in_video(session))


# ---------------------------------------------------------------- models


def test_a_model_file_of_another_size(sam2, tmp_path, photo):
    torch.manual_seed(0)
    other = tmp_path / "other.safetensors"
    save_checkpoint(build_sam2("mini", None, device="cpu", hydra_overrides_extra=MINIATURE), other)
    assert sam2("segment", photo, *POINT, "--model", other).refused("other.safetensors", "fits no packaged")
    assert not (tmp_path / "out").exists()


def test_a_model_file_for_another_configuration(checkpoint):
    with pytest.raises(ValueError, match=r"does not belong to this model.*fits the configuration.*mini"):
        build_sam2("tiny", checkpoint, device="cpu")


@pytest.mark.parametrize("make", [text_file, empty_file])
def test_a_model_file_that_is_none(sam2, tmp_path, photo, make):
    make(tmp_path / "model.pt")
    assert sam2("segment", photo, *POINT, "--model", "model.pt").refused("model.pt")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("larg", ["larg", "did you mean 'large'?"]),
        ("facebook/sam2-hiera-larg", ["did you mean 'facebook/sam2-hiera-large'?"]),
        ("nowhere.pt", ["nowhere.pt"]),
        ("mini.yaml", ["configuration"]),
    ],
)
def test_unknown_models(sam2, tmp_path, photo, name, words):
    assert sam2("segment", photo, *POINT, "--model", name).refused(*words)
    assert not (tmp_path / "out").exists()


def test_an_official_model_that_is_not_here(sam2, tmp_path, photo, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    outcome = sam2("segment", photo, *POINT, "--model", "large")
    assert outcome.refused("sam2.1_hiera_large.pt", "not in the hub's cache")


def test_an_unknown_device(sam2, tmp_path, photo, checkpoint):
    assert sam2("segment", photo, *POINT, "--model", checkpoint, "--device", "gpu").refused("'gpu'", "'cuda'")


def test_an_unknown_override_key():
    with pytest.raises(ValueError, match=r"image_siz.*did you mean.*image_size"):
        build_sam2("mini", None, hydra_overrides_extra=["model.image_siz=256"])


# ---------------------------------------------------------------- output


def test_output_that_exists(sam2, tmp_path, frames_folder, checkpoint):
    ask = ["track", frames_folder, *POINT, "--frames", 1, "--model", checkpoint, "--format", "davis"]
    assert sam2(*ask).code == 0
    mask = tmp_path / "out/frames/davis/00000.png"
    mask.write_bytes(b"dear to somebody")
    assert sam2(*ask).refused("davis", "--force")
    assert mask.read_bytes() == b"dear to somebody"
    assert sam2(*ask, "--force").code == 0
    assert mask.read_bytes() != b"dear to somebody"


def test_output_below_a_file(refused, tmp_path, photo):
    refused("segment", photo, *POINT, "--out", photo / "out", words=["cannot write", "a file stands"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_that_may_not_be_written(refused, tmp_path, photo):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    refused("segment", photo, *POINT, "--out", locked / "o", words=["cannot write", "permission denied"])


@pytest.mark.parametrize("name", ["overlay", "png", "coco", "davis"])
def test_full_output_leaves_nothing_and_loses_nothing(sam2, tmp_path, checkpoint, name):
    """A limit on the size of files stands for a full disk; it fails at the same calls."""
    clip = write_clip(tmp_path / "clip.mp4", count=4)
    out = tmp_path / "o"
    entry = out / {"overlay": "overlay.mp4", "coco": "coco.json"}.get(name, name)
    if entry.suffix:
        out.mkdir()
        entry.write_bytes(b"of an earlier run")
    else:
        entry.mkdir(parents=True)
        (entry / "00000.png").write_bytes(b"of an earlier run")
    before = sorted(out.rglob("*"))
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, most[1]))
    try:
        done = sam2("track", clip, *POINT, "--model", checkpoint, "--out", out, "--format", name, "--force")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert done.refused(f"cannot write {out}: ")
    assert done.out == ""
    assert sorted(out.rglob("*")) == before
