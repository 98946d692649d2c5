"""What happens to a sound: spectra, the model's mask, and what the mask removes is taken away.

`Stream` does the work block by block; `Denoiser` feeds a stream a whole waveform, so both give
the same samples. The result is always input minus removed: where the model removes nothing, the
samples stay as they are, bit for bit. No resampling: `bands.py` fits the frames to the rate.
What lies between frames and model is in `masker.py`.
Letters: C channels, T samples, N frames, F bins.
"""

import math
import os
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from quieten.bands import make_grid
from quieten.baselines import load_any
from quieten.errors import AudioError, ConfigError
from quieten.masker import make_masker
from quieten.runtime import MaskModel
from quieten.score import Scorer
from quieten.stft import Spectrogram, StreamingISTFT, StreamingSTFT

Samples = NDArray[np.float32] | NDArray[np.float64]
Block = NDArray[np.float32 | np.float64]  # the same, where the two take one path
Channels = Literal["linked", "separate"]

MAX_FRAMES = 256  # frames and signals in one call of the model: bounds the memory
MAX_CHANNELS = 256
MAX_LEVEL = 1e6  # full scale is 1; beyond this, float32 spectra could overflow


class Denoiser:
    """Removes noise from whole waveforms.

    Args:
        model: name of a model or a baseline, path of an .onnx file, or a loaded model.
        attenuation_limit_db: how much noise may be removed, dB; None: no limit, 0: none at all.
        channels: "linked" gives all channels one mask and keeps the image; "separate" does not.
        threads: threads of the model.

    Raises:
        ModelError: the model is unknown or broken.
        ConfigError: the limit, the channel mode or the threads make no sense.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | MaskModel = "speech",
        *,
        attenuation_limit_db: float | None = None,
        channels: Channels = "linked",
        threads: int = 1,
    ) -> None:
        _check_settings(attenuation_limit_db, channels)
        self.model = _loaded(model, threads)
        self.attenuation_limit_db = attenuation_limit_db
        self.channels: Channels = channels
        self._scorer: Scorer | None = None  # loaded when it is asked

    def __call__(self, waveform: Samples, sample_rate: int) -> Samples:
        """Returns the denoised waveform: same shape and dtype, not shifted.

        Args:
            waveform: (T,) or (C, T), float32 or float64, full scale 1. NaN and infinity count as 0.
            sample_rate: 8000 to 192000 Hz.

        Raises:
            AudioError: shape, dtype or rate do not fit.
        """
        waveform = _check_samples(waveform)
        stream = self.stream(sample_rate, 1 if waveform.ndim == 1 else waveform.shape[0])
        result = np.empty_like(waveform)
        done = 0
        for start in range(0, waveform.shape[-1], stream.block_length):
            piece = stream.feed(waveform[..., start : start + stream.block_length])
            result[..., done : done + piece.shape[-1]] = piece
            done += piece.shape[-1]
        result[..., done:] = stream.flush()
        return result

    def confidence(self, waveform: Samples, sample_rate: int) -> NDArray[np.float64]:
        """Returns how clean the result for a waveform is, a value a second (S,).

        The curve of `quieten.score` for the denoised waveform; NaN where it is silent. A value far
        below those of clean speech says that noise is left, or that speech was damaged.

        Args:
            waveform: as for a call, the sound to denoise.
            sample_rate: 8000 to 192000 Hz.

        Raises:
            AudioError: shape, dtype or rate do not fit.
            ModelError: the package has no model that scores.
        """
        if self._scorer is None:
            self._scorer = Scorer()
        return self._scorer(self(waveform, sample_rate), sample_rate).curve

    def stream(self, sample_rate: int, n_channels: int = 1) -> "Stream":
        """Returns a stream with the same model and settings.

        Raises:
            AudioError: rate or number of channels do not fit.
        """
        return Stream(
            sample_rate,
            n_channels,
            model=self.model,
            attenuation_limit_db=self.attenuation_limit_db,
            channels=self.channels,
        )


class Stream:
    """Removes noise from a sound that arrives in blocks of any size.

    The output lags behind the input by at most `latency` samples but is never shifted: its
    sample i belongs to input sample i.

    Args:
        sample_rate: 8000 to 192000 Hz.
        n_channels: channels of every block.
        model: name of a model or a baseline, path of an .onnx file, or a loaded model.
        attenuation_limit_db: how much noise may be removed, dB; None: no limit, 0: none at all.
        channels: "linked" gives all channels one mask and keeps the image; "separate" does not.
        threads: threads of the model.
        window_batch: windows in one call of a model that has windows; the samples are the same.

    Attributes:
        latency: samples at `sample_rate` that may be missing from the output.
        block_length: blocks up to this length are worked on at once; longer ones are split.

    Raises:
        AudioError: rate or number of channels do not fit.
        ModelError: the model is unknown or broken.
        ConfigError: the limit, the channel mode or the threads make no sense.
    """

    def __init__(
        self,
        sample_rate: int,
        n_channels: int = 1,
        *,
        model: str | os.PathLike[str] | MaskModel = "speech",
        attenuation_limit_db: float | None = None,
        channels: Channels = "linked",
        threads: int = 1,
        window_batch: int = 1,
    ) -> None:
        _check_settings(attenuation_limit_db, channels)
        if window_batch < 1:
            raise ConfigError(f"a window batch of {window_batch}: use 1 or more")
        if not 1 <= n_channels <= MAX_CHANNELS:
            raise AudioError(f"{n_channels} channels: quieten takes 1 to {MAX_CHANNELS}")
        self._model = _loaded(model, threads)
        info = self._model.info
        grid = make_grid(sample_rate, info.sample_rate, info.n_fft, info.hop_length)
        self._bypass = attenuation_limit_db == 0
        self.sample_rate = sample_rate
        latency = info.latency_hops * grid.hop
        self.latency = 0 if self._bypass else latency
        frames = max(1, MAX_FRAMES // n_channels)
        if window_batch > 1:
            frames = max(frames, window_batch * (info.window_frames - 2 * info.margin_frames))
        self.block_length = frames * grid.hop
        self._masker = make_masker(
            self._model,
            grid,
            # what is added to one channel is not what another one lacks
            batch=n_channels if channels == "separate" or info.restores else 1,
            removable=1.0 - _limit_gain(attenuation_limit_db),
            at_once=window_batch,
        )
        self._analysis = StreamingSTFT(grid.n_fft, grid.hop, n_channels)
        self._synthesis = StreamingISTFT(grid.n_fft, grid.hop, n_channels)
        self._n_channels = n_channels
        self._one_dimensional = n_channels == 1
        self._waiting: Block = np.empty((n_channels, self.block_length + latency), np.float32)
        self._n_waiting: int  # input samples whose output is not ready, less than the latency
        self._fresh: bool
        self._reset()

    @property
    def latency_ms(self) -> float:
        """The latency in milliseconds."""
        return 1000.0 * self.latency / self.sample_rate

    def feed(self, samples: Samples) -> Samples:
        """Returns the denoised samples that are ready; maybe none.

        Args:
            samples: (T,) for one channel or (C, T); float32 or float64. The first block after the
                start or a flush decides the dtype of all output until the next flush.

        Raises:
            AudioError: shape or dtype do not fit.
        """
        samples = _check_samples(samples)
        self._one_dimensional = samples.ndim == 1
        block = samples[None] if samples.ndim == 1 else samples
        if block.shape[0] != self._n_channels:
            raise AudioError(
                f"a block of {block.shape[0]} channels for a stream of {self._n_channels}:"
                f" feed ({self._n_channels}, T)"
            )
        if self._bypass:
            return samples.copy()
        if self._fresh:
            self._fresh = False
            if self._waiting.dtype != samples.dtype:
                self._waiting = np.empty(self._waiting.shape, samples.dtype)
        length = self.block_length
        if block.shape[1] <= length:
            return self._shaped(self._advance(block))
        starts = range(0, block.shape[1], length)
        ready = [self._advance(block[:, start : start + length]) for start in starts]
        return self._shaped(np.concatenate(ready, axis=1))

    def flush(self) -> Samples:
        """Returns the rest: all output together is as long as all input. Then start afresh."""
        parts = self._masker.feed(self._analysis.flush().swapaxes(-1, -2)) + self._masker.flush()
        rest = self._waiting[:, : self._n_waiting] - self._samples(parts)[:, : self._n_waiting]
        self._reset()
        return self._shaped(rest)

    def _reset(self) -> None:
        self._analysis.reset()
        self._synthesis.reset()
        self._masker.reset()
        self._n_waiting = 0
        self._fresh = True

    def _advance(self, block: Block) -> Block:
        """Returns what is ready (C, T') after a block (C, T) of at most `block_length`."""
        block = _repaired(block)
        filled = self._n_waiting + block.shape[1]
        self._waiting[:, self._n_waiting : filled] = block
        self._n_waiting = filled
        removed = self._samples(self._masker.feed(self._analysis.feed(block).swapaxes(-1, -2)))
        n_ready = removed.shape[1]
        ready: Block = self._waiting[:, :n_ready] - removed
        if n_ready:
            self._waiting[:, : filled - n_ready] = self._waiting[:, n_ready:filled]
            self._n_waiting -= n_ready
        return ready

    def _samples(self, parts: list[Spectrogram]) -> NDArray[np.float32]:
        """Returns the samples (C, T') to take away, for parts (C, N, F) of what is removed."""
        samples = [self._synthesis.feed(part.swapaxes(-1, -2)) for part in parts]
        nothing = np.zeros((self._n_channels, 0), np.float32)
        return np.concatenate([nothing, *samples], axis=1)

    def _shaped(self, block: Block) -> Samples:
        return cast(Samples, block[0] if self._one_dimensional else block)


def _loaded(model: str | os.PathLike[str] | MaskModel, threads: int) -> MaskModel:
    return load_any(model, threads) if isinstance(model, str | os.PathLike) else model


def _check_settings(attenuation_limit_db: float | None, channels: str) -> None:
    if attenuation_limit_db is not None and not attenuation_limit_db >= 0:
        raise ConfigError(
            f"attenuation limit {attenuation_limit_db} dB: use 0 (remove nothing) or more"
        )
    if channels not in ("linked", "separate"):
        raise ConfigError(f'channels {channels!r}: use "linked" or "separate"')


def _check_samples(samples: Samples) -> Samples:
    samples = cast(Samples, np.asarray(samples))
    if samples.dtype not in (np.float32, np.float64):
        raise AudioError(
            f"samples of type {samples.dtype}: use float32 or float64 with full scale 1"
            " (int16 / 32768)"
        )
    if samples.ndim not in (1, 2) or (
        samples.ndim == 2 and not 1 <= samples.shape[0] <= MAX_CHANNELS
    ):
        raise AudioError(
            f"samples of shape {samples.shape}: use (samples,) or (channels, samples)"
            f" with 1 to {MAX_CHANNELS} channels; transpose if the channels come last"
        )
    return samples


def _repaired(block: Block) -> Block:
    """Returns the block with NaN and infinity as 0, and limited to what spectra can hold."""
    if block.size == 0 or np.abs(block).max() <= MAX_LEVEL:  # NaN compares as false
        return block
    finite = np.where(np.isfinite(block), block, block.dtype.type(0))
    return np.clip(finite, -MAX_LEVEL, MAX_LEVEL)


def _limit_gain(attenuation_limit_db: float | None) -> float:
    """Returns the least gain that the limit allows."""
    if attenuation_limit_db is None:
        return 0.0
    return math.pow(10.0, -attenuation_limit_db / 20.0)
