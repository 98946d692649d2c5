"""Sums of sines on disk: train/ and validation/, with clean/, noise/ and mixed/ in each.

The layout that the lightweight GAN denoiser trains from.
"""

import csv
import io
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quieten.errors import ConfigError
from quieten.sines import PAPER, Mixtures, Signals, SinesConfig
from quieten.sndfile import reason_of

Progress = Callable[[int, int, str], None]

KINDS = ("clean", "noise", "mixed")
MANIFEST = "manifest.csv"
SUFFIXES = (".wav", ".npy")


@dataclass(frozen=True)
class SinesLayout:
    """What is drawn and how it is written.

    Attributes:
        train: signals in train/.
        validation: signals in validation/.
        seed: of all signals; those of train/ are drawn first.
        suffix: .wav (32 bit float) or .npy (float32, (T,)).
        config: the data model.
    """

    train: int = 1600
    validation: int = 200
    seed: int = 0
    suffix: str = ".wav"
    config: SinesConfig = PAPER

    def folders(self) -> dict[str, int]:
        """Returns folder -> how many signals it gets."""
        return {"train": self.train, "validation": self.validation}


def draw_sets(layout: SinesLayout) -> dict[str, Mixtures]:
    """Returns folder -> its signals: always the same for the same layout.

    Raises:
        ConfigError: the layout makes no sense.
    """
    if min(layout.train, layout.validation) < 0 or layout.train + layout.validation == 0:
        raise ConfigError("no signals: ask for 1 or more with --train and --valid")
    if layout.seed < 0:
        raise ConfigError("the seed must not be negative")
    if layout.suffix not in SUFFIXES:
        raise ConfigError(f"signals as {layout.suffix}: choose wav or npy, which hold any number")
    rng = np.random.default_rng(layout.seed)
    return {
        name: layout.config.draw_mixtures(rng, count) for name, count in layout.folders().items()
    }


def write_sines(out: Path, layout: SinesLayout, progress: Progress | None = None) -> int:
    """Writes signals into the new folder `out`; returns how many files.

    OUT/train/clean/0000.wav, OUT/train/noise/0000.wav (before it is scaled), OUT/train/mixed/
    0000.wav and so on; manifest.csv says what each signal was made from. The folder appears when
    all is done; an interrupted run leaves nothing. One seed gives the same files, bit for bit.

    Args:
        out: a folder that is not there, or is empty.
        layout: what is written.
        progress: called with (files done, files in all, file).

    Raises:
        ConfigError: the layout makes no sense, `out` holds something, or cannot be written.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out}: is there already: name a new folder")
    sets = draw_sets(layout)
    total = len(KINDS) * sum(layout.folders().values())
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".quieten-") as folder:
            work = Path(folder, "sines")
            for done, (name, signal) in enumerate(_named(sets, layout.suffix), 1):
                _write(work / name, signal, layout.config.sample_rate)
                if progress:
                    progress(done, total, name)
            (work / MANIFEST).write_text(_manifest(sets, layout.suffix), "utf-8", newline="")
            if out.exists():
                out.rmdir()
            work.rename(out)
    except OSError as error:
        raise ConfigError(f"{out}: {reason_of(error)}: check space and permissions") from None
    return total


def _named(sets: dict[str, Mixtures], suffix: str) -> Iterator[tuple[str, Signals]]:
    for folder, mixtures in sets.items():
        for kind, signals in zip(KINDS, kinds_of(mixtures), strict=True):
            for number, signal in enumerate(signals):
                yield f"{folder}/{kind}/{number:04d}{suffix}", signal


def kinds_of(mixtures: Mixtures) -> tuple[Signals, Signals, Signals]:
    """Returns the signals of each of `KINDS`, (B, T) each."""
    return mixtures.clean, mixtures.noise, mixtures.noisy


def _write(path: Path, signal: Signals, sample_rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, signal, allow_pickle=False)
    else:
        path.write_bytes(_wav(signal.astype("<f4").tobytes(), sample_rate))


def _wav(samples: bytes, sample_rate: int) -> bytes:
    """Returns a mono WAV file of 32 bit floats.

    Not through libsndfile, which writes the time of day into such files: one seed, one file.
    """
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, sample_rate, 4 * sample_rate, 4, 32)
    count = struct.pack("<4sII", b"fact", 4, len(samples) // 4)
    body = b"WAVE" + form + count + struct.pack("<4sI", b"data", len(samples)) + samples
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def _manifest(sets: dict[str, Mixtures], suffix: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["split", "file", "gain", "frequencies_hz"])
    for folder, mixtures in sets.items():
        for number, (gain, count) in enumerate(zip(mixtures.gain, mixtures.count, strict=True)):
            heard = " ".join(f"{value:.4f}" for value in mixtures.frequency_hz[number, :count])
            writer.writerow([folder, f"{number:04d}{suffix}", f"{gain:.6f}", heard])
    return text.getvalue()


def pick_examples(layout: SinesLayout) -> dict[str, Signals]:
    """Returns kind -> one signal of each folder (B, T), picked at random, for a picture."""
    rng = np.random.default_rng([layout.seed, 1])
    chosen: dict[str, list[Signals]] = {kind: [] for kind in KINDS}
    for mixtures in draw_sets(layout).values():
        if count := len(mixtures.clean):
            number = int(rng.integers(count))
            for kind, signals in zip(KINDS, kinds_of(mixtures), strict=True):
                chosen[kind].append(signals[number])
    return {kind: np.stack(signals) for kind, signals in chosen.items()}
