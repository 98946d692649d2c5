"""Batches as a pure function of (seed, step): clean speech, noise and rooms mixed on the fly.

Letters: B batch, T samples.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quieten.degrade import (
    Waveform,
    active_rms,
    add_noise,
    band_limit,
    change_speed,
    clip,
    convolve,
    equalize,
    make_room_response,
    mu_law,
    noise_gain,
    reverberate,
    rms,
    shift_formants,
    telephone_band,
    whisper,
)
from quieten.errors import ConfigError
from quieten.training.cache import Recordings, load_recordings
from quieten.training.config import DataConfig, ValidationConfig
from quieten.training.noises import NOISES

SILENCE_RMS = 1e-4
"""Pieces quieter than this hold no speech worth learning from."""


class Source(Protocol):
    """What batches come from."""

    def batch(self, seed: int, step: int, rank: int = 0) -> tuple[NDArray[np.float32], ...]:
        """Returns (noisy, clean), each (B, T): the same for the same arguments."""


@dataclass(frozen=True)
class Mixer:
    """Mixes examples from recordings; holds no random state."""

    config: DataConfig
    clean: Recordings
    noise: Recordings
    rir: Recordings | None

    def batch(self, seed: int, step: int, rank: int = 0) -> tuple[NDArray[np.float32], ...]:
        """Returns (noisy, clean), each (B, T): the same for the same arguments."""
        items = [
            self.example(np.random.default_rng([seed, step, rank, i]), step)
            for i in range(self.config.batch_size)
        ]
        noisy, clean = zip(*items, strict=True)
        return np.stack(noisy), np.stack(clean)

    def example(self, rng: np.random.Generator, step: int = 0) -> tuple[Waveform, Waveform]:
        """Returns one pair (noisy, clean), each (T,), as they are at a step of the training."""
        config, rate = self.config, self.config.sample_rate
        length = round(config.segment_s * rate)
        speech = self.draw_speech(rng, length)
        target = speech
        if rng.random() < config.reverb:
            speech, target = reverberate(speech, self.draw_room(rng), rate)
        white = config.white > 0 and rng.random() < config.white
        noise = white_noise(rng, length) if white else self.draw_noise(rng, length)
        snr_db = self.draw_snr_db(rng, step)
        noise = noise * np.float32(self.gain(speech, noise, snr_db))
        if config.speech_only > 0 and rng.random() < config.speech_only:
            noise = np.zeros_like(noise)
        elif rng.random() < config.noise_only:
            speech, target = np.zeros_like(speech), np.zeros_like(target)
        telephone = not white and config.telephone > 0 and rng.random() < config.telephone
        return self.record(speech + noise, target, rng, telephone)

    def draw_snr_db(self, rng: np.random.Generator, step: int) -> float:
        """Returns an SNR; from some step on a share of them is harder."""
        config = self.config
        harder = config.harder_share > 0 and config.harder_from_step <= step
        if harder and rng.random() < config.harder_share:
            return rng.uniform(*config.harder_snr_db)
        return rng.uniform(*config.snr_db)

    def gain(self, speech: Waveform, noise: Waveform, snr_db: float) -> float:
        """Returns the factor on noise (T,) for an SNR as the configuration means it."""
        if self.config.snr_of == "active":
            return noise_gain(speech, noise, self.config.sample_rate, snr_db)
        return rms(speech) / max(rms(noise), 1e-6) * 10 ** (-snr_db / 20)

    def record(
        self, noisy: Waveform, clean: Waveform, rng: np.random.Generator, telephone: bool = False
    ) -> tuple[Waveform, Waveform]:
        """Returns both as a device records them: band limit, level, overload, companding.

        Filter and level act on the pair alike; clipping and the steps of a telephone are something
        to repair.
        """
        config, rate = self.config, self.config.sample_rate
        limit = any_telephone if telephone else band_limit
        if telephone or rng.random() < config.band_limit:
            state = rng.bit_generator.state
            noisy = limit(noisy, rate, rng)
            rng.bit_generator.state = state
            clean = limit(clean, rate, rng)
        level_dbfs = rng.uniform(*config.level_dbfs)
        gain = np.float32(10 ** (level_dbfs / 20) / max(rms(noisy), 1e-6))
        noisy, clean = noisy * gain, clean * gain
        if rng.random() < config.clip:
            noisy = clip(noisy, rate, rng)
        return (mu_law(noisy) if telephone else noisy), clean

    def draw_speech(self, rng: np.random.Generator, length: int) -> Waveform:
        """Returns (T,) samples of one voice, drawn by speaker, at active level 0.1."""
        config = self.config
        files = draw_group(self.clean, rng, config.group_power)
        factor = rng.uniform(*config.speed) if rng.random() < 0.7 else 1.0
        pieces = self.voice_pieces(rng, files, round(length * factor) + 1)
        speech = change_speed(pieces, factor) if factor != 1.0 else pieces
        speech = fit(speech, length)
        if config.formants != (1.0, 1.0) and rng.random() < 0.5:
            speech = shift_formants(speech, config.sample_rate, rng.uniform(*config.formants))
        if config.whisper > 0 and rng.random() < config.whisper:
            speech = whisper(speech, config.sample_rate, rng)
        if rng.random() < config.equalize:
            speech = equalize(speech, config.sample_rate, rng)
        return speech * np.float32(0.1 / max(active_rms(speech, config.sample_rate), 1e-5))

    def voice_pieces(
        self, rng: np.random.Generator, files: NDArray[np.int64], length: int
    ) -> Waveform:
        """Returns utterances of one group with short pauses until `length` is reached."""
        parts: list[Waveform] = []
        missing, tries = length, 0
        while missing > 0:
            index = int(rng.choice(files))
            spare = self.clean.length(index) - missing
            start = int(rng.integers(0, spare)) if spare > 0 else 0
            part = self.clean.read(index, start, missing)
            tries += 1
            if rms(part) < SILENCE_RMS and tries < 8:
                continue
            level = np.float32(0.1 / max(rms(part), 1e-3))
            pause = rng.uniform(0.05, 0.6) * self.config.sample_rate
            parts += [part * level, np.zeros(int(pause), dtype=np.float32)]
            missing -= part.size + int(pause)
        return np.concatenate(parts)[:length]

    def draw_noise(self, rng: np.random.Generator, length: int) -> Waveform:
        """Returns (T,) samples of one or two noises: recorded, made by code, or many voices."""
        noise = self.one_noise(rng, length)
        if rng.random() < self.config.second_noise:
            other = self.one_noise(rng, length)
            share = 10 ** (rng.uniform(-15, 5) / 20) * rms(noise) / max(rms(other), 1e-6)
            noise = noise + np.float32(share) * other
        if rng.random() < self.config.equalize:
            noise = equalize(noise, self.config.sample_rate, rng)
        return noise

    def one_noise(self, rng: np.random.Generator, length: int) -> Waveform:
        """Returns (T,) samples of a single source, close or in a room."""
        noise = self.close_noise(rng, length)
        if self.config.noise_reverb > 0 and rng.random() < self.config.noise_reverb:
            noise = convolve(noise, self.draw_room(rng))
        return noise

    def close_noise(self, rng: np.random.Generator, length: int) -> Waveform:
        """Returns (T,) samples of a single source."""
        config = self.config
        kind = rng.random()
        if kind < config.made_noise:
            maker = config.noise_makers[rng.integers(len(config.noise_makers))]
            return NOISES[maker](length, config.sample_rate, rng)
        if kind < config.made_noise + config.babble:
            return self.draw_babble(rng, length)
        index = int(rng.choice(draw_group(self.noise, rng, config.group_power)))
        factor = rng.uniform(*config.noise_speed) if rng.random() < 0.5 else 1.0
        wanted = round(length * factor) + 1
        spare = self.noise.length(index) - wanted
        start = int(rng.integers(0, spare)) if spare > 0 else 0
        noise = self.noise.read(index, start, wanted)
        if config.reverse > 0 and rng.random() < config.reverse:
            noise = noise[::-1]
        return fit(change_speed(noise, factor) if factor != 1.0 else noise, length)

    def draw_babble(self, rng: np.random.Generator, length: int) -> Waveform:
        """Returns the sum of three to eight voices."""
        babble = np.zeros(length, dtype=np.float32)
        for _ in range(rng.integers(3, 9)):
            files = draw_group(self.clean, rng, self.config.group_power)
            level = np.float32(10 ** (rng.uniform(-10, 0) / 20))
            babble += level * self.voice_pieces(rng, files, length)
        return babble

    def draw_room(self, rng: np.random.Generator) -> Waveform:
        """Returns a measured response half of the time where there are any, else a made one."""
        if self.rir is not None and rng.random() < 0.5:
            return self.rir.read(int(rng.integers(len(self.rir))), 0, self.config.sample_rate)
        return make_room_response(self.config.sample_rate, rng)


def draw_group(recordings: Recordings, rng: np.random.Generator, power: float) -> NDArray[np.int64]:
    """Returns the files of a group drawn with probability ~ files ** power."""
    weights = np.array([len(g) for g in recordings.groups], dtype=np.float64) ** power
    return recordings.groups[int(rng.choice(len(weights), p=weights / weights.sum()))]


def white_noise(rng: np.random.Generator, length: int) -> Waveform:
    """Returns (T,) Gaussian samples of RMS 1."""
    return rng.standard_normal(length, dtype=np.float32)


def any_telephone(waveform: Waveform, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Returns what a telephone passes: about 300 to 3400 Hz, the edges drawn at random."""
    low_hz, high_hz = rng.uniform(200, 350), rng.uniform(3200, 3600)
    return telephone_band(waveform, sample_rate, low_hz, high_hz)


def fit(waveform: Waveform, length: int) -> Waveform:
    """Returns (T,) samples: repeated where too short, cut where too long."""
    return np.resize(waveform, length) if waveform.size < length else waveform[:length]


def load_mixer(config: DataConfig) -> Mixer:
    """Returns a mixer over the folders of a configuration, decoding them where needed."""
    check_makers(config)
    rate, cache = config.sample_rate, config.cache
    clean = load_recordings(config.clean, cache, rate, config.group_pattern)
    noise = load_recordings(config.noise, cache, rate, config.noise_group_pattern)
    rir = load_recordings(config.rir, cache, rate, r".*") if config.rir else None
    return Mixer(config, clean, noise, rir)


def check_makers(config: DataConfig) -> None:
    """Raises ConfigError if no code makes a noise of that name, or none is named."""
    unknown = sorted(set(config.noise_makers) - set(NOISES))
    if unknown or not config.noise_makers:
        raise ConfigError(
            f"data.noise_makers: {', '.join(unknown) or 'nothing'} is not made by code: "
            f"choose among {', '.join(NOISES)}"
        )


def batches(
    mixer: Source, seed: int, first_step: int, last_step: int, rank: int = 0
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
    """Yields (step, noisy, clean) for each step; the next batch is mixed meanwhile."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = pool.submit(mixer.batch, seed, first_step, rank)
        for step in range(first_step, last_step):
            noisy, clean = ahead.result()
            ahead = pool.submit(mixer.batch, seed, step + 1, rank)
            yield step, noisy, clean


def validation_items(config: ValidationConfig, data: DataConfig) -> list[tuple[Waveform, Waveform]]:
    """Returns fixed pairs (noisy, clean), each (T,): the same in every run.

    Every clean recording comes in turn, with every noise and SNR; nothing is augmented.
    """
    rate, cache = data.sample_rate, data.cache
    clean = load_recordings(config.clean, cache, rate, data.group_pattern)
    noise = None
    if config.noise != "white":
        noise = load_recordings(config.noise, cache, rate, data.noise_group_pattern)
    rng = np.random.default_rng(0)
    items = []
    for i in range(config.items):
        speech = clean.read(i % len(clean), 0, round(config.seconds * rate))
        sound = validation_noise(noise, i, speech.size, rng)
        snr_db = config.snr_db[i % len(config.snr_db)]
        items.append((add_noise(speech, sound, rate, snr_db=snr_db), speech))
    return items


def validation_noise(
    noise: Recordings | None, number: int, length: int, rng: np.random.Generator
) -> Waveform:
    """Returns (T,) samples of the recording that is in turn; white noise without recordings."""
    if noise is None:
        return white_noise(rng, length)
    file = (number * 7 + number // len(noise)) % len(noise)
    spare = max(noise.length(file) - length, 1)
    return fit(noise.read(file, int(rng.integers(spare)), length), length)
