"""Names, suffixes and headers: which format a result takes, and what headers are mended."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from quieten import containers
from quieten.audio import AUDIO_SUFFIXES, AudioInfo, output_format, probe, write_audio
from quieten.errors import AudioError
from quieten.formats import MEDIA_SUFFIXES, SOUNDFILE_SUFFIXES, encoder_settings, target_format
from quieten.pcm import repair, to_stored, with_channels

NOISE = np.random.default_rng(0).normal(0, 0.1, (1, 16_000))


def info(
    name: str,
    file_format: str = "WAV",
    subtype: str = "PCM_16",
    channels: int = 1,
    decoder: str = "soundfile",
) -> AudioInfo:
    return AudioInfo(Path(name), 16_000, channels, 100, file_format, subtype, {}, decoder)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (info("a.wav"), (".wav", "")),
        (info("A.WAV", "WAVEX", "PCM_24"), (".wav", "")),
        (info("a.wave", "RF64"), (".wave", "")),
        (info("a.aif", "AIFF"), (".aif", "")),
        (info("a.oga", "OGG", "VORBIS"), (".oga", "")),
        (info("a.ogg", "OGG", "OPUS"), (".ogg", "")),
        (info("a.opus", "OGG", "OPUS"), (".opus", "")),
        (info("a.mp3", "MP3", "MPEG_LAYER_III"), (".mp3", "")),
        (info("a.wav", "WAV", "IMA_ADPCM"), (".wav", "")),
        (info("a", "FLAC"), (".flac", "holds FLAC sound: written as .flac")),
        (info("a.wav", "MP3", "MPEG_LAYER_III"), (".mp3", "holds MP3 sound: written as .mp3")),
        (info("a.mp3", "OGG", "OPUS"), (".opus", "holds OGG sound: written as .opus")),
        (info("a.mp3", "OGG", "VORBIS"), (".ogg", "holds OGG sound: written as .ogg")),
        (
            info("a.mp3", "MP3", "MPEG_LAYER_II"),
            (".mp3", "MPEG_LAYER_II cannot be written: MPEG_LAYER_III instead"),
        ),
        (info("a.voc", "VOC"), (".flac", "voc cannot be written yet: FLAC instead")),
        (
            info("a.m4a", "MOV,MP4", "AAC", decoder="pyav"),
            (".flac", "m4a cannot be written yet: FLAC instead"),
        ),
        (
            info("a.mkv", "MATROSKA,WEBM", "FLAC", 12, "ffmpeg"),
            (".wav", "mkv cannot be written yet: WAV instead"),
        ),
    ],
)
def test_output_format(source: AudioInfo, expected: tuple[str, str]) -> None:
    assert output_format(source) == expected


@pytest.mark.parametrize(
    ("target", "like", "expected"),
    [
        ("a.wav", info("x", "WAVEX", "PCM_24"), ("WAVEX", "PCM_24")),
        ("a.wav", info("x", "FLAC", "PCM_24"), ("WAV", "PCM_24")),
        ("a.wav", info("x", "FLAC", "PCM_S8"), ("WAV", "PCM_U8")),
        ("a.flac", info("x", "WAV", "PCM_U8"), ("FLAC", "PCM_S8")),
        ("a.flac", info("x", "WAV", "FLOAT"), ("FLAC", "PCM_24")),
        ("a.flac", info("x", "WAV", "PCM_32"), ("FLAC", "PCM_24")),
        ("a.flac", info("x", "MOV", "ALAC_24"), ("FLAC", "PCM_24")),
        ("a.flac", info("x", "MOV", "AAC"), ("FLAC", "PCM_16")),
        ("a.wav", info("x", "MP3", "MPEG_LAYER_III"), ("WAV", "PCM_16")),
        ("a.FLAC", info("x", "MP3", "MPEG_LAYER_III"), ("FLAC", "PCM_16")),
        ("a.ogg", info("x"), ("OGG", "VORBIS")),
        ("a.ogg", info("x", "OGG", "OPUS"), ("OGG", "OPUS")),
        ("a.opus", info("x", "OGG", "VORBIS"), ("OGG", "OPUS")),
        ("a.mp3", info("x"), ("MP3", "MPEG_LAYER_III")),
        ("a.aiff", info("x", "WAV", "DOUBLE"), ("AIFF", "DOUBLE")),
    ],
)
def test_target_format(target: str, like: AudioInfo, expected: tuple[str, str]) -> None:
    assert target_format(Path(target), like) == expected


@pytest.mark.parametrize("name", ["a.m4a", "a.txt", "a", ".wav"])
def test_targets_of_no_known_format(name: str) -> None:
    with pytest.raises(AudioError, match=r"use one of .*\.flac.*\.wav"):
        target_format(Path(name), info("x"))


def test_every_suffix_can_be_written(tmp_path: Path) -> None:
    for suffix in SOUNDFILE_SUFFIXES:
        write_audio(tmp_path / f"a{suffix}", NOISE, 16_000)
        found = probe(tmp_path / f"a{suffix}")
        assert found.frames == NOISE.shape[1]
        assert output_format(found) == (suffix, "")
    assert AUDIO_SUFFIXES == SOUNDFILE_SUFFIXES | MEDIA_SUFFIXES
    assert not SOUNDFILE_SUFFIXES & MEDIA_SUFFIXES


def test_lossless_files_have_no_encoder_settings() -> None:
    assert encoder_settings(info("a.wav")) == {}


@pytest.mark.parametrize("bit_rate", [1, 10**9])
@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS", "MPEG_LAYER_III"])
def test_odd_bitrates_stay_in_range(subtype: str, bit_rate: int) -> None:
    like = AudioInfo(Path("a"), 16_000, 1, 100, "", subtype, {}, "soundfile", bit_rate)
    assert 0 <= float(encoder_settings(like)["compression_level"]) <= 1


def test_duration_and_size() -> None:
    like = AudioInfo(Path("a"), 16_000, 2, 8000, "WAV", "PCM_24")
    assert like.duration_s == 0.5
    assert like.size_bytes == 8000 * 2 * 3


def chunk(name: bytes, size: int, content: bytes = b"") -> bytes:
    return name + struct.pack("<I", size) + content


@pytest.mark.parametrize(
    ("size", "there", "missing"),
    [(1000, 1000, 0), (1000, 999, 1), (1000, 0, 1000), (0, 500, 0), (0xFFFFFFFF, 500, 0)],
)
def test_missing_bytes(tmp_path: Path, size: int, there: int, missing: int) -> None:
    extra = chunk(b"LIST", 5, b"abcde\0")  # odd chunks are padded
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF\0\0\0\0WAVE" + extra + chunk(b"data", size, bytes(there)))
    assert containers.missing_bytes(path) == missing


def test_missing_bytes_of_rf64(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    long = chunk(b"ds64", 28, struct.pack("<QQQI", 0, 2**33, 0, 0))
    path.write_bytes(b"RF64\xff\xff\xff\xffWAVE" + long + chunk(b"data", 0xFFFFFFFF, bytes(10)))
    assert containers.missing_bytes(path) == 2**33 - 10


@pytest.mark.parametrize("damage", ["none", "cut", "no end mark", "no page"])
def test_ogg_is_whole(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.ogg"
    write_audio(path, NOISE, 16_000)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[-1:]
    elif damage == "no end mark":
        data[data.rfind(b"OggS") + 5] &= ~4
    elif damage == "no page":
        data = bytearray(b"something else")
    path.write_bytes(data)
    assert containers.ogg_is_whole(path) == (damage == "none")


def test_vorbis_bit_rate_where_there_is_none() -> None:
    assert containers.vorbis_nominal_bit_rate(b"no such stream") == 0
    assert containers.vorbis_nominal_bit_rate(b"\x01vorbis") == 0
    unknown = b"\x01vorbis" + bytes(13) + b"\xff\xff\xff\xff"
    assert containers.vorbis_nominal_bit_rate(unknown) == 0


def test_shrink_rf64_leaves_others_alone(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", NOISE, 16_000)
    before = (tmp_path / "a.wav").read_bytes()
    containers.shrink_rf64(tmp_path / "a.wav")
    assert (tmp_path / "a.wav").read_bytes() == before
    write_audio(tmp_path / "b.rf64", NOISE, 16_000)
    (tmp_path / "b.rf64").rename(tmp_path / "b.wav")
    containers.shrink_rf64(tmp_path / "b.wav")
    np.testing.assert_array_equal(*(soundfile.read(tmp_path / f"{n}.wav")[0] for n in "ab"))


def test_repair_returns_the_very_block_where_nothing_is_wrong() -> None:
    assert repair(NOISE)[0] is NOISE
    assert repair(NOISE)[1] == 0


def test_with_channels_adds_the_one_channel() -> None:
    assert with_channels(NOISE[0]).shape == NOISE.shape
    assert with_channels(NOISE) is NOISE


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS", "MPEG_LAYER_III"])
def test_lossy_subtypes_are_limited_floats(subtype: str) -> None:
    data, stored, limited = to_stored(np.array([[2.0, 0.1]]), subtype)
    np.testing.assert_array_equal(stored, np.array([[1, 0.1]], np.float32))
    assert data.dtype == np.float32
    assert limited == 1
