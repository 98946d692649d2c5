"""Loudness as ITU-R BS.1770-4 (2015) defines it: K-weighted, gated, of one channel.

The standard gives its two filters for 48 kHz and asks for the same response at other rates. Here
that response is applied to the spectrum, so it is the same at every rate.
"""

import numpy as np
from numpy.typing import NDArray

from quieten.errors import AudioError

Waveform = NDArray[np.floating]
Doubles = NDArray[np.float64]

BLOCK_S, STEP_S = 0.4, 0.1  # blocks of 400 ms that overlap by three quarters
SILENCE_LUFS = -70.0  # the absolute gate
GATE_LU = -10.0  # the relative gate, below the mean of what passed the absolute one
OFFSET_LU = -0.691  # takes the gain of the weighting at 997 Hz away

FILTER_RATE = 48_000
SHELF = (
    (1.53512485958697, -2.69169618940638, 1.19839281085285),  # numerator, z^0 first
    (1.0, -1.69065929318241, 0.73248077421585),
)
HIGH_PASS = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))
FADED_S = 0.5  # by then, a click that went through the high pass is down to 1e-50


def loudness(waveform: Waveform, sample_rate: int) -> float:
    """Returns the integrated loudness in LUFS; a sine of 997 Hz at full scale has -3.01.

    Args:
        waveform: (T,), full scale 1; one channel, as from a single loudspeaker in front.
        sample_rate: Hz.

    Raises:
        AudioError: not one channel, NaN or infinity, shorter than 400 ms, or nothing above
            -70 LUFS.
    """
    if waveform.ndim != 1:
        raise AudioError(f"loudness is that of one channel (T,), not of {waveform.shape}")
    if sample_rate <= 0:
        raise AudioError(f"a sample rate of {sample_rate} Hz is none: give that of the sound")
    if waveform.size < round(BLOCK_S * sample_rate):
        raise AudioError("loudness wants at least 0.4 s of sound: give a longer one")
    if not np.isfinite(waveform).all():
        raise AudioError("the sound holds NaN or infinity: repair it first")
    powers = _block_powers(k_weighted(waveform, sample_rate), sample_rate)
    loud = powers[_lufs(powers) > SILENCE_LUFS]
    if loud.size == 0:
        raise AudioError("the sound has no loudness, all is below -70 LUFS: give a louder one")
    gate = _lufs(loud.mean()) + GATE_LU
    return float(_lufs(loud[_lufs(loud) > gate].mean()))


def k_weighted(waveform: Waveform, sample_rate: int) -> Doubles:
    """Returns the waveform (T,) after the shelf and the high pass of BS.1770, silence before it."""
    length = waveform.size + round(FADED_S * sample_rate)
    n_fft = 1 << (length - 1).bit_length()
    spectrum = np.fft.rfft(waveform.astype(np.float64), n_fft)
    spectrum *= _response(np.fft.rfftfreq(n_fft, 1 / sample_rate))
    weighted: Doubles = np.fft.irfft(spectrum, n_fft)[: waveform.size]
    return weighted


def _response(frequency_hz: Waveform) -> NDArray[np.complex128]:
    top_hz = FILTER_RATE / 2  # what lies above the band of the standard is weighted like its top
    delay = np.exp(-2j * np.pi * np.minimum(frequency_hz, top_hz) / FILTER_RATE)  # z^-1
    response = np.ones(delay.shape, np.complex128)
    for numerator, denominator in (SHELF, HIGH_PASS):
        response *= np.polyval(numerator[::-1], delay) / np.polyval(denominator[::-1], delay)
    return response


def _block_powers(weighted: Doubles, sample_rate: int) -> Doubles:
    length = round(BLOCK_S * sample_rate)
    last = weighted.size - length  # an unfinished block at the end does not count
    starts = np.round(np.arange(0, last / sample_rate + 1e-9, STEP_S) * sample_rate).astype(int)
    starts = starts[starts <= last]
    energy = np.concatenate([[0.0], np.cumsum(np.square(weighted))])
    powers: Doubles = np.maximum(energy[starts + length] - energy[starts], 0.0) / length
    return powers


def _lufs(power: Doubles | np.floating) -> Doubles:
    lufs: Doubles = np.asarray(OFFSET_LU + 10 * np.log10(np.maximum(power, 1e-30)))
    return lufs
