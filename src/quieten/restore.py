"""Restores music: super-resolution, denoising and dereverberation at a rate that may be another.

A sound is resampled to the rate wanted, then restored there: `denoise.Stream` fits the frames of
a model of spectra to any rate. A model of waveforms has a rate of its own; what it gives is
resampled once more.
Letters: C channels, T samples.
"""

import os
from typing import Protocol, cast

import numpy as np
import soxr
from numpy.typing import NDArray

from quieten.bands import MAX_RATE, MIN_RATE
from quieten.baselines import load_any
from quieten.denoise import Samples, Stream
from quieten.errors import AudioError, ConfigError
from quieten.runtime import MaskModel
from quieten.signals import (
    SignalInfo,
    SignalStream,
    WaveformModel,
    is_signal_model,
    load_signal_model,
)

TASKS = {
    "super-resolution": "piano-sr",
    "denoise": "piano-denoise",
    "dereverb": "piano-dereverb",
    "all": "piano",
}
"""Task -> the model of the package that does it."""

QUALITY = "HQ"  # of soxr; linear phase, flat to 91 % of the band


class _Part(Protocol):
    """One step on the way of the samples: blocks (C, T) in, blocks (C, T') out."""

    def feed(self, samples: Samples) -> Samples: ...

    def flush(self) -> Samples: ...


class Restorer:
    """Restores whole waveforms.

    Args:
        task: a key of `TASKS`; it decides the rate where none is given.
        model: another model: its name, an .onnx file, or a loaded one.
        rate: of the result, Hz; None: that of the sound, but at least 8000 Hz, and for
            super-resolution that of the model.
        strength_db: how much may be taken away, dB; None: no limit.
        threads: threads of the model.
        window_batch: windows of spectra in one call of the model; the samples are the same.

    Raises:
        ModelError: the model is unknown or broken.
        ConfigError: task, rate, strength or threads make no sense, or the model takes waveforms
            and a strength or a window batch is given.
    """

    def __init__(
        self,
        task: str = "all",
        *,
        model: str | os.PathLike[str] | MaskModel | WaveformModel | None = None,
        rate: int | None = None,
        strength_db: float | None = None,
        threads: int = 1,
        window_batch: int = 1,
    ) -> None:
        if task not in TASKS:
            raise ConfigError(f"no task {task!r}: choose among {', '.join(TASKS)}")
        if rate is not None and not MIN_RATE <= rate <= MAX_RATE:
            raise ConfigError(f"rate {rate} Hz: choose one from {MIN_RATE} to {MAX_RATE} Hz")
        if strength_db is not None and not strength_db >= 0:
            raise ConfigError(f"strength {strength_db} dB: use 0 (remove nothing) or more")
        if window_batch < 1:
            raise ConfigError(f"a window batch of {window_batch}: use 1 or more")
        self.task, self.rate, self.strength_db = task, rate, strength_db
        self.window_batch = window_batch
        chosen = TASKS[task] if model is None else model
        self.model: MaskModel | WaveformModel
        if not isinstance(chosen, str | os.PathLike):
            self.model = chosen
        elif is_signal_model(chosen):
            self.model = load_signal_model(chosen, threads)
        else:
            self.model = load_any(chosen, threads)
        if isinstance(self.model.info, SignalInfo) and (
            strength_db is not None or window_batch > 1
        ):
            raise ConfigError(
                f"{self.model.info.name} is a model of waveforms: it has neither a strength nor "
                "batches of windows; leave both out"
            )

    def output_rate(self, sample_rate: int) -> int:
        """Returns the rate of the result for a sound at `sample_rate`, Hz."""
        if self.rate is not None:
            return self.rate
        least = MIN_RATE
        if self.task == "super-resolution":
            least = max(least, int(self.model.info.sample_rate))
        return min(max(sample_rate, least), MAX_RATE)

    def __call__(self, waveform: Samples, sample_rate: int) -> Samples:
        """Returns the restored waveform, at `output_rate`, of the same dtype and duration.

        Args: waveform (T,) or (C, T), float32 or float64, full scale 1.

        Raises:
            AudioError: shape, dtype or rate do not fit.
        """
        block = np.atleast_2d(waveform)
        stream = self.stream(sample_rate, len(block))
        length = stream.block_length
        starts = range(0, block.shape[1], length)
        parts = [stream.feed(cast(Samples, block[:, s : s + length])) for s in starts]
        restored = np.concatenate([*parts, stream.flush()], axis=1)
        return cast(Samples, restored.reshape(*waveform.shape[:-1], restored.shape[1]))

    def stream(self, sample_rate: int, n_channels: int = 1) -> "RestoringStream":
        """Returns a stream with the same model and settings.

        Raises:
            AudioError: rate or number of channels do not fit.
        """
        return RestoringStream(self, sample_rate, n_channels)


class RestoringStream:
    """Restores a sound that arrives in blocks of any size; its output lags behind.

    Args:
        restorer: model and settings.
        sample_rate: of the input, Hz, at least 1000.
        n_channels: C of every block.

    Attributes:
        output_rate: Hz.
        block_length: a good number of samples for a block.

    Raises:
        AudioError: rate or number of channels do not fit.
    """

    def __init__(self, restorer: Restorer, sample_rate: int, n_channels: int) -> None:
        if not 1000 <= sample_rate <= MAX_RATE:
            raise AudioError(f"sample rate {sample_rate} Hz: use 1000 to {MAX_RATE} Hz")
        model, rate = restorer.model, restorer.output_rate(sample_rate)
        self.sample_rate, self.output_rate = sample_rate, rate
        self._parts: list[_Part]
        if not isinstance(model.info, SignalInfo):
            stream = Stream(
                rate,
                n_channels,
                model=model,
                attenuation_limit_db=restorer.strength_db,
                channels="separate",
                window_batch=restorer.window_batch,
            )
            self._parts = [_Resampler(sample_rate, rate, n_channels), _Shaped(stream, n_channels)]
            block_length = stream.block_length
        else:
            own = round(model.info.sample_rate)
            core = SignalStream(model, n_channels)
            first, last = (sample_rate, own), (own, rate)
            self._parts = [
                _Resampler(*first, n_channels),
                _Repaired(core),
                _Resampler(*last, n_channels),
            ]
            block_length = core.block_length
        self.block_length = max(1, block_length * sample_rate // rate)
        self._n_channels, self._fed, self._given = n_channels, 0, 0
        self._dtype: np.dtype[np.floating] | None = None

    def feed(self, samples: Samples) -> Samples:
        """Returns the restored samples (C, T') that are ready after a block (C, T); maybe none.

        Raises:
            AudioError: shape or dtype do not fit.
        """
        if samples.ndim != 2 or len(samples) != self._n_channels:
            raise AudioError(f"a block of shape {samples.shape}: feed ({self._n_channels}, T)")
        self._dtype = self._dtype or samples.dtype
        self._fed += samples.shape[1]
        for part in self._parts:
            samples = part.feed(samples)
        self._given += samples.shape[1]
        return samples.astype(self._dtype, copy=False)

    def flush(self) -> Samples:
        """Returns the rest: all output lasts as long as all input. Then start afresh."""
        rest: list[Samples] = []
        for i, part in enumerate(self._parts):
            samples = part.flush()
            for later in self._parts[i + 1 :]:
                samples = later.feed(samples)
            rest.append(samples)
        joined = np.concatenate(rest, axis=1)
        wanted = -(-self._fed * self.output_rate // self.sample_rate) - self._given
        fitted = np.pad(joined[:, :wanted], [(0, 0), (0, max(0, wanted - joined.shape[1]))])
        dtype = self._dtype or np.dtype(np.float32)
        self._fed, self._given, self._dtype = 0, 0, None
        return cast(Samples, fitted.astype(dtype, copy=False))


class _Resampler:
    """A stream of soxr, or nothing where the rates are equal."""

    def __init__(self, rate: int, new_rate: int, n_channels: int) -> None:
        self._rates, self._n_channels = (rate, new_rate), n_channels
        self._reset()

    def _reset(self) -> None:
        rate, new_rate = self._rates
        self._stream = None
        if rate != new_rate:
            self._stream = soxr.ResampleStream(
                rate, new_rate, self._n_channels, dtype="float32", quality=QUALITY
            )

    def feed(self, samples: Samples) -> Samples:
        return self._resampled(samples, last=False)

    def flush(self) -> Samples:
        rest = self._resampled(np.zeros((self._n_channels, 0), np.float32), last=True)
        self._reset()
        return rest

    def _resampled(self, samples: Samples, last: bool) -> Samples:
        if self._stream is None:
            return samples
        frames = np.ascontiguousarray(samples.T, dtype=np.float32)
        frames = np.where(np.isfinite(frames), frames, np.float32(0))
        if self._n_channels == 1:
            frames = frames[:, 0]
        made: NDArray[np.float32] = self._stream.resample_chunk(frames, last=last)
        return made.reshape(-1, self._n_channels).T


class _Shaped:
    """A stream that takes and gives (C, T), also for one channel."""

    def __init__(self, stream: Stream, n_channels: int) -> None:
        self._stream, self._n_channels = stream, n_channels

    def feed(self, samples: Samples) -> Samples:
        return self._shaped(self._stream.feed(samples))

    def flush(self) -> Samples:
        return self._shaped(self._stream.flush())

    def _shaped(self, samples: Samples) -> Samples:
        return cast(Samples, samples.reshape(self._n_channels, -1))


class _Repaired:
    """A stream of signals that must not hear NaN or infinity."""

    def __init__(self, stream: SignalStream) -> None:
        self._stream = stream

    def feed(self, samples: Samples) -> Samples:
        finite = np.where(np.isfinite(samples), samples, samples.dtype.type(0))
        return self._stream.feed(cast(Samples, finite))

    def flush(self) -> Samples:
        return self._stream.flush()
