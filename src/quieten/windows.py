"""How sound is cut into windows for models that look ahead, so that no result depends on chunks.

Frames are numbered from the start of a sound. With windows of W frames, margins of M and steps of
H = W - 2M, window k is [kH, kH + W). Its margins lack context: of the first window the frames
[0, H + M) are kept, of a later one [kH + M, (k + 1)H + M). The last window of a sound of N frames
is [max(0, N - W), N) and gives all that is left.
Letters: C channels, N frames, F bins.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from quieten.stft import Spectrogram


class Span(NamedTuple):
    """Frames [first, last) of a sound that a model sees, and those [start, stop) that are kept."""

    first: int
    last: int
    start: int
    stop: int


class Window(NamedTuple):
    """Spectra (C, N, F) that a model sees, and which of them are kept."""

    spectra: Spectrogram
    kept: slice


def spans(n_frames: int, window: int, margin: int) -> Iterator[Span]:
    """Yields the windows of a sound of known length; their kept frames follow on each other.

    Args:
        n_frames: N, frames of the sound.
        window: W, frames of a window.
        margin: M, frames on each side that are not kept, 2M < W.
    """
    step, done = window - 2 * margin, 0
    for first in range(0, n_frames - window + 1, step):
        yield Span(first, first + window, done, first + window - margin)
        done = first + window - margin
    if done < n_frames:
        yield Span(max(0, n_frames - window), n_frames, done, n_frames)


class StreamingWindows:
    """Turns frames, fed in any amounts, into the windows that `spans` gives for all of them.

    It holds less than two windows.

    Args:
        window: W, frames of a window.
        margin: M, frames on each side that are not kept, 2M < W.
    """

    def __init__(self, window: int, margin: int) -> None:
        self._window, self._margin = window, margin
        self.reset()

    def reset(self) -> None:
        """Forgets all frames: the next one fed is the first of a new sound."""
        self._held: list[Spectrogram] = []  # of the last window that was given, and all since
        self._n_held = 0
        self._next = 0  # where in them the next window begins
        self._done = 0  # how many of them were kept

    def feed(self, spectra: Spectrogram) -> list[Window]:
        """Returns the windows that the spectra (C, N, F) complete; N may be 0."""
        self._held.append(spectra)
        self._n_held += spectra.shape[1]
        if self._n_held < self._next + self._window:
            return []
        windows = []
        held, stop = np.concatenate(self._held, axis=1), self._window - self._margin
        while held.shape[1] >= self._next + self._window:
            held = held[:, self._next :]
            windows.append(Window(held[:, : self._window], slice(self._done - self._next, stop)))
            self._next, self._done = self._window - 2 * self._margin, stop
        self._held, self._n_held = [held.copy()], held.shape[1]
        return windows

    def flush(self) -> list[Window]:
        """Returns the last window, if any frame is left; then start afresh."""
        windows = []
        if self._done < self._n_held:
            first = max(0, self._n_held - self._window)
            held = np.concatenate(self._held, axis=1)
            windows = [Window(held[:, first:], slice(self._done - first, None))]
        self.reset()
        return windows
