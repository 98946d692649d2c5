"""What the original's mistakes do to its figures, where no network is needed to see it.

The authors' code keeps only the real part of spectra, compares the noisy versions of other
utterances with one clean clip, and adds its noise bin by bin to a redundant spectrogram.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quieten.errors import MissingExtra
from quieten.reproduce.clips import Clip, add_white_noise
from quieten.reproduce.rows import Pair, Row, measure

Waveform = NDArray[np.float32]
Spectrum = NDArray[np.complexfloating[Any, Any]]

WINDOW_LENGTH, OVERLAP = 519, 488  # 260 x 260 values for a second at 8 kHz


def measure_pitfalls(
    clips: Sequence[Clip], sample_rate: int, conditions: dict[str, float]
) -> tuple[Row, ...]:
    """Returns a row for each mistake, the clean clip as the reference.

    `real_part`: clean sound of which only the real part of the spectrum is kept. `bin_noise`:
    Gaussian noise as strong as the standardised spectrogram (sigma 1) on each bin. `unpaired`: the
    noisy versions of all other clips against the first clean one, under each condition.

    Args:
        clips: at least one; `unpaired` needs two.
        sample_rate: of the clips, Hz.
        conditions: name -> SNR over the whole clip, dB.

    Raises:
        MissingExtra: scipy is not installed.
    """
    clean = [Pair(clip.clean, clip.clean, sample_rate) for clip in clips]
    rows = [
        measure("clean", "real_part", _spectral(lambda spectrum: spectrum.real), clean),
        measure("clean", "bin_noise", _spectral(_with_bin_noise), clean),
    ]
    if len(clips) > 1:
        for condition, snr_db in conditions.items():
            pairs = _unpaired(clips, snr_db, sample_rate)
            rows.append(measure(condition, "unpaired", lambda noisy, clean: noisy, pairs))
    return tuple(rows)


def _spectral(change: Callable[[Spectrum], NDArray[Any]]) -> Callable[[Waveform, Waveform], Any]:
    """Returns a method that changes the published spectrum of a sound and goes back."""
    try:
        from scipy.signal import istft, stft
    except ImportError as error:
        raise MissingExtra("eval", "the published spectrogram") from error

    def run(noisy: Waveform, clean: Waveform) -> Waveform:
        sizes = {"nperseg": WINDOW_LENGTH, "noverlap": OVERLAP}
        _, _, spectrum = stft(noisy, **sizes)
        _, sound = istft(change(spectrum), **sizes)
        result: Waveform = np.zeros_like(noisy)
        length = min(noisy.size, sound.size)
        result[:length] = sound[:length]
        return result

    return run


def _with_bin_noise(spectrum: Spectrum) -> Spectrum:
    rng = np.random.default_rng(0)
    sigma = np.sqrt(np.mean(np.square(np.abs(spectrum))) / 2)  # of the real and imaginary parts
    noise = rng.standard_normal(spectrum.shape) + 1j * rng.standard_normal(spectrum.shape)
    noisy: Spectrum = spectrum + sigma * noise
    return noisy


def _unpaired(clips: Sequence[Clip], snr_db: float, sample_rate: int) -> Iterator[Pair]:
    first = clips[0].clean
    for clip in clips[1:]:
        noisy = add_white_noise(clip, snr_db, 0)
        length = min(first.size, noisy.size)
        yield Pair(noisy[:length], first[:length], sample_rate)
