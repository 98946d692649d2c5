"""How a model's bands lie on the spectrum of a sound at another rate, and what they decide.

Here: the frame grid for a rate, one spectrum for several channels, and the gain of the band
above the model's top: that band gets one gain a frame, the one that the model gives to 5 to
7.5 kHz on the whole (of a top of 8 kHz), so hiss goes with the hiss below it and sibilants stay
with theirs. All functions work frame by frame, so nothing looks ahead.
Letters: C channels, N frames, F bins of the sound, M bins of the model.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quieten.errors import AudioError
from quieten.stft import Spectrogram

MIN_RATE, MAX_RATE = 8_000, 192_000
TINY = np.float32(1.2e-38)  # least normal float32: guards a division

# the gain above the model's top follows this part of its band: 5 to 7.5 kHz of 8 kHz
GUIDE_FROM, GUIDE_TO = 0.625, 0.9375
SILENCE = 1e-12  # power of a bin; far below one bin of 24-bit rounding noise
CANCELLED = 1e-6  # of the energy: a channel sum below it has no phase worth using


@dataclass(frozen=True)
class Grid:
    """Frames of a sound whose bins are a model's bins.

    Attributes:
        n_fft: window, samples of the sound.
        hop: distance of the frames, samples of the sound.
        n_bins: F, bins of the sound's spectra.
        model_bins: M, bins that the model wants.
        scale: factor from the sound's spectra to the model's.
    """

    n_fft: int
    hop: int
    n_bins: int
    model_bins: int
    scale: float

    @property
    def shared(self) -> int:
        """How many bins both have."""
        return min(self.n_bins, self.model_bins)

    @property
    def guide(self) -> slice:
        """The model's bins that decide about the band above its top."""
        top = self.model_bins - 1
        return slice(round(GUIDE_FROM * top), round(GUIDE_TO * top) + 1)

    @property
    def fade(self) -> NDArray[np.float32]:
        """Share of the guided gain in the bins between guide and top, rising to 1."""
        n_fading = self.model_bins - self.guide.stop
        return np.linspace(1 / n_fading, 1, n_fading, dtype=np.float32)


def make_grid(sample_rate: int, model_rate: int, model_n_fft: int, model_hop: int) -> Grid:
    """Returns the grid of a sound at `sample_rate` for a model.

    Where the model's hop is a whole number of samples (8, 12, 16, 24, 32, 48, 96, 192 kHz and
    others), the bins are the model's exactly. Elsewhere the nearest hop whose spectra are fast
    is taken: 44.1 kHz and its family get bins 0.23 % wider, 4 cents of pitch, which is less than
    any voice moves, where resampling would cost delay and the top of the band.

    Raises:
        AudioError: the rate is outside 8 to 192 kHz.
    """
    if not MIN_RATE <= sample_rate <= MAX_RATE or int(sample_rate) != sample_rate:
        raise AudioError(
            f"sample rate {sample_rate} Hz: quieten works from {MIN_RATE} to {MAX_RATE} Hz;"
            " resample first"
        )
    hop = _nearest_hop(model_hop * int(sample_rate), model_rate)
    n_fft = hop * (model_n_fft // model_hop)
    return Grid(n_fft, hop, n_fft // 2 + 1, model_n_fft // 2 + 1, model_n_fft / n_fft)


def link_channels(spectra: Spectrogram) -> Spectrogram:
    """Returns one spectrum (1, N, F) for channels (C, N, F): RMS magnitude, phase of the sum.

    Where the channels cancel, the phase is the loudest channel's.
    """
    n_channels = spectra.shape[0]
    if n_channels == 1:
        return spectra
    power = np.square(spectra.real) + np.square(spectra.imag)  # (C, N, F)
    total = power.sum(axis=0, keepdims=True)
    joint: Spectrogram = spectra.sum(axis=0, keepdims=True)
    joint_power = np.square(joint.real) + np.square(joint.imag)
    cancelled = joint_power < CANCELLED * total
    if cancelled.any():
        loudest = power.argmax(axis=0, keepdims=True)
        joint = np.where(cancelled, np.take_along_axis(spectra, loudest, axis=0), joint)
        joint_power = np.square(joint.real) + np.square(joint.imag)
    joint *= np.sqrt(total / (n_channels * np.maximum(joint_power, TINY)))
    return joint


def guided_gain(spectra: Spectrogram, mask: Spectrogram, guide: slice) -> NDArray[np.float32]:
    """Returns the gain (B, N) for the band above the model's top, at most 1.

    It is the model's own gain in the guide band, the root of power after over power before; in
    silence, the root of the mean squared mask.

    Args:
        spectra: (B, N, M) what the model saw.
        mask: (B, N, M) what it answered.
        guide: bins to follow.
    """
    seen, gains = spectra[..., guide], mask[..., guide]
    power = np.square(seen.real) + np.square(seen.imag) + np.float32(SILENCE)
    kept = (power * (np.square(gains.real) + np.square(gains.imag))).sum(axis=-1)
    gain: NDArray[np.float32] = np.sqrt(kept / power.sum(axis=-1))
    return np.minimum(gain, np.float32(1.0))


def _nearest_hop(numerator: int, denominator: int) -> int:
    """Returns numerator / denominator if whole, else the nearest number with primes up to 11."""
    if numerator % denominator == 0:
        return numerator // denominator
    nearest = round(numerator / denominator)
    near = sorted(
        range(nearest - nearest // 200, nearest + nearest // 200 + 1),
        key=lambda hop: abs(hop - numerator / denominator),
    )
    return next((hop for hop in near if _is_fast(hop)), nearest)


def _is_fast(length: int) -> bool:
    for prime in (2, 3, 5, 7, 11):
        while length % prime == 0:
            length //= prime
    return length == 1
