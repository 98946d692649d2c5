"""The score: a value a second, silence left out, and the same for any blocks, rates and windows."""

import math

import numpy as np
import pytest

import tiny_model
from quieten import runtime
from quieten.denoise import Denoiser
from quieten.errors import AudioError, ModelError
from quieten.metrics import pesq_wb
from quieten.score import MODEL, Scorer, levels_db, summarize

RATE = 16_000
SHIPPED = runtime.WEIGHTS / f"{MODEL}.onnx"


def make_tone(seconds: float, rms: float = 0.1, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (math.sqrt(2) * rms * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)


@pytest.fixture
def flat(tmp_path) -> Scorer:
    """Every frame is 0.25 away from clean."""
    return Scorer(tiny_model.scorer(tmp_path))


@pytest.fixture
def rising(tmp_path) -> Scorer:
    """A frame is as far from clean as it is loud: its RMS."""
    return Scorer(tiny_model.scorer(tmp_path, offset=0.0, slope=1.0))


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
def test_value_and_curve_of_an_even_sound(flat, rate):
    score = flat(make_tone(2.5, rate=rate), rate)
    assert score.value == pytest.approx(0.75) and score.duration_s == 2.5
    np.testing.assert_allclose(score.curve, [0.75, 0.75, 0.75])


def test_each_second_has_its_value(rising):
    """The second second is four times as loud."""
    sound = np.concatenate([make_tone(1, 0.05), make_tone(1, 0.2), make_tone(1, 0.05)])
    score = rising(sound, RATE)
    # frames of 32 ms lie across the edges: 1 or 2 of 62
    np.testing.assert_allclose(score.curve, [0.95, 0.8, 0.95], atol=0.006)
    assert score.value == pytest.approx(0.9, abs=0.002)


def test_silence_is_left_out(rising):
    tone = make_tone(1)
    pause = np.full(RATE, 1e-5, np.float32)
    score = rising(np.concatenate([tone, pause, tone]), RATE)
    assert np.isnan(score.curve[1])
    assert score.curve[0] == pytest.approx(0.9, abs=0.002)
    assert score.value == pytest.approx(0.9, abs=0.003)


@pytest.mark.parametrize("level", [0.0, 1e-5])
def test_a_silent_sound_has_no_value(flat, level):
    score = flat(level * make_tone(2, 1.0), RATE)
    assert math.isnan(score.value) and np.isnan(score.curve).all() and score.curve.shape == (2,)


def test_no_sound_has_no_value(flat):
    score = flat(np.zeros(0, np.float32), RATE)
    assert math.isnan(score.value) and score.curve.shape == (0,) and score.duration_s == 0


@pytest.mark.parametrize("size", [999, 16_000, 77_777])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_blocks_of_any_size_give_the_same(rising, rng, rate, size):
    sound = (0.1 * rng.standard_normal((2, 5 * rate))).astype(np.float32)
    whole = rising(sound, rate)
    blocks = (sound[:, start : start + size] for start in range(0, sound.shape[1], size))
    pieces = rising.score(blocks, rate)
    assert pieces.value == whole.value
    np.testing.assert_array_equal(pieces.curve, whole.curve)


def test_windows_do_not_show_where_frames_stand_alone(tmp_path, rising, rng):
    sound = (0.1 * rng.standard_normal(5 * RATE)).astype(np.float32)
    short = Scorer(tiny_model.scorer(tmp_path, 0.0, 1.0, window=50, margin_frames="7"))
    np.testing.assert_allclose(short(sound, RATE).curve, rising(sound, RATE).curve, rtol=1e-6)


def test_channels_are_averaged_and_broken_samples_are_silence(rising):
    left, right = make_tone(2, 0.2), np.zeros(2 * RATE, np.float32)
    both = rising(np.stack([left, right]), RATE)
    assert both.value == pytest.approx(0.9, abs=0.002)
    right[[5, 900]] = np.nan, np.inf
    np.testing.assert_array_equal(rising(np.stack([left, right]), RATE).curve, both.curve)
    doubles = rising(np.stack([left, right]).astype(np.float64), RATE)
    np.testing.assert_array_equal(doubles.curve, both.curve)


def test_levels_are_those_of_the_sound():
    """A sine of RMS 1 in the middle of a bin, under a window whose mean square is a half."""
    spectra = np.zeros((2, 257), np.complex64)
    spectra[0, 10] = 256
    np.testing.assert_allclose(levels_db(spectra, 512), [0, -120], atol=1e-3)


def test_a_second_with_little_sound_has_no_value():
    times = np.arange(124) / 62
    level = np.where((times < 1) | (np.arange(124) >= 120), -20.0, -90.0)
    score = summarize(np.full(124, 0.5), level, times, 2.0)
    assert score.curve[0] == 0.5 and math.isnan(score.curve[1]) and score.value == 0.5


def test_frames_outside_the_sound_count_at_its_edges():
    score = summarize(np.arange(12.0), np.zeros(12), np.repeat([-0.01, 5.0], 6), 2.0)
    np.testing.assert_allclose(score.curve, [2.5, 8.5])


@pytest.mark.parametrize("shape", [(), (1, 2, 100)])
def test_wrong_shapes_say_what_fits(flat, shape):
    with pytest.raises(AudioError, match=r"use \(samples,\)"):
        flat(np.zeros(shape, np.float32), RATE)


def test_wrong_rates_say_what_fits(flat):
    with pytest.raises(AudioError, match="must be positive"):
        flat(np.zeros(100, np.float32), 0)


def test_a_denoiser_is_no_scorer(tmp_path):
    with pytest.raises(ModelError, match="gives no distances"):
        Scorer(tiny_model.constant(tmp_path, window_frames="12"))
    with pytest.raises(ModelError, match="gives no distances"):
        Scorer(tiny_model.scorer(tmp_path, window=0))


def test_a_missing_model_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "WEIGHTS", tmp_path)
    with pytest.raises(ModelError, match=r"vqscore\.onnx: no such model file"):
        Scorer()


def test_the_confidence_is_the_score_of_the_result(tmp_path, monkeypatch, rising):
    monkeypatch.setattr(runtime, "WEIGHTS", tmp_path)
    denoiser = Denoiser(tiny_model.constant(tmp_path, 0.5))
    sound = np.concatenate([make_tone(1), make_tone(1, 0.2)])
    confidence = denoiser.confidence(sound, RATE)
    np.testing.assert_array_equal(confidence, rising(denoiser(sound, RATE), RATE).curve)
    np.testing.assert_allclose(confidence, [0.95, 0.9], atol=0.002)


@pytest.mark.skipif(not SHIPPED.is_file(), reason="no shipped weight vqscore")
def test_noise_lowers_the_score(speech_like, rng):
    scorer, speech = Scorer(), speech_like(4.0)
    noise = rng.standard_normal(speech.size).astype(np.float32)
    values = [scorer(speech + gain * noise, RATE).value for gain in (0.0, 0.003, 0.03, 0.3)]
    assert values == sorted(values, reverse=True)


@pytest.mark.slow
@pytest.mark.skipif(not SHIPPED.is_file(), reason="no shipped weight vqscore")
def test_the_score_follows_pesq_on_real_speech(shared_data):
    """Spearman's rank correlation over noisy and denoised mixtures of the validation part."""
    pytest.importorskip("pesq")
    from scipy.stats import spearmanr

    from quieten.audio import read_audio
    from quieten.degrade import add_noise

    scorer, denoiser, scores, qualities = Scorer(), Denoiser("speech"), [], []
    voices, noises = (
        sorted((shared_data / folder).iterdir()) for folder in ("speech_valid", "noise_valid")
    )
    for number, voice in enumerate(voices[:18]):
        (clean, *_), rate = read_audio(voice)
        (noise, *_), _ = read_audio(noises[number % len(noises)])
        clean = clean[: 6 * rate]
        snr_db = (-5, 0, 5, 10, 15, 20)[number // 3]  # each with three noises
        noisy = add_noise(clean, np.resize(noise, clean.size), rate, snr_db=snr_db)
        for sound in (noisy, denoiser(noisy, rate)):
            scores.append(scorer(sound, rate).value)
            qualities.append(pesq_wb(sound, clean, rate))
    assert spearmanr(scores, qualities).statistic > 0.7  # 0.84 over 180; 36 vary by +-0.1
