"""Recordings decoded once: mono int16 at the training rate, in one file that is mapped."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from quieten.audio import AUDIO_SUFFIXES, AudioReader
from quieten.degrade import Waveform
from quieten.errors import AudioError, ConfigError

logger = logging.getLogger(__name__)

BLOCK_S = 30  # decoded at once


@dataclass(frozen=True)
class Recordings:
    """A set of decoded recordings, and the groups (speakers, noise types) that they belong to."""

    names: tuple[str, ...]
    offsets: NDArray[np.int64]  # (files + 1,)
    samples: NDArray[np.int16]
    groups: tuple[NDArray[np.int64], ...]  # indices of files

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int, start: int = 0, length: int | None = None) -> Waveform:
        """Returns `length` samples (or all) of recording `index` from `start`, in [-1, 1]."""
        first, last = int(self.offsets[index]) + start, int(self.offsets[index + 1])
        end = last if length is None else min(first + length, last)
        return self.samples[first:end].astype(np.float32) / np.float32(32768)

    def length(self, index: int) -> int:
        """Returns the number of samples of recording `index`."""
        return int(self.offsets[index + 1] - self.offsets[index])


def load_recordings(
    folders: Sequence[Path], cache: Path, sample_rate: int, group_pattern: str
) -> Recordings:
    """Returns all recordings below `folders`, decoded into `cache` the first time.

    Files that cannot be read are left out with a warning. Silence is kept: the linter reports it.

    Raises: ConfigError if a folder is missing or there is no audio at all.
    """
    files = [file for folder in folders for file in audio_files(folder)]
    if not files:
        raise ConfigError(
            f"no audio in {', '.join(map(str, folders)) or 'an empty list of folders'}: "
            "name folders that hold recordings"
        )
    key = hashlib.sha256(repr((sample_rate, [fingerprint(file) for file in files])).encode())
    target = cache / key.hexdigest()[:16]
    index = target.with_suffix(".json")
    if not index.exists():
        decode(files, target, sample_rate)
    entries = json.loads(index.read_text())
    if not entries["names"]:
        raise ConfigError(
            f"nothing can be read in {', '.join(map(str, folders))}: name folders with recordings"
        )
    offsets = np.array(entries["offsets"], dtype=np.int64)
    samples = np.memmap(target.with_suffix(".i16"), dtype=np.int16, mode="r")
    names = tuple(entries["names"])
    return Recordings(names, offsets, samples, group(names, group_pattern))


def audio_files(folder: Path) -> list[Path]:
    """Returns the audio files below a folder (or the file itself), sorted.

    Raises: ConfigError if there is no such folder.
    """
    if not folder.exists():
        raise ConfigError(f"no folder {folder}: correct its path in the configuration")
    if folder.is_file():
        return [folder]
    return sorted(f for f in folder.rglob("*") if f.suffix.lower() in AUDIO_SUFFIXES)


def fingerprint(file: Path) -> tuple[str, int, int]:
    """Returns what changes when a file changes."""
    status = file.stat()
    return file.name, status.st_size, status.st_mtime_ns


def decode(files: list[Path], target: Path, sample_rate: int) -> None:
    """Writes target.i16 and target.json; the second appears last, so that it vouches for both."""
    target.parent.mkdir(parents=True, exist_ok=True)
    names, offsets = [], [0]
    temporary = target.with_suffix(f".{os.getpid()}.part")  # other processes may decode as well
    with temporary.open("wb") as out:
        for file in files:
            try:
                for block in decode_blocks(file, sample_rate):
                    block.tofile(out)
            except AudioError as error:
                logger.warning("left out: %s", error)
                out.truncate(2 * offsets[-1])
                out.seek(2 * offsets[-1])
                continue
            names.append(file.name)
            offsets.append(out.tell() // 2)
    temporary.replace(target.with_suffix(".i16"))
    temporary.write_text(json.dumps({"names": names, "offsets": offsets}))
    temporary.replace(target.with_suffix(".json"))


def decode_blocks(file: Path, sample_rate: int) -> Iterator[NDArray[np.int16]]:
    """Yields a file as mono int16 (T,) at `sample_rate`, in blocks: files may last hours.

    Raises: AudioError if it cannot be read.
    """
    with AudioReader(file) as reader:
        rate = reader.info.sample_rate
        resampler = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32")
        for block in reader.blocks(BLOCK_S * rate):
            mono = block.mean(axis=0, dtype=np.float32)
            yield whole(mono if rate == sample_rate else resampler.resample_chunk(mono))
        if rate != sample_rate:
            yield whole(resampler.resample_chunk(np.zeros(0, np.float32), last=True))


def whole(waveform: NDArray[np.float32]) -> NDArray[np.int16]:
    """Returns samples in [-1, 1] as int16."""
    rounded: NDArray[np.int16] = np.clip(np.rint(waveform * 32768), -32768, 32767).astype(np.int16)
    return rounded


def group(names: Sequence[str], pattern: str) -> tuple[NDArray[np.int64], ...]:
    """Returns the indices of the files of each group."""
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        groups.setdefault(group_name(name, pattern), []).append(i)
    return tuple(np.array(g, dtype=np.int64) for g in groups.values())


def group_name(name: str, pattern: str) -> str:
    """Returns the group of a file; a name that does not match is its own."""
    match = re.match(pattern, name)
    return match.group() if match else name
