"""The sounds of a benchmark: whole clips of clean speech, and white noise at a fixed level.

Waveforms are float32 (T,).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quieten.audio import read_audio
from quieten.degrade import resample, rms
from quieten.errors import AudioError, ConfigError
from quieten.testsets.pairs import audio_files

Waveform = NDArray[np.float32]

SHORTEST_S, LONGEST_S = 4, 8  # whole seconds, so that lengths in samples are whole as well


@dataclass(frozen=True)
class Clip:
    """A piece of clean speech.

    Attributes:
        name: the file below the folder; "#2" behind it is the second piece of a longer file.
        file: the same for all pieces of one file.
        number: its place among all clips of the folder, from which its noise is drawn.
        clean: (T,).
    """

    name: str
    file: str
    number: int
    clean: Waveform


def read_clips(folder: Path, sample_rate: int, limit: int | None = None) -> list[Clip]:
    """Returns the clips of 4 to 8 s of a folder, in the order of its files.

    Files of that length are taken whole, longer ones are cut into as few equal pieces as it
    takes, shorter ones are left out. Several channels become their mean.

    Args:
        folder: searched through for audio files.
        sample_rate: of the clips, Hz.
        limit: at most this many, evenly spread; each is what it would be among all of them.

    Raises:
        ConfigError: the folder is not there or holds no file of 4 s, or the limit is below 1.
        AudioError: a file cannot be read, or is silent.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"a limit of {limit} clips: use 1 or more")
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder: name one of clean speech with --data")
    clips: list[Clip] = []
    for path in sorted(audio_files(folder)):
        name = path.relative_to(folder).as_posix()
        pieces = list(_pieces(_read(path, sample_rate), sample_rate))
        for count, piece in enumerate(pieces, 1):
            label = f"{name}#{count}" if len(pieces) > 1 else name
            clips.append(Clip(label, name, len(clips), piece))
    if not clips:
        raise ConfigError(f"{folder}: holds no speech of {SHORTEST_S} s or more: name another")
    chosen = np.linspace(0, len(clips) - 1, min(limit or len(clips), len(clips))).round()
    return [clips[int(index)] for index in chosen]


def _read(path: Path, sample_rate: int) -> Waveform:
    waveform, own_rate = read_audio(path)
    return resample(waveform.mean(axis=0).astype(np.float32), own_rate, sample_rate)


def _pieces(waveform: Waveform, sample_rate: int) -> Iterator[Waveform]:
    """Yields equal pieces, each 4 to 8 s; none of a sound that is shorter."""
    count = -(-waveform.size // (LONGEST_S * sample_rate))
    if waveform.size >= SHORTEST_S * sample_rate:
        yield from np.split(waveform[: waveform.size // count * count], count)


def add_white_noise(clip: Clip, snr_db: float, stream: int) -> Waveform:
    """Returns the clip in white Gaussian noise, (T,): always the same for the same arguments.

    Args:
        clip: clean speech.
        snr_db: energy of the whole clip, pauses included, over that of the noise.
        stream: which of several noises of that clip.

    Raises:
        AudioError: the clip is silent.
    """
    level = rms(clip.clean)
    if level == 0.0:
        raise AudioError(f"{clip.name}: is silent: take it out of the folder")
    rng = np.random.default_rng([_SEED, clip.number, stream])
    noise = rng.standard_normal(clip.clean.size)
    noise *= level / np.sqrt(np.mean(np.square(noise))) * 10 ** (-snr_db / 20)
    return (clip.clean + noise).astype(np.float32)


_SEED = 7
