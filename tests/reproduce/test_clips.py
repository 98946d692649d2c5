"""Which pieces of speech a benchmark has, and the noise on them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from quieten.audio import write_audio
from quieten.errors import AudioError, ConfigError
from quieten.metrics import nsr, snr_db
from quieten.reproduce.clips import Clip, add_white_noise, read_clips

RATE = 8000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ramps, whose samples tell where they come from: 3.9, 4, 8, 8.5 and 17 s."""
    for name, seconds in (("a", 3.9), ("b", 4), ("c", 8), ("d", 8.5), ("sub/e", 17)):
        path = tmp_path / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        ramp = np.linspace(-0.5, 0.5, round(seconds * RATE), dtype=np.float32)
        write_audio(path, ramp, RATE, subtype="FLOAT")
    return tmp_path


def test_clips_are_whole_files_or_equal_pieces_of_longer_ones(folder: Path):
    clips = read_clips(folder, RATE)
    assert [(clip.name, clip.clean.size / RATE) for clip in clips] == [
        ("b.wav", 4),
        ("c.wav", 8),
        ("d.wav#1", 4.25),
        ("d.wav#2", 4.25),
        *((f"sub/e.wav#{number}", pytest.approx(17 / 3, abs=1e-3)) for number in (1, 2, 3)),
    ]
    assert [clip.number for clip in clips] == list(range(7))
    assert {clip.file for clip in clips} == {"b.wav", "c.wav", "d.wav", "sub/e.wav"}


def test_pieces_follow_each_other_without_a_gap(folder: Path):
    pieces = [clip.clean for clip in read_clips(folder, RATE) if clip.file == "d.wav"]
    whole = np.linspace(-0.5, 0.5, round(8.5 * RATE), dtype=np.float32)
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_other_rates_and_channels_become_mono_at_the_rate_wanted(tmp_path: Path):
    seconds = np.arange(5 * 16_000) / 16_000
    tone = np.sin(2 * np.pi * 440 * seconds).astype(np.float32)
    write_audio(tmp_path / "x.wav", np.stack([tone, 0.5 * tone]), 16_000, subtype="FLOAT")
    (clip,) = read_clips(tmp_path, RATE)
    assert clip.clean.shape == (5 * RATE,)
    assert clip.clean.dtype == np.float32
    middle = slice(RATE, -RATE)  # away from the edges that the resampler bends
    np.testing.assert_allclose(clip.clean[middle], 0.75 * tone[::2][middle], atol=1e-3)


def test_a_limit_spreads_over_the_folder_and_changes_no_clip(folder: Path):
    everything = {clip.number: clip for clip in read_clips(folder, RATE)}
    some = read_clips(folder, RATE, limit=3)
    assert [clip.number for clip in some] == [0, 3, 6]
    for clip in some:
        noisy = add_white_noise(clip, 0.0, 0)
        assert np.array_equal(noisy, add_white_noise(everything[clip.number], 0.0, 0))
    assert len(read_clips(folder, RATE, limit=99)) == 7


@pytest.mark.parametrize(("level", "ratio"), [(9.7, 0.10715), (-5.47, 3.5237)])
def test_noise_has_the_level_asked_for(speech_like: Callable, level: float, ratio: float):
    clip = Clip("x", "x", 0, speech_like(4.0, RATE))
    noisy = add_white_noise(clip, level, 0)
    assert snr_db(noisy, clip.clean) == pytest.approx(level, abs=1e-3)
    assert nsr(noisy, clip.clean) == pytest.approx(ratio, rel=1e-3)


def test_noise_is_white_and_gaussian(speech_like: Callable):
    clip = Clip("x", "x", 3, speech_like(8.0, RATE))
    noise = (add_white_noise(clip, -20.0, 1) - clip.clean).astype(np.float64)
    noise /= noise.std()
    assert np.mean(noise**4) == pytest.approx(3.0, abs=0.15)  # that of a Gaussian
    power = np.square(np.abs(np.fft.rfft(noise)))[:32_000].reshape(8, -1).mean(axis=1)
    np.testing.assert_allclose(power / power.mean(), 1, atol=0.06)  # eight bands of 500 Hz


def test_each_clip_and_each_condition_has_its_own_noise(speech_like: Callable):
    clean = speech_like(4.0, RATE)
    first, second = (Clip("x", "x", number, clean) for number in (0, 1))
    noise = {
        (clip.number, stream): add_white_noise(clip, 0.0, stream) - clean
        for clip in (first, second)
        for stream in (0, 1)
    }
    assert np.array_equal(noise[0, 0], add_white_noise(first, 0.0, 0) - clean)
    correlations = np.corrcoef(np.stack(list(noise.values()))) - np.eye(4)
    assert np.abs(correlations).max() < 0.03


def test_mistakes_say_what_to_do(tmp_path: Path, folder: Path):
    with pytest.raises(ConfigError, match="no such folder: name one of clean speech with --data"):
        read_clips(tmp_path / "nowhere", RATE)
    with pytest.raises(ConfigError, match="use 1 or more"):
        read_clips(folder, RATE, limit=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no speech of 4 s or more"):
        read_clips(tmp_path / "empty", RATE)
    with pytest.raises(AudioError, match=r"silence\.wav: is silent"):
        add_white_noise(Clip("silence.wav", "", 0, np.zeros(RATE, np.float32)), 0.0, 0)
