"""Labels carried by correspondence: within a picture, and from window to window."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sam2.close_labels import AGES, Labels
from sam2.modeling.outputs import FrameFeatures
from sam2.tracking.correspondence import (
    FARTHEST,
    PRINCIPAL,
    Source,
    carry,
    describe,
    leap,
    principal,
    reduced,
)
from sam2.zoom import Window

C, N = PRINCIPAL, 40
WORLD = 120


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    """Cells of length 1 of which no two are alike, float [C, height, width]."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(C, height, width, generator=generator), dim=0)


def square(x: int, y: int, side: int, size: int = N) -> Tensor:
    labels = torch.zeros(size, size)
    labels[y : y + side, x : x + side] = 1
    return labels


# ---------------------------------------------------------------------- carry, leap, describe


@given(x=st.integers(-6, 6), y=st.integers(-6, 6), size=st.sampled_from([16, 20, 40]), side=st.integers(1, 9))
def test_labels_move_with_what_they_mark(x, y, size, side):
    world = noise(size + 12, size + 12)
    before = world[:, 6 : 6 + size, 6 : 6 + size]
    after = world[:, 6 - y : 6 - y + size, 6 - x : 6 - x + size]
    labels = square(6, 6, side, size)
    carried = carry(after, [Source(before, labels)], reach=6)
    kept = torch.zeros_like(labels)
    kept[max(6 + y, 0) : 6 + y + side, max(6 + x, 0) : 6 + x + side] = 1
    seen_before = torch.zeros(size, size, dtype=torch.bool)
    seen_before[max(y, 0) : size + min(y, 0), max(x, 0) : size + min(x, 0)] = True
    torch.testing.assert_close(carried[seen_before], kept[seen_before], atol=0.01, rtol=0)


def test_what_moves_beyond_reach_is_not_found():
    world = noise(N + 14, N)
    labels = square(16, 16, 4)
    carried = carry(world[:, :N], [Source(world[:, 14 : 14 + N], labels)], reach=6)
    assert carried[30:34, 16:20].max() < 0.5


def test_nothing_is_carried_from_nothing():
    cells = noise(N, N)
    assert not carry(cells, [Source(cells, torch.zeros(N, N))], reach=6).any()
    beyond = Source(torch.zeros(C, N, N), torch.zeros(N, N))
    labels = square(16, 16, 8)
    alone = carry(cells, [Source(cells, labels)], reach=6)
    torch.testing.assert_close(carry(cells, [beyond, Source(cells, labels)], reach=6), alone)


def test_what_was_not_seen_before_is_not_the_object():
    before, after = noise(N, N), noise(N, N)
    after[:, 20:24, 16:24] = noise(4, 8, seed=1)
    carried = carry(after, [Source(before, square(16, 16, 8))], reach=6) > 0.5
    assert carried[16:20, 16:24].all()
    assert not carried[20:24, 16:24].any()


def test_of_several_pictures_the_most_alike_has_the_say():
    before, other = noise(N, N), noise(N, N, seed=1)
    labels = square(10, 12, 6)
    carried = carry(before, [Source(other, 1 - labels), Source(before, labels)], reach=3)
    assert ((carried > 0.5) == (labels > 0.5)).float().mean() > 0.99


@given(x=st.integers(-5, 5), y=st.integers(-5, 5))
def test_a_leap_is_found(x, y):
    x, y = 4 * x, 4 * y
    before, after = noise(64, 64), noise(64, 64, seed=1)
    after[:, 28 + y : 36 + y, 28 + x : 36 + x] = before[:, 28:36, 28:36]
    assert leap(after, Source(before, square(28, 28, 8, 64))) == (x, y)
    assert max(abs(x), abs(y)) <= FARTHEST


def test_what_stays_does_not_leap_to_its_like():
    before = noise(N, N)
    thing = F.normalize(torch.ones(C), dim=0)[:, None, None]
    before[:, 16:24, 16:24] = thing
    after = before.clone()
    after[:, 4:12, 4:12] = thing
    after[:, 16:24, 16:24] = F.normalize(thing + 0.1 * noise(8, 8, seed=2), dim=0)
    assert leap(after, Source(before, square(16, 16, 8))) == (0, 0)
    assert leap(after, Source(before, torch.zeros(N, N))) == (0, 0)


def test_all_levels_describe_a_cell():
    maps = [torch.randn(1, 4, 96, 96), torch.randn(1, 8, 32, 32), torch.randn(1, 16, 16, 16)]
    cells = describe(FrameFeatures(maps, []))
    assert cells.shape == (28, 64, 64)
    for level in cells.split([4, 8, 16]):
        torch.testing.assert_close(level.norm(dim=0), torch.full((64, 64), 3**-0.5))
    # what a whole picture has in common says nothing of a cell
    torch.testing.assert_close(describe(FrameFeatures([level + 3 for level in maps], [])), cells)


def test_a_few_directions_tell_as_much_as_many_channels():
    first, other = noise(N, N), noise(N, N, seed=1)
    into = torch.linalg.qr(torch.randn(3 * C, C, generator=torch.Generator().manual_seed(2))).Q
    many = [(into @ cells.flatten(1)).view(-1, N, N) for cells in (first, other)]
    directions = principal(many[0])
    assert directions.shape == (3 * C, PRINCIPAL)
    few = [reduced(cells, directions) for cells in many]
    labels = square(10, 12, 6)
    for cells, shown in ((first, few[0]), (other, few[1])):
        alike = carry(cells, [Source(first, labels), Source(other, 1 - labels)], reach=3)
        again = carry(shown, [Source(few[0], labels), Source(few[1], 1 - labels)], reach=3)
        torch.testing.assert_close(again, alike, atol=1e-3, rtol=0)


def test_the_directions_in_which_cells_differ_most_are_kept():
    scale = torch.linspace(1, 0.01, 2 * C)[torch.randperm(2 * C, generator=torch.Generator().manual_seed(3))]
    cells = torch.randn(2 * C, N, N, generator=torch.Generator().manual_seed(4)) * scale[:, None, None]
    in_channels = cells.pow(2).sum((1, 2)).sort(descending=True).values[:PRINCIPAL].sum()
    in_directions = reduced(cells, principal(cells)).pow(2).sum()
    assert in_channels < in_directions < cells.pow(2).sum()


# ---------------------------------------------------------------------- from window to window


class Camera:
    """Windows of N x N pixels on a world in which nothing moves, but what `thing` says; counts its looks."""

    def __init__(self) -> None:
        self.world = noise(WORLD, WORLD)
        self.windows: dict[int, Window] = {}
        self.looks: list[int] = []
        self.thing: dict[int, tuple[int, int]] = {}
        """Where a square of 8 pixels lies on a frame that is otherwise noise of its own."""

    def features(self, frame_idx: int) -> FrameFeatures:
        self.looks.append(frame_idx)
        world = self.world
        if frame_idx in self.thing:
            x, y = self.thing[frame_idx]
            world = noise(WORLD, WORLD, seed=frame_idx + 1)
            world[:, y : y + 8, x : x + 8] = noise(8, 8)
        x0, y0, x1, y1 = self.windows[frame_idx]
        return FrameFeatures([world[None, :, y0:y1, x0:x1]], [])

    def at(self, frame_idx: int, x: int, y: int) -> Window:
        self.windows[frame_idx] = Window(x, y, x + N, y + N)
        return self.windows[frame_idx]


NOTHING = torch.full((N, N), -10.0)
"""The mask of an object that is not seen otherwise."""


def drawn(labels: Labels, frame_idx: int, window: Window, reverse: bool = False) -> Tensor:
    """The mask bool [N, N] that frames near by make."""
    return labels.redrawn(frame_idx, window, NOTHING, 0.9, reverse) > 0


@pytest.fixture
def camera():
    return Camera()


def test_the_mask_of_a_prompt_is_carried_into_another_window(camera):
    labels = Labels(camera.features)
    labels.prompted(0, camera.at(0, 30, 30), square(16, 16, 8).bool())
    assert drawn(labels, 1, camera.at(1, 26, 33)).equal(square(20, 13, 8).bool())


def test_the_nearest_prompt_counts_and_is_looked_at_once(camera):
    labels = Labels(camera.features)
    for frame, x in ((0, 8), (20, 24)):
        labels.prompted(frame, camera.at(frame, 30, 30), square(x, 16, 8).bool())
    for frame in (1, 2, 3):
        labels.found(frame, camera.at(frame, 30, 30), (square(8, 16, 8) * 20 - 10))
        assert drawn(labels, frame + 1, camera.at(frame + 1, 30, 30)).equal(square(8, 16, 8).bool())
    assert camera.looks.count(0) == 2  # as it was prompted, and once a newer prompt had taken its place
    assert drawn(labels, 19, camera.at(19, 30, 30), reverse=True).equal(square(24, 16, 8).bool())


def test_a_correction_is_not_outvoted_by_what_was_tracked_before(camera):
    labels = Labels(camera.features)
    wrong, right = square(4, 4, 8), square(16, 16, 8)
    labels.prompted(0, camera.at(0, 30, 30), wrong.bool())
    for frame in (1, 2, 3):
        labels.found(frame, camera.at(frame, 30, 30), wrong * 20 - 10)
    labels.prompted(2, camera.windows[2], right.bool())
    for frame, reverse in ((3, False), (1, True)):
        assert drawn(labels, frame, camera.at(frame, 30, 30), reverse).equal(right.bool())
    # nor on the way through a frame that was corrected before the pass began
    labels.found(1, camera.windows[1], wrong * 20 - 10)
    assert drawn(labels, 3, camera.windows[3]).equal(right.bool())


def test_cells_are_told_apart_by_what_tells_those_of_the_last_prompt_apart():
    nothing = torch.zeros(C, N, N)

    def features(frame_idx: int) -> FrameFeatures:
        halves = (noise(N, N), nothing) if frame_idx == 0 else (nothing, noise(N, N))
        return FrameFeatures([torch.cat(halves)[None]], [])

    labels, window, mask = Labels(features), Window(0, 0, N, N), square(16, 16, 8).bool()
    for frame in (0, 1):
        labels.prompted(frame, window, mask)
    assert drawn(labels, 2, window).equal(mask)


def test_long_after_all_that_is_known_nothing_is_carried(camera):
    labels = Labels(camera.features)
    assert labels.redrawn(0, camera.at(0, 30, 30), NOTHING, 0.9, reverse=False) is NOTHING
    labels.prompted(0, camera.at(0, 30, 30), square(16, 16, 8).bool())
    late = AGES + 1
    assert labels.redrawn(late, camera.at(late, 30, 30), NOTHING, 0.9, reverse=False) is NOTHING
    assert drawn(labels, AGES, camera.at(AGES, 30, 30)).any()


def test_after_a_leap_what_was_found_otherwise_has_the_say_where_it_agrees(camera):
    labels = Labels(camera.features)
    camera.thing = {0: (46, 46), 1: (62, 46)}
    labels.prompted(0, camera.at(0, 30, 30), square(16, 16, 8).bool())
    window = camera.at(1, 30, 30)
    assert drawn(labels, 1, window)[16:24, 32:40].float().mean() > 0.9
    near, far, still = (square(x, 17, 7) * 20 - 10 for x in (32, 4, 16))
    assert labels.redrawn(1, window, near, 0.9, reverse=False) is near
    assert labels.redrawn(1, window, near, 0.5, reverse=False) is not near
    assert labels.redrawn(1, window, far, 0.9, reverse=False) is not far
    # what did not leap is carried, even where the other mask agrees
    camera.thing[2] = (46, 46)
    assert labels.redrawn(2, camera.at(2, 30, 30), still, 0.9, reverse=False) is not still
