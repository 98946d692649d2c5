"""One job: the file equals the library's result, residuals add up, memory stays flat."""

import io
import math
import pickle
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tiny_model
from quieten import batch
from quieten.audio import AudioWriter, probe, read_audio, write_audio
from quieten.batch import denoise_file
from quieten.denoise import Denoiser
from quieten.errors import AudioError, ConfigError, ModelError
from quieten.plan import Failure, Job, Settings

Waveform = NDArray[np.float32]
SpeechLike = Callable[..., Waveform]


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A model with a state, whose mask depends on all that came before."""
    return str(tiny_model.smoother(tmp_path))


@pytest.fixture
def noisy(speech_like: SpeechLike, rng: np.random.Generator) -> Waveform:
    """Three seconds of stereo at 48 kHz."""
    speech = speech_like(3.0, 48_000)
    return np.stack([speech, 0.5 * speech]) + rng.normal(0, 0.02, (2, 144_000)).astype(np.float32)


def quantise(waveform: Waveform, bits: int) -> NDArray[np.int64]:
    scaled = np.rint(waveform.astype(np.float64) * 2 ** (bits - 1))
    return np.clip(scaled, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1).astype(np.int64)


@pytest.mark.parametrize(
    ("suffix", "subtype", "bits"), [(".wav", "PCM_16", 16), (".flac", "PCM_24", 24)]
)
def test_file_equals_library(
    tmp_path: Path, model: str, noisy: Waveform, suffix: str, subtype: str, bits: int
) -> None:
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    write_audio(source, noisy, 48_000, subtype=subtype)
    result = denoise_file(Job(source, target, settings=Settings(model)))
    whole = Denoiser(model)(read_audio(source)[0], 48_000)
    # 1e-5 of float rounding between block sizes may flip the last bit, not more
    difference = quantise(read_audio(target)[0], bits) - quantise(whole, bits)
    assert np.abs(difference).max() <= max(1, math.ceil(1e-5 * 2 ** (bits - 1)))
    assert (result.frames, result.channels, result.sample_rate) == (144_000, 2, 48_000)
    assert (probe(target).subtype, probe(target).frames) == (subtype, 144_000)


def test_output_and_residual_add_up_to_the_input(
    tmp_path: Path, model: str, noisy: Waveform
) -> None:
    source, target, residual = (tmp_path / f"{name}.wav" for name in ("in", "out", "rest"))
    write_audio(source, noisy, 48_000, subtype="PCM_16")
    denoise_file(Job(source, target, residual, Settings(model)))
    before, after, rest = (quantise(read_audio(path)[0], 16) for path in (source, target, residual))
    np.testing.assert_array_equal(after + rest, before)
    assert np.abs(rest).max() > 0


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_limit_of_zero_gives_the_input_bit_by_bit(
    tmp_path: Path, model: str, noisy: Waveform, subtype: str
) -> None:
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    write_audio(source, noisy, 48_000, subtype=subtype)
    denoise_file(Job(source, target, settings=Settings(model, attenuation_limit_db=0.0)))
    np.testing.assert_array_equal(read_audio(target)[0], read_audio(source)[0])


@pytest.mark.parametrize("length", [1, 159, 767, 768, 769])
def test_short_files_keep_their_length(tmp_path: Path, model: str, length: int) -> None:
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    write_audio(source, np.full((1, length), 0.1, np.float32), 48_000, subtype="PCM_16")
    assert denoise_file(Job(source, target, settings=Settings(model))).frames == length
    assert probe(target).frames == length


def test_levels_are_rms_over_all_channels(tmp_path: Path) -> None:
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    sine = np.sin(2 * np.pi * 1000 * np.arange(48_000) / 48_000)
    write_audio(source, 0.5 * np.stack([sine, sine]).astype(np.float32), 48_000, subtype="FLOAT")
    half = str(tiny_model.constant(tmp_path, 0.5))
    result = denoise_file(Job(source, target, settings=Settings(half)))
    assert result.level_before_dbfs == pytest.approx(20 * math.log10(0.5 / math.sqrt(2)), abs=1e-3)
    assert result.level_after_dbfs == pytest.approx(result.level_before_dbfs - 6.02, abs=0.05)
    assert result.warnings == ()


def test_note_of_the_plan_and_limited_samples_become_warnings(tmp_path: Path) -> None:
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    write_audio(source, np.full((1, 16_000), 0.9, np.float32), 16_000, subtype="PCM_16")
    louder = str(tiny_model.constant(tmp_path, 2.0))
    result = denoise_file(Job(source, target, settings=Settings(louder), note="another format"))
    assert result.warnings[0] == "another format"
    assert "beyond full scale" in result.warnings[1]
    assert read_audio(target)[0].max() == 32767 / 32768


@pytest.mark.parametrize(
    ("gain", "words"), [(0.05, "were removed: listen with --residual"), (0.5, "")]
)
def test_a_voice_that_was_removed_becomes_a_warning(
    tmp_path: Path, speech_like: Callable[..., Waveform], gain: float, words: str
) -> None:
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    write_audio(source, speech_like(10.0)[None], 16_000, subtype="PCM_16")
    quieter = str(tiny_model.constant(tmp_path, gain))
    result = denoise_file(Job(source, target, settings=Settings(quieter)))
    assert words in " ".join(result.warnings) and bool(result.warnings) == bool(words)
    assert (result.voice_lost_s > 1) == bool(words)


def test_job_result_and_failure_can_travel_to_other_processes(
    tmp_path: Path, model: str, noisy: Waveform
) -> None:
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    write_audio(source, noisy[:, :4800], 48_000, subtype="PCM_16")
    job = pickle.loads(pickle.dumps(Job(source, target, settings=Settings(model))))
    result = denoise_file(job)
    assert pickle.loads(pickle.dumps(result)) == result
    assert pickle.loads(pickle.dumps(Failure("a", "b"))) == Failure("a", "b")


def test_progress_covers_the_whole_sound(tmp_path: Path, model: str, noisy: Waveform) -> None:
    source, seconds = tmp_path / "in.wav", []
    write_audio(source, noisy, 48_000, subtype="PCM_16")
    denoise_file(Job(source, tmp_path / "out.wav", settings=Settings(model)), seconds.append)
    assert sum(seconds) == pytest.approx(3.0)


def test_folders_of_the_results_are_made(tmp_path: Path, model: str, noisy: Waveform) -> None:
    source, target = tmp_path / "in.wav", tmp_path / "new" / "er" / "out.wav"
    write_audio(source, noisy, 48_000, subtype="PCM_16")
    denoise_file(Job(source, target, tmp_path / "rest" / "in.wav", Settings(model)))
    assert target.is_file()
    assert (tmp_path / "rest" / "in.wav").is_file()


def test_in_place_with_overwrite(tmp_path: Path, model: str, noisy: Waveform) -> None:
    source, aside = tmp_path / "in.wav", tmp_path / "aside.wav"
    write_audio(source, noisy, 48_000, subtype="PCM_16")
    denoise_file(Job(source, aside, settings=Settings(model)))
    denoise_file(Job(source, source, settings=Settings(model), overwrite=True))
    assert source.read_bytes() == aside.read_bytes()


def test_existing_output_is_refused_also_without_a_plan(
    tmp_path: Path, model: str, noisy: Waveform
) -> None:
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    write_audio(source, noisy, 48_000, subtype="PCM_16")
    target.write_bytes(b"precious")
    with pytest.raises(AudioError, match="exists already"):
        denoise_file(Job(source, target, settings=Settings(model)))
    assert target.read_bytes() == b"precious"


def test_wrong_settings_show_before_the_first_file() -> None:
    with pytest.raises(ModelError, match="no-such-model"):
        batch.check(Settings("no-such-model"))
    with pytest.raises(ConfigError):
        batch.check(Settings(attenuation_limit_db=-3.0))


class Pipe(io.TextIOWrapper):
    """Standard input or output of bytes."""

    def __init__(self, content: bytes = b"") -> None:
        super().__init__(io.BytesIO(content))

    def content(self) -> bytes:
        """What was written."""
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue()


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_pipes_give_what_files_give(
    tmp_path: Path, model: str, noisy: Waveform, subtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, piped = (tmp_path / f"{name}.wav" for name in ("in", "out", "piped"))
    write_audio(source, noisy, 48_000, subtype=subtype)
    denoise_file(Job(source, target, settings=Settings(model)))
    stdin, stdout = Pipe(source.read_bytes()), Pipe()
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(sys, "stdout", stdout)
    result = denoise_file(Job(None, None, settings=Settings(model)))
    assert (result.source, result.target, result.frames) == ("-", "-", 144_000)
    piped.write_bytes(stdout.content())
    np.testing.assert_allclose(
        read_audio(piped)[0], read_audio(target)[0], atol=2**-7 if subtype == "PCM_U8" else 4e-5
    )


def peak_memory(duration_s: int, tmp_path: Path, model: str) -> int:
    """Bytes that Python and numpy held at most while a file of this length was denoised."""
    source, target = tmp_path / f"{duration_s}.wav", tmp_path / f"{duration_s}.out.wav"
    info = probe(tmp_path / "like.wav")
    with AudioWriter(source, info) as writer:
        for _ in range(duration_s):
            writer.write(np.full((2, 16_000), 0.1, np.float32))
    tracemalloc.start()
    denoise_file(Job(source, target, settings=Settings(model)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_file(tmp_path: Path, model: str) -> None:
    write_audio(tmp_path / "like.wav", np.zeros((2, 16), np.float32), 16_000, subtype="PCM_16")
    peak_memory(1, tmp_path, model)  # imports and the model
    assert peak_memory(120, tmp_path, model) <= 1.1 * peak_memory(12, tmp_path, model)
