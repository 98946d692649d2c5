"""What comes out of a file equals what went in: rate, channels, length, subtype and tags."""

import itertools
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from quieten import containers
from quieten.audio import (
    AUDIO_SUFFIXES,
    AudioInfo,
    AudioReader,
    AudioWriter,
    Waveform,
    output_format,
    probe,
    read_audio,
    readable_formats,
    write_audio,
)
from quieten.errors import AudioError

LOSSLESS = {
    ".wav": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"),
    ".flac": ("PCM_S8", "PCM_16", "PCM_24"),
    ".aiff": ("PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"),
    ".rf64": ("PCM_16", "FLOAT"),
    ".w64": ("PCM_16", "PCM_24"),
    ".caf": ("PCM_24",),
    ".au": ("PCM_16",),
}
LOSSY = {".ogg": ("VORBIS", "OPUS"), ".opus": ("OPUS",), ".mp3": ("MPEG_LAYER_III",)}
RATES = (8000, 16_000, 44_100, 48_000, 96_000)
REFUSED = {
    "OPUS": {44_100, 96_000},  # Opus has 8, 12, 16, 24 and 48 kHz
    "MPEG_LAYER_III": {96_000},
}
KINDS = [(suffix, name) for suffix, names in (LOSSLESS | LOSSY).items() for name in names]
EXACT = [(suffix, name) for suffix, names in LOSSLESS.items() for name in names]
BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
TAGS = {
    "title": "Grüße",
    "artist": "Ada L.",
    "album": "Letters",
    "date": "2026-11-20",
    "comment": "recorded at home",
    "tracknumber": "3",
    "genre": "Speech",
    "copyright": "CC0",
    "software": "recorder 1.0",
}
AIFF_TAGS = {"title", "artist", "comment", "copyright", "software"}


def noise(frames: int, channels: int = 1, level: float = 0.1) -> Waveform:
    return np.random.default_rng(frames).normal(0, level, (channels, frames))


def copy_lazily(
    source: Path, target: Path, block_length: int
) -> Iterator[tuple[Waveform, Waveform]]:
    with AudioReader(source) as reader, AudioWriter(target, reader.info) as writer:
        for block in reader.blocks(block_length):
            yield block, writer.write(block)


def copy(source: Path, target: Path, block_length: int = 1000) -> list[tuple[Waveform, Waveform]]:
    """Copies a file in blocks; the pairs (read, stored)."""
    return list(copy_lazily(source, target, block_length))


def facts(info: AudioInfo) -> tuple[object, ...]:
    return info.sample_rate, info.channels, info.frames, info.format, info.subtype, info.tags


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("suffix", "subtype"), KINDS)
def test_round_trip_keeps_all(tmp_path: Path, suffix: str, subtype: str, rate: int) -> None:
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    if rate in REFUSED.get(subtype, ()):
        with pytest.raises(AudioError, match=r"does not hold 1 channels at \d+ Hz: write"):
            write_audio(source, noise(100), rate, subtype=subtype)
        return
    for channels, frames in itertools.product((1, 2), (1, 1151, 9001)):
        write_audio(source, noise(frames, channels), rate, subtype=subtype, tags=TAGS)
        before = probe(source)
        assert facts(before)[:3] == (rate, channels, frames)
        assert before.subtype == subtype
        assert output_format(before) == (suffix, "")
        pairs = copy(source, target)
        assert facts(probe(target)) == facts(before)
        assert sum(read.shape[1] for read, _ in pairs) == frames
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, target.name]


@pytest.mark.parametrize(("suffix", "subtype"), EXACT)
def test_lossless_copies_are_bit_exact(tmp_path: Path, suffix: str, subtype: str) -> None:
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    write_audio(source, noise(5001, 2, 0.3), 44_100, subtype=subtype)
    pairs = copy(source, target)
    for read, stored in pairs:
        np.testing.assert_array_equal(read, stored)
    before, after = (soundfile.read(path, dtype="float64")[0] for path in (source, target))
    np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(read_audio(target)[0], before.T)
    if suffix == ".wav" and subtype not in ("FLOAT", "DOUBLE"):  # those carry a time stamp
        assert source.read_bytes() == target.read_bytes()


@pytest.mark.parametrize("subtype", BITS)
def test_every_integer_survives(tmp_path: Path, subtype: str) -> None:
    bits = BITS[subtype]
    steps = np.unique(np.linspace(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 70_000).round())
    waveform = (steps / 2 ** (bits - 1))[None]
    path = tmp_path / ("a.aiff" if subtype == "PCM_S8" else "a.wav")
    write_audio(path, waveform, 16_000, subtype=subtype)
    stored, _ = read_audio(path)
    np.testing.assert_array_equal(stored, waveform)
    assert stored.dtype == (np.float64 if bits == 32 else np.float32)


@given(st.floats(-1, 1, width=32), st.sampled_from([16, 24]))
def test_rounding_is_to_the_nearest_step(tmp_path_factory, value: float, bits: int) -> None:
    path = tmp_path_factory.mktemp("rounding") / "a.wav"
    write_audio(path, np.array([[value]], np.float32), 8000, subtype=f"PCM_{bits}")
    expected = min(np.rint(value * 2.0 ** (bits - 1)), 2 ** (bits - 1) - 1) / 2 ** (bits - 1)
    assert read_audio(path)[0][0, 0] == expected


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32"])
def test_over_full_scale_is_limited_and_counted(tmp_path: Path, subtype: str) -> None:
    waveform = np.array([[0.5, 1.0, 1.0001, 7.0, -1.0, -1.5, np.inf, np.nan]])
    like = AudioInfo(tmp_path, 16_000, 1, 8, "WAV", subtype)
    with AudioWriter(tmp_path / "a.wav", like) as writer:
        stored = writer.write(waveform)
    top = 1 - 2.0 ** (1 - BITS[subtype])
    np.testing.assert_array_equal(stored, [[0.5, top, top, top, -1, -1, top, 0]])
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav")[0], stored)
    assert writer.limited == 4  # 1.0 is full scale, not beyond


def test_float_files_are_not_limited(tmp_path: Path) -> None:
    waveform = np.array([[0.5, 3.0, -2.0]], np.float32)
    write_audio(tmp_path / "a.wav", waveform, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav")[0], waveform)


def test_non_finite_samples_become_silence_and_are_counted(tmp_path: Path) -> None:
    waveform = np.full((2, 5000), 0.25, np.float32)
    waveform[0, 7], waveform[1, 8], waveform[1, 4999] = np.nan, np.inf, -np.inf
    soundfile.write(tmp_path / "a.wav", waveform.T, 16_000, "FLOAT")
    with AudioReader(tmp_path / "a.wav") as reader:
        read = np.concatenate(list(reader.blocks(1000)), axis=1)
    np.testing.assert_array_equal(read, np.where(np.isfinite(waveform), waveform, 0))
    assert reader.non_finite == 3


@pytest.mark.parametrize(
    ("suffix", "subtype"), [*EXACT[:6], *((s, n[0]) for s, n in LOSSY.items())]
)
@pytest.mark.parametrize("block_length", [1, 100, 4096, 10**6])
def test_blocks_equal_the_whole(
    tmp_path: Path, suffix: str, subtype: str, block_length: int, capfd: pytest.CaptureFixture[str]
) -> None:
    frames = 3000 if block_length == 1 else 30_001
    write_audio(tmp_path / f"a{suffix}", noise(frames, 2), 48_000, subtype=subtype)
    with AudioReader(tmp_path / f"a{suffix}") as reader:
        blocks = list(reader.blocks(block_length))
    assert {block.shape[1] for block in blocks[:-1]} <= {block_length}
    joined, whole = np.concatenate(blocks, axis=1), read_audio(tmp_path / f"a{suffix}")[0]
    np.testing.assert_allclose(joined, whole, atol=1e-7)  # MP3's decoder rounds by block
    assert capfd.readouterr().err == ""  # libmpg123 talks when it is made to seek


@pytest.mark.parametrize(("suffix", "subtype"), [(s, n) for s, ns in LOSSY.items() for n in ns])
def test_lossy_copies_stay_in_place(tmp_path: Path, suffix: str, subtype: str) -> None:
    seconds = np.arange(96_123) / 48_000
    sweep = (0.3 * np.sin(2 * np.pi * (200 + 400 * seconds) * seconds))[None]
    write_audio(tmp_path / f"a{suffix}", sweep, 48_000, subtype=subtype)
    copy(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}")
    decoded = read_audio(tmp_path / f"b{suffix}")[0]
    spectrum = np.fft.rfft(decoded[0], 2**18) * np.fft.rfft(sweep[0], 2**18).conj()
    assert np.argmax(np.fft.irfft(spectrum)) == 0
    assert np.std(decoded - sweep) < 0.1 * np.std(sweep)


@pytest.mark.parametrize(
    ("suffix", "subtype", "settings"),
    [
        (".mp3", "MPEG_LAYER_III", {"compression_level": 0.1, "bitrate_mode": "CONSTANT"}),
        (".mp3", "MPEG_LAYER_III", {"compression_level": 0.75, "bitrate_mode": "CONSTANT"}),
        (".mp3", "MPEG_LAYER_III", {"compression_level": 0.3, "bitrate_mode": "VARIABLE"}),
        (".ogg", "VORBIS", {"compression_level": 0.1}),
        (".ogg", "VORBIS", {"compression_level": 0.9}),
        (".opus", "OPUS", {"compression_level": 0.5}),
        (".opus", "OPUS", {"compression_level": 0.9}),
    ],
)
@pytest.mark.parametrize(("rate", "channels"), [(48_000, 2), (16_000, 1), (8000, 1)])
def test_lossy_copies_keep_the_bitrate(
    tmp_path: Path, suffix: str, subtype: str, settings: dict, rate: int, channels: int
) -> None:
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    samples = noise(4 * rate, channels).T
    with soundfile.SoundFile(
        source, "w", rate, channels, subtype, None, suffix[1:].replace("opus", "ogg"), **settings
    ) as file:
        for start in range(0, len(samples), 16_000):
            file.write(samples[start : start + 16_000])
    copy(source, target)
    # The second coding has less to code: what the first one threw away is gone.
    assert 0.8 < target.stat().st_size / source.stat().st_size < 1.1
    assert probe(target).bit_rate == pytest.approx(probe(source).bit_rate, rel=0.15)


def test_tags_survive_where_the_format_holds_them(tmp_path: Path) -> None:
    kept = {}
    for suffix in (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".rf64", ".caf"):
        write_audio(tmp_path / f"a{suffix}", noise(4800), 48_000, tags=TAGS)
        kept[suffix] = probe(tmp_path / f"a{suffix}").tags
    assert kept.pop(".aiff") == {name: TAGS[name] for name in AIFF_TAGS}
    assert all(tags == TAGS for tags in kept.values()), kept


def test_untagged_files_stay_untagged(tmp_path: Path) -> None:
    for suffix in (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff"):
        write_audio(tmp_path / f"a{suffix}", noise(4800), 48_000)
        assert probe(tmp_path / f"a{suffix}").tags == {}


def test_write_audio_takes_after_like_unless_told(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.flac", noise(100), 44_100, subtype="PCM_24", tags=TAGS)
    like = probe(tmp_path / "a.flac")
    write_audio(tmp_path / "b.wav", noise(70, 2), 8000, like=like)
    assert facts(probe(tmp_path / "b.wav")) == (8000, 2, 70, "WAV", "PCM_24", TAGS)
    write_audio(tmp_path / "c.wav", noise(70)[0], 8000, like=like, subtype="FLOAT", tags={})
    assert facts(probe(tmp_path / "c.wav")) == (8000, 1, 70, "WAV", "FLOAT", {})


def test_one_dimension_in_gives_one_dimension_back(tmp_path: Path) -> None:
    like = AudioInfo(tmp_path, 16_000, 1, 0, "WAV", "PCM_16")
    with AudioWriter(tmp_path / "a.wav", like) as writer:
        assert writer.write(np.zeros(10, np.float32)).shape == (10,)
        assert writer.write(np.zeros((1, 10), np.float32)).shape == (1, 10)
        assert writer.write(np.zeros((1, 0), np.float32)).shape == (1, 0)
    assert probe(tmp_path / "a.wav").frames == 20


@pytest.mark.parametrize("frames", [0, 100])
def test_wav_of_unknown_or_small_size_is_plain_wav(tmp_path: Path, frames: int) -> None:
    like = AudioInfo(tmp_path, 16_000, 2, frames, "WAV", "PCM_16", TAGS)
    with AudioWriter(tmp_path / "a.wav", like) as writer:
        writer.write(noise(100, 2))
    assert (tmp_path / "a.wav").read_bytes()[:4] == b"RIFF"
    assert probe(tmp_path / "a.wav").frames == 100
    assert probe(tmp_path / "a.wav").tags == TAGS


def test_wav_beyond_4_gib_becomes_rf64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "RIFF_LIMIT", 1000)  # as if 4 GiB were 1000 bytes
    like = AudioInfo(tmp_path, 16_000, 1, 4000, "WAV", "PCM_16", TAGS)
    with AudioWriter(tmp_path / "a.wav", like) as writer:
        writer.write(noise(4000))
    info = probe(tmp_path / "a.wav")
    assert facts(info) == (16_000, 1, 4000, "RF64", "PCM_16", TAGS)
    assert output_format(info) == (".wav", "")
    with (
        pytest.raises(AudioError, match="AIFF holds at most 4 GiB"),
        AudioWriter(tmp_path / "a.aiff", like),
    ):
        pass


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_memory_does_not_grow_with_the_length(tmp_path: Path, suffix: str) -> None:
    peaks = []
    for seconds in (10, 60):
        write_audio(tmp_path / f"in{suffix}", noise(seconds * 8000), 8000)
        tracemalloc.start()
        for _ in copy_lazily(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", 4096):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 200_000  # of 3 MB more samples


def test_streamed_flac_of_unknown_length_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    write_audio(path, noise(50_000), 16_000)
    whole, _ = read_audio(path)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # the number of samples: 36 bits of the STREAMINFO block
    data[22:26] = bytes(4)
    path.write_bytes(data)
    assert probe(path).frames == 0
    np.testing.assert_array_equal(read_audio(path)[0], whole)


def test_readable_formats_cover_what_a_folder_scan_picks_up() -> None:
    formats = readable_formats()
    assert set(formats) == AUDIO_SUFFIXES
    assert {formats[suffix] for suffix in (".wav", ".mp3", ".opus")} == {"soundfile"}
    assert formats[".m4a"] in ("pyav", "ffmpeg", "needs quieten[media] or ffmpeg")
