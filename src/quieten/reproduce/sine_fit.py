"""Least squares on sums of sines: the best frequencies, amplitudes and phases for each signal.

What a classical method can do that knows that the signals are sines, and how many. B signals,
T samples, P sines, G frequencies of a grid; float64.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quieten.sines import Floats, SinesConfig

STEPS_PER_BIN = 8
"""Frequencies tried for each bin of a Fourier transform: the valley of a sine is 2 bins wide."""
ROUNDS, NEWTON_STEPS = 4, 25
_BLOCK = 100  # signals at a time: bounds the memory


def waves(frequency_hz: Floats, length: int, sample_rate: int) -> Floats:
    """Returns sines and then cosines (..., T, 2P) of frequencies (..., P)."""
    time_s = np.arange(length) / sample_rate
    angle = 2 * np.pi * time_s[:, None] * frequency_hz[..., None, :]
    return np.concatenate([np.sin(angle), np.cos(angle)], -1)


def project(signals: Floats, frequency_hz: Floats, sample_rate: int) -> tuple[Floats, Floats]:
    """Returns the best fit (B, T) with these frequencies (B, P), and its coefficients (B, 2P)."""
    basis = waves(frequency_hz.astype(np.float64), signals.shape[1], sample_rate)
    # The same sine may be there twice.
    gram = _turned(basis) @ basis + 1e-6 * np.eye(basis.shape[-1])
    coefficients = np.linalg.solve(gram, _turned(basis) @ signals[..., None])
    return (basis @ coefficients)[..., 0], coefficients[..., 0]


def _turned(matrices: Floats) -> Floats:
    return matrices.swapaxes(-1, -2)


class SineFit:
    """Finds sines in signals of one kind: a grid search in turns, then Levenberg-Marquardt.

    Args:
        config: whose rate, length and frequencies count.
    """

    def __init__(self, config: SinesConfig) -> None:
        self.sample_rate, self.length = config.sample_rate, config.length
        bin_hz = self.sample_rate / self.length
        low, high = config.frequency_hz
        self.low_hz = max(low - bin_hz, bin_hz / 4)
        self.high_hz = min(high + bin_hz, self.sample_rate / 2 - bin_hz / 4)
        self.widest_step_hz = 0.3 * bin_hz
        self.grid = np.arange(self.low_hz, self.high_hz, bin_hz / STEPS_PER_BIN)
        self.atoms = waves(self.grid[:, None], self.length, self.sample_rate)  # (G, T, 2)
        self.flat = self.atoms.transpose(1, 2, 0).reshape(self.length, -1)  # (T, 2G)
        self.energies = np.einsum("gti,gtj->ijg", self.atoms, self.atoms)  # (2, 2, G)

    def fit(self, signals: Floats, count: int) -> tuple[Floats, Floats]:
        """Returns the best sum of `count` sines (B, T), and its frequencies (B, P) in Hz."""
        blocks = np.array_split(signals.astype(np.float64), max(1, -(-len(signals) // _BLOCK)))
        parts = [self._fit_block(block, count) for block in blocks]
        fits, frequencies = zip(*parts, strict=True)
        return np.concatenate(fits), np.concatenate(frequencies)

    def fit_unknown_count(self, signals: Floats, most: int) -> Floats:
        """Returns the fit (B, T) with as many sines, up to `most`, as each signal speaks for.

        Each sine costs 5/2 ln T of log-likelihood: Djuric, "A model selection rule for sinusoids
        in white Gaussian noise", 1996.
        """
        best = np.zeros(signals.shape)
        cost = np.full(len(signals), np.inf)
        for count in range(1, most + 1):
            fit, _ = self.fit(signals, count)
            error = np.sum(np.square(signals - fit), 1) + 1e-12
            now = self.length / 2 * np.log(error) + 2.5 * count * np.log(self.length)
            better = now < cost
            best[better], cost[better] = fit[better], now[better]
        return best

    def _fit_block(self, signals: Floats, count: int) -> tuple[Floats, Floats]:
        frequency_hz: Floats = np.zeros((len(signals), 0))
        for turn in range(count * (1 + ROUNDS)):
            others = frequency_hz[:, 1:] if turn >= count else frequency_hz
            found = self.search(signals, others)
            frequency_hz = np.concatenate([others, found[:, None]], 1)
        frequency_hz = self.refine(signals, frequency_hz)
        return project(signals, frequency_hz, self.sample_rate)[0], frequency_hz

    def search(self, signals: Floats, others_hz: Floats) -> Floats:
        """Returns the grid's best frequency (B,) beside others (B, P), by exact projection."""
        rest, energies = signals, self.energies[:, :, None]  # (2, 2, 1, G)
        if others_hz.shape[1]:
            basis = np.linalg.qr(waves(others_hz, self.length, self.sample_rate))[0]  # (B, T, 2P)
            rest = signals - (basis @ (_turned(basis) @ signals[..., None]))[..., 0]
            shared = (_turned(basis) @ self.flat).reshape(
                len(basis), basis.shape[2], 2, -1
            )  # (B, 2P, 2, G)
            sine, cosine = shared[:, :, 0], shared[:, :, 1]
            products = [[sine * sine, sine * cosine], [sine * cosine, cosine * cosine]]
            energies = energies - np.array([[each.sum(1) for each in row] for row in products])
        s, c = (rest @ self.flat).reshape(len(rest), 2, -1).transpose(1, 0, 2)  # (B, G)
        ss, cc, sc = energies[0, 0], energies[1, 1], energies[0, 1]
        determinant = ss * cc - sc * sc
        gain = (cc * s * s - 2 * sc * s * c + ss * c * c) / (determinant + 1e-3)
        # Almost a copy of another sine: what little is left of it fits any noise.
        gain = np.where(determinant < 1e-2 * (self.length / 2) ** 2, 0, gain)
        best: Floats = self.grid[gain.argmax(1)]
        return best

    def refine(self, signals: Floats, frequency_hz: Floats) -> Floats:
        """Returns frequencies (B, P) that fit at least as well as those given.

        Levenberg-Marquardt on the frequencies; amplitudes and phases are solved for exactly each
        time (variable projection: Golub & Pereyra, 1973).
        """
        damping = np.full(len(signals), 1e-2)
        fit, coefficients = project(signals, frequency_hz, self.sample_rate)
        error = np.sum(np.square(signals - fit), 1)
        for _ in range(NEWTON_STEPS):
            step = self._step(signals - fit, frequency_hz, coefficients, damping)
            trial = np.clip(frequency_hz + step, self.low_hz, self.high_hz)
            new_fit, new_coefficients = project(signals, trial, self.sample_rate)
            new_error = np.sum(np.square(signals - new_fit), 1)
            better = new_error < error
            frequency_hz = np.where(better[:, None], trial, frequency_hz)
            fit = np.where(better[:, None], new_fit, fit)
            coefficients = np.where(better[:, None], new_coefficients, coefficients)
            error = np.where(better, new_error, error)
            damping = np.clip(np.where(better, damping / 4, damping * 6), 1e-7, 1e6)
        return frequency_hz

    def _step(
        self, rest: Floats, frequency_hz: Floats, coefficients: Floats, damping: Floats
    ) -> Floats:
        """Returns the change (B, P) in Hz that one damped Gauss-Newton step wants."""
        count = frequency_hz.shape[1]
        basis = waves(frequency_hz, self.length, self.sample_rate)
        time_s = np.arange(self.length)[:, None] / self.sample_rate
        rising = coefficients[:, None, :count] * basis[..., count:]
        falling = coefficients[:, None, count:] * basis[..., :count]
        slope = 2 * np.pi * time_s * (rising - falling)  # (B, T, P)
        orthonormal = np.linalg.qr(basis)[0]
        slope -= orthonormal @ (_turned(orthonormal) @ slope)
        curvature = _turned(slope) @ slope
        diagonal: NDArray[Any] = np.eye(count) * curvature
        curvature = curvature + damping[:, None, None] * diagonal + 1e-9 * np.eye(count)
        step = np.linalg.solve(curvature, _turned(slope) @ rest[..., None])[..., 0]
        return np.clip(step, -self.widest_step_hz, self.widest_step_hz)
