"""What can happen to a recording; most functions take (waveform, sample_rate, rng).

Parameters are drawn from the generator that is passed in, so a degradation is a pure function of
its arguments. Waveforms are float32 (T,). `add_noise` and `reverberate` need a second sound;
`clip_at`, `resample_down_up` and `mu_law` take fixed parameters instead of a generator. What needs
an encoder is in `quieten.testsets.codecs`.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

Waveform = NDArray[np.float32]
Spectra = NDArray[np.complex128]

FILTERS = {"sinc": "VHQ", "usual": "HQ", "gentle": "LQ"}
"""Resampling filters of `sample`, as soxr has them: linear phase, in the order of their slopes."""

SLOPES = {"whitenoise": 0.0, "pinknoise": 0.5, "brownnoise": 1.0}
"""Exponent of 1/f by which the amplitude of a noise falls."""

EARLY_S = 0.05
"""Reflections within this time after the direct sound help listeners: they stay in the target."""


def rms(waveform: Waveform) -> float:
    """Returns the root mean square of (T,) samples; 0 for none."""
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))) if waveform.size else 0.0


def active_rms(waveform: Waveform, sample_rate: int, range_db: float = 20.0) -> float:
    """Returns the RMS of the 20 ms frames within `range_db` of the 95th percentile.

    Pauses do not count, so an SNR set by it means the same for dense and for sparse speech.
    """
    length = sample_rate // 50
    whole = waveform.size // length * length
    if whole == 0:
        return rms(waveform)
    power = np.square(waveform[:whole], dtype=np.float64).reshape(-1, length).mean(axis=1)
    threshold = np.percentile(power, 95) * 10 ** (-range_db / 10)
    return float(np.sqrt(power[power >= threshold].mean()))


def noise_gain(clean: Waveform, noise: Waveform, sample_rate: int, snr_db: float) -> float:
    """Returns the factor on `noise` that puts active speech `snr_db` above it; 0 for no noise."""
    level = rms(noise)
    if level == 0.0:
        return 0.0
    return active_rms(clean, sample_rate) / level * 10 ** (-snr_db / 20)


def add_noise(clean: Waveform, noise: Waveform, sample_rate: int, *, snr_db: float) -> Waveform:
    """Returns clean + noise at an SNR of active speech level against noise RMS.

    Args: clean and noise (T,), of the same length.
    """
    return clean + np.float32(noise_gain(clean, noise, sample_rate, snr_db)) * noise


def convolve(waveform: Waveform, response: Waveform) -> Waveform:
    """Returns the first T samples of the convolution, computed by FFT."""
    size = fft_size(waveform.size + response.size - 1)
    product = np.fft.rfft(waveform, size) * np.fft.rfft(response, size)
    return np.fft.irfft(product, size)[: waveform.size].astype(np.float32)


def fft_size(length: int) -> int:
    """Returns the next length of the form 2^a, 3 * 2^a or 5 * 2^a: quick to transform."""
    length = max(length, 1)
    power = 1 << (length - 1).bit_length()
    return min(n for n in (power, power // 4 * 3, power // 8 * 5) if n >= length)


def reverberate(
    waveform: Waveform, response: Waveform, sample_rate: int
) -> tuple[Waveform, Waveform]:
    """Returns (reverberant, early): the second holds the direct sound and 50 ms of reflections.

    The response is aligned to its peak and scaled to unit energy of the early part.
    """
    peak = int(np.argmax(np.abs(response)))
    response = response[peak:]
    early = response[: int(EARLY_S * sample_rate)]
    scale = 1.0 / max(float(np.sqrt(np.sum(np.square(early, dtype=np.float64)))), 1e-9)
    response, early = response * np.float32(scale), early * np.float32(scale)
    return convolve(waveform, response), convolve(waveform, early)


def make_room_response(sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Returns the impulse response of an imagined room: direct sound and a decaying tail.

    Gaussian noise under an exponential decay is Polack's model of late reverberation (1988).
    """
    decay_s = rng.uniform(0.1, 0.9)  # RT60
    length = int(min(decay_s, 0.7) * sample_rate)
    time = np.arange(length) / sample_rate
    tail = rng.standard_normal(length) * 10 ** (-3 * time / decay_s)
    tail[: int(rng.uniform(0.001, 0.02) * sample_rate)] = 0
    tail *= 10 ** (-rng.uniform(-3, 12) / 20) / max(float(np.sqrt(np.sum(tail**2))), 1e-9)
    tail[0] = 1.0
    return tail.astype(np.float32)


def shape_spectrum(
    waveform: Waveform,
    sample_rate: int,
    gain: Callable[[NDArray[Any]], NDArray[Any]],
) -> Waveform:
    """Returns the sound with each frequency times its gain, a function of the frequency in Hz."""
    size = fft_size(waveform.size)
    spectrum = np.fft.rfft(waveform, size) * gain(np.fft.rfftfreq(size, 1 / sample_rate))
    return np.fft.irfft(spectrum, size)[: waveform.size].astype(np.float32)


def equalize(waveform: Waveform, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Returns the sound through a smooth random frequency response, as of another microphone."""
    knots_hz = np.array([0, 120, 300, 800, 2000, 4500, sample_rate / 2 + 1])
    gains_db = rng.normal(0, 4, knots_hz.size).clip(-10, 10)
    return shape_spectrum(
        waveform, sample_rate, lambda hz: 10 ** (np.interp(hz, knots_hz, gains_db) / 20)
    )


def band_limit(waveform: Waveform, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Returns the sound with everything above a random cutoff (3 kHz up) removed."""
    top_hz = sample_rate / 2
    cutoff_hz = rng.uniform(min(3000.0, 0.5 * top_hz), 0.95 * top_hz)
    return shape_spectrum(
        waveform, sample_rate, lambda hz: np.clip((cutoff_hz + 200 - hz) / 200, 0, 1)
    )


def telephone_band(
    waveform: Waveform, sample_rate: int, low_hz: float = 300.0, high_hz: float = 3400.0
) -> Waveform:
    """Returns what a telephone passes of a sound; the edges are soft.

    Both limits are 6 dB down; the numbers are those of ITU-T G.712 (2001).
    """

    def gain(hz: NDArray[Any]) -> NDArray[Any]:
        below = 1 + (low_hz / np.maximum(hz, 1.0)) ** 8  # falls by 48 dB per octave
        passed: NDArray[Any] = 1 / (below * (1 + (hz / high_hz) ** 24))
        return passed

    return shape_spectrum(waveform, sample_rate, gain)


def clip(waveform: Waveform, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Returns the sound cut off at a random share of its peak."""
    limit = np.float32(rng.uniform(0.3, 0.9) * np.max(np.abs(waveform), initial=0.0))
    return np.clip(waveform, -limit, limit)


def clip_at(waveform: Waveform, below_peak_db: float) -> Waveform:
    """Returns the sound cut off this far below its peak; 0 dB changes nothing."""
    peak = np.max(np.abs(waveform), initial=0.0)
    limit = np.float32(peak * 10 ** (-below_peak_db / 20))
    return np.clip(waveform, -limit, limit)


def resample_down_up(waveform: Waveform, sample_rate: int, low_rate_hz: int) -> Waveform:
    """Returns the sound after a stay at a lower rate: as long, without the band above it."""
    low = resample(waveform, sample_rate, low_rate_hz)
    return fit_length(resample(low, low_rate_hz, sample_rate), waveform.size)


def mu_law(waveform: Waveform, mu: int = 255) -> Waveform:
    """Returns the sound rounded to `mu` steps that grow with the level, as in telephony.

    The smooth companding law behind ITU-T G.711 (1988); beyond full scale it clips.
    """
    clipped = np.clip(waveform, -1, 1).astype(np.float64)
    compressed = np.sign(clipped) * np.log1p(mu * np.abs(clipped)) / np.log1p(mu)
    steps = (mu - 1) / 2  # on each side of zero, so that silence stays silence
    rounded = np.rint(compressed * steps) / steps
    expanded: NDArray[Any] = np.sign(rounded) * np.expm1(np.abs(rounded) * np.log1p(mu)) / mu
    return expanded.astype(np.float32)


def resample(waveform: Waveform, sample_rate: int, new_rate: int) -> Waveform:
    """Returns the sound at another rate, in phase with the original."""
    if sample_rate == new_rate or waveform.size == 0:
        return waveform
    result: Waveform = soxr.resample(waveform, sample_rate, new_rate, quality="HQ")
    return result.astype(np.float32, copy=False)


def fit_length(waveform: Waveform, length: int) -> Waveform:
    """Returns the first `length` samples, with silence behind a sound that is shorter."""
    fitted: Waveform = np.pad(waveform[:length], (0, max(0, length - waveform.size)))
    return fitted


def change_speed(waveform: Waveform, factor: float) -> Waveform:
    """Returns the sound played `factor` times faster: shorter and higher."""
    steps = 100  # a rational ratio keeps the resampler cheap
    result: Waveform = soxr.resample(waveform, round(steps * factor), steps, quality="LQ")
    return result.astype(np.float32, copy=False)


def whisper(waveform: Waveform, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Returns the voice (T,) without its pitch, as loud as before.

    White noise gets the spectral envelope of each 32 ms, tilted, since a whisper lacks low
    frequencies.
    """

    def whispered(spectra: Spectra, envelope: NDArray[Any]) -> Spectra:
        size = 2 * (spectra.shape[1] - 1)
        noise = np.fft.rfft(rng.standard_normal((len(spectra), size)) * np.hanning(size + 1)[:-1])
        tilt = np.minimum(np.fft.rfftfreq(size, 1 / sample_rate) / 1000, 1)
        made: Spectra = noise * envelope * tilt
        return made

    return with_envelopes(waveform, sample_rate, whispered)


def shift_formants(waveform: Waveform, sample_rate: int, factor: float) -> Waveform:
    """Returns the voice (T,) as of another mouth: formants at `factor` times theirs, same pitch.

    As loud as before. The envelope of each 32 ms is stretched along frequency, as vocal tract
    length perturbation does with features (Jaitly & Hinton 2013).
    """

    def shifted(spectra: Spectra, envelope: NDArray[Any]) -> Spectra:
        position = np.minimum(np.arange(spectra.shape[1]) / factor, spectra.shape[1] - 1.001)
        low = position.astype(int)
        part = position - low
        moved = (1 - part) * envelope[:, low] + part * envelope[:, low + 1]
        gain = (moved + 1e-9) / (envelope + 1e-9)
        made: Spectra = spectra * np.clip(gain, 0.1, 10)  # no more than 20 dB
        return made

    return with_envelopes(waveform, sample_rate, shifted)


def with_envelopes(
    waveform: Waveform,
    sample_rate: int,
    change: Callable[[Spectra, NDArray[Any]], Spectra],
) -> Waveform:
    """Returns the sound (T,) from changed spectra, as loud as before.

    Args:
        change: gets the spectra of 32 ms every 8 ms and their envelopes, both (N, F): magnitudes
            smoothed over 400 Hz, which is wider than harmonics are apart.
    """
    hop = round(0.008 * sample_rate)
    window = np.hanning(4 * hop + 1)[:-1]
    padded = np.pad(waveform.astype(np.float64), (3 * hop, 4 * hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, 4 * hop)[::hop] * window  # (N, 4 hop)
    width = max(3, round(400 * 4 * hop / sample_rate))
    kernel = np.hanning(width + 2)[1:-1] / np.hanning(width + 2).sum()
    spectra = np.fft.rfft(frames)
    power = np.square(np.abs(spectra))
    envelope = np.sqrt(np.apply_along_axis(np.convolve, 1, power, kernel, "same"))
    made = np.fft.irfft(change(spectra, envelope)) * window
    result = np.zeros(padded.size)
    for number, frame in enumerate(made):
        result[number * hop : number * hop + frame.size] += frame
    changed: Waveform = result[3 * hop : 3 * hop + waveform.size].astype(np.float32)
    return changed * np.float32(rms(waveform) / max(rms(changed), 1e-9))


def through_rate(
    waveform: Waveform, sample_rate: int, low_hz: float, filter_name: str = "usual"
) -> Waveform:
    """Returns the sound after a stay at a lower rate, in phase; the same where it is not lower."""
    if low_hz >= sample_rate:
        return waveform
    quality = FILTERS[filter_name]
    low = soxr.resample(waveform, sample_rate, low_hz, quality=quality)
    up: Waveform = soxr.resample(low, low_hz, sample_rate, quality=quality)
    return fit_length(up.astype(np.float32, copy=False), waveform.size)


def make_noise(colour: str, length: int, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Returns noise of RMS 1: a name of `SLOPES`, tpdfnoise, or anynoise for some slope."""
    if colour == "tpdfnoise":
        triangular = rng.random(length) + rng.random(length) - 1  # variance 1/6
        return (triangular * math.sqrt(6)).astype(np.float32)
    slope = rng.uniform(-0.1, 1.0) if colour == "anynoise" else SLOPES[colour]
    white = rng.standard_normal(length, dtype=np.float32)
    if slope == 0.0:
        return white
    size = fft_size(length)
    lowest_hz = max(20.0, sample_rate / size)
    hz = np.maximum(np.fft.rfftfreq(size, 1 / sample_rate), lowest_hz)
    spectrum = np.fft.rfft(rng.standard_normal(size)) * hz**-slope
    noise = np.fft.irfft(spectrum, size)[:length]
    return (noise / max(float(np.sqrt(np.mean(noise**2))), 1e-12)).astype(np.float32)


def direct_and_tail(response: Waveform, sample_rate: int, drr_db: float | None = None) -> Waveform:
    """Returns a room response whose direct sound passes everything as it is.

    The 2.5 ms from the peak on are the direct sound and become one sample of their energy, scaled
    to 1: what loudspeaker and microphone did to it is no reverberation. The rest is the room.

    Args:
        drr_db: energy of the direct sound over that of the rest, dB; None: as it is.
    """
    peak = int(np.argmax(np.abs(response)))
    length = max(1, round(0.0025 * sample_rate))
    direct, tail = response[peak : peak + length], response[peak + length :]
    energy = float(np.square(direct, dtype=np.float64).sum())
    scale = math.copysign(1 / math.sqrt(max(energy, 1e-12)), float(response[peak]))
    if drr_db is not None:
        tail_energy = float(np.square(tail, dtype=np.float64).sum())
        scale = math.copysign(math.sqrt(10 ** (-drr_db / 10) / max(tail_energy, 1e-12)), scale)
    made = np.zeros(length + tail.size, np.float32)
    made[0] = 1
    made[length:] = scale * tail
    return made
