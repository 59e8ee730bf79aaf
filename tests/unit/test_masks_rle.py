from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from sam2.masks import rle

# pycocotools predates NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)


@st.composite
def blocky(draw: st.DrawFn) -> np.ndarray:
    """Masks with long runs as well as noise."""
    mask = draw(hnp.arrays(np.bool_, SHAPES))
    return np.kron(mask, np.ones(draw(st.tuples(st.integers(1, 9), st.integers(1, 9))), dtype=bool))


MASKS = st.one_of(hnp.arrays(np.bool_, SHAPES), blocky())


def theirs(mask: np.ndarray) -> dict:
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


@given(MASKS)
@example(np.zeros((1, 1), bool))
@example(np.ones((1, 1), bool))
@example(np.zeros((7, 5), bool))
@example(np.ones((5, 7), bool))
@example(np.arange(13)[None] % 3 == 0)
@example(np.arange(13)[:, None] % 3 == 0)
def test_agrees_with_pycocotools(mask: np.ndarray) -> None:
    expected = theirs(mask)
    compressed = rle.encode_compressed(mask)
    assert compressed == expected
    plain = rle.encode(mask)
    assert rle.compress(plain) == expected
    assert rle.decompress(compressed) == plain
    for encoded in (plain, compressed):
        np.testing.assert_array_equal(rle.decode(encoded), mask)
        assert rle.area(encoded) == coco_mask.area(expected) == mask.sum()
        assert rle.to_xywh(encoded) == tuple(coco_mask.toBbox(expected))
    np.testing.assert_array_equal(coco_mask.decode(compressed), mask)


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9)))
def test_batch_equals_one_by_one(masks: np.ndarray) -> None:
    assert rle.encode_batch(masks) == [rle.encode(mask) for mask in masks]
    compressed = rle.encode_batch(masks, compressed=True)
    assert compressed == [rle.encode_compressed(mask) for mask in masks]
    np.testing.assert_array_equal(rle.decode_batch(compressed), masks)


@given(st.lists(st.integers(0, 2**31 - 1), max_size=40))
def test_counts_survive_compression(counts: list[int]) -> None:
    assert rle.decompress_counts(rle.compress_counts(counts)).tolist() == counts


def test_plain_counts_are_written_out_by_hand() -> None:
    mask = np.array([[0, 1, 1], [0, 1, 0]], dtype=bool)  # columns: 00, 11, 10
    assert rle.encode(mask) == {"size": [2, 3], "counts": [2, 3, 1]}
    assert rle.encode(~mask) == {"size": [2, 3], "counts": [0, 2, 3, 1]}


@pytest.mark.parametrize("shape", [(20_000, 100), (100, 20_000), (1, 3000), (3000, 1)])
def test_large_and_long_pictures(shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random(shape) < 0.001
    mask[shape[0] // 4 : shape[0] // 2] = True
    encoded = rle.encode_compressed(mask)
    assert encoded == theirs(mask)
    np.testing.assert_array_equal(rle.decode(encoded), mask)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("on", [1, 255])
def test_numbers_0_and_1_or_255_are_masks(dtype: type, on: int) -> None:
    mask = np.eye(4, dtype=bool)
    assert rle.encode(mask.astype(dtype) * dtype(on)) == rle.encode(mask)


def test_empty_runs_are_harmless() -> None:
    encoded = {"size": [2, 3], "counts": [1, 0, 1, 2, 0, 1, 1, 0]}
    np.testing.assert_array_equal(rle.decode(encoded), [[0, 1, 1], [0, 1, 0]])
    assert rle.to_xywh(encoded) == (1, 0, 2, 2)
    assert rle.area(encoded) == 3


@pytest.mark.parametrize("values", [[[-3.5, 2.0]], [[0, 2]], [[0, 1, 255]], [[0.0, np.nan]]])
def test_logits_and_label_maps_are_refused(values: list) -> None:
    with pytest.raises(ValueError, match="logits > 0"):
        rle.encode(np.array(values))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"size": [2, 2], "counts": [1, 2]}, "add up to 3"),
        ({"size": [2, 2], "counts": [5, -1]}, "negative"),
        ({"size": [2, 2], "counts": [1.5, 2.5]}, "list of integers"),
        ({"size": [2, 2], "counts": "\x10"}, "characters"),
        ({"size": [2, 2], "counts": "é"}, "ASCII"),
        ({"size": [2, 2], "counts": "P"}, "truncated"),
        ({"size": [2, 2], "counts": "o" * 20 + "0"}, "60 bits"),
        ({"size": [0, 2], "counts": []}, "positive"),
        ({"size": [2], "counts": [4]}, "size"),
        ({"counts": [4]}, "size"),
        ({"size": [2, 2]}, "counts"),
    ],
)
def test_malformed_rle_is_refused(bad: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rle.decode(bad)


@given(st.text(max_size=12))
def test_any_text_decodes_or_is_refused(text: str) -> None:
    try:
        counts = rle.decompress_counts(text)
    except ValueError:
        return
    assert rle.decompress_counts(rle.compress_counts(counts)).tolist() == counts.tolist()


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mask\[0\]"):
        rle.encode(np.zeros((1, 4, 4), bool))
    with pytest.raises(ValueError, match="at least one pixel"):
        rle.encode(np.zeros((0, 4), bool))
    with pytest.raises(ValueError, match=r"\[N, H, W\]"):
        rle.encode_batch(np.zeros((4, 4), bool))
    assert rle.encode_batch(np.zeros((0, 4, 4), bool)) == []
    with pytest.raises(ValueError, match="RLE 1 has size"):
        rle.decode_batch([rle.encode(np.zeros((2, 3), bool)), rle.encode(np.zeros((3, 2), bool))])
    with pytest.raises(ValueError, match="no RLE"):
        rle.decode_batch([])
