"""Batches of recordings and what a pipeline of degradations makes of them: the restorer's data.

Every batch is a pure function of (seed, step), as in `data.py`. Letters: B batch, T samples.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quieten.corpora.maestro import maestro_files
from quieten.degrade import Waveform, change_speed, fit_length, rms
from quieten.errors import ConfigError
from quieten.testsets.pipeline import Pipeline, degrade, parse_pipeline
from quieten.training.cache import Recordings, load_recordings
from quieten.training.config import DataConfig, TrainConfig
from quieten.training.data import fit

logger = logging.getLogger(__name__)

SILENCE_RMS = 1e-4
"""Windows quieter than this have nothing to restore."""


@dataclass(frozen=True)
class RecordedSounds:
    """Noise and rooms of folders, at the rate of the training."""

    noises: Recordings | None
    rooms: Recordings | None

    def noise(self, rng: np.random.Generator, length: int, sample_rate: int) -> Waveform | None:
        """Returns (T,) samples from anywhere in a recording of noise; None without any."""
        if self.noises is None:
            return None
        index = int(rng.integers(len(self.noises)))
        spare = self.noises.length(index) - length
        start = int(rng.integers(spare)) if spare > 0 else 0
        return fit(self.noises.read(index, start, length), length)

    def room(self, rng: np.random.Generator, sample_rate: int) -> Waveform | None:
        """Returns a measured response, 1.5 s at most; None without any."""
        if self.rooms is None:
            return None
        return self.rooms.read(int(rng.integers(len(self.rooms))), 0, round(1.5 * sample_rate))


@dataclass(frozen=True)
class Degrader:
    """Cuts windows out of recordings and degrades them; holds no random state."""

    config: DataConfig
    clean: Recordings
    sounds: RecordedSounds
    pipeline: Pipeline

    def batch(self, seed: int, step: int, rank: int = 0) -> tuple[NDArray[np.float32], ...]:
        """Returns (degraded, clean), each (B, T): the same for the same arguments.

        With `data.count`, only so many batches are different.
        """
        step = step % self.config.count if self.config.count else step
        items = [
            self.example(np.random.default_rng([seed, step, rank, i]))
            for i in range(self.config.batch_size)
        ]
        degraded, clean = zip(*items, strict=True)
        return np.stack(degraded), np.stack(clean)

    def example(self, rng: np.random.Generator) -> tuple[Waveform, Waveform]:
        """Returns one pair (degraded, clean), each (T,)."""
        rate = self.config.sample_rate
        piece = self.draw_piece(rng, round(self.config.segment_s * rate))
        sound = degrade(piece, rate, self.pipeline, rng, self.sounds)
        level = 10 ** (rng.uniform(*self.config.level_dbfs) / 20) / max(rms(sound.target), 1e-5)
        gain = np.float32(level)
        return sound.degraded * gain, sound.target * gain

    def draw_piece(self, rng: np.random.Generator, length: int) -> Waveform:
        """Returns (T,) samples of a recording, at a multiple of the stride, perhaps faster."""
        factor = rng.uniform(*self.config.speed) if self.config.speed != (1.0, 1.0) else 1.0
        wanted = length if factor == 1.0 else round(length * factor) + 2
        sizes = np.diff(self.clean.offsets).astype(np.float64)
        piece = np.zeros(0, np.float32)
        for _ in range(8):
            index = int(rng.choice(len(self.clean), p=sizes / sizes.sum()))
            places = max(1, (self.clean.length(index) - wanted) // max(self.config.stride, 1) + 1)
            start = int(rng.integers(places)) * max(self.config.stride, 1)
            piece = self.clean.read(index, start, wanted)
            if rms(piece) > SILENCE_RMS:
                break
        if factor != 1.0:
            piece = change_speed(piece, factor)
        return fit_length(piece, length)


def pipeline_of(config: DataConfig) -> Pipeline:
    """Returns the steps of a configuration.

    Raises: ConfigError if there are none, or one is wrong.
    """
    pipeline = parse_pipeline(config.preprocessing)
    if not pipeline:
        raise ConfigError('data.preprocessing names no step: such as "sample 5000 10000"')
    return pipeline


def recordings_of(
    folders: Sequence[Path], config: DataConfig, split: str, limit: int
) -> Recordings:
    """Returns the recordings of folders, of which some may be MAESTRO.

    Args:
        split: of MAESTRO, "train" or "validation".
        limit: at most so many recordings; 0: all.

    Raises: ConfigError if there are none.
    """
    places = list(folders)
    if config.corpus == "maestro":
        places = [file for root in folders for file in maestro_files(root, split, config.years)]
    found = load_recordings(places, config.cache, config.sample_rate, r".*")
    if not limit:
        return found
    names = found.names[:limit]
    return Recordings(names, found.offsets[: len(names) + 1], found.samples, found.groups)


def load_degrader(config: TrainConfig) -> Degrader:
    """Returns what a configuration trains on, decoding it where needed.

    Raises: ConfigError if a folder is missing or empty, or a step is wrong.
    """
    data = config.data
    clean = recordings_of(data.clean, data, "train", data.train_n)
    return Degrader(data, clean, sounds_of(data.noise, data.rir, data), pipeline_of(data))


def sounds_of(noise: Sequence[Path], rooms: Sequence[Path], config: DataConfig) -> RecordedSounds:
    """Returns the noise and rooms of folders; None where no folder is named."""
    rate, cache = config.sample_rate, config.cache
    return RecordedSounds(
        load_recordings(noise, cache, rate, r".*") if noise else None,
        load_recordings(rooms, cache, rate, r".*") if rooms else None,
    )


def validation_pairs(config: TrainConfig) -> list[tuple[Waveform, Waveform]]:
    """Returns fixed pairs (degraded, clean), each (T,): the same in every run.

    Recordings come in turn, each from its middle; steps with a chance are always taken.
    """
    data, validation = config.data, config.validation
    clean = recordings_of(validation.clean, data, "validation", 0)
    noise = () if isinstance(validation.noise, str) else validation.noise
    sounds = sounds_of(noise or data.noise, data.rir, data)
    pipeline = parse_pipeline(validation.preprocessing) or pipeline_of(data)
    length = round(validation.seconds * data.sample_rate)
    items = []
    for i in range(validation.items):
        index, turn = i % len(clean), i // len(clean)
        spare = max(0, clean.length(index) - length)
        piece = clean.read(index, spare * (turn + 1) // (turn + 2), length)
        rng = np.random.default_rng([0, i])
        sound = degrade(piece, data.sample_rate, pipeline, rng, sounds)
        items.append((sound.degraded, sound.target))
    return items
