"""Reading still pictures of every kind."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from video_samples import picture

from sam2.video import PictureError, picture_size, read_picture

RGB = picture(7, 12, 20)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_come_back_exactly(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"picture.{format.lower()}"
    Image.fromarray(RGB).save(path, format)
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        np.testing.assert_array_equal(read_picture(source), RGB)
    assert picture_size(path) == (20, 12)


def test_a_file_object_is_read_from_its_start() -> None:
    file = io.BytesIO(encoded(Image.fromarray(RGB)))
    file.seek(0, io.SEEK_END)
    np.testing.assert_array_equal(read_picture(file), RGB)


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_lossy_formats_come_back_nearly(format: str) -> None:
    smooth = np.broadcast_to(np.linspace(20, 220, 64).astype(np.uint8)[None, :, None], (48, 64, 3))
    read = read_picture(encoded(Image.fromarray(np.ascontiguousarray(smooth)), format, quality=95))
    assert np.abs(read.astype(int) - smooth).mean() < 2


# What each EXIF orientation asks a viewer to do with the stored pixels, from the EXIF specification.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(RGB), exif=exif)
    expected = UPRIGHT[orientation](RGB)
    np.testing.assert_array_equal(read_picture(data), expected)
    np.testing.assert_array_equal(read_picture(Image.open(io.BytesIO(data))), expected)
    assert picture_size(data) == (expected.shape[1], expected.shape[0])


def test_broken_exif_does_not_matter() -> None:
    data = encoded(Image.fromarray(RGB), exif=b"Exif\0\0nonsense here")
    np.testing.assert_array_equal(read_picture(data), RGB)


def test_grey_becomes_three_equal_channels() -> None:
    grey = RGB[:, :, 0]
    for source in (Image.fromarray(grey), encoded(Image.fromarray(grey)), grey, grey[:, :, None]):
        np.testing.assert_array_equal(read_picture(source), np.repeat(grey[:, :, None], 3, axis=2))


@given(st.integers(0, 65535))
def test_16_bit_grey_is_scaled_not_clipped(value: int) -> None:
    grey = np.full((2, 3), value, np.uint16)
    expected = round(value / 257)
    for source in (Image.fromarray(grey), encoded(Image.fromarray(grey)), grey):
        assert np.abs(read_picture(source).astype(int) - expected).max() == 0


def test_16_bit_big_endian_tiff_is_scaled() -> None:
    ramp = np.linspace(0, 65535, 256).astype(">u2").reshape(16, 16)
    image = Image.frombytes("I;16B", (16, 16), ramp.tobytes())
    expected = np.rint(ramp.astype(np.float64) / 257)
    np.testing.assert_array_equal(read_picture(encoded(image, "TIFF"))[:, :, 0], expected)


def test_one_bit_pictures_are_black_and_white() -> None:
    bits = RGB[:, :, 0] > 100
    np.testing.assert_array_equal(read_picture(encoded(Image.fromarray(bits)))[:, :, 1], bits * np.uint8(255))


def test_transparency_is_composited_onto_white() -> None:
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    rgba[:6, :, 3] = 0
    rgba[6:8, :, 3] = 128
    blend = np.rint(RGB[6:8] * (128 / 255) + 255 * (127 / 255))
    for source in (rgba, Image.fromarray(rgba), encoded(Image.fromarray(rgba))):
        read = read_picture(source)
        assert (read[:6] == 255).all()
        np.testing.assert_array_equal(read[6:8], blend)
        np.testing.assert_array_equal(read[8:], RGB[8:])


def test_grey_with_alpha() -> None:
    alpha = np.repeat(np.uint8([0, 255]), 6)[:, None].repeat(20, axis=1)
    la = Image.merge("LA", (Image.fromarray(RGB[:, :, 0]), Image.fromarray(alpha)))
    read = read_picture(encoded(la))
    assert (read[:6] == 255).all()
    np.testing.assert_array_equal(read[6:, :, 2], RGB[6:, :, 0])


def test_palette_pictures_with_and_without_transparency() -> None:
    indices = (np.arange(240).reshape(12, 20) % 3).astype(np.uint8)
    colours = np.uint8([[10, 20, 30], [200, 100, 50], [0, 255, 0]])
    image = Image.frombytes("P", (20, 12), indices.tobytes())
    image.putpalette(colours.tobytes())
    np.testing.assert_array_equal(read_picture(encoded(image)), colours[indices])
    transparent = read_picture(encoded(image, transparency=1))
    np.testing.assert_array_equal(transparent[indices != 1], colours[indices][indices != 1])
    assert (transparent[indices == 1] == 255).all()


def test_cmyk_is_converted() -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for format in ("TIFF", "JPEG"):
        red = read_picture(encoded(image, format))
        assert red[..., 0].min() > 230
        assert red[..., 1:].max() < 40


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.fromarray(np.full((5, 6, 3), value, np.uint8)) for value in (10, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (read_picture(data) == 10).all()
    image = Image.open(io.BytesIO(data))
    image.seek(1)
    assert (read_picture(image) == 10).all()


@pytest.mark.parametrize("size", [(1, 1), (20_000, 100)])
def test_extreme_sizes(size: tuple[int, int]) -> None:
    read = read_picture(encoded(Image.new("RGB", size, (1, 2, 3))))
    assert read.shape == (size[1], size[0], 3)
    assert (read == (1, 2, 3)).all()


def test_arrays() -> None:
    assert read_picture(RGB) is RGB
    np.testing.assert_array_equal(read_picture(RGB[:, ::-1]), RGB[:, ::-1])
    np.testing.assert_array_equal(read_picture(RGB.astype(np.float32) / 255), RGB)
    np.testing.assert_array_equal(read_picture(RGB.astype(np.float64) / 255), RGB)
    np.testing.assert_array_equal(read_picture(RGB.astype(np.uint16) * 257), RGB)


class Tensor:
    """What matters of a tensor: it is no array, but gives one."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def numpy(self) -> np.ndarray:
        return self._array


def test_tensors_in_both_layouts() -> None:
    np.testing.assert_array_equal(read_picture(Tensor(RGB)), RGB)
    np.testing.assert_array_equal(read_picture(Tensor(RGB.transpose(2, 0, 1))), RGB)
    assert picture_size(Tensor(RGB.transpose(2, 0, 1))) == (20, 12)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 8, 9), np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((4, 5, 2), np.uint8), r"shape \(4, 5, 2\)"),
        (np.zeros(5, np.uint8), r"shape \(5,\)"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        (np.zeros((4, 5, 3), np.int64), "dtype int64"),
        (np.full((4, 5, 3), 2.0), "from 2 to 2.*0..1"),
        (np.full((4, 5, 3), np.nan), "0..1"),
    ],
)
def test_arrays_that_are_no_pictures(array: np.ndarray, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        read_picture(array)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"nothing\.png does not exist"):
        read_picture(tmp_path / "nothing.png")
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "nothing.png")


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="is a folder"):
        read_picture(tmp_path)


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    for source in (path, b""):
        with pytest.raises(PictureError, match="0 bytes"):
            read_picture(source)


@pytest.mark.parametrize("data", [b"just words, no picture", b"\x89PNG\r\n\x1a\n broken after the signature"])
def test_what_is_not_a_picture(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "notes.png"
    path.write_bytes(data)
    with pytest.raises(PictureError, match=r"notes\.png is not a"):
        read_picture(path)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_picture_is_an_error_not_half_grey(format: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    data = encoded(Image.fromarray(noise), format)
    with pytest.raises(PictureError):
        read_picture(data[: int(len(data) * share)])


@given(st.binary(max_size=200), st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]), st.data())
def test_damage_gives_pixels_or_a_picture_error(junk: bytes, format: str, data: st.DataObject) -> None:
    whole = bytearray(encoded(Image.fromarray(RGB), format))
    at = data.draw(st.integers(0, len(whole)))
    whole[at : at + len(junk)] = junk
    try:
        read = read_picture(bytes(whole))
    except PictureError:
        return
    assert read.dtype == np.uint8
    assert read.ndim == 3


def test_a_decompression_bomb_is_refused_and_the_limit_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("L", (300, 300)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    with pytest.raises(PictureError, match=r"limit of 80,000 pixels.*MAX_IMAGE_PIXELS"):
        read_picture(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_picture(data).shape == (300, 300, 3)


@pytest.mark.parametrize("source", [5, None, object()])
def test_other_objects_are_named(source: object) -> None:
    with pytest.raises(PictureError, match=type(source).__name__):
        read_picture(source)


def test_text_mode_is_pointed_out() -> None:
    with pytest.raises(PictureError, match="mode 'rb'"):
        read_picture(io.StringIO("text"))
