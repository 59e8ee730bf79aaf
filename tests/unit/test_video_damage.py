"""What is no video, and what damage to one costs."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from video_samples import add_sound, blank_packets, encode, noise, packet_places, picture, reference

from sam2.video import VideoError, VideoNotFoundError, VideoWarning, open_video

GOP = {"g": "10"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """45 frames of H.264 with a key frame every ten."""
    return encode(tmp_path_factory.mktemp("clip") / "clip.mp4", [picture(i) for i in range(45)], options=GOP)


def test_missing_empty_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(VideoNotFoundError, match=r"nothing\.mp4 does not exist"):
        open_video(tmp_path / "nothing.mp4")
    with pytest.raises(FileNotFoundError):
        open_video(str(tmp_path / "nothing.mp4"))
    empty = tmp_path / "empty.mp4"
    empty.touch()
    for source in (empty, b""):
        with pytest.raises(VideoError, match="0 bytes"):
            open_video(source)
    for name, data in {
        "notes.txt": b"Just some words.\n" * 100,
        "notes.mp4": b"Just some words.\n" * 100,
        "list.m3u8": b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n",
        "concat.txt": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "random.webm": np.random.default_rng(0).bytes(5000),
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(VideoError, match="is not a video that can be read"):
            open_video(tmp_path / name)
    for source in (None, 3, object(), {"a": 1}):
        with pytest.raises(VideoError, match="is not a video"):
            open_video(source)
    for address in ("rtsp://127.0.0.1/stream", "camera:0"):
        with pytest.raises(VideoError, match="open_live"):
            open_video(address)
    with pytest.raises(VideoError, match="text mode"):
        open_video(io.StringIO("words"))


@pytest.mark.parametrize("options", [{"cache_frames": -1}, {"cache_bytes": -1}, {"prefetch": -1}, {"fps": 0}])
def test_options_out_of_range(clip: Path, options: dict[str, int]) -> None:
    with pytest.raises(VideoError, match=next(iter(options))):
        open_video(clip, **options)


def test_a_file_with_sound_alone(tmp_path: Path, clip: Path) -> None:
    both = add_sound(tmp_path / "both.mp4", clip)
    sound = tmp_path / "sound.m4a"
    with av.open(str(both)) as given, av.open(str(sound), "w", format="mp4") as container:
        stream = container.add_stream_from_template(given.streams.audio[0])
        for packet in given.demux(audio=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    with pytest.raises(VideoError, match=r"no video stream \(it holds: audio\)"):
        open_video(sound)


def test_an_unknown_codec_names_what_is_known(tmp_path: Path, clip: Path) -> None:
    path = tmp_path / "unknown.mp4"
    path.write_bytes(clip.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(VideoError, match=r"cannot decode; it decodes h264, hevc"):
        open_video(path)


def test_an_mp4_without_its_index(tmp_path: Path, clip: Path) -> None:
    data = clip.read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: data.index(b"moov") - 10])
    with pytest.raises(VideoError, match=r"moov atom.*cut off"):
        open_video(path)


@pytest.mark.parametrize(
    ("name", "codec"), [("v.mp4", "libx264"), ("v.mkv", "libx264"), ("v.webm", "libvpx-vp9")]
)
def test_a_file_cut_midway_gives_what_decodes_and_says_what_is_lost(
    tmp_path: Path, name: str, codec: str
) -> None:
    frames = [noise(i) for i in range(40)]
    path = encode(
        tmp_path / name, frames, codec, options={"g": "8"}, movflags="faststart" if "mp4" in name else ""
    )
    whole = reference(path)
    position, size = packet_places(path)[24]
    if "mp4" not in name:
        position = path.stat().st_size * 6 // 10
    path.write_bytes(path.read_bytes()[: position + size // 2])
    with pytest.warns(VideoWarning, match="cut off") as record:
        reader = open_video(path)
    with reader:
        lost = 40 - len(reader)
        assert f"{lost} frames at its end are lost, {len(reader)} can be read" in str(record[0].message)
        assert 15 < len(reader) < 30
        read = list(reader)
        assert reader.damaged == []
        numbers = np.rint(reader.timestamps * 25).astype(int)
        for number, frame in zip(numbers, read, strict=True):
            np.testing.assert_array_equal(frame, whole[number])
        np.testing.assert_array_equal(reader[len(reader) - 1], read[-1])
    if "mp4" in name:
        assert lost == 16


def test_damage_in_the_middle_repeats_the_frame_before(tmp_path: Path) -> None:
    frames = [noise(i) for i in range(30)]
    path = encode(tmp_path / "v.mp4", frames, options={"g": "10", "bf": "0"})
    whole = reference(path)
    blank_packets(path, [14])
    with open_video(path) as reader:
        with pytest.warns(VideoWarning, match=r"frame 14 is damaged.*reader\.damaged") as record:
            read = list(reader)
        assert len(record) == 1
        assert len(reader) == len(read) == 30
        assert 14 in reader.damaged
        assert set(reader.damaged) <= set(range(14, 20))
        np.testing.assert_array_equal(read[14], read[13])
        for number in [*range(14), *range(20, 30)]:
            np.testing.assert_array_equal(read[number], whole[number])
        for number in range(29, -1, -1):
            np.testing.assert_array_equal(reader[number], read[number])


def test_a_damaged_key_frame_is_bridged(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", [noise(i) for i in range(30)], options={"g": "10", "bf": "0"})
    whole = reference(path)
    blank_packets(path, [10])
    with open_video(path) as reader:
        with pytest.warns(VideoWarning, match="frame 10 is damaged"):
            frame = reader[10]
        np.testing.assert_array_equal(frame, whole[9])
        np.testing.assert_array_equal(reader[25], whole[25])
        assert 10 in reader.damaged


def test_a_damaged_start_shows_the_first_frame_that_decodes(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", [noise(i) for i in range(30)], options={"g": "10", "bf": "0"})
    whole = reference(path)
    blank_packets(path, range(10))
    with pytest.warns(VideoWarning, match="frame 0 is damaged"):
        reader = open_video(path)
    with reader:
        assert len(reader) == 30
        read = list(reader)
        for number in range(10):
            np.testing.assert_array_equal(read[number], whole[10])
        np.testing.assert_array_equal(read[15], whole[15])
        assert reader.damaged == list(range(10))


def test_a_recording_that_begins_between_key_frames(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.ts", [noise(i) for i in range(30)], options={"g": "10", "bf": "2"})
    whole = reference(path)
    position, _ = packet_places(path)[5]
    path.write_bytes(path.read_bytes()[position // 188 * 188 :])
    with open_video(path) as reader:
        read = list(reader)
        assert len(read) == len(reader)
        np.testing.assert_array_equal(read[0], whole[30 - len(reader)])
        np.testing.assert_array_equal(read[-1], whole[-1])


def test_nothing_that_decodes(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", [noise(i) for i in range(6)])
    blank_packets(path, range(6))
    with pytest.raises(VideoError, match="no frame that can be decoded"):
        open_video(path)
