"""Noises made by code are pure functions of their generator, and what their names say."""

import numpy as np
import pytest

from quieten.training.noises import NOISES

RATE = 16_000
MAKERS = pytest.mark.parametrize("name", NOISES)


def make(name, seed, length=RATE, rate=RATE):
    return NOISES[name](length, rate, np.random.default_rng(seed))


@MAKERS
def test_same_generator_same_noise(name):
    np.testing.assert_array_equal(make(name, 3), make(name, 3))
    assert np.any(make(name, 3) != make(name, 4))


@MAKERS
@pytest.mark.parametrize("length", [1, 37, 8000, 48_001])
def test_length_and_type_are_exact(name, length):
    noise = make(name, 1, length)
    assert noise.shape == (length,) and noise.dtype == np.float32
    assert np.all(np.isfinite(noise))


@MAKERS
def test_there_is_always_something_to_hear(name):
    assert all(np.std(make(name, seed)) > 1e-6 for seed in range(30))


@MAKERS
@pytest.mark.parametrize("rate", [8000, 48_000])
def test_other_rates_work(name, rate):
    assert np.all(np.isfinite(make(name, 2, rate, rate)))


def levels(noise):
    """RMS of frames of 20 ms."""
    return np.sqrt(np.square(noise.reshape(-1, 320), dtype=np.float64).mean(axis=1))


def test_hum_is_tonal():
    """Half of the energy in 2 % of the bins, on average; white noise has 6 %."""
    shares = []
    for seed in range(20):
        power = np.sort(np.abs(np.fft.rfft(make("hum", seed) * np.hanning(RATE))) ** 2)
        shares.append(power[-len(power) // 50 :].sum() / power.sum())
    assert np.mean(shares) > 0.5


def unevenness(noise):
    """Loudest over median frame; a click track may be silent for half of the time."""
    return levels(noise).max() / max(np.median(levels(noise)), 1e-6)


def test_clicks_come_in_bursts_and_coloured_noise_does_not():
    """Levels of white noise vary by 1 / sqrt(2 * 320); a strong colour makes that somewhat more."""
    clicks, coloured = (
        np.median([unevenness(make(name, seed)) for seed in range(20)])
        for name in ("clicks", "coloured")
    )
    assert clicks > 5 and coloured < 2


def test_modulated_noise_comes_and_goes():
    ranges = [np.ptp(20 * np.log10(levels(make("modulated", seed)))) for seed in range(20)]
    assert np.median(ranges) > 12  # the envelope spans up to 30 dB


def test_slopes_differ_from_noise_to_noise():
    """Spectral centroids of 50 coloured noises: from rumble to hiss."""
    frequency_hz = np.fft.rfftfreq(RATE, 1 / RATE)
    power = [np.abs(np.fft.rfft(make("coloured", seed))) ** 2 for seed in range(50)]
    centroids_hz = [p @ frequency_hz / p.sum() for p in power]
    assert min(centroids_hz) < 500 and max(centroids_hz) > 3500


def test_wind_is_deep_and_gusty():
    rumble = [make("wind", seed, 4 * RATE) for seed in range(20)]
    power = np.mean([np.abs(np.fft.rfft(noise)) ** 2 for noise in rumble], axis=0)
    frequency_hz = np.fft.rfftfreq(4 * RATE, 1 / RATE)
    assert power[frequency_hz < 500].sum() > 0.8 * power.sum()
    assert np.median([np.ptp(20 * np.log10(levels(noise) + 1e-6)) for noise in rumble]) > 12


def test_engines_and_signals_are_tonal():
    for name in ("engine", "signals"):
        shares = []
        for seed in range(20):
            power = np.sort(np.abs(np.fft.rfft(make(name, seed) * np.hanning(RATE))) ** 2)
            shares.append(power[-len(power) // 20 :].sum() / power.sum())
        assert np.mean(shares) > 0.4  # white noise has 0.15
