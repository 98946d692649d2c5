"""How clean a sound is, without the clean original: a number, and a curve with a value a second.

A VQ-VAE that has heard clean speech only codes the sound. What it knows lies close to an entry of
its codebook; noise, damage and the artefacts of denoisers lie between them. After VQScore (Fu et
al., "Self-supervised speech quality estimation and enhancement using only clean speech", ICLR
2024). Silence says nothing and is left out.
Letters: C channels, T samples, N frames, F bins, S seconds.
"""

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from quieten import runtime
from quieten.errors import AudioError, ModelError
from quieten.stft import Spectrogram, StreamingSTFT
from quieten.windows import StreamingWindows, Window

Block = NDArray[np.float32] | NDArray[np.float64]
Curve = NDArray[np.float64]
Frames = tuple[NDArray[np.float32], NDArray[np.float32]]  # distance and level in dB, each (N,)

MODEL = "vqscore"
BLOCK_S = 4.0  # sound is taken in pieces of this length, so that memory does not grow with it
RANGE_DB = 40.0  # frames further below the loud ones are silence
LOUD = 0.95  # the loud ones: this share of the frames is below
FLOOR_DB = -80.0  # below full scale; less is silence in any case
LEAST_FRAMES = 5  # a second with fewer frames of sound has no value


@dataclass(frozen=True)
class Score:
    """How clean a sound is.

    Attributes:
        value: mean similarity to clean speech of what is not silent, at most 1; NaN for silence.
        curve: the same for each second (S,); NaN where it is silent.
        duration_s: length of the sound.
    """

    value: float
    curve: Curve
    duration_s: float


class Scorer:
    """Scores sounds.

    Args:
        path: an exported model of the family `vqvae_clean`; the one of the package if None.
        threads: threads of the model.

    Raises:
        ModelError: the file is missing, broken or answers something else.
        ConfigError: `threads` is less than one.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, threads: int = 1) -> None:
        file = runtime.WEIGHTS / f"{MODEL}.onnx" if path is None else Path(path)
        self._session = runtime.open_session(file, threads)
        self.info = runtime.read_info(file, self._session.get_modelmeta().custom_metadata_map)
        outputs = {output.name for output in self._session.get_outputs()}
        if "distance" not in outputs or not self.info.window_frames:
            raise ModelError(f"{file}: gives no distances: export a run of the family vqvae_clean")

    def __call__(self, waveform: Block, sample_rate: int) -> Score:
        """Returns the score of a waveform (T,) or (C, T); channels are averaged.

        Raises:
            AudioError: the shape or the rate does not fit.
        """
        if waveform.ndim not in (1, 2):
            raise AudioError(
                f"samples of shape {waveform.shape}: use (samples,) or (channels, samples)"
            )
        length = max(1, round(BLOCK_S * sample_rate))
        starts = range(0, waveform.shape[-1], length)
        return self.score((waveform[..., i : i + length] for i in starts), sample_rate)

    def score(self, blocks: Iterable[Block], sample_rate: int) -> Score:
        """Returns the score of a sound that comes in blocks, each (T,) or (C, T).

        Raises:
            AudioError: the rate is not positive.
        """
        if not sample_rate > 0:
            raise AudioError(f"sample rate {sample_rate} Hz: it must be positive")
        counted = _Counted(blocks)
        parts = [self._frames(window) for window in self._windows(counted, sample_rate)]
        distance, level_db = (
            np.concatenate([part[i] for part in parts]) if parts else np.zeros(0, np.float32)
            for i in (0, 1)
        )
        duration_s = counted.length / sample_rate
        return summarize(1.0 - distance, level_db, self.frame_times(distance.size), duration_s)

    def frame_times(self, n_frames: int) -> Curve:
        """Returns where the middles of frames lie, in seconds (N,)."""
        info = self.info
        ends = (np.arange(n_frames) + 1) * info.hop_length
        times: Curve = (ends - info.n_fft / 2) / info.sample_rate
        return times

    def _windows(self, blocks: Iterable[NDArray[np.float32]], sample_rate: int) -> Iterator[Window]:
        """Yields the windows (1, N, F) of a sound, at the rate of the model."""
        info = self.info
        analysis = StreamingSTFT(info.n_fft, info.hop_length)
        windows = StreamingWindows(info.window_frames, info.margin_frames)
        for block in _resampled(blocks, sample_rate, info.sample_rate):
            yield from windows.feed(analysis.feed(block[None]).swapaxes(-1, -2))
        yield from windows.feed(analysis.flush().swapaxes(-1, -2))
        yield from windows.flush()

    def _frames(self, window: Window) -> Frames:
        """Returns distance and level of the frames of a window that are kept."""
        spectra = np.ascontiguousarray(window.spectra)
        view = spectra.view(np.float32).reshape(*spectra.shape, 2)  # (1, N, F, 2)
        (distance,) = self._session.run(["distance"], {"spectrum": view})
        return distance[0, window.kept], levels_db(spectra[0, window.kept], self.info.n_fft)


def levels_db(spectra: Spectrogram, n_fft: int) -> NDArray[np.float32]:
    """Returns the levels of frames (N, F), dB below full scale (RMS 1)."""
    power = (np.square(spectra.real) + np.square(spectra.imag)).sum(axis=-1)
    levels: NDArray[np.float32] = 10 * np.log10(power / (n_fft / 2) ** 2 + np.float32(1e-12))
    return levels


def summarize(
    similarity: NDArray[np.floating],
    level_db: NDArray[np.floating],
    times: Curve,
    duration_s: float,
) -> Score:
    """Returns the score of frames.

    Args:
        similarity: of each frame to clean speech (N,).
        level_db: of each frame (N,).
        times: of the middle of each frame, in seconds (N,).
        duration_s: of the sound.
    """
    seconds = math.ceil(duration_s)
    curve = np.full(seconds, np.nan)
    if not level_db.size:
        return Score(math.nan, curve, duration_s)
    loud_db = float(np.quantile(level_db, LOUD))
    heard = level_db > max(loud_db - RANGE_DB, FLOOR_DB)
    second = np.clip(np.floor(times).astype(int), 0, seconds - 1)
    count = np.bincount(second[heard], minlength=seconds)
    total = np.bincount(second[heard], similarity[heard], minlength=seconds)
    enough = count >= LEAST_FRAMES
    curve[enough] = total[enough] / count[enough]
    value = float(similarity[heard].mean()) if heard.any() else math.nan
    return Score(value, curve, duration_s)


class _Counted:
    """Passes blocks on as (T,), finite, and counts their samples."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self._blocks = blocks
        self.length = 0

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for block in self._blocks:
            sound = np.nan_to_num(np.asarray(block, np.float32), posinf=0.0, neginf=0.0)
            self.length += sound.shape[-1]
            yield sound.mean(axis=0) if sound.ndim == 2 else sound


def _resampled(
    blocks: Iterable[NDArray[np.float32]], sample_rate: int, wanted_rate: int
) -> Iterator[NDArray[np.float32]]:
    """Yields blocks (T,) at another rate."""
    if sample_rate == wanted_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(sample_rate, wanted_rate, 1, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
