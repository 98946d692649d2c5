"""A small evaluation with sounds made by code, for the tests of reports."""

from pathlib import Path

import numpy as np

from quieten.audio import write_audio
from quieten.evaluation.results import NOISY, Evaluation, Score, System
from quieten.testsets.pairs import Item

RATE = 16_000
SECONDS = 2.0
CLEAN_HZ, NOISE_HZ = 500, 3000


def tone(frequency_hz: float, level: float, seconds: float = SECONDS, rate: int = RATE):
    """A sine as float32 (T,)."""
    return (
        level * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate)) / rate)
    ).astype(np.float32)


def make(folder: Path, count: int = 4, systems: tuple[str, ...] = ("speech",), names=None):
    """Writes tones with a disturbing tone, which each system weakens; item k gains k by PESQ."""
    names = names or [f"{number:03d}" for number in range(count)]
    clean = tone(CLEAN_HZ, 0.1)
    items, scores = [], {}
    for number, name in enumerate(names):
        noisy_file, clean_file = (folder / part / f"{number}.wav" for part in ("noisy", "clean"))
        for file, sound in ((noisy_file, clean + tone(NOISE_HZ, 0.4)), (clean_file, clean)):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_audio(file, sound, RATE)
        labels = {"snr_db": str(5 * (number % 2) - 5), "noise_type": "tone"}
        items.append(Item(name, noisy_file, clean_file, labels))
        scores["noisy", name] = Score(
            "noisy", name, {"pesq_wb": 1.0, "lsd": 2.0}, {}, None, SECONDS
        )
        for place, system in enumerate(systems):
            file = folder / "eval" / "denoised" / system / f"{name}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_audio(file, clean + tone(NOISE_HZ, 0.004 * (place + 1)), RATE)
            values = {"pesq_wb": 1.0 + number + 0.1 * place, "lsd": 1.0}
            scores[system, name] = Score(system, name, values, {}, 0.1, SECONDS)
    return Evaluation(
        folder / "eval",
        "tones",
        tuple(items),
        (NOISY, *(System(name, "model", name) for name in systems)),
        ("pesq_wb", "lsd"),
        scores,
    )
