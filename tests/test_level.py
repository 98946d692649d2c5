"""The lift of quiet sound: none at usual levels, causal, the same for every chunking, bounded."""

import numpy as np
import pytest

from quieten import Denoiser
from quieten.level import FADE_DB_PER_S, MOST_DB, REFERENCE_DBFS, Lift
from quieten.stft import stft
from tiny_model import gate

N_FFT, HOP, RATE = 512, 256, 16_000


def spectra_of(rms_dbfs, seconds, rng):
    """Spectra (1, N, M) of white noise, without its first and last frames (half silence)."""
    noise = rng.standard_normal(round(seconds * RATE)) * 10 ** (rms_dbfs / 20)
    return stft(noise.astype(np.float32), N_FFT, HOP).T[None, 1:-1]


def lift(batch=1):
    return Lift(batch, N_FFT, HOP / RATE)


def in_db(gains):
    return 20 * np.log10(gains)


@pytest.mark.parametrize("rms_dbfs", [-3, -20, -32])
def test_usual_levels_are_left_alone(rng, rms_dbfs):
    assert np.all(lift().gains(spectra_of(rms_dbfs, 1, rng)) == 1.0)


def test_quiet_sound_comes_to_the_reference(rng):
    gains = in_db(lift().gains(spectra_of(-60, 2, rng)))[0]
    # the loudest of many frames of noise is up to 2 dB above the mean level
    assert gains[-1] == pytest.approx(REFERENCE_DBFS + 60 - 1, abs=1)
    assert np.all(np.diff(gains) <= FADE_DB_PER_S * HOP / RATE + 1e-4)


def test_the_lift_is_bounded():
    silence = np.zeros((1, 20, N_FFT // 2 + 1), np.complex64)
    np.testing.assert_allclose(in_db(lift().gains(silence)), MOST_DB, atol=1e-4)


def test_a_loud_frame_ends_the_lift_at_once_and_is_forgotten_slowly(rng):
    quiet, loud = spectra_of(-70, 1, rng), spectra_of(-20, 0.2, rng)
    tracker = lift()
    assert tracker.gains(quiet)[0, -1] > 10
    assert np.all(tracker.gains(loud) == 1.0)
    long = spectra_of(-70, 40, rng)
    gains = in_db(tracker.gains(long))[0]
    seconds = np.arange(gains.size) * HOP / RATE
    expected = np.clip(seconds * FADE_DB_PER_S + REFERENCE_DBFS + 20, 0, None)
    middle = (seconds > 20) & (seconds < 35)
    np.testing.assert_allclose(gains[middle], expected[middle], atol=2.5)  # peak above the mean


def test_frames_one_by_one_give_the_same(rng):
    spectra = np.concatenate([spectra_of(-50, 1, rng), spectra_of(-40, 1, rng)])
    whole = lift(2).gains(spectra)
    single = lift(2)
    pieces = [single.gains(spectra[:, [n]]) for n in range(spectra.shape[1])]
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole)


def test_signals_do_not_know_each_other(rng):
    both = np.concatenate([spectra_of(-60, 1, rng), spectra_of(-10, 1, rng)])
    gains = lift(2).gains(both)
    assert np.all(gains[1] == 1.0) and gains[0, -1] > 5


def test_reset_forgets(rng):
    quiet = spectra_of(-60, 1, rng)
    tracker = lift()
    first = tracker.gains(quiet)
    tracker.gains(spectra_of(-10, 1, rng))
    tracker.reset()
    np.testing.assert_array_equal(tracker.gains(quiet), first)


def test_a_model_that_closes_on_quiet_sound_stays_open(rng, tmp_path):
    """Without the lift the gate, whose threshold is absolute, would take all of it away."""
    denoiser = Denoiser(gate(tmp_path, threshold=0.1, closed=0.0))
    usual = (0.02 * rng.standard_normal(RATE)).astype(np.float32)
    kept = [
        np.square(denoiser(usual * np.float32(factor), RATE) / factor).sum()
        for factor in (1.0, 0.03)
    ]
    assert kept[1] == pytest.approx(kept[0], rel=0.2)  # bins near the threshold differ
