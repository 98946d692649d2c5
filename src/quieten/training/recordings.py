"""Recordings of any one-dimensional signal: CSV, npy or sound files, their level as it is."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quieten.audio import AUDIO_SUFFIXES, read_audio
from quieten.errors import AudioError, ConfigError
from quieten.tabular.table import TABLE_SUFFIXES, is_table, read_table

logger = logging.getLogger(__name__)


def read_signals(folders: Sequence[Path], sample_rate: int) -> list[NDArray[np.float32]]:
    """Returns every channel of every recording below the folders, (T,) each.

    Args:
        folders: folders, searched recursively, or single files.
        sample_rate: what recordings must have that know their rate.

    Raises: ConfigError if there is nothing to read, or a recording has another rate.
    """
    files = [file for folder in folders for file in signal_files(folder)]
    if not files:
        raise ConfigError(
            f"no recordings in {', '.join(map(str, folders))}: name folders of CSV, npy or WAV"
        )
    return [channel for file in files for channel in read_signal(file, sample_rate)]


def signal_files(folder: Path) -> list[Path]:
    """Returns the recordings below a folder (or the file itself), sorted.

    Raises: ConfigError if there is no such folder.
    """
    if not folder.exists():
        raise ConfigError(f"no folder {folder}: correct its path in the configuration")
    if folder.is_file():
        return [folder]
    known = TABLE_SUFFIXES | AUDIO_SUFFIXES
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in known)


def read_signal(file: Path, sample_rate: int) -> NDArray[np.float32]:
    """Returns the channels (C, T) of a recording.

    Raises: ConfigError if it cannot be read or has another rate.
    """
    try:
        channels, rate = read_channels(file)
    except AudioError as error:
        raise ConfigError(f"{error}; or take it out of the folder") from None
    if rate is not None and abs(rate / sample_rate - 1) > 0.01:
        raise ConfigError(
            f"{file} has {rate:g} samples a second: set data.sample_rate={round(rate)}"
        )
    if not np.isfinite(channels).all():
        raise ConfigError(f"{file} holds values that are no numbers: repair it or take it out")
    return channels


def read_channels(file: Path) -> tuple[NDArray[np.float32], float | None]:
    """Returns (channels (C, T), samples a second or None where the file does not say).

    Raises: AudioError if the file cannot be read, or values are missing in it.
    """
    if not is_table(file):
        waveform, rate = read_audio(file)
        return waveform.astype(np.float32), rate
    table = read_table(file)
    for warning in table.warnings:
        logger.warning("%s: %s", file, warning)
    return table.signal.astype(np.float32), table.sample_rate
