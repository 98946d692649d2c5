"""The one place for window, framing and perfect reconstruction, whole and frame by frame.

The window is the square root of a periodic Hann window, used for analysis and synthesis.
Frames are causal: frame `k` covers the samples `[(k + 1) * hop - n_fft, (k + 1) * hop)` of the
signal with silence before it, so it exists as soon as its last sample is there.
Letters: C channels, T samples, F = n_fft // 2 + 1 bins, N frames.
"""

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from quieten.errors import ConfigError

Waveform = NDArray[np.float32]
Spectrogram = NDArray[np.complex64]


@lru_cache(maxsize=64)
def analysis_window(n_fft: int) -> Waveform:
    """Returns the periodic square-root Hann window, (n_fft,), read-only."""
    window = np.sin(np.pi * np.arange(n_fft) / n_fft).astype(np.float32)
    window.flags.writeable = False
    return window


@lru_cache(maxsize=64)
def synthesis_window(n_fft: int, hop: int) -> Waveform:
    """Returns the window whose overlap with the analysis window adds up to one, (n_fft,).

    Raises:
        ConfigError: `hop` does not divide `n_fft`, or the frames overlap by less than half.
    """
    _check_hop(n_fft, hop)
    window = np.sin(np.pi * np.arange(n_fft) / n_fft)
    overlapped = np.square(window).reshape(-1, hop).sum(axis=0)
    synthesis: Waveform = (window / np.tile(overlapped, n_fft // hop)).astype(np.float32)
    synthesis.flags.writeable = False
    return synthesis


def frame_count(length: int, n_fft: int, hop: int) -> int:
    """Returns how many frames touch a signal of `length` samples."""
    return -(-length // hop) + n_fft // hop - 1 if length > 0 else 0


def stft(waveform: Waveform, n_fft: int, hop: int) -> Spectrogram:
    """Returns the spectrogram (..., F, N) of a waveform (..., T), unnormalised.

    Raises:
        ConfigError: `hop` does not divide `n_fft`, or the frames overlap by less than half.
    """
    _check_hop(n_fft, hop)
    waveform = np.asarray(waveform, np.float32)
    n_frames = frame_count(waveform.shape[-1], n_fft, hop)
    if n_frames == 0:
        return np.zeros((*waveform.shape[:-1], n_fft // 2 + 1, 0), np.complex64)
    before = n_fft - hop
    after = n_frames * hop - waveform.shape[-1]
    padded = np.pad(waveform, [(0, 0)] * (waveform.ndim - 1) + [(before, after)])
    return _spectra(_framed(padded, n_fft, hop), analysis_window(n_fft)).swapaxes(-1, -2)


def istft(spectrogram: Spectrogram, n_fft: int, hop: int, length: int) -> Waveform:
    """Returns the waveform (..., length) of a spectrogram (..., F, N) made by `stft`.

    Raises:
        ConfigError: the frames do not reach as far as `length`, or do not fit `n_fft`.
    """
    window = synthesis_window(n_fft, hop)
    n_bins, n_frames = spectrogram.shape[-2:]
    if n_bins != n_fft // 2 + 1 or n_frames < frame_count(length, n_fft, hop):
        raise ConfigError(
            f"a spectrogram of {n_bins} bins and {n_frames} frames does not give {length} samples"
            f" with n_fft {n_fft} and hop {hop}: use the values it was made with"
        )
    if length == 0:
        return np.zeros((*spectrogram.shape[:-2], 0), np.float32)
    frames = _waves(spectrogram.swapaxes(-1, -2), n_fft, window)  # (..., N, n_fft)
    segments = _overlap_add(frames, hop)  # (..., N + R - 1, hop)
    samples: Waveform = segments.reshape(*segments.shape[:-2], -1)
    return samples[..., n_fft - hop : n_fft - hop + length]


class StreamingSTFT:
    """Turns samples, fed in any amounts, into the frames that `stft` gives for all of them."""

    def __init__(self, n_fft: int, hop: int, n_channels: int = 1) -> None:
        _check_hop(n_fft, hop)
        self._n_fft, self._hop = n_fft, hop
        self._window = analysis_window(n_fft)
        self._grow(np.zeros((n_channels, 0), np.float32), 2 * n_fft)
        self.reset()

    def reset(self) -> None:
        """Forgets all samples: the next one fed is the first of a new signal."""
        self._filled = self._n_fft - self._hop  # the silence before the signal
        self._buffer[:, : self._filled] = 0.0
        self._pending_frames = 0

    def feed(self, samples: NDArray[np.float32 | np.float64]) -> Spectrogram:
        """Returns the frames (C, F, N) that the samples (C, T) complete; N may be 0."""
        filled = self._filled + samples.shape[-1]
        if filled > self._buffer.shape[-1]:
            self._grow(self._buffer[:, : self._filled], filled)
        self._buffer[:, self._filled : filled] = samples
        self._filled = filled
        if samples.shape[-1]:  # those that `flush` still owes: all that touch the last sample
            self._pending_frames = self._n_fft // self._hop - 1
        return self._take((filled - self._n_fft) // self._hop + 1)

    def flush(self) -> Spectrogram:
        """Returns the remaining frames (C, F, N), silence after the signal; then start afresh."""
        rest = self._filled - (self._n_fft - self._hop)  # samples that fill no hop yet
        padding = self._pending_frames * self._hop + (self._hop - rest if rest else 0)
        frames = self.feed(np.zeros((self._buffer.shape[0], padding), np.float32))
        self.reset()
        return frames

    def _take(self, n_frames: int) -> Spectrogram:
        spectra = _spectra(self._frames[:, :n_frames], self._window)
        used = n_frames * self._hop
        if used:
            self._buffer[:, : self._filled - used] = self._buffer[:, used : self._filled]
            self._filled -= used
        return spectra.swapaxes(-1, -2)

    def _grow(self, kept: Waveform, capacity: int) -> None:
        self._buffer = np.zeros((kept.shape[0], capacity), np.float32)
        self._buffer[:, : kept.shape[1]] = kept
        self._frames = _framed(self._buffer, self._n_fft, self._hop)  # a view: (C, N, n_fft)


class StreamingISTFT:
    """Turns frames, fed in any amounts, into the samples that `istft` gives for all of them."""

    def __init__(self, n_fft: int, hop: int, n_channels: int = 1) -> None:
        self._n_fft, self._hop = n_fft, hop
        self._window = synthesis_window(n_fft, hop)
        self._tail = np.zeros((n_channels, n_fft // hop - 1, hop), np.float32)
        self.reset()

    def reset(self) -> None:
        """Forgets all frames: the next one fed is the first of a new signal."""
        self._tail[...] = 0.0
        self._before = self._n_fft - self._hop  # samples of the silence before the signal

    def feed(self, spectrogram: Spectrogram) -> Waveform:
        """Returns the samples (C, T) that the frames (C, F, N) complete; T may be 0."""
        n_channels, _, n_frames = spectrogram.shape
        if n_frames == 0:
            return np.zeros((n_channels, 0), np.float32)
        frames = _waves(spectrogram.swapaxes(-1, -2), self._n_fft, self._window)
        segments = _overlap_add(frames, self._hop)
        segments[:, : self._tail.shape[1]] += self._tail
        self._tail[...] = segments[:, n_frames:]
        ready: Waveform = segments[:, :n_frames].reshape(n_channels, n_frames * self._hop)
        skipped = min(self._before, ready.shape[-1])
        self._before -= skipped
        return ready[:, skipped:]


def _check_hop(n_fft: int, hop: int) -> None:
    if hop < 1 or n_fft % hop or n_fft < 2 * hop or n_fft % 2:
        raise ConfigError(
            f"n_fft {n_fft} with hop {hop} cannot be put together again:"
            " use an even n_fft that is a multiple of the hop, at least twice as long"
        )


def _framed(padded: Waveform, n_fft: int, hop: int) -> Waveform:
    """Returns a view (..., N, n_fft) of overlapping frames."""
    return sliding_window_view(padded, n_fft, axis=-1)[..., ::hop, :]


def _spectra(frames: Waveform, window: Waveform) -> Spectrogram:
    """Returns the spectra (..., N, F) of frames (..., N, n_fft)."""
    if frames.shape[-2] == 0:
        return np.zeros((*frames.shape[:-1], frames.shape[-1] // 2 + 1), np.complex64)
    # numpy < 2 computes in double precision; from 2 on this is no copy
    return np.fft.rfft(frames * window).astype(np.complex64, copy=False)


def _waves(spectra: Spectrogram, n_fft: int, window: Waveform) -> Waveform:
    """Returns the windowed frames (..., N, n_fft) of spectra (..., N, F)."""
    frames = np.fft.irfft(spectra, n_fft).astype(np.float32, copy=False)
    frames *= window
    return frames


def _overlap_add(frames: Waveform, hop: int) -> Waveform:
    """Returns hops (..., N + R - 1, hop), the sum of frames (..., N, R * hop)."""
    *lead, n_frames, n_fft = frames.shape
    overlap = n_fft // hop
    parts = frames.reshape(*lead, n_frames, overlap, hop)
    segments = np.zeros((*lead, n_frames + overlap - 1, hop), np.float32)
    for part in range(overlap):
        segments[..., part : part + n_frames, :] += parts[..., part, :]
    return segments
