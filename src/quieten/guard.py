"""Notices when what was taken away sounds like a voice: a guard beside every denoised file.

A sound with a pitch that comes and goes like syllables, and whose level falls by more than 15 dB,
was most probably meant to stay: a voice far from the microphone, singing, an instrument. Whispering
has no pitch and is not noticed. Letters: C channels, T samples, N frames.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

Block = NDArray[np.float32] | NDArray[np.float64]

RATE = 4000  # Hz; the pitch of voices and their strongest harmonics lie below half of it
FRAME, HOP = 160, 80  # samples at RATE: 40 ms every 20 ms
LAGS = slice(RATE // 400, RATE // 70)  # a pitch of 70 to 400 Hz
PERIODIC = 0.75  # correlation with itself one period later
AUDIBLE_DB = -55.0
MOVING_DB = 12.0  # the level of syllables moves by more within a second, that of a hum by less
LOST_DB = 15.0
LEAST_LOST_S = 1.0
LEAST_SHARE = 0.3


@dataclass(frozen=True)
class Verdict:
    """What became of the sound with a pitch.

    Attributes:
        voiced_s: seconds of it in the input.
        lost_s: seconds of it that are more than 15 dB quieter in the output.
    """

    voiced_s: float
    lost_s: float

    @property
    def alarming(self) -> bool:
        """Whether somebody should listen to what was removed."""
        return self.lost_s >= max(LEAST_LOST_S, LEAST_SHARE * self.voiced_s)


class VoiceGuard:
    """Compares input and output while they pass; the output may lag behind.

    Args:
        sample_rate: of both, Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._before, self._after = _Frames(sample_rate), _Frames(sample_rate)
        self._periodicity: list[NDArray[np.float32]] = []
        self._levels: dict[str, list[NDArray[np.float32]]] = defaultdict(list)

    def feed(self, before: Block, after: Block, last: bool = False) -> None:
        """Takes the next samples of the input and of the output, (C, T) each, of any length."""
        if (frames := self._before.feed(before, last)).size:
            self._levels["before"].append(_level_db(frames))
            self._periodicity.append(_periodicity(frames))
        if (frames := self._after.feed(after, last)).size:
            self._levels["after"].append(_level_db(frames))

    def verdict(self) -> Verdict:
        """Returns the account of all that was fed."""
        if not self._levels["before"] or not self._levels["after"]:
            return Verdict(0.0, 0.0)
        before, after = (np.concatenate(self._levels[name]) for name in ("before", "after"))
        length = min(before.size, after.size)
        before, after = before[:length], after[:length]
        periodicity = np.concatenate(self._periodicity)[:length]
        voiced = (periodicity > PERIODIC) & (before > AUDIBLE_DB) & _moving(before)
        lost = voiced & (before - after > LOST_DB)
        return Verdict(*(float(frames.sum()) * HOP / RATE for frames in (voiced, lost)))


class _Frames:
    """Cuts a sound of any rate into frames at RATE."""

    def __init__(self, sample_rate: int) -> None:
        self._resampler = soxr.ResampleStream(sample_rate, RATE, 1, dtype="float32", quality="LQ")
        self._rest = np.zeros(0, np.float32)

    def feed(self, block: Block, last: bool) -> NDArray[np.float32]:
        """Returns the frames (N, FRAME) that are complete."""
        mono = block.mean(axis=0, dtype=np.float32)
        sound = np.concatenate([self._rest, self._resampler.resample_chunk(mono, last=last)])
        count = max(0, (sound.size - FRAME) // HOP + 1)
        self._rest = sound[count * HOP :]
        if not count:
            return np.zeros((0, FRAME), np.float32)
        return np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::HOP][:count]


def _level_db(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the levels (N,) in dBFS."""
    level: NDArray[np.float32] = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-12)
    return level


def _periodicity(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns how alike a frame and itself a period later are (N,), at most about 1."""
    spectrum = np.fft.rfft(frames - frames.mean(axis=1, keepdims=True), 2 * FRAME)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:, : LAGS.stop]
    overlap = 1 - np.arange(LAGS.stop) / FRAME  # fewer samples meet at longer lags
    alike = correlation / (overlap * (correlation[:, :1] + 1e-9))
    return np.asarray(alike[:, LAGS].max(axis=1), np.float32)


def _moving(level_db: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Returns for each frame whether the level of its second rises and falls."""
    second = RATE // HOP
    moving = np.zeros(level_db.size, bool)
    for start in range(0, level_db.size, second):
        part = slice(start, start + second)
        low, high = np.percentile(level_db[part], [10, 90])
        moving[part] = high - low > MOVING_DB
    return moving
