"""Sums of sines in noise: the signals that the lightweight GAN denoiser was made for.

`PAPER` is the published data, `GENERAL` the same with any phase, other amplitudes and one to five
sines. Everything is drawn from the generator that is passed, so the same seed gives the same
signals. B signals, P sines, T samples; all float32.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quieten.errors import ConfigError

Signals = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Mixtures:
    """Drawn signals, and what they were made from.

    Attributes:
        clean: (B, T), the target.
        noise: (B, T), before it is mixed.
        noisy: (B, T), `gain` times the clean signal and some of the noise.
        gain: (B,), of the clean signal in the mixture.
        frequency_hz: (B, P); those from `count` on are not heard.
        count: (B,), how many sines each signal has.
    """

    clean: Signals
    noise: Signals
    noisy: Signals
    gain: Floats
    frequency_hz: Signals
    count: NDArray[np.integer[Any]]


@dataclass(frozen=True)
class SinesConfig:
    """A data model: means of sines, mixed with noise. The defaults are the published data.

    Attributes:
        sample_rate: Hz.
        length: samples of a signal.
        count: fewest and most sines, both included.
        frequency_hz: lowest and highest; uniform between them, as are all ranges here.
        amplitude: lowest and highest of each sine, before the mean is taken.
        random_phase: any phase; else all sines start at zero.
        noise_std: of the noise before it is mixed, which decides how loud the mixture is.
        snr_db: lowest and highest, of each mixture by the energies that it really has.
        noise_colour: lowest and highest x of a power density of 1/f**x: 0 white, 1 pink, 2 brown.

    Raises:
        ConfigError: a range is upside down or cannot be, such as sines beyond half the rate.
    """

    sample_rate: int = 256
    length: int = 256
    count: tuple[int, int] = (3, 3)
    frequency_hz: tuple[float, float] = (10.0, 64.0)
    amplitude: tuple[float, float] = (1.0, 1.0)
    random_phase: bool = False
    noise_std: float = 0.5
    snr_db: tuple[float, float] = (-2.0, -2.0)
    noise_colour: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        bounds = {
            "sample_rate": (1, self.sample_rate, 10_000_000),
            "count": (1, *self.count, 1000),
            "frequency_hz": (1e-6, *self.frequency_hz, self.sample_rate / 2),
            "amplitude": (0.0, *self.amplitude, 1e6),
            "snr_db": (-100.0, *self.snr_db, 100.0),
            "noise_colour": (-4.0, *self.noise_colour, 4.0),
            "length": (2, self.length, 10_000_000),
            "noise_std": (1e-9, self.noise_std, 1e6),
        }
        for name, values in bounds.items():
            if not all(low <= high for low, high in pairwise(values)):
                low, *given, high = values
                shown = ", ".join(f"{value:g}" for value in given)
                raise ConfigError(
                    f"sines: {name} = {shown}: use values from {low:g} to {high:g}, lowest first"
                )
        if self.amplitude[1] == 0:
            raise ConfigError("sines: amplitude = 0, 0: the highest must be above 0")

    def describe(self) -> str:
        """Returns a few words, such as "3 sines of 10 to 64 Hz and amplitude 1, phase 0"."""
        count, frequency_hz, amplitude = (
            f"{low:g}" if low == high else f"{low:g} to {high:g}"
            for low, high in (self.count, self.frequency_hz, self.amplitude)
        )
        phase = "any phase" if self.random_phase else "phase 0"
        return f"{count} sines of {frequency_hz} Hz and amplitude {amplitude}, {phase}"

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Signals, Signals]:
        """Returns `count` fresh signals as (clean, noisy), (B, T) each."""
        mixtures = self.draw_mixtures(rng, count)
        return mixtures.clean, mixtures.noisy

    def draw_mixtures(self, rng: np.random.Generator, count: int) -> Mixtures:
        """Returns the signals of `draw` with all that they were made from."""
        fewest, most = self.count
        frequency_hz = rng.uniform(*self.frequency_hz, (count, most)).astype(np.float32)
        amplitude = rng.uniform(*self.amplitude, (count, most)).astype(np.float32)
        counts = np.full(count, most)
        if most > fewest:
            counts = rng.integers(fewest, most + 1, count)
        amplitude *= np.arange(most) < counts[:, None]
        phase = np.zeros_like(frequency_hz)
        if self.random_phase:
            phase = rng.uniform(0, 1, phase.shape).astype(np.float32)
        clean = self._sum(frequency_hz, amplitude / counts[:, None], phase)
        noise = self._noise(rng, count)
        noisy, gain = mix(clean, noise, _uniform(rng, self.snr_db, count))
        return Mixtures(clean, noise, noisy, gain, frequency_hz, counts)

    def _sum(self, frequency_hz: Floats, amplitude: Floats, phase: Floats) -> Signals:
        """Returns (B, T) from (B, P) each; the phase is in cycles."""
        time_s = np.arange(self.length, dtype=np.float32) / self.sample_rate
        total = np.zeros((len(phase), self.length), np.float32)
        for one in range(phase.shape[1]):  # one by one: a (B, P, T) of long signals is too large
            cycles = frequency_hz[:, one, None] * time_s + phase[:, one, None]
            # Whole cycles are taken off first: sin of a large float32 is slow and inexact.
            total += amplitude[:, one, None] * np.sin(2 * np.pi * (cycles - np.floor(cycles)))
        return total

    def _noise(self, rng: np.random.Generator, count: int) -> Signals:
        noise = rng.standard_normal((count, self.length), np.float32) * np.float32(self.noise_std)
        if self.noise_colour == (0.0, 0.0):
            return noise
        colour = _uniform(rng, self.noise_colour, count)
        spectrum = np.fft.rfft(noise)
        bins = np.maximum(np.arange(spectrum.shape[1]), 1)
        shape = bins ** (-colour[:, None] / 2)
        shape /= np.sqrt(np.mean(np.square(shape), axis=1, keepdims=True))
        return np.fft.irfft(spectrum * shape, self.length).astype(np.float32)


def mix(clean: Signals, noise: Signals, snr_db: Floats) -> tuple[Signals, Floats]:
    """Returns (mixtures (B, T), gains of the clean signals (B,)), mixed as the original does.

    Gains a and b of signal and noise give each mixture exactly its SNR, and a² + b² = 1; so a
    varies a little with the energies that were drawn.

    Args:
        clean: (B, T).
        noise: (B, T), none of them silent.
        snr_db: (B,), of the mixtures.
    """
    energy, noise_energy = (
        np.mean(np.square(part, dtype=np.float64), 1) for part in (clean, noise)
    )
    ratio = np.sqrt(10.0 ** (-snr_db / 10) * energy / noise_energy)  # b / a
    gain = 1 / np.sqrt(1 + ratio**2)
    noisy = gain[:, None] * clean + (ratio * gain)[:, None] * noise
    return noisy.astype(np.float32), gain


def _uniform(rng: np.random.Generator, bounds: tuple[float, float], count: int) -> Floats:
    """Returns (B,); a range of one value draws nothing."""
    low, high = bounds
    return np.full(count, low) if low == high else rng.uniform(low, high, count)


PAPER = SinesConfig()
"""Mean of three unit sines of 10 to 64 Hz, zero phase, in white noise at -2 dB; 1 s at 256 Hz."""

GENERAL = SinesConfig(count=(1, 5), amplitude=(0.3, 1.0), random_phase=True)
"""One to five sines of any phase and unequal amplitude, else as `PAPER`."""
