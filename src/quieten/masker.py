"""Between frames and model: what the model sees of a sound, and what its mask takes away.

`Masker` asks models that know the past only, frames as they come; `WindowMasker` asks models that
look ahead, window by window (`windows.py`). Both give the same for frames fed in any amounts.
What a model that restores adds goes the same way: it is removed with its sign turned.
Letters: C channels, B signals the model sees (1 or C), N frames, F bins, M its bins.
"""

import numpy as np

from quieten.bands import Grid, guided_gain, link_channels
from quieten.level import Lift
from quieten.runtime import MaskModel, State
from quieten.stft import Spectrogram
from quieten.windows import StreamingWindows, Window


class Masker:
    """Asks a model frame by frame what to remove; keeps the model's state.

    Args:
        model: any mask model without windows.
        grid: how its bins lie on those of the sound.
        batch: B, 1 for one mask for all channels, else the number of channels.
        removable: at most this share of a bin goes.
    """

    def __init__(self, model: MaskModel, grid: Grid, batch: int, removable: float) -> None:
        self._model, self._grid, self._batch = model, grid, batch
        self._removable = np.float32(removable)
        self._scale = np.float32(grid.scale)
        self._fade = grid.fade
        info = model.info
        hop_s = info.hop_length / info.sample_rate
        self._lift = Lift(batch, info.n_fft, hop_s) if model.level_dependent else None
        self._state: State
        self.reset()

    def reset(self) -> None:
        """Forgets all frames: the next one fed is the first of a new sound."""
        self._state = self._model.initial_state(self._batch)
        if self._lift:
            self._lift.reset()

    def feed(self, spectra: Spectrogram) -> list[Spectrogram]:
        """Returns spectra (C, N, F) of the part to be removed, in turn, as far as it is known.

        What was fed may be changed.
        """
        if not spectra.shape[1]:
            return []
        seen = self._seen(spectra)
        self._remove(spectra, seen, self._answer(seen))
        return [spectra]

    def flush(self) -> list[Spectrogram]:
        """Returns spectra (C, N, F) of the rest of what is to be removed, in turn."""
        return []

    def _seen(self, spectra: Spectrogram) -> Spectrogram:
        """Returns the model's view (B, N, M) of spectra (C, N, F)."""
        shared, n_model = self._grid.shared, self._grid.model_bins
        seen = spectra[..., :shared]
        if self._batch == 1:
            seen = link_channels(seen)
        seen = seen * self._scale
        if self._lift:
            seen *= self._lift.gains(seen)[..., None]
        if shared < n_model:  # below the model's rate its upper bins are silent
            seen = np.pad(seen, [(0, 0), (0, 0), (0, n_model - shared)])
        return seen

    def _answer(self, seen: Spectrogram) -> Spectrogram:
        """Returns the model's mask (B, N, M, 1), with what it adds (B, N, M, 2)."""
        view = seen.view(np.float32).reshape(*seen.shape, 2)  # (B, N, M, 2)
        answer, self._state = self._model.run(view, self._state)
        values: Spectrogram = answer.view(np.complex64)
        return values

    def _remove(self, spectra: Spectrogram, seen: Spectrogram, answer: Spectrogram) -> None:
        """Turns spectra (C, N, F) into those of the part to be removed, in place."""
        shared, n_model = self._grid.shared, self._grid.model_bins
        mask = answer[..., 0]
        if self._grid.n_bins > n_model:
            gain = guided_gain(seen, mask, self._grid.guide)[..., None]  # (B, N, 1)
            fading = mask[..., self._grid.guide.stop :]  # no step where the model's band ends
            fading += self._fade * (gain - fading)
            spectra[..., n_model:] *= (1 - gain) * self._removable
        spectra[..., :shared] *= (1 - mask[..., :shared]) * self._removable
        if answer.shape[-1] > 1:
            spectra[..., :shared] -= answer[..., :shared, 1] * (self._removable / self._scale)


class WindowMasker(Masker):
    """Asks a model that looks ahead, a window at a time.

    Args: as for `Masker`; the model names its window. `at_once` signals and windows of equal
        length are in one call of the model, which changes nothing but memory and time.
    """

    def __init__(
        self, model: MaskModel, grid: Grid, batch: int, removable: float, at_once: int = 1
    ) -> None:
        info = model.info
        self._at_once = at_once
        self._windows = StreamingWindows(info.window_frames, info.margin_frames)
        super().__init__(model, grid, batch, removable)

    def reset(self) -> None:
        """Forgets all frames: the next one fed is the first of a new sound."""
        super().reset()
        self._windows.reset()

    def feed(self, spectra: Spectrogram) -> list[Spectrogram]:
        """Returns spectra (C, N, F) of the part to be removed, in turn, as far as it is known."""
        return self._removed(self._windows.feed(spectra))

    def flush(self) -> list[Spectrogram]:
        """Returns spectra (C, N, F) of the rest of what is to be removed, in turn."""
        return self._removed(self._windows.flush())

    def _removed(self, windows: list[Window]) -> list[Spectrogram]:
        together = max(1, self._at_once // self._batch)
        parts = []
        for start in range(0, len(windows), together):  # all but the last of a sound are equal
            group = windows[start : start + together]
            seen = np.concatenate([self._seen(window.spectra) for window in group])
            answers = [
                self._answer(seen[i : i + self._at_once])
                for i in range(0, len(seen), self._at_once)
            ]
            by_window = np.split(np.concatenate(answers), len(group))
            for window, view, answer in zip(
                group, np.split(seen, len(group)), by_window, strict=True
            ):
                part = window.spectra[:, window.kept].copy()
                self._remove(part, view[:, window.kept], answer[:, window.kept])
                parts.append(part)
        return parts


def make_masker(
    model: MaskModel, grid: Grid, batch: int, removable: float, at_once: int = 1
) -> Masker:
    """Returns the masker that the model needs; the arguments are those of `WindowMasker`."""
    if model.info.window_frames:
        return WindowMasker(model, grid, batch, removable, at_once)
    return Masker(model, grid, batch, removable)
