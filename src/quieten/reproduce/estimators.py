"""Denoisers of sines in noise that need no training: filters, thresholds, and fits of sines.

What has to be fitted to the kind of signals (a matrix, a threshold, a gain) is fitted on drawn
signals that are in no test. B signals, T samples.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quieten.errors import MissingExtra
from quieten.reproduce.sine_fit import SineFit, project
from quieten.sines import Floats, Mixtures, Signals, SinesConfig

Method = Callable[[Mixtures], Signals]
"""Takes mixtures to denoised signals (B, T); only bounds look at more than `noisy`."""

PASS_HZ, STOP_HZ, RIPPLE_DB, STOP_DB = 64, 100, 0.05, 60  # of the original's low-pass
_MOMENTS, _FITTED, _LEVELS = 100_000, 2000, 20_000  # signals that something is fitted on
_BLOCK = 10_000
_THRESHOLDS = np.arange(10, 40) / 10
_SHRINKAGES = (0.8, 0.85, 0.9, 0.95, 1.0)


@dataclass(frozen=True)
class Task:
    """What is to be found in which signals.

    Attributes:
        config: the signals.
        keeps_level: the target is the clean signal as loud as it is in the mixture; else as loud
            as it was before, which has to be guessed.
    """

    config: SinesConfig
    keeps_level: bool = False

    def describe(self) -> str:
        """Returns a few words."""
        level = "as loud as in the mixture" if self.keeps_level else "as loud as before mixing"
        return f"{self.config.describe()}; target {level}"

    def draw(self, rng: np.random.Generator, count: int) -> Mixtures:
        """Returns fresh signals, `clean` being the target."""
        drawn = self.config.draw_mixtures(rng, count)
        if not self.keeps_level:
            return drawn
        clean = (drawn.gain[:, None] * drawn.clean).astype(np.float32)
        return replace(drawn, clean=clean, gain=np.ones(count))


def lowpass(noisy: Signals, sample_rate: int) -> Signals:
    """Returns (B, T) through the original's low-pass, forwards and backwards.

    The Butterworth filter of the least order that loses 0.05 dB at 64 Hz and 60 dB at 100 Hz: at
    256 Hz order 9, 74 Hz.

    Raises:
        MissingExtra: scipy is not installed.
    """
    try:
        from scipy.signal import butter, buttord, filtfilt
    except ImportError as error:
        raise MissingExtra("eval", "the low-pass filter") from error
    order, cutoff_hz = buttord(PASS_HZ, STOP_HZ, RIPPLE_DB, STOP_DB, fs=sample_rate)
    filtered: Floats = filtfilt(*butter(order, cutoff_hz, fs=sample_rate), noisy, axis=-1)
    return filtered.astype(np.float32)


@lru_cache
def mmse_matrix(task: Task) -> Floats:
    """Returns the (T, T) that makes of mixtures, from the right, the best linear estimates.

    The Wiener filter for one window, from the second moments of 100,000 drawn signals.
    """
    own, cross = (np.zeros((task.config.length, task.config.length)) for _ in range(2))
    for block in range(_MOMENTS // _BLOCK):
        drawn = task.draw(_fresh(5, block), _BLOCK)
        turned = drawn.noisy.T.astype(np.float64)
        own += turned @ drawn.noisy
        cross += turned @ drawn.clean
    return np.linalg.solve(own, cross)


def threshold_spectrum(noisy: Signals, threshold: float) -> Floats:
    """Returns (B, T) of the bins that stand out, in the mixture's scale.

    Args:
        noisy: (B, T).
        threshold: in standard deviations of white noise, whose level is taken from the median of
            each spectrum.
    """
    spectrum = np.fft.rfft(noisy)
    size = np.abs(spectrum)
    level = np.median(size, axis=1, keepdims=True) / np.sqrt(np.log(2))  # Rayleigh's median
    return np.fft.irfft(spectrum * (size > threshold * level), noisy.shape[1])


@lru_cache
def fitted_threshold(task: Task) -> tuple[float, float]:
    """Returns (threshold, shrinkage) that give the best mean SNR on 2000 other signals."""
    drawn = task.draw(_fresh(6), _FITTED)
    scale = level_gain(drawn.noisy, task)
    scores = {}
    for threshold in _THRESHOLDS.tolist():
        kept = scale * threshold_spectrum(drawn.noisy, threshold)
        for shrinkage in _SHRINKAGES:
            error = np.sum(np.square(shrinkage * kept - drawn.clean), 1)
            scores[threshold, shrinkage] = -float(np.log(error).mean())
    return max(scores, key=lambda pair: scores[pair])


def level_gain(noisy: Signals, task: Task) -> Floats:
    """Returns (B, 1), what takes the wave in each mixture to the scale of the target.

    The mixture's level tells how much the signal was turned down, since noise has a known one.
    """
    gains: Floats = np.polyval(_level_curve(task), _level(noisy))
    return gains[:, None]


@lru_cache
def _level_curve(task: Task) -> Floats:
    """Returns a cubic from the log of a mixture's level to the gain; spread 3 to 4 %."""
    mixtures = task.draw(_fresh(8), _LEVELS)
    return np.polyfit(_level(mixtures.noisy), 1 / mixtures.gain, 3)


def _level(noisy: Signals) -> NDArray[np.float64]:
    power: NDArray[np.float64] = np.mean(np.square(noisy, dtype=np.float64), 1)
    return 0.5 * np.log(power + 1e-12)


def _fresh(*stream: int) -> np.random.Generator:
    return np.random.default_rng([*stream, 20261120])


def classical_methods(task: Task) -> dict[str, Method]:
    """Returns name -> method for that task.

    `least_squares` knows how many sines there may be at most, `oracle_frequencies` which there
    are; both know neither amplitudes nor phases.
    """
    config = task.config
    fewest, most = config.count

    def run_mmse(mixtures: Mixtures) -> Signals:
        return (mixtures.noisy @ mmse_matrix(task)).astype(np.float32)

    def run_threshold(mixtures: Mixtures) -> Signals:
        threshold, shrinkage = fitted_threshold(task)
        kept = threshold_spectrum(mixtures.noisy, threshold)
        return _scaled(shrinkage * kept, mixtures, task)

    def run_least_squares(mixtures: Mixtures) -> Signals:
        fit, noisy = SineFit(config), mixtures.noisy
        found = fit.fit(noisy, most)[0] if fewest == most else fit.fit_unknown_count(noisy, most)
        return _scaled(found, mixtures, task)

    return {
        "noisy": lambda mixtures: mixtures.noisy,
        "lowpass": lambda mixtures: lowpass(mixtures.noisy, config.sample_rate),
        "linear_mmse": run_mmse,
        "fft_threshold": run_threshold,
        "least_squares": run_least_squares,
        "oracle_frequencies": lambda mixtures: _scaled(
            fit_true_sines(mixtures, config.sample_rate), mixtures, task
        ),
    }


def fit_true_sines(mixtures: Mixtures, sample_rate: int) -> Floats:
    """Returns (B, T), the best amplitudes and phases at the true frequencies."""
    fits: NDArray[Any] = np.zeros(mixtures.noisy.shape)
    for count in np.unique(mixtures.count).tolist():
        chosen = mixtures.count == count
        frequency_hz = mixtures.frequency_hz[chosen, :count]
        fits[chosen] = project(mixtures.noisy[chosen], frequency_hz, sample_rate)[0]
    return fits


def _scaled(found: Floats, mixtures: Mixtures, task: Task) -> Signals:
    return (level_gain(mixtures.noisy, task) * found).astype(np.float32)
