"""Going back in a long clip under a budget equals unbounded memory, also after a kill."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tracking_helpers import clip, disk, farthest, mini_predictor, run

from sam2.memory import Shelf, StorageOptions
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking import VideoSession

FRAMES, CORRECTED = 300, 100
BUDGETS = [200_000_000, 20_000]
"""Bytes of host memory; the second is so little that the file is used."""

CHILD = """
import sys
from test_rewind import first_pass, mini_predictor
predictor = mini_predictor()
state, _ = first_pass(predictor, sys.argv[1], host_bytes=20_000)
state.save(sys.argv[2])
print("saved", flush=True)
while True:
    for _ in predictor.propagate(state, start_frame_idx=0):
        pass
"""


@pytest.fixture(scope="module")
def predictor() -> SAM2VideoPredictor:
    return mini_predictor(add_all_frames_to_correct_as_cond=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("frames")
    for t, frame in enumerate(clip(FRAMES)):
        Image.fromarray(frame).save(path / f"{t:03d}.bmp")
    return path


def first_pass(
    predictor: SAM2VideoPredictor, video: str | Path, host_bytes: int | None
) -> tuple[VideoSession, dict[int, Any]]:
    storage = None if host_bytes is None else StorageOptions(host_bytes=host_bytes)
    state = predictor.init_state(str(video), storage=storage)
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    return state, run(predictor, state)


def corrected(predictor: SAM2VideoPredictor, state: VideoSession) -> dict[int, Any]:
    predictor.add_new_points_or_box(state, CORRECTED, 1, points=[[30, 10]], labels=[1])
    return run(predictor, state, start_frame_idx=CORRECTED)


@pytest.fixture(scope="module")
def unbounded(predictor: SAM2VideoPredictor, folder: Path) -> dict[int, Any]:
    """Masks after the correction where nothing was ever put away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shelf, "put_away", lambda self, expired: None)
        state, first = first_pass(predictor, folder, None)
        found = corrected(predictor, state)
    assert farthest(found, first) > 1e-3
    assert list(found) == list(range(CORRECTED, FRAMES))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("host_bytes", BUDGETS)
def test_a_correction_at_a_third_equals_unbounded_memory(
    predictor: SAM2VideoPredictor, folder: Path, unbounded: dict[int, Any], host_bytes: int
) -> None:
    state, _ = first_pass(predictor, folder, host_bytes)
    assert (state.archive.file_nbytes > 0) == (host_bytes < 10**6)
    assert state.archive.host_nbytes <= host_bytes
    assert farthest(unbounded, corrected(predictor, state)) == 0.0
    state.close()


@pytest.fixture(scope="module")
def saved(folder: Path) -> Path:
    """The session of a process that was killed, in the middle of another pass, once it had saved."""
    path = folder.parent / "session.sam2"
    here = Path(__file__).parent
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])])},
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    with child.stdout as lines:
        assert lines.readline() == b"saved\n"
    child.kill()
    assert child.wait() != 0
    return path


@pytest.mark.slow
@pytest.mark.parametrize("host_bytes", BUDGETS)
def test_the_same_after_a_kill(
    predictor: SAM2VideoPredictor, saved: Path, unbounded: dict[int, Any], host_bytes: int
) -> None:
    state = VideoSession.load(saved, storage=StorageOptions(host_bytes=host_bytes))
    assert (state.archive.file_nbytes > 0) == (host_bytes < 10**6)
    assert farthest(unbounded, corrected(predictor, state)) == 0.0
    state.close()
