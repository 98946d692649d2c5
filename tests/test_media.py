"""Sound out of m4a, mp4, webm and mkv, by PyAV and by ffmpeg; the files are made by PyAV."""

import subprocess
from collections.abc import Callable
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from quieten import media
from quieten.audio import (
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
from quieten.errors import AudioError, MissingExtra

HERE = media.decoders()
needs_pyav = pytest.mark.skipif("pyav" not in HERE, reason='needs pip install "quieten[media]"')
needs_ffmpeg = pytest.mark.skipif("ffmpeg" not in HERE, reason="needs ffmpeg")
DECODERS = [
    pytest.param("pyav", marks=needs_pyav),
    pytest.param("ffmpeg", marks=needs_ffmpeg),
]
TAGS = {"title": "Grüße", "artist": "Ada", "album": "Letters", "date": "2026", "genre": "Speech"}
# name: (codec, sample format, rate in Hz, exact length?, lossless?)
FILES = {
    "a.m4a": ("aac", "fltp", 44_100, True, False),
    "b.m4a": ("alac", "s16p", 44_100, True, True),
    "c.m4a": ("alac", "s32p", 48_000, True, True),
    "a.mp4": ("aac", "fltp", 48_000, True, False),
    "a.mov": ("pcm_s16le", "s16", 16_000, True, True),
    "b.mov": ("pcm_s24le", "s32", 96_000, True, True),
    "a.mkv": ("flac", "s16", 22_050, True, True),
    "a.webm": ("libopus", "flt", 48_000, False, False),
    "a.ac3": ("ac3", "fltp", 48_000, False, False),
    "a.aac": ("aac", "fltp", 48_000, False, False),
}


def tone(rate: int, channels: int, seconds: int = 1) -> Waveform:
    phase = 2 * np.pi * np.arange(seconds * rate) / rate
    return np.stack([0.4 * np.sin((300 + 200 * c) * phase) for c in range(channels)])


def make(path: Path, waveform: Waveform, picture: bool = False) -> Path:
    """Encodes a waveform with PyAV as FILES says, tags in it, a picture before it if asked."""
    av = pytest.importorskip("av", reason='needs pip install "quieten[media]"')
    codec, sample_format, rate, _, _ = FILES[path.name]
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(waveform)]
    with av.open(str(path), "w") as container:
        container.metadata.update(TAGS)
        draw = _add_picture(container) if picture else None
        stream = container.add_stream(codec, rate, format=sample_format, layout=layout)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(waveform, np.float32), format="fltp", layout=layout
        )
        frame.sample_rate = rate
        frame.pts, frame.time_base = 0, Fraction(1, rate)
        if draw:
            draw()
        resampler = av.AudioResampler(sample_format, layout, rate, stream.frame_size or 1024)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(part))
    return path


def _add_picture(container) -> Callable[[], None]:
    """Adds a stream of black pictures; the function draws them, once all streams are there."""
    import av

    video = container.add_stream("mpeg4", 10)
    video.width = video.height = 64
    video.pix_fmt = "yuv420p"

    def draw() -> None:
        for _ in range(3):
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            container.mux(video.encode(picture))
        container.mux(video.encode(None))

    return draw


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(media, "decoders", lambda: names)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", FILES)
def test_reads(
    tmp_path: Path, name: str, channels: int, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, rate, exact, lossless = FILES[name]
    original = tone(rate, channels)
    path = make(tmp_path / name, original)
    only(monkeypatch, decoder)
    info = probe(path)
    assert (info.sample_rate, info.channels, info.decoder) == (rate, channels, decoder)
    read, read_rate = read_audio(path)
    assert read_rate == rate
    assert read.dtype == np.float32
    if exact:
        assert read.shape == original.shape
        assert info.frames in (0, rate)
    assert 0 <= read.shape[1] - rate < 4096
    if lossless:
        np.testing.assert_allclose(read, original, atol=2**-15)
    elif exact:
        assert np.std(read - original) < 0.05
    for channel in range(channels):  # each channel keeps its own tone
        spectrum = np.abs(np.fft.rfft(read[channel]))
        peak_hz = np.argmax(spectrum) * rate / read.shape[1]
        assert peak_hz == pytest.approx(300 + 200 * channel, abs=2)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", ["a.m4a", "a.mp4", "a.mkv", "a.webm"])
def test_tags_are_mapped(
    tmp_path: Path, name: str, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / name, tone(FILES[name][2], 1))
    only(monkeypatch, decoder)
    tags = probe(path).tags
    assert {key: tags.get(key) for key in TAGS} == TAGS


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("block_length", [1, 1000, 4096, 10**6])
def test_blocks_have_the_length_asked_for(
    tmp_path: Path, block_length: int, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "a.mkv", tone(22_050, 2))
    only(monkeypatch, decoder)
    whole, _ = read_audio(path)
    with AudioReader(path) as reader:
        blocks = list(reader.blocks(block_length))
    assert {block.shape[1] for block in blocks[:-1]} <= {block_length}
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)


@needs_pyav
@needs_ffmpeg
@pytest.mark.parametrize("name", ["b.m4a", "c.m4a", "b.mov", "a.mkv"])
def test_both_decoders_give_the_same_samples(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / name, tone(FILES[name][2], 2))
    found = []
    for decoder in ("pyav", "ffmpeg"):
        only(monkeypatch, decoder)
        info = probe(path)
        found.append((read_audio(path)[0], info.frames, info.subtype, info.format, info.tags))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1:] == found[1][1:]


@pytest.mark.parametrize("decoder", DECODERS)
def test_sound_beside_a_picture(
    tmp_path: Path, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "a.mp4", tone(48_000, 2), picture=True)
    only(monkeypatch, decoder)
    assert read_audio(path)[0].shape == (2, 48_000)


@pytest.mark.parametrize("decoder", DECODERS)
def test_six_channels(tmp_path: Path, decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.mkv", tone(22_050, 6))
    only(monkeypatch, decoder)
    np.testing.assert_allclose(read_audio(path)[0], tone(22_050, 6), atol=2**-15)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("name", "subtype"), [("a.m4a", "PCM_16"), ("c.m4a", "PCM_24"), ("b.mov", "PCM_24")]
)
def test_results_become_flac_and_say_so(
    tmp_path: Path, name: str, subtype: str, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / name, tone(FILES[name][2], 2))
    only(monkeypatch, decoder)
    info = probe(path)
    suffix, note = output_format(info)
    assert suffix == ".flac"
    assert note == f"{path.suffix[1:]} cannot be written yet: FLAC instead"
    target = tmp_path / f"out{suffix}"
    with AudioReader(path) as reader, AudioWriter(target, reader.info) as writer:
        for block in reader.blocks(1000):
            writer.write(block)
    result = probe(target)
    assert (result.format, result.subtype, result.frames) == ("FLAC", subtype, info.sample_rate)
    assert {key: result.tags.get(key) for key in TAGS} == TAGS
    if subtype == "PCM_24":  # lossless in, lossless out
        np.testing.assert_array_equal(read_audio(target)[0], read_audio(path)[0])


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("part", [0.2, 0.6, 0.95])
def test_truncated(
    tmp_path: Path, part: float, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "a.m4a", tone(44_100, 1, 5))
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    only(monkeypatch, decoder)
    with pytest.raises(AudioError, match=r"cannot be decoded|is truncated") as caught:
        read_audio(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("decoder", DECODERS)
def test_shorter_than_stated_is_truncated(
    tmp_path: Path, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "a.m4a", tone(44_100, 1))
    only(monkeypatch, decoder)
    info = probe(path)
    longer = AudioInfo(path, 44_100, 1, info.frames + 44_100, info.format, "AAC", {}, decoder)
    with pytest.raises(AudioError, match="is truncated"):
        list(media.blocks(longer, 1000))


@pytest.mark.parametrize("decoder", DECODERS)
def test_picture_without_sound(
    tmp_path: Path, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    av = pytest.importorskip("av", reason='needs pip install "quieten[media]"')
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        _add_picture(container)()
    only(monkeypatch, decoder)
    with pytest.raises(AudioError, match="has no sound in it"):
        probe(tmp_path / "a.mp4")


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", ["-v.m4a", "concat:a.m4a", "with space & 'quotes'.m4a"])
def test_odd_names_are_only_names(
    tmp_path: Path, name: str, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "a.m4a", tone(44_100, 1)).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    only(monkeypatch, decoder)
    assert read_audio(Path(name))[0].shape == (1, 44_100)
    assert path.exists()


@pytest.mark.parametrize("decoder", DECODERS)
def test_dropped_reader_leaves_no_process(
    tmp_path: Path, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "a.mkv", tone(22_050, 2, 30))
    only(monkeypatch, decoder)
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*args: object, **kwargs: object) -> subprocess.Popen[bytes]:
        started.append(popen(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    with AudioReader(path) as reader:
        blocks = reader.blocks(100)
        next(blocks)
        blocks.close()
    assert [process.args[0] for process in started][1:] == ["ffmpeg"] * (decoder == "ffmpeg")
    assert all(process.poll() is not None for process in started)


@needs_pyav
def test_other_decoder_helps_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.m4a", tone(44_100, 1))

    def broken(path: Path) -> AudioInfo:
        raise AudioError(f"{path}: not mine")

    monkeypatch.setitem(media._PROBES, "ffmpeg", broken)
    only(monkeypatch, "ffmpeg", "pyav")
    assert probe(path).decoder == "pyav"


@needs_pyav
def test_media_under_a_wrong_name_is_read_and_renamed(tmp_path: Path) -> None:
    path = make(tmp_path / "a.m4a", tone(44_100, 1)).rename(tmp_path / "a.wav")
    assert read_audio(path)[0].shape == (1, 44_100)
    assert output_format(probe(path)) == (".flac", "mov cannot be written yet: FLAC instead")


def test_decoders_are_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ("pyav" in media.decoders()) == bool(find_spec("av"))
    monkeypatch.setattr(media.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(media.shutil, "which", lambda name: None)
    assert media.decoders() == ()
    assert readable_formats()[".m4a"] == "needs quieten[media] or ffmpeg"
    assert readable_formats()[".wav"] == "soundfile"
    monkeypatch.setattr(media.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert media.decoders() == ("ffmpeg",)
    assert readable_formats()[".webm"] == "ffmpeg"


def test_without_decoders_both_remedies_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch)
    (tmp_path / "a.webm").write_bytes(b"something")
    with pytest.raises(MissingExtra) as caught:
        read_audio(tmp_path / "a.webm")
    assert str(caught.value) == (
        f"{tmp_path / 'a.webm'}: without ffmpeg on the PATH, reading .webm needs: "
        'pip install "quieten[media]"'
    )


def test_sound_files_need_no_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    write_audio(tmp_path / "a.ogg", tone(16_000, 1), 16_000)
    assert read_audio(tmp_path / "a.ogg")[0].shape == (1, 16_000)
