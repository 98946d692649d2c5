"""WAV through pipes: nothing is sought, every header that programs write is understood."""

import io
import os
import shutil
import struct
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from quieten import containers
from quieten.audio import AudioInfo, Waveform, read_audio, write_audio
from quieten.errors import AudioError
from quieten.wav_pipe import WavStreamWriter, read_wav_stream

SUBTYPES = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
TAGS = {"title": "Grüße", "artist": "Ada", "date": "2026", "comment": "odd length", "genre": "g"}


class Pipe(io.RawIOBase):
    """A source that gives a few bytes at a time and cannot be sought."""

    def __init__(self, data: bytes, portion: int = 1 << 30) -> None:
        self._data, self._portion, self.position = data, portion, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        size = min(len(buffer), self._portion, len(self._data) - self.position)
        buffer[:size] = self._data[self.position : self.position + size]
        self.position += size
        return size

    def seek(self, *args: int) -> int:
        raise OSError("a pipe cannot be sought")

    tell = seek


class Sink(io.BytesIO):
    """A target that cannot be sought."""

    def seek(self, *args: int) -> int:
        raise OSError("a pipe cannot be sought")


def noise(frames: int, channels: int = 1) -> Waveform:
    return np.random.default_rng(frames).normal(0, 0.2, (channels, frames))


def wav_bytes(tmp_path: Path, waveform: Waveform, subtype: str, rate: int = 16_000) -> bytes:
    write_audio(tmp_path / "a.wav", waveform, rate, subtype=subtype, tags=TAGS)
    return (tmp_path / "a.wav").read_bytes()


def read_all(data: bytes, block_length: int = 1000, portion: int = 1 << 30) -> Waveform:
    stream = read_wav_stream(Pipe(data, portion))
    return np.concatenate(list(stream.blocks(block_length)), axis=1)


def written(waveform: Waveform, like: AudioInfo) -> tuple[bytes, Waveform, int]:
    sink = Sink()
    with WavStreamWriter(sink, like) as writer:
        half = waveform.shape[1] // 2
        stored = [writer.write(waveform[:, :half]), writer.write(waveform[:, half:])]
    return sink.getvalue(), np.concatenate(stored, axis=1), writer.limited


def like(subtype: str, channels: int = 1, frames: int = 0, file_format: str = "WAV") -> AudioInfo:
    return AudioInfo(Path("-"), 16_000, channels, frames, file_format, subtype)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("subtype", SUBTYPES)
def test_reads_what_files_hold(tmp_path: Path, subtype: str, channels: int) -> None:
    data = wav_bytes(tmp_path, noise(1235, channels), subtype, 44_100)
    expected, _ = read_audio(tmp_path / "a.wav")
    stream = read_wav_stream(Pipe(data, portion=7))
    info = stream.info
    assert (info.sample_rate, info.channels, info.frames) == (44_100, channels, 1235)
    assert (info.subtype, info.tags) == (subtype, TAGS)
    blocks = list(stream.blocks(100))
    assert [block.shape[1] for block in blocks] == [100] * 12 + [35]
    joined = np.concatenate(blocks, axis=1)
    np.testing.assert_array_equal(joined, expected)
    assert joined.dtype == expected.dtype


@pytest.mark.parametrize("frames", [0, 1235])
@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("subtype", SUBTYPES)
def test_written_streams_are_files(
    tmp_path: Path, subtype: str, channels: int, frames: int
) -> None:
    data, stored, limited = written(noise(1235, channels), like(subtype, channels, frames))
    (tmp_path / "a.wav").write_bytes(data)
    read, rate = read_audio(tmp_path / "a.wav")
    np.testing.assert_array_equal(read, stored)
    assert rate == 16_000
    assert limited == 0
    with soundfile.SoundFile(tmp_path / "a.wav") as file:
        assert (file.subtype, file.channels, file.frames) == (subtype, channels, 1235)
    np.testing.assert_array_equal(read_all(data), stored)


@pytest.mark.parametrize("subtype", SUBTYPES)
def test_untouched_samples_pass_bit_exactly(tmp_path: Path, subtype: str) -> None:
    source = wav_bytes(tmp_path, noise(777, 2), subtype)
    stream = read_wav_stream(Pipe(source))
    samples = np.concatenate(list(stream.blocks(50)), axis=1)
    data, stored, _ = written(samples, stream.info)
    np.testing.assert_array_equal(stored, samples)
    bare = data[data.index(b"data") + 8 :][: 777 * 2]
    assert bare == source[source.index(b"data") + 8 :][: 777 * 2]


@given(st.integers(1, 300), st.integers(1, 50), st.sampled_from(SUBTYPES))
def test_any_portions_and_blocks(portion: int, block_length: int, subtype: str) -> None:
    data, stored, _ = written(noise(211, 2), like(subtype, 2))
    np.testing.assert_array_equal(read_all(data, block_length, portion), stored)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFE])
def test_sizes_of_streaming_programs_mean_until_the_end(tmp_path: Path, size: int) -> None:
    write_audio(tmp_path / "plain.wav", noise(999), 16_000)
    data = bytearray((tmp_path / "plain.wav").read_bytes())
    data[4:8] = data[40:44] = size.to_bytes(4, "little")
    stream = read_wav_stream(Pipe(bytes(data)))
    assert stream.info.frames == 0
    assert np.concatenate(list(stream.blocks(100)), axis=1).shape == (1, 999)


def test_length_beyond_4_gib_is_left_open() -> None:
    sink = Sink()
    with WavStreamWriter(sink, like("DOUBLE", 2, 2**30)) as writer:
        writer.write(noise(10, 2))
    assert sink.getvalue()[4:8] == b"\xff\xff\xff\xff"
    assert read_all(sink.getvalue()).shape == (2, 10)


def test_rf64_tells_its_length_in_its_own_chunk(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.rf64", noise(500), 16_000)
    stream = read_wav_stream(Pipe((tmp_path / "a.rf64").read_bytes()))
    assert stream.info.frames == 500
    assert np.concatenate(list(stream.blocks(90)), axis=1).shape == (1, 500)


def test_extensible_stays_extensible(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(50, 2).T, 16_000, "PCM_24", format="WAVEX")
    stream = read_wav_stream(Pipe((tmp_path / "a.wav").read_bytes()))
    assert (stream.info.format, stream.info.subtype) == ("WAVEX", "PCM_24")
    data, _, _ = written(next(stream.blocks(50)), stream.info)
    assert struct.unpack("<H", data[20:22]) == (0xFFFE,)
    (tmp_path / "b.wav").write_bytes(data)
    with soundfile.SoundFile(tmp_path / "b.wav") as file:
        assert (file.format, file.subtype) == ("WAVEX", "PCM_24")


@pytest.mark.parametrize(
    ("subtype", "expected"),
    [("VORBIS", "PCM_16"), ("AAC", "PCM_16"), ("ALAC_24", "PCM_24"), ("ULAW", "PCM_16")],
)
def test_other_sources_become_pcm(subtype: str, expected: str) -> None:
    assert WavStreamWriter(Sink(), like(subtype, file_format="OGG")).subtype == expected


def test_over_full_scale_is_limited_and_counted() -> None:
    waveform = np.array([[2.0, -3.0, 1.0, 0.5]])
    _, stored, limited = written(waveform, like("PCM_16"))
    np.testing.assert_array_equal(stored, [[1 - 2**-15, -1, 1 - 2**-15, 0.5]])
    assert limited == 2


def test_non_finite_samples_become_silence() -> None:
    data, _, _ = written(np.array([[0.5, np.nan, np.inf, 0.25]], np.float32), like("FLOAT"))
    stream = read_wav_stream(Pipe(data))
    (block,) = stream.blocks(10)
    np.testing.assert_array_equal(block, [[0.5, 0, 0, 0.25]])
    assert stream.non_finite == 2


def test_odd_sizes_are_padded(tmp_path: Path) -> None:
    data, _, _ = written(noise(3), like("PCM_U8", frames=3))
    assert len(data) % 2 == 0
    (tmp_path / "a.wav").write_bytes(data)
    assert read_audio(tmp_path / "a.wav")[0].shape == (1, 3)


def test_chunks_behind_the_samples_are_swallowed(tmp_path: Path) -> None:
    pipe = Pipe(wav_bytes(tmp_path, noise(100), "PCM_16") + b"LIST" + bytes(5000))
    stream = read_wav_stream(pipe)
    assert sum(block.shape[1] for block in stream.blocks(64)) == 100
    assert pipe.position == len(pipe._data)  # or the program that writes would fail


def complaint(data: bytes) -> str:
    with pytest.raises(AudioError) as caught:
        for _ in read_wav_stream(Pipe(data)).blocks(100):
            pass
    assert str(caught.value).startswith("stdin: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bad_streams_are_named(tmp_path: Path) -> None:
    data = wav_bytes(tmp_path, noise(1000), "PCM_16")
    start = data.index(b"data") + 8
    assert "is empty" in complaint(b"")
    assert "is not WAV" in complaint(b"This is no sound, whatever it claims")
    assert "is not WAV" in complaint(b"fLaC" + bytes(100))
    assert "without samples" in complaint(data[:12])
    assert "without samples" in complaint(data[:12] + data[start - 8 :])  # no format
    assert "is truncated" in complaint(data[: start + 999])
    assert "holds no samples" in complaint(data[:start])


@pytest.mark.parametrize(("code", "bits"), [(6, 8), (7, 8), (2, 4), (1, 12), (3, 16)])
def test_other_codings_are_refused(code: int, bits: int) -> None:
    form = struct.pack("<HHIIHH", code, 1, 16_000, 32_000, 2, bits)
    head = b"RIFF" + bytes(4) + b"WAVEfmt " + struct.pack("<I", 16) + form
    message = complaint(head + b"data" + bytes(4) + bytes(100))
    assert f"code {code}, {bits} bit" in message


def test_broken_format_chunk_is_refused() -> None:
    assert "broken header" in complaint(b"RIFF\0\0\0\0WAVEfmt \x04\0\0\0abcd")


def test_memory_does_not_grow_with_the_length() -> None:
    peaks = []
    for seconds in (10, 60):
        data, _, _ = written(noise(seconds * 8000), like("PCM_16"))
        with Path(os.devnull).open("wb") as sink:
            tracemalloc.start()
            stream = read_wav_stream(Pipe(data))
            with WavStreamWriter(sink, stream.info) as writer:
                for block in stream.blocks(4096):
                    writer.write(block)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000  # of 3 MB more samples


def test_limit_is_the_header_s_own() -> None:
    assert containers.RIFF_LIMIT < 2**32


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le"])
def test_between_two_ffmpegs(tmp_path: Path, codec: str) -> None:
    write_audio(tmp_path / "a.wav", noise(5000, 2), 44_100, subtype="PCM_32")
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "a.wav"), "-c:a", codec]
    made = subprocess.run([*command, "-f", "wav", "-"], capture_output=True, check=True).stdout
    stream = read_wav_stream(Pipe(made))
    assert stream.info.frames == 0  # ffmpeg cannot know it on a pipe
    samples = np.concatenate(list(stream.blocks(512)), axis=1)
    data, stored, _ = written(samples, stream.info)
    np.testing.assert_array_equal(stored, samples)
    back = ["ffmpeg", "-v", "error", "-i", "-", "-f", "f64le", "-"]
    heard = subprocess.run(back, input=data, capture_output=True, check=True).stdout
    np.testing.assert_array_equal(np.frombuffer(heard).reshape(-1, 2).T, samples)
