"""Log-MMSE that is told the level of the noise: the strongest classical row there can be.

`quieten.baselines` has the one that finds the noise by itself, as every method here has to.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quieten.baselines import log_mmse_gain
from quieten.stft import analysis_window, istft, stft

Waveform = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]

WINDOW_S, OVERLAP = 0.032, 4  # frames of 32 ms every 8 ms
# As in Loizou, "Speech Enhancement: Theory and Practice", 2007; nothing is tuned to the benchmark.
MEMORY, LEAST_PRIORI = 0.98, 10.0**-2.5


def known_noise_log_mmse(noisy: Waveform, noise: Waveform, sample_rate: int) -> Waveform:
    """Returns the noisy sound (T,) under log-MMSE gains for white noise of the level of `noise`.

    Ephraim & Malah, "Speech enhancement using a minimum mean-square error log-spectral amplitude
    estimator", 1985, with the decision-directed a-priori SNR.

    Args:
        noisy: (T,).
        noise: (T,), what was added; only its power is looked at.
        sample_rate: Hz.
    """
    hop = round(sample_rate * WINDOW_S / OVERLAP)
    n_fft = OVERLAP * hop
    spectrum = stft(noisy, n_fft, hop)  # (F, N)
    power = np.square(np.abs(spectrum))
    expected = float(np.mean(np.square(noise, dtype=np.float64)))
    expected *= float(np.square(analysis_window(n_fft), dtype=np.float64).sum())
    if expected == 0.0:
        return noisy
    gains = _gains(power / expected)
    return istft((gains * spectrum).astype(np.complex64), n_fft, hop, noisy.size)


def _gains(a_posteriori: Floats) -> Floats:
    """Returns gains (F, N) for powers over that of the noise (F, N)."""
    gains = np.empty_like(a_posteriori)
    before = np.ones(a_posteriori.shape[0], np.float32)
    for frame, ratio in enumerate(a_posteriori.T):
        now = np.maximum(ratio - 1, 0)
        a_priori = np.maximum(MEMORY * before + (1 - MEMORY) * now, LEAST_PRIORI)
        gain = log_mmse_gain(a_priori, ratio)
        before = np.square(gain) * ratio
        gains[:, frame] = gain
    return gains
