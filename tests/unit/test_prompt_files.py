"""Prompt files and the runs of the tracker, over whatever a user may ask."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam2.cli.follow import plan
from sam2.prompts.files import FramePrompt, ObjectPrompts, prompts_to_json, read_prompts
from sam2.prompts.types import Box, Points

coordinate = st.floats(0, 4000, width=32)


@st.composite
def frame_prompts(draw, frame: int) -> FramePrompt:
    kind = draw(st.sampled_from(["points", "box", "both"]))
    points = box = None
    if kind != "box":
        coords = draw(st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=4))
        labels = draw(st.lists(st.sampled_from([0, 1]), min_size=len(coords), max_size=len(coords)))
        points = Points(coords, labels)
    if kind != "points":
        x0, y0 = draw(st.integers(0, 50)), draw(st.integers(0, 50))
        box = Box(x0, y0, x0 + draw(st.integers(1, 50)), y0 + draw(st.integers(1, 50)))
    return FramePrompt(frame, points, box)


@st.composite
def objects(draw) -> list[ObjectPrompts]:
    ids = draw(st.lists(st.integers(1, 10**6), min_size=1, max_size=4, unique=True))
    result = []
    for object_id in ids:
        frames = draw(st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True))
        prompts = tuple(draw(frame_prompts(frame)) for frame in frames)
        result.append(ObjectPrompts(object_id, prompts, draw(st.none() | st.text(min_size=1))))
    return result


@given(asked=objects())
def test_what_is_written_reads_back(tmp_path_factory, asked):
    file = tmp_path_factory.mktemp("prompts") / "p.json"
    file.write_text(json.dumps(prompts_to_json(asked)), "utf-8")
    again = read_prompts(file)
    assert [(one.id, one.name) for one in again] == [(one.id, one.name) for one in asked]
    for mine, given_back in zip(asked, again, strict=True):
        for a, b in zip(mine.prompts, given_back.prompts, strict=True):
            assert (a.frame, a.box) == (b.frame, b.box)
            assert (a.points is None) == (b.points is None)
            if a.points is not None:
                assert b.points is not None
                np.testing.assert_array_equal(a.points.coords, b.points.coords)
                np.testing.assert_array_equal(a.points.labels, b.points.labels)


@given(
    content=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["version", "objects", "id", "prompts", "box"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_understood_or_refused(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("prompts") / "p.json"
    file.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValueError, match=r"p\.json"):
        read_prompts(file)


@pytest.mark.parametrize("number", ["1", True, 1.0, None])
def test_numbers_must_be_whole(tmp_path, number):
    objects = [{"id": number, "prompts": [{"points": [[1, 1]]}]}]
    (tmp_path / "p.json").write_text(json.dumps({"version": 1, "objects": objects}))
    with pytest.raises(ValueError, match=r"objects\[0\].*id.*whole number"):
        read_prompts(tmp_path / "p.json")


def test_two_prompts_on_one_frame():
    prompt = FramePrompt(3, Points([[1, 1]]))
    with pytest.raises(ValueError, match="two prompts on frame 3"):
        ObjectPrompts(1, (prompt, prompt))


@given(
    num_frames=st.integers(1, 40),
    direction=st.sampled_from(["forward", "backward", "both"]),
    start=st.none() | st.integers(0, 39),
    limit=st.none() | st.integers(1, 50),
    prompted=st.lists(st.integers(0, 39), min_size=1, max_size=3),
)
def test_the_runs_give_every_wanted_frame_once(num_frames, direction, start, limit, prompted):
    prompted = [frame % num_frames for frame in prompted]
    start = None if start is None else start % num_frames
    passes = plan(direction, prompted, num_frames, start, limit)
    if start is None:
        start = max(prompted) if direction == "backward" else min(prompted)
    count = limit or num_frames
    wanted = set()
    if direction != "backward":
        wanted |= set(range(start, min(start + count, num_frames)))
    if direction != "forward":
        wanted |= set(range(max(start - count + 1, 0), start + 1))
    given_frames = [frame for one in passes for frame in one.frames]
    assert sorted(given_frames) == sorted(wanted)
    assert all(one.frames and one.start == start for one in passes)
    assert [one.reverse for one in passes] in ([False], [True], [True, False])
    # a run backwards from frame 0 gives nothing, as published: such a run is never asked for
    assert not any(one.reverse and one.start == 0 for one in passes)
