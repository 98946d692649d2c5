"""Denoisers of sines that need no training, held against figures known beforehand."""

import sys
from collections.abc import Callable

import numpy as np
import pytest

from quieten.errors import MissingExtra
from quieten.reproduce import estimators
from quieten.reproduce.estimators import (
    Task,
    classical_methods,
    fit_true_sines,
    fitted_threshold,
    level_gain,
    lowpass,
    mmse_matrix,
    threshold_spectrum,
)
from quieten.reproduce.signal_rows import snr_db
from quieten.sines import GENERAL, PAPER, Mixtures, SinesConfig

TASK, GENERAL_TASK = Task(PAPER), Task(GENERAL, keeps_level=True)


@pytest.fixture(scope="module")
def mixtures() -> Mixtures:
    return TASK.draw(np.random.default_rng(1), 150)


@pytest.fixture(scope="module", autouse=True)
def quick() -> object:
    """A fifth of the signals for the matrix: half a second less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimators, "_MOMENTS", 20_000)
        mmse_matrix.cache_clear()
        yield
    mmse_matrix.cache_clear()


def mean_snr_db(method: str, mixtures: Mixtures, task: Task = TASK) -> float:
    denoised = classical_methods(task)[method](mixtures)
    assert denoised.dtype == np.float32 and denoised.shape == mixtures.clean.shape
    return float(snr_db(denoised, mixtures.clean).mean())


@pytest.mark.parametrize(
    ("method", "expected_db", "within_db"),
    [
        ("noisy", 0.66, 0.1),
        ("lowpass", 2.78, 0.1),
        ("linear_mmse", 3.95, 0.15),  # 3.3 dB better than the mixture
        ("fft_threshold", 6.8, 0.5),
        ("least_squares", 12.7, 0.6),
        ("oracle_frequencies", 15.05, 0.6),  # theory: 10 log10(256 / (6 * 1.585)) + 0.75
    ],
)
def test_methods_reach_what_is_known_of_them(
    mixtures: Mixtures, method: str, expected_db: float, within_db: float
):
    assert mean_snr_db(method, mixtures) == pytest.approx(expected_db, abs=within_db)


def test_a_task_that_keeps_the_level_has_mixtures_at_their_snr(rng: np.random.Generator):
    drawn = GENERAL_TASK.draw(rng, 50)
    np.testing.assert_allclose(snr_db(drawn.noisy, drawn.clean), -2, atol=1e-3)
    assert np.array_equal(drawn.gain, np.ones(50))
    np.testing.assert_allclose(level_gain(drawn.noisy, GENERAL_TASK), 1, atol=1e-9)
    assert "as loud as in the mixture" in GENERAL_TASK.describe()


def test_general_signals_are_ranked_by_what_methods_know():
    drawn = GENERAL_TASK.draw(np.random.default_rng(2), 20)
    ranking = ["noisy", "lowpass", "linear_mmse", "fft_threshold", "least_squares"]
    reached = [mean_snr_db(name, drawn, GENERAL_TASK) for name in (*ranking, "oracle_frequencies")]
    assert reached == sorted(reached)


def test_the_low_pass_is_the_original_one(rng: np.random.Generator):
    """Order 9 at 74 Hz, twice: 0.1 dB at 64 Hz at most, 120 dB at 100 Hz, no delay."""
    time_s = np.arange(4096) / 256
    for frequency_hz, least, most in ((30, -0.01, 0.01), (64, -0.11, 0.0), (100, -999, -100)):
        tone = np.sin(2 * np.pi * frequency_hz * time_s)[None].astype(np.float32)
        middle = slice(1500, 2500)
        passed = lowpass(tone, 256)[:, middle]
        change_db = 20 * np.log10(passed.std() / tone[:, middle].std() + 1e-12)
        assert least <= change_db <= most, frequency_hz
        if frequency_hz == 30:
            np.testing.assert_allclose(passed, tone[:, middle], atol=2e-3)


def test_the_low_pass_without_scipy_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "scipy.signal", None)
    with pytest.raises(MissingExtra, match=r'pip install "quieten\[eval\]"'):
        lowpass(np.zeros((1, 256), np.float32), 256)


def test_no_matrix_is_better_than_the_linear_mmse(mixtures: Mixtures, rng: np.random.Generator):
    matrix = mmse_matrix(TASK)

    def error(candidate: np.ndarray) -> float:
        return float(np.square(mixtures.noisy @ candidate - mixtures.clean).mean())

    for factor in (0.9, 1.1):
        assert error(factor * matrix) > error(matrix)
    assert error(matrix + 0.01 * rng.standard_normal(matrix.shape)) > error(matrix)


def test_a_threshold_of_nothing_keeps_all_and_a_high_one_nothing(mixtures: Mixtures):
    np.testing.assert_allclose(threshold_spectrum(mixtures.noisy, 0), mixtures.noisy, atol=1e-6)
    assert not threshold_spectrum(mixtures.noisy, 1e6).any()


def test_a_threshold_in_standard_deviations(rng: np.random.Generator):
    """exp(-t²) of the bins of white noise exceed t standard deviations (Rayleigh)."""
    noise = rng.standard_normal((200, 1024)).astype(np.float32)
    kept = np.abs(np.fft.rfft(threshold_spectrum(noise, 1.5))) > 1e-2
    assert kept.mean() == pytest.approx(np.exp(-(1.5**2)), rel=0.1)


def test_the_threshold_is_fitted_and_the_same_every_time():
    threshold, shrinkage = fitted_threshold(TASK)
    assert 2 <= threshold <= 3 and 0.8 <= shrinkage <= 1
    fitted_threshold.cache_clear()
    assert fitted_threshold(TASK) == (threshold, shrinkage)


def test_the_level_of_a_mixture_tells_its_gain(rng: np.random.Generator):
    """Noise has a known level, so a loud mixture holds a signal that was turned down."""
    task = Task(GENERAL)
    drawn = task.draw(rng, 2000)
    ratio = level_gain(drawn.noisy, task)[:, 0] * drawn.gain
    assert ratio.mean() == pytest.approx(1, abs=0.01)
    assert ratio.std() < 0.06 < 0.1 < drawn.gain.std() / drawn.gain.mean()


def test_true_sines_are_those_of_each_signal_without_noise(rng: np.random.Generator):
    config = SinesConfig(count=(1, 5), amplitude=(0.3, 1), random_phase=True, snr_db=(90, 90))
    drawn = Task(config, keeps_level=True).draw(rng, 20)
    assert (snr_db(fit_true_sines(drawn, 256).astype(np.float32), drawn.clean) > 80).all()


def test_methods_look_at_nothing_but_the_mixture(mixtures: Mixtures):
    """Whatever the truth is said to be, only the oracle's answer changes."""
    few = Mixtures(**{name: values[:5] for name, values in vars(mixtures).items()})
    lie = Mixtures(
        clean=-few.clean,
        noise=-few.noise,
        noisy=few.noisy,
        gain=few.gain / 2,
        frequency_hz=few.frequency_hz + 1,
        count=few.count,
    )
    methods: dict[str, Callable] = classical_methods(TASK)
    same = {name for name, run in methods.items() if np.array_equal(run(few), run(lie))}
    assert same == set(methods) - {"oracle_frequencies"}
