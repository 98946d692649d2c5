"""Denoises 1-D signals of any length with models that see a window of W samples.

Where the phase is free (`phase` = `any`), a window starts at every quarter of W, the last one ends
with the signal, and their answers are averaged with Hann weights: near its ends a window knows
less. No window reaches beyond the signal; one shorter than W is continued by reflection. Where
time counts from the start of a window (`zero`), windows follow on each other without overlap, and
zeros fill the last one: sensible for signals of W samples, or for rows of such.
Letters: B batch, C channels, T samples, W window length.
"""

import math
import os
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from quieten.errors import AudioError, ConfigError
from quieten.runtime import Array
from quieten.signal_models import (
    SignalInfo,
    SignalModel,
    WaveformModel,
    is_signal_model,
    load_signal_model,
)

__all__ = [
    "SignalDenoiser",
    "SignalInfo",
    "SignalModel",
    "SignalStream",
    "WaveformModel",
    "check_rate",
    "denoise_signal",
    "is_signal_model",
    "load_signal_model",
]

Samples = NDArray[np.float32] | NDArray[np.float64]

OVERLAP = 4  # windows over each sample, where the phase is free
MAX_WINDOWS = 64  # in one call of the model: bounds the memory
BLOCK_LENGTH = 65536  # samples of all channels that are worked on at once
RATE_TOLERANCE = 0.01  # a rate that differs by more is another rate


class SignalDenoiser:
    """Removes noise from signals of any length; every channel is denoised on its own.

    Args:
        model: name of a waveform model, path of an .onnx file, or a loaded model.
        attenuation_limit_db: how much noise may be removed, dB; None: no limit, 0: none at all.
        threads: threads of the model.

    Raises:
        ModelError: the model is unknown, broken or none of waveforms.
        ConfigError: the limit or the threads make no sense.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | SignalModel,
        *,
        attenuation_limit_db: float | None = None,
        threads: int = 1,
    ) -> None:
        limit_db = attenuation_limit_db
        if limit_db is not None and not limit_db >= 0:
            raise ConfigError(f"attenuation limit {limit_db} dB: use 0 (remove nothing) or more")
        self.model = model if isinstance(model, SignalModel) else load_signal_model(model, threads)
        self._removable = 1.0 if limit_db is None else 1.0 - math.pow(10.0, -limit_db / 20.0)

    def __call__(self, waveform: Samples, sample_rate: float | None = None) -> Samples:
        """Returns the denoised waveform: same shape and dtype, not shifted.

        Args:
            waveform: (T,) or (C, T), float32 or float64, in the units of the model's training.
            sample_rate: Hz, must be the model's; None: not checked.

        Raises:
            AudioError: shape, dtype or rate do not fit, or a sample is NaN or infinite.
        """
        if waveform.ndim not in (1, 2) or waveform.dtype not in (np.float32, np.float64):
            raise AudioError(
                f"samples of shape {waveform.shape} and type {waveform.dtype}:"
                " use (samples,) or (channels, samples), float32 or float64"
            )
        block = cast(Samples, np.atleast_2d(waveform))
        stream = self.stream(sample_rate, block.shape[0])
        starts = range(0, block.shape[1], stream.block_length)
        parts = [stream.feed(block[:, start : start + stream.block_length]) for start in starts]
        denoised = np.concatenate([*parts, stream.flush()], axis=1)
        return cast(Samples, denoised.reshape(waveform.shape).astype(waveform.dtype, copy=False))

    def stream(self, sample_rate: float | None = None, n_channels: int = 1) -> "SignalStream":
        """Returns a stream with the same model and settings.

        Args:
            sample_rate: Hz, must be the model's; None: not checked.
            n_channels: C of every block.

        Raises:
            AudioError: the rate is not that of the model.
        """
        info = self.model.info
        if sample_rate is not None:
            check_rate(sample_rate, info)
        return SignalStream(self.model, n_channels, self._removable)


def check_rate(sample_rate: float, info: SignalInfo) -> None:
    """Raises AudioError unless the rate, Hz, is that of the model within 1 %."""
    if not abs(sample_rate / info.sample_rate - 1) <= RATE_TOLERANCE:
        raise AudioError(
            f"has {sample_rate:.6g} Hz, but model {info.name!r} is for {info.sample_rate:g} Hz:"
            " resample it, or train a model at its rate"
        )


class SignalStream:
    """Removes noise from a signal that arrives in blocks of any size.

    The output lags behind by less than two windows, but is never shifted.

    Args:
        model: the waveform model.
        n_channels: C of every block.
        removable: at most this share of what the model takes for noise goes.

    Attributes:
        block_length: a good number of samples for a block.
    """

    def __init__(self, model: WaveformModel, n_channels: int, removable: float = 1.0) -> None:
        window, is_any = model.info.window, model.info.phase == "any"
        self._model, self._n_channels, self._removable = model, n_channels, removable
        self._window, self._hop = window, max(1, window // OVERLAP) if is_any else window
        self._padding: Literal["reflect", "constant"] = "reflect" if is_any else "constant"
        hann = np.sin(np.pi * (np.arange(window) + 0.5) / window) ** 2  # nowhere zero
        self._weights = hann if is_any else np.ones(window)
        self.block_length = max(window, BLOCK_LENGTH // max(1, n_channels))
        self._n_fed = 0
        self._reset()

    def _reset(self) -> None:
        """Forgets all samples."""
        self._held: NDArray[np.float64] = np.zeros((self._n_channels, 0))  # input without output
        self._dtype: np.dtype[np.floating] | None = None
        self._total: NDArray[np.float64] = np.zeros((self._n_channels, self._window))
        self._weight: NDArray[np.float64] = np.zeros(self._window)
        self._next = 0  # where in `_held` the next window starts
        self._n_fed = 0

    def feed(self, block: Samples) -> Samples:
        """Returns the denoised samples (C, T') that are ready after a block (C, T); maybe none.

        The first block after the start or a flush decides the dtype of all output.

        Raises:
            AudioError: another number of channels, or a sample is NaN or infinite.
        """
        self._check(block)
        self._dtype = self._dtype or block.dtype
        self._n_fed += block.shape[1]
        self._held = np.concatenate([self._held, block], axis=1)
        count = (self._held.shape[1] - self._window - self._next) // self._hop + 1
        if count < 1:
            return self._shaped(self._held[:, :0])
        starts = self._next + self._hop * np.arange(count)
        last = int(starts[-1])  # no later window reaches before it
        total, weight = self._averaged(self._held, starts)
        ready = self._mixed(self._held[:, :last], total[:, :last] / weight[:last])
        self._held = self._held[:, last:].copy()
        self._total, self._weight = total[:, last:], weight[last:]
        self._next = self._hop
        return self._shaped(ready)

    def flush(self) -> Samples:
        """Returns the rest: all output together is as long as all input. Then start afresh."""
        held, window = self._held, self._window
        length = held.shape[1]
        rest = held
        if length:
            is_any = self._padding == "reflect"
            full = max(length, window) if is_any else math.ceil(length / window) * window
            padded = np.pad(held, [(0, 0), (0, full - length)], mode=self._padding)
            is_covered = self._next > 0 and length <= window
            starts = np.array([] if is_covered else [full - window], np.int64)
            total, weight = self._averaged(padded, starts)
            rest = self._mixed(held, (total / weight)[:, :length])
        shaped = self._shaped(rest)
        self._reset()
        return shaped

    def _check(self, block: Samples) -> None:
        if block.ndim != 2 or block.shape[0] != self._n_channels:
            raise AudioError(
                f"a block of shape {block.shape} for {self._n_channels} channels:"
                f" feed ({self._n_channels}, T)"
            )
        if not np.isfinite(block).all():
            channel, sample = np.argwhere(~np.isfinite(block))[0]
            raise AudioError(
                f"sample {self._n_fed + sample + 1} of channel {channel + 1} is NaN or infinite:"
                " repair or interpolate the signal first"
            )

    def _averaged(
        self, held: NDArray[np.float64], starts: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns weighted sums (C, T) of all answers so far, and their weights (T,)."""
        end = int(starts[-1]) + self._window if starts.size else self._window
        total = np.zeros((self._n_channels, end))
        weight = np.zeros(end)
        total[:, : self._window] = self._total
        weight[: self._window] = self._weight
        windows = held[:, starts[:, None] + np.arange(self._window)]  # (C, N, W)
        answers = self._answers(windows.reshape(-1, self._window).astype(np.float32))
        weighted = answers.reshape(windows.shape) * self._weights
        for i, start in enumerate(starts):
            total[:, start : start + self._window] += weighted[:, i]
            weight[start : start + self._window] += self._weights
        return total, weight

    def _answers(self, windows: Array) -> Array:
        """Returns what the model makes of windows (B, W), some at a time."""
        parts = [
            self._model.run(windows[start : start + MAX_WINDOWS])
            for start in range(0, len(windows), MAX_WINDOWS)
        ]
        return np.concatenate(parts) if parts else windows

    def _mixed(
        self, noisy: NDArray[np.float64], denoised: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return noisy - self._removable * (noisy - denoised)

    def _shaped(self, block: NDArray[np.float64]) -> Samples:
        return cast(Samples, block.astype(self._dtype or np.float32))


def denoise_signal(model: SignalModel, waveform: Samples) -> Samples:
    """Returns the denoised waveform: same shape and dtype, not shifted.

    Args:
        model: from `load_signal_model`.
        waveform: (C, T) or (T,), float32 or float64, at the rate of the model.

    Raises:
        AudioError: shape or dtype do not fit, or a sample is NaN or infinite.
        ModelError: the model gave NaN or infinity.
    """
    return SignalDenoiser(model)(waveform)
