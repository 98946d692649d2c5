"""Least squares on sums of sines."""

import numpy as np
import pytest

from quieten.reproduce.sine_fit import SineFit, project, waves
from quieten.sines import PAPER, SinesConfig


@pytest.fixture(scope="module")
def fit() -> SineFit:
    return SineFit(PAPER)


def sines(*parts: tuple[float, float, float], length: int = 256, rate: int = 256) -> np.ndarray:
    """A signal (1, T) of (frequency in Hz, amplitude, phase in rad)."""
    time_s = np.arange(length) / rate
    return sum(a * np.sin(2 * np.pi * f * time_s + phase) for f, a, phase in parts)[None]


def test_waves_are_sines_and_then_cosines():
    made = waves(np.array([[16.0, 32.0]]), 256, 256)
    assert made.shape == (1, 256, 4)
    np.testing.assert_allclose(made[0, 4], [1, 0, 0, -1], atol=1e-12)  # a quarter, a half cycle
    np.testing.assert_allclose(made[0].T @ made[0], 128 * np.eye(4), atol=1e-9)


def test_projecting_finds_amplitude_and_phase():
    signal = sines((20.3, 0.7, 1.0), (41.9, 0.2, -2.0))
    fitted, coefficients = project(signal, np.array([[20.3, 41.9]]), 256)
    np.testing.assert_allclose(fitted, signal, atol=1e-8)
    expected = [0.7 * np.cos(1), 0.2 * np.cos(-2), 0.7 * np.sin(1), 0.2 * np.sin(-2)]
    np.testing.assert_allclose(coefficients[0], expected, atol=1e-8)


def test_the_same_sine_twice_is_no_accident():
    signal = sines((30.0, 1.0, 0.5))
    fitted, _ = project(signal, np.array([[30.0, 30.0]]), 256)
    np.testing.assert_allclose(fitted, signal, atol=1e-6)


def test_sines_without_noise_are_found_exactly(fit: SineFit):
    """Off the grid, of unequal strength, two of them 1.3 bins apart."""
    signal = sines((20.37, 1.0, 0.3), (21.64, 0.5, 2.0), (55.55, 0.2, 1.0))
    fitted, frequency_hz = fit.fit(signal, 3)
    np.testing.assert_allclose(np.sort(frequency_hz[0]), [20.37, 21.64, 55.55], atol=1e-4)
    np.testing.assert_allclose(fitted, signal, atol=1e-4)


def test_in_noise_the_fit_is_better_than_the_truth(fit: SineFit, rng: np.random.Generator):
    """Least squares: no frequencies may fit what is there better than those that were found."""
    drawn = PAPER.draw_mixtures(rng, 50)
    fitted, _ = fit.fit(drawn.noisy, 3)
    truth, _ = project(drawn.noisy, drawn.frequency_hz, 256)
    rest, true_rest = (np.square(drawn.noisy - each).sum(1) for each in (fitted, truth))
    assert (rest <= true_rest * (1 + 1e-9)).mean() >= 0.9  # a local minimum now and then


def test_the_search_looks_beside_what_is_there(fit: SineFit):
    signal = sines((20.0, 1.0, 0.3), (50.0, 0.5, 2.0))
    assert fit.search(signal, np.zeros((1, 0)))[0] == pytest.approx(20.0, abs=0.1)
    assert fit.search(signal, np.array([[20.0]]))[0] == pytest.approx(50.0, abs=0.1)


def test_refining_never_makes_a_fit_worse(fit: SineFit, rng: np.random.Generator):
    noisy = PAPER.draw(rng, 20)[1].astype(np.float64)
    start = rng.uniform(10, 64, (20, 3))
    rests = [
        np.square(noisy - project(noisy, frequency_hz, 256)[0]).sum(1)
        for frequency_hz in (start, fit.refine(noisy, start))
    ]
    assert (rests[1] <= rests[0] + 1e-9).all()


def test_the_number_of_sines_is_found(fit: SineFit, rng: np.random.Generator):
    """One more than there are would fit the noise: the fit is then nearer to the mixture."""
    clean = np.concatenate([sines((20.3, 1, 0)), sines((20.3, 1, 0), (40.1, 0.8, 1))])
    noisy = clean + 0.3 * rng.standard_normal(clean.shape)
    found = fit.fit_unknown_count(noisy, 4)
    for number in (0, 1):
        expected, _ = fit.fit(noisy[number : number + 1], number + 1)
        np.testing.assert_allclose(found[number : number + 1], expected, atol=1e-6)


def test_another_rate_and_length(rng: np.random.Generator):
    config = SinesConfig(sample_rate=2000, length=500, frequency_hz=(50, 800))
    signal = sines((123.4, 1.0, 0.3), (700.7, 0.5, 1.0), length=500, rate=2000)
    _, frequency_hz = SineFit(config).fit(signal, 2)
    np.testing.assert_allclose(np.sort(frequency_hz[0]), [123.4, 700.7], atol=1e-3)
