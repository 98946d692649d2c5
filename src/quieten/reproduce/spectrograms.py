"""Pictures of what a system made of an item: spectrograms before, after, and as it was."""

from pathlib import Path

import numpy as np

from quieten.audio import read_audio
from quieten.errors import ConfigError
from quieten.evaluation.evaluate import Evaluation
from quieten.reproduce.signal_pictures import new_figure, save_figure
from quieten.stft import stft

RANGE_DB = 90.0  # shown below the loudest point
N_FFT = 1024


def draw_item(evaluation: Evaluation, system: str, path: Path, number: int = 0) -> None:
    """Writes a PNG: the degraded sound of an item, the restored one, and the clean one.

    Args:
        evaluation: that was finished.
        system: whose result is shown; if it has none, only the others are.
        path: of the picture.
        number: of the item.

    Raises:
        ConfigError: there is no such item.
        AudioError: a sound cannot be read.
        MissingExtra: matplotlib is not installed.
    """
    if not 0 <= number < len(evaluation.items):
        raise ConfigError(f"no item {number}: there are {len(evaluation.items)}")
    item = evaluation.items[number]
    sounds = {"degraded": item.noisy}
    restored = evaluation.sound(system, item.name)
    if restored.is_file():  # the system may have failed, or not be there
        sounds[system] = restored
    if item.clean:
        sounds["clean"] = item.clean
    pictures = {title: _levels_db(file) for title, file in sounds.items()}
    top = max(float(levels.max()) for levels, _, _ in pictures.values())
    figure = new_figure(4.2 * len(pictures), 3.4)
    for place, (title, (levels, seconds, rate)) in enumerate(pictures.items(), 1):
        axes = figure.add_subplot(1, len(pictures), place)
        axes.imshow(
            levels,
            origin="lower",
            aspect="auto",
            extent=(0, seconds, 0, rate / 2000),
            vmin=top - RANGE_DB,
            vmax=top,
            cmap="magma",
        )
        axes.set_title(title)
        axes.set_xlabel("s")
        axes.set_ylabel("kHz")
    save_figure(figure, path)


def _levels_db(file: Path) -> tuple[np.ndarray, float, int]:
    waveform, rate = read_audio(file)
    power = np.square(np.abs(stft(waveform[0], N_FFT, N_FFT // 4)))
    return 10 * np.log10(power + 1e-9), waveform.shape[1] / rate, rate
