"""Measures of a denoised sound against the clean one: (denoised, clean, sample_rate).

All take float arrays of shape (T,), delay compensated, and return one number; higher is better.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from quieten.errors import AudioError, MissingExtra

Waveform = NDArray[np.floating]
Metric = Callable[[Waveform, Waveform, int], float]


def snr_db(denoised: Waveform, clean: Waveform, sample_rate: int = 0) -> float:
    """Returns the energy of `clean` over that of the difference, in dB.

    Raises: AudioError if the lengths differ or the clean sound is silent.
    """
    denoised, clean = checked(denoised, clean)
    error = float(np.sum((denoised - clean) ** 2))
    return ratio_db(float(np.sum(clean**2)), error)


def si_sdr_db(denoised: Waveform, clean: Waveform, sample_rate: int = 0) -> float:
    """Returns the scale-invariant signal-to-distortion ratio in dB.

    Le Roux et al., "SDR - half-baked or well done?", 2019; means are removed first.

    Raises: AudioError if the lengths differ or the clean sound is silent.
    """
    denoised, clean = checked(denoised, clean)
    denoised, clean = denoised - denoised.mean(), clean - clean.mean()
    energy = float(clean @ clean)
    if energy == 0.0:
        raise AudioError("the clean sound is silent: there is nothing to compare with")
    target = clean * (float(denoised @ clean) / energy)
    return ratio_db(float(target @ target), float(np.sum((denoised - target) ** 2)))


def stoi(denoised: Waveform, clean: Waveform, sample_rate: int) -> float:
    """Returns the short-time objective intelligibility, about 0 to 1 (Taal et al., 2011).

    Raises: MissingExtra without pystoi; AudioError if the lengths differ.
    """
    try:
        from pystoi import stoi as reference
    except ImportError:
        raise MissingExtra("eval", "STOI") from None
    denoised, clean = checked(denoised, clean)
    return float(reference(clean, denoised, sample_rate))


def pesq_wb(denoised: Waveform, clean: Waveform, sample_rate: int) -> float:
    """Returns the wide-band PESQ score, 1 to 4.6 (ITU-T P.862.2).

    Raises: MissingExtra without pesq; AudioError unless the rate is 16 kHz and speech is found.
    """
    try:
        from pesq import PesqError, pesq
    except ImportError:
        raise MissingExtra("pesq", "PESQ") from None
    denoised, clean = checked(denoised, clean)
    if sample_rate != 16_000:
        raise AudioError(f"wide-band PESQ wants 16000 Hz, not {sample_rate}: resample first")
    try:
        return float(pesq(sample_rate, clean, denoised, "wb"))
    except PesqError as error:
        raise AudioError(f"PESQ found nothing to score: {error}") from None


METRICS: dict[str, Metric] = {
    "snr_db": snr_db,
    "si_sdr_db": si_sdr_db,
    "stoi": stoi,
    "pesq_wb": pesq_wb,
}


def checked(denoised: Waveform, clean: Waveform) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns both as float64 (T,), fit to be compared.

    Raises: AudioError if the shapes differ or the clean sound is silent.
    """
    if denoised.shape != clean.shape or denoised.ndim != 1:
        raise AudioError(
            f"cannot compare shapes {denoised.shape} and {clean.shape}: both must be (T,), aligned"
        )
    if not np.any(clean):
        raise AudioError("the clean sound is silent: there is nothing to compare with")
    return denoised.astype(np.float64), clean.astype(np.float64)


def ratio_db(signal: float, error: float) -> float:
    """Returns signal over error in dB; infinite where there is no error."""
    if error == 0.0:
        return float("inf")
    return 10 * float(np.log10(max(signal, 1e-30) / error))
