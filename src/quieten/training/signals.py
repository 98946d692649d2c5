"""Batches and validation of one-dimensional signals: sums of sines, or recordings of anything.

Every batch is a pure function of (seed, step), as in `data.py`. Letters: B batch, T samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quieten.errors import ConfigError
from quieten.sines import SinesConfig
from quieten.training.config import DataConfig, TrainConfig
from quieten.training.data import Source
from quieten.training.recordings import read_signals

Signals = NDArray[np.float32]
Pair = tuple[Signals, Signals]

TRAINING, FIXED, VALIDATION = range(3)
"""Last number of a seed, so that no two uses draw the same signals."""

HELD_OUT = 0.1
"""Share at the end of each recording that is for validation where no folder is named for it."""

LOWEST_IS_BEST = frozenset({"l1"})
MEASURES = ("l1", "snr_db", "improvement_db", "snr_db_worst5")


@dataclass(frozen=True)
class FreshSines:
    """Signals of a data model, new ones in every step."""

    model: SinesConfig
    batch_size: int
    target: str

    def batch(self, seed: int, step: int, rank: int = 0) -> Pair:
        """Returns (noisy, clean), each (B, T)."""
        rng = np.random.default_rng([seed, step, rank, TRAINING])
        return draw(self.model, rng, self.batch_size, self.target)


@dataclass(frozen=True)
class FixedSignals:
    """The same signals in every epoch, in another order: what the published recipe trains on."""

    noisy: Signals
    clean: Signals
    batch_size: int

    def batch(self, seed: int, step: int, rank: int = 0) -> Pair:
        """Returns (noisy, clean), each (B, T); what does not fill a batch is left out."""
        size = self.batch_size
        epoch, place = divmod(step, len(self.clean) // size)
        order = np.random.default_rng([seed, epoch, rank, TRAINING]).permutation(len(self.clean))
        chosen = order[place * size : (place + 1) * size]
        return self.noisy[chosen], self.clean[chosen]


@dataclass(frozen=True)
class RecordedSignals:
    """Windows of recordings, with recorded noise or that of a data model mixed in.

    A window is brought to the level of its whole recording and centred; its target keeps both.
    """

    clean: Sequence[Signals]
    noise: Sequence[Signals]
    model: SinesConfig
    batch_size: int

    def batch(self, seed: int, step: int, rank: int = 0) -> Pair:
        """Returns (noisy, clean), each (B, T)."""
        return self.draw(np.random.default_rng([seed, step, rank, TRAINING]), self.batch_size)

    def draw(self, rng: np.random.Generator, count: int) -> Pair:
        """Returns `count` windows as (noisy, clean), each (B, T)."""
        clean = windows(self.clean, rng, count, self.model.length)
        clean -= clean.mean(1, keepdims=True)
        if self.noise:
            noise = windows(self.noise, rng, count, self.model.length)
        else:
            noise = self.model.draw_mixtures(rng, count).noise
        noise = noise / np.sqrt(np.square(noise).mean(1, keepdims=True) + 1e-12)
        snr_db = rng.uniform(*self.model.snr_db, (count, 1))  # against the whole recording, RMS 1
        return (clean + 10 ** (-snr_db / 20) * noise).astype(np.float32), clean


def load_signals(config: TrainConfig) -> Source:
    """Returns where the batches of a configuration come from.

    Raises: ConfigError if a folder is missing, holds no recordings, or settings do not fit.
    """
    data = config.data
    model = data_model(data)
    if data.clean:
        held_out = 0.0 if config.validation.clean else HELD_OUT
        clean = [part[: cut(part, held_out)] for part in recordings(data.clean, data)]
        return RecordedSignals(
            long_enough(clean, model.length), noises(data.noise, data), model, data.batch_size
        )
    target = data.signals.target
    if not data.signals.fixed:
        return FreshSines(model, data.batch_size, target)
    if data.signals.fixed < data.batch_size:
        raise ConfigError("data.signals.fixed is less than data.batch_size: lower the latter")
    rng = np.random.default_rng([config.seed, 0, 0, FIXED])
    return FixedSignals(*draw(model, rng, data.signals.fixed, target), data.batch_size)


def validation_signals(config: TrainConfig) -> Pair:
    """Returns fixed signals (noisy, clean), each (B, T): the same in every run.

    Raises: ConfigError if the recordings are too short to hold a part of them back.
    """
    data, count = config.data, config.validation.items
    model = data_model(data)
    rng = np.random.default_rng([0, 0, 0, VALIDATION])
    if not data.clean:
        return draw(model, rng, count, data.signals.target)
    if config.validation.clean:
        clean = recordings(config.validation.clean, data)
    else:
        clean = [part[cut(part, HELD_OUT) :] for part in recordings(data.clean, data)]
    named = config.validation.noise
    noise = noises(data.noise if isinstance(named, str) or not named else named, data)
    return RecordedSignals(long_enough(clean, model.length), noise, model, 1).draw(rng, count)


def data_model(data: DataConfig) -> SinesConfig:
    """Returns the sums of sines that a configuration describes.

    Raises: ConfigError if a range cannot be, such as sines beyond half the rate.
    """
    signals = data.signals
    return SinesConfig(
        sample_rate=data.sample_rate,
        length=round(data.segment_s * data.sample_rate),
        count=signals.count,
        # a data model of recordings gives noise only, so its sines may be anything
        frequency_hz=(1e-6, 1e-6) if data.clean else signals.frequency_hz,
        amplitude=signals.amplitude,
        random_phase=signals.random_phase,
        snr_db=data.snr_db,
        noise_colour=signals.noise_colour,
    )


def draw(model: SinesConfig, rng: np.random.Generator, count: int, target: str) -> Pair:
    """Returns `count` signals of a data model as (noisy, clean), each (B, T)."""
    drawn = model.draw_mixtures(rng, count)
    if target == "clean":
        return drawn.noisy, drawn.clean
    return drawn.noisy, (drawn.gain[:, None] * drawn.clean).astype(np.float32)


def recordings(folders: Sequence[Path], data: DataConfig) -> list[Signals]:
    """Returns every channel of every recording, (T,) each, centred, at RMS 1."""
    return [level(part) for part in read_signals(folders, data.sample_rate)]


def noises(folders: Sequence[Path], data: DataConfig) -> list[Signals]:
    """Returns recorded noises that fill a window; none if there are no folders."""
    if not folders:
        return []
    return long_enough(recordings(folders, data), round(data.segment_s * data.sample_rate))


def level(recording: Signals) -> Signals:
    """Returns a recording (T,) around zero and at RMS 1: its unit may be anything."""
    exact = recording - np.mean(recording, dtype=np.float64)
    return (exact / max(float(np.std(exact)), 1e-12)).astype(np.float32)


def cut(recording: Signals, held_out: float) -> int:
    """Returns the sample at which the part begins that is held out."""
    return round(recording.size * (1 - held_out))


def long_enough(parts: Sequence[Signals], length: int) -> list[Signals]:
    """Returns the parts (T,) that fill a window and are no silence.

    Raises: ConfigError if there is none.
    """
    kept = [part for part in parts if part.size >= length and part.any()]
    if not kept:
        raise ConfigError(
            f"no recording, or held-out part of one, fills a window of {length} samples: give "
            "longer ones, a shorter data.segment_s, or validation.clean"
        )
    return kept


def windows(parts: Sequence[Signals], rng: np.random.Generator, count: int, length: int) -> Signals:
    """Returns `count` windows (B, T) from anywhere in the parts, by their lengths."""
    spare = np.array([part.size - length + 1 for part in parts])
    chosen = rng.choice(len(parts), count, p=spare / spare.sum())
    starts = rng.integers(spare[chosen])
    cuts = [parts[i][s : s + length] for i, s in zip(chosen, starts, strict=True)]
    return np.stack(cuts)


def measure(denoised: Signals, clean: Signals, noisy: Signals) -> dict[str, float]:
    """Returns the means of `MEASURES` over signals (B, T), in dB per signal.

    `snr_db_worst5` is the mean SNR of the worst twentieth of the signals.
    """
    snr = snr_db(denoised, clean)
    worst = np.sort(snr)[: max(1, round(snr.size / 20))]
    values = (
        np.abs(denoised - clean).mean(),
        snr.mean(),
        (snr - snr_db(noisy, clean)).mean(),
        worst.mean(),
    )
    return {name: float(value) for name, value in zip(MEASURES, values, strict=True)}


def snr_db(denoised: Signals, clean: Signals) -> NDArray[np.float64]:
    """Returns the output SNR of each of the signals (B, T) in dB."""
    energy, error = (np.square(part, dtype=np.float64).sum(1) for part in (clean, denoised - clean))
    ratio: NDArray[np.float64] = 10 * np.log10((energy + 1e-12) / (error + 1e-12))
    return ratio


def check_signals(config: TrainConfig) -> None:
    """Finds settings that would stop a run over signals later.

    Raises: ConfigError that names the setting.
    """
    validation = config.validation
    for name in (*validation.metrics, validation.select):
        if name not in MEASURES:
            raise ConfigError(
                f"validation: signals are not measured by {name}: choose among "
                f"{', '.join(MEASURES)}"
            )
    if validation.select not in validation.metrics:
        raise ConfigError(f"validation.select: {validation.select} is none of validation.metrics")
    data_model(config.data)
