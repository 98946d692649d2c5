"""Lifts quiet sound, for the model's ears only, to the level that models know from training.

A mask does not depend on level, but a network does: far below the levels of its training it takes
speech for noise. The lift follows the loudest frame so far, which fades slowly, so it is causal,
the same for every chunking, and 1 for sound of usual level.
Letters: B signals, N frames, M bins.
"""

import math

import numpy as np
from numpy.typing import NDArray

from quieten.stft import Spectrogram

REFERENCE_DBFS = -35.0  # RMS of the loudest frame that needs no lift
MOST_DB = 40.0  # 16-bit rounding noise stays far below any voice
FADE_DB_PER_S = 1.0  # what the loudest frame is forgotten by


class Lift:
    """Follows the level of B signals.

    Args:
        batch: B, number of signals.
        n_fft: window of the spectra, in samples.
        hop_s: distance of the frames in seconds.
    """

    def __init__(self, batch: int, n_fft: int, hop_s: float) -> None:
        self._full_scale = n_fft / 2  # root of the power of a frame whose RMS is 1
        self._fade = math.pow(10.0, -FADE_DB_PER_S * hop_s / 20)
        self._reference = math.pow(10.0, REFERENCE_DBFS / 20)
        self._floor = self._reference * math.pow(10.0, -MOST_DB / 20)
        self._loudest = [0.0] * batch

    def reset(self) -> None:
        """Forgets what was heard."""
        self._loudest = [0.0] * len(self._loudest)

    def gains(self, spectra: Spectrogram) -> NDArray[np.float32]:
        """Returns the factor (B, N), at least 1, for spectra (B, N, M)."""
        power = np.square(spectra.real) + np.square(spectra.imag)
        levels = np.sqrt(power.sum(axis=-1, dtype=np.float64)) / self._full_scale  # (B, N)
        gains = np.empty(levels.shape, np.float32)
        for signal, row in enumerate(levels.tolist()):
            loudest = self._loudest[signal]
            for frame, level in enumerate(row):
                loudest = max(level, loudest * self._fade)
                gains[signal, frame] = max(1.0, self._reference / max(loudest, self._floor))
            self._loudest[signal] = loudest
        return gains
