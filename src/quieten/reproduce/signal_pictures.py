"""Pictures of short signals: examples side by side, and what a discriminator does in training.

B signals, T samples. Files are whole or not there.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quieten.errors import ConfigError, MissingExtra
from quieten.sines import Signals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[list[int], list[float]]  # steps, values

_PANELS = {
    "distance": ("l1",),
    "adversarial term": ("adversarial", "discriminator"),
    "accuracy of the discriminator": ("discriminator_accuracy",),
}
_POINTS = 400  # of a curve: each is the mean of the steps that it stands for


def new_figure(width: float, height: float) -> "Figure":
    """Returns an empty figure of that size in inches.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # not pyplot: no window, no global state
    except ImportError as error:
        raise MissingExtra("eval", "drawing a picture") from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: "Figure", path: Path) -> None:
    """Writes a PNG that is whole or not there."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(temporary, format="png", dpi=100)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def draw_signals(signals: Mapping[str, Signals], sample_rate: int, path: Path) -> None:
    """Writes a PNG with a line for each signal: waveforms on the left, spectra on the right.

    Args:
        signals: heading -> (B, T); a column of each kind for each of them.
        sample_rate: Hz.
        path: of the picture.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    rows, columns = len(next(iter(signals.values()))), len(signals)
    figure = new_figure(4 * columns + 1, 1.5 * rows + 1)
    grid = figure.subplots(rows, 2 * columns, squeeze=False, sharex="col", sharey="col")
    for column, (name, waveforms) in enumerate(signals.items()):
        grid[0][column].set_title(name)
        grid[0][columns + column].set_title(f"{name}, spectrum")
        grid[-1][column].set_xlabel("time (s)")
        grid[-1][columns + column].set_xlabel("frequency (Hz)")
        for row, waveform in enumerate(waveforms):
            _draw_wave(grid[row][column], waveform, sample_rate)
            _draw_spectrum(grid[row][columns + column], waveform, sample_rate)
    for row in range(rows):
        grid[row][0].set_ylabel(str(row + 1), rotation=0)
    _share_limits([line[:columns] for line in grid])
    _share_limits([line[columns:] for line in grid])
    save_figure(figure, path)


def _draw_wave(axes: "Axes", waveform: Signals, sample_rate: int) -> None:
    axes.plot(np.arange(waveform.size) / sample_rate, waveform, linewidth=0.8)


def _draw_spectrum(axes: "Axes", waveform: Signals, sample_rate: int) -> None:
    amplitude = np.abs(np.fft.rfft(waveform)) * 2 / waveform.size
    frequency_hz = np.fft.rfftfreq(waveform.size, 1 / sample_rate)
    axes.plot(frequency_hz, amplitude, linewidth=0.8, color="tab:orange")


def _share_limits(lines: Sequence[Sequence["Axes"]]) -> None:
    """Gives all the same height, so that what is lost or added can be seen."""
    limits = [axes.get_ylim() for line in lines for axes in line]
    low, high = min(pair[0] for pair in limits), max(pair[1] for pair in limits)
    for line in lines:
        for axes in line:
            axes.set_ylim(low, high)


def read_curves(path: Path) -> dict[str, Curve]:
    """Returns column -> its curve of a log of training; what is no number is left out.

    Raises:
        ConfigError: there is no such file, or it is no log.
    """
    curves: dict[str, Curve] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                step = int(row.pop("step"))
                for name, text in row.items():
                    if text and math.isfinite(float(text)):
                        steps, values = curves.setdefault(name, ([], []))
                        steps.append(step)
                        values.append(float(text))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file: name the folder of a run") from None
    except (KeyError, TypeError, ValueError):
        raise ConfigError(f"{path}: is no log of a training run: name another folder") from None
    return curves


def draw_curves(run: Path, path: Path) -> None:
    """Writes a PNG of a run: L1, adversarial term and accuracy of the discriminator over steps.

    Args:
        run: its folder, with log.csv and perhaps validation.csv.
        path: of the picture.

    Raises:
        ConfigError: the folder holds no log, or one without these columns.
        MissingExtra: matplotlib is not installed.
    """
    curves = {name: _smoothed(curve) for name, curve in read_curves(run / "log.csv").items()}
    panels = {
        title: {name: curves[name] for name in names if name in curves}
        for title, names in _PANELS.items()
    }
    if not any(panels.values()):
        names = ", ".join(name for group in _PANELS.values() for name in group)
        raise ConfigError(f"{run / 'log.csv'}: has none of {names}: name a run of signal_gan")
    validation = run / "validation.csv"
    if validation.exists() and (valid := read_curves(validation).get("l1")):
        panels["distance"]["l1, validation"] = valid
    figure = new_figure(8, 8)
    for axes, (title, drawn) in zip(
        figure.subplots(3, 1, sharex=True), panels.items(), strict=True
    ):
        _draw_panel(axes, title, drawn)
    figure.axes[-1].axhline(0.5, color="gray", linestyle=":")  # chance
    figure.axes[-1].set(xlabel="step", ylim=(0, 1.02))
    save_figure(figure, path)


def _draw_panel(axes: "Axes", title: str, curves: Mapping[str, Curve]) -> None:
    axes.set_title(title if curves else f"{title}: not in this run")
    axes.grid(alpha=0.3)
    for name, (steps, values) in curves.items():
        axes.plot(steps, values, label=name)
    if curves:
        axes.legend()


def _smoothed(curve: Curve) -> Curve:
    """Returns at most 400 points, means of neighbours: single batches are noise."""
    groups = np.array_split(np.arange(len(curve[0])), min(_POINTS, len(curve[0])))
    steps, values = np.array(curve[0]), np.array(curve[1])
    return [int(steps[g][-1]) for g in groups], [float(values[g].mean()) for g in groups]
