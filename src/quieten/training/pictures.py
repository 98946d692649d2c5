"""Pictures of a run, as PNG: its curves, and spectrograms of what it does to a sound.

They need matplotlib (extra `eval`); a run draws them where its setting `pictures` says so.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from quieten.degrade import Waveform
from quieten.errors import MissingExtra
from quieten.stft import stft

RANGE = 9.0
"""Natural logarithms below the loudest value that a spectrogram shows: 78 dB."""


def new_figure(width: float, height: float) -> Any:
    """Returns an empty figure of so many inches, without a window.

    Raises: MissingExtra without matplotlib.
    """
    try:
        from matplotlib.figure import Figure  # not pyplot: no window, no global state
    except ImportError:
        raise MissingExtra("eval", "drawing") from None
    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def draw_curves(run_dir: Path) -> Path:
    """Writes curves.png into a run folder: one panel for each column of both logs.

    Raises: MissingExtra without matplotlib.
    """
    curves = read_curves(run_dir / "log.csv") | read_curves(run_dir / "validation.csv")
    columns = 3
    rows = -(-len(curves) // columns)
    figure = new_figure(12, 2.2 * rows)
    for number, (name, (steps, values)) in enumerate(curves.items(), 1):
        panel = figure.add_subplot(rows, columns, number)
        panel.plot(steps, values, linewidth=0.8)
        panel.set_title(name, fontsize=9)
        panel.tick_params(labelsize=7)
    return written(figure, run_dir / "curves.png")


def read_curves(log: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Returns steps and values of each column of a log."""
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name != "step"]
    steps = [int(row["step"]) for row in rows]
    return {name: (steps, [float(row[name]) for row in rows]) for name in names}


def draw_spectrograms(sounds: Mapping[str, Waveform], sample_rate: int, path: Path) -> Path:
    """Writes the log-magnitude spectrograms of sounds (T,) below each other, on one scale.

    Args: sounds by title.

    Raises: MissingExtra without matplotlib.
    """
    n_fft = 512 if sample_rate > 8000 else 256
    pictures = {
        title: np.log(np.abs(stft(sound, n_fft, n_fft // 4)) + 1e-6)
        for title, sound in sounds.items()
    }
    top = max(float(picture.max()) for picture in pictures.values())
    figure = new_figure(10, 2.4 * len(pictures))
    for number, (title, picture) in enumerate(pictures.items(), 1):
        panel = figure.add_subplot(len(pictures), 1, number)
        extent = (0, sounds[title].size / sample_rate, 0, sample_rate / 2000)
        limits = {"vmin": top - RANGE, "vmax": top}
        panel.imshow(picture, origin="lower", aspect="auto", extent=extent, **limits)
        panel.set_ylabel(f"{title}, kHz", fontsize=8)
    panel.set_xlabel("s", fontsize=8)
    return written(figure, path)


def written(figure: Any, path: Path) -> Path:
    """Writes a figure under another name and renames it; returns its path."""
    temporary = path.with_suffix(".part")
    figure.savefig(temporary, format="png")
    temporary.replace(path)
    return path
