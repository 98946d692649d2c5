"""MP3 tags in all their versions, and lengths that no header tells."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from quieten import mp3
from quieten.audio import AudioReader, AudioWriter, probe, read_audio, write_audio
from quieten.errors import AudioError

TAGS = {
    "title": "Grüße",
    "artist": "阿达",
    "album": "Letters",
    "date": "2026-11-20",
    "comment": "a: b",
    "tracknumber": "3/9",
    "genre": "Speech",
    "copyright": "CC0",
    "software": "recorder",
    "license": "https://example.org/licence",
}


def noise(frames: int = 24_000, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(frames).normal(0, 0.1, (channels, frames))


def synchsafe(size: int) -> bytes:
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def frame(version: int, name: str, content: bytes) -> bytes:
    if version == 2:
        return name.encode() + len(content).to_bytes(3) + content
    size = synchsafe(len(content)) if version == 4 else len(content).to_bytes(4)
    return name.encode() + size + bytes(2) + content


def id3(version: int, *frames: bytes, flags: int = 0, padding: int = 50) -> bytes:
    body = b"".join(frames) + bytes(padding)
    return b"ID3" + bytes([version, 0, flags]) + synchsafe(len(body)) + body


def tagged(tmp_path: Path, tag: bytes, tail: bytes = b"") -> Path:
    """A real MP3 file with `tag` before and `tail` behind it."""
    path = tmp_path / "a.mp3"
    write_audio(path, noise(), 24_000)
    path.write_bytes(tag + path.read_bytes() + tail)
    return path


def without_header(tmp_path: Path, rate: int, channels: int, **settings: object) -> Path:
    """An MP3 file whose first frame, the Xing header, was taken away."""
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(3 * rate, channels).T, rate, format="MP3", **settings)
    with path.open("rb") as file:
        start, first = mp3.first_frame(file)
    path.write_bytes(path.read_bytes()[start + len(first) :])
    return path


def test_our_tags_come_back(tmp_path: Path) -> None:
    path = tagged(tmp_path, mp3.build_tag(TAGS))
    assert mp3.read_tags(path) == TAGS
    assert probe(path).tags == TAGS
    assert probe(path).frames == 24_000


def test_no_tags_make_no_bytes() -> None:
    assert mp3.build_tag({}) == b""


def test_a_long_tag_comes_back(tmp_path: Path) -> None:
    tags = {"title": "ä" * 50_000, "comment": "b" * 200}
    write_audio(tmp_path / "a.mp3", noise(), 24_000, tags=tags)
    assert probe(tmp_path / "a.mp3").tags == tags
    assert read_audio(tmp_path / "a.mp3")[0].shape == (1, 24_000)


@pytest.mark.parametrize(
    ("encoding", "codec"), [(0, "latin-1"), (1, "utf-16"), (2, "utf-16-be"), (3, "utf-8")]
)
@pytest.mark.parametrize(
    ("version", "names"),
    [(2, ("TT2", "COM", "TYE")), (3, ("TIT2", "COMM", "TYER")), (4, ("TIT2", "COMM", "TDRC"))],
)
def test_versions_and_encodings(
    tmp_path: Path, version: int, names: tuple[str, ...], encoding: int, codec: str
) -> None:
    mark = bytes([encoding])
    end = "\0".encode(codec.replace("utf-16", "utf-16-le") if codec == "utf-16" else codec)
    title, comment, date = names
    tag = id3(
        version,
        frame(version, title, mark + "Grüße".encode(codec) + end),
        frame(version, comment, mark + b"eng" + "named".encode(codec) + end + "x".encode(codec)),
        frame(version, comment, mark + b"eng" + "".encode(codec) + end + "said".encode(codec)),
        frame(version, date, mark + "2026".encode(codec)),
    )
    assert mp3.read_tags(tagged(tmp_path, tag)) == {
        "title": "Grüße",
        "comment": "said",
        "date": "2026",
    }


def test_frames_of_no_concern_are_left(tmp_path: Path) -> None:
    tag = id3(
        3,
        frame(3, "APIC", b"\0image/png\0\3\0" + bytes(range(256)) * 100),
        frame(3, "TXXX", b"\0replaygain\0-3 dB"),
        frame(3, "TXXX", b"\0comment\0by ffmpeg"),
        frame(3, "WCOP", b"https://example.org"),
        frame(3, "TPE1", b""),
        frame(3, "TALB", b"\x09odd encoding"),
    )
    assert mp3.read_tags(tagged(tmp_path, tag)) == {
        "comment": "by ffmpeg",
        "license": "https://example.org",
        "album": "odd encoding",
    }


def test_unsynchronised_and_extended_tags(tmp_path: Path) -> None:
    title = frame(3, "TIT2", b"\0\xff\xe0 high")  # looks like an MP3 frame
    tag = id3(3, title.replace(b"\xff", b"\xff\0"), flags=0x80)
    assert mp3.read_tags(tagged(tmp_path, tag))["title"] == "ÿà high"
    extended = (6).to_bytes(4) + bytes(6)
    tag = id3(3, extended, frame(3, "TIT2", b"\0plain"), flags=0x40)
    assert mp3.read_tags(tagged(tmp_path, tag)) == {"title": "plain"}
    extended = synchsafe(6) + b"\x01\0"
    tag = id3(4, extended, frame(4, "TIT2", b"\x03plain"), flags=0x40)
    assert mp3.read_tags(tagged(tmp_path, tag)) == {"title": "plain"}


def test_old_tags_behind_the_sound(tmp_path: Path) -> None:
    texts = [b"Title", b"Artist", b"Album"]
    tail = b"TAG" + b"".join(text.ljust(30, b"\0") for text in texts) + b"1999"
    tail += b"Comment".ljust(28, b"\0") + bytes([0, 7, 12])
    path = tagged(tmp_path, b"", tail)
    assert len(tail) == 128
    assert probe(path).tags == {
        "title": "Title",
        "artist": "Artist",
        "album": "Album",
        "date": "1999",
        "comment": "Comment",
        "tracknumber": "7",
    }
    assert read_audio(path)[0].shape == (1, 24_000)


@pytest.mark.parametrize("size", [10, 11, 15, 25, 40, 80])
def test_broken_tags_do_no_harm(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(mp3.build_tag(TAGS)[:size])
    assert mp3.read_tags(path).items() <= TAGS.items()


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 24_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_frame_headers(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "a.mp3"
    write_audio(path, noise(rate, channels), rate)
    with path.open("rb") as file:
        start, first = mp3.first_frame(file)
    header = mp3.parse_header(first)
    assert start == 0
    assert header is not None
    assert (header.sample_rate, header.channels) == (rate, channels)
    assert header.samples == (1152 if rate >= 32_000 else 576)
    assert len(first) == header.size
    frames = mp3.count_frames(path, start) - 1  # without the header's
    assert frames == struct.unpack(">I", first[first.find(b"\0\0\0\x0f") + 4 :][:4])[0]


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfb", b"RIFF", b"\xff\xff\xff\xff", b"\xff\xf1\x50\0"]
)
def test_other_bytes_are_no_header(data: bytes) -> None:
    assert mp3.parse_header(data) is None


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16_000, 1), (22_050, 2), (44_100, 2)])
def test_files_without_length_are_read_whole(
    tmp_path: Path, rate: int, channels: int, mode: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = without_header(tmp_path, rate, channels, compression_level=0.3, bitrate_mode=mode)
    frame_length = 1152 if rate >= 32_000 else 576
    coded = mp3.count_frames(path, 0) * frame_length
    read, _ = read_audio(path)
    # Encoder and decoder delay, and the filling of the last frame; not one sample less.
    assert 3 * rate <= read.shape[1] <= coded
    assert coded - 3 * rate < 3 * 1152
    assert probe(path).frames == read.shape[1]
    with AudioReader(path) as reader, AudioWriter(tmp_path / "b.mp3", reader.info) as writer:
        for block in reader.blocks(777):
            writer.write(block)
    assert probe(tmp_path / "b.mp3").frames == read.shape[1]
    assert capfd.readouterr().err == ""


def test_gaps_and_cut_ends_are_passed_over(tmp_path: Path) -> None:
    path = without_header(tmp_path, 16_000, 1)
    whole = mp3.count_frames(path, 0)
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    assert mp3.count_frames(path, 0) == whole - 1
    path.write_bytes(data + b"APETAGEX" + b"\xff" * 100)
    assert mp3.count_frames(path, 0) == whole


def test_file_with_length_behaves_like_a_file(tmp_path: Path) -> None:
    path = without_header(tmp_path, 16_000, 1)
    file = mp3.open_with_length(path)
    assert file is not None
    with file:
        whole = file.read()
        assert whole.endswith(path.read_bytes())
        assert file.seek(-10, 2) == len(whole) - 10 == file.tell()
        assert file.read() == whole[-10:]
        file.seek(3)
        assert file.seek(2, 1) == 5
        assert file.read(1000) == whole[5:1005]
        assert file.readable()
        assert file.seekable()
    assert file.closed


def test_files_with_length_are_left_alone(tmp_path: Path) -> None:
    assert mp3.open_with_length(tagged(tmp_path, mp3.build_tag(TAGS))) is None
    write_audio(tmp_path / "a.wav", noise(), 24_000)
    assert mp3.open_with_length(tmp_path / "a.wav") is None


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 16_000, 24_000, 44_100, 48_000])
def test_every_bitrate_keeps_the_length(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "a.mp3"
    for kbps in mp3._KBPS[rate >= 32_000]:
        if kbps > 64 and rate < 16_000:
            continue
        settings = mp3.encoder_settings(rate, 1000 * kbps)
        soundfile.write(path, noise(rate + 77, channels).T, rate, format="MP3", **settings)
        assert probe(path).frames == rate + 77
        if settings["bitrate_mode"] == "CONSTANT":
            assert mp3.mean_bit_rate(path) == pytest.approx(1000 * kbps, rel=5e-3)


@pytest.mark.parametrize("bit_rate", [1000, 173_000, 10**6])
def test_odd_bitrates_are_averaged(bit_rate: int) -> None:
    settings = mp3.encoder_settings(44_100, bit_rate)
    assert settings["bitrate_mode"] == "AVERAGE"
    assert 0 <= float(settings["compression_level"]) < 1  # libsndfile refuses 1


def test_is_whole_believes_the_header(tmp_path: Path) -> None:
    path = tagged(tmp_path, mp3.build_tag(TAGS))
    assert mp3.is_whole(path)
    path.write_bytes(path.read_bytes()[:-200])
    assert not mp3.is_whole(path)
    with pytest.raises(AudioError, match="is truncated"):
        probe(path)
