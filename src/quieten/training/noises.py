"""Noises made by code: variety that no folder of recordings has.

Each takes (length, sample_rate, rng) and returns float32 (T,) at an arbitrary level.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from quieten.degrade import Waveform, fft_size

NoiseMaker = Callable[[int, int, np.random.Generator], Waveform]


def coloured(length: int, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Returns noise whose power falls (or rises) by a random slope, with random bumps."""
    size = fft_size(length)
    frequency_hz = np.fft.rfftfreq(size, 1 / sample_rate)
    slope_db = rng.uniform(-9, 2)  # per octave: brown is -6, pink -3, white 0
    octaves = np.log2(np.maximum(frequency_hz, 30) / 1000)
    gain_db = slope_db * octaves
    for _ in range(rng.integers(0, 4)):
        centre, width = rng.uniform(-4, 3), rng.uniform(0.1, 1.0)
        gain_db += rng.uniform(-10, 15) * np.exp(-(((octaves - centre) / width) ** 2))
    spectrum = np.fft.rfft(rng.standard_normal(size)) * 10 ** (gain_db / 20)
    return np.fft.irfft(spectrum, size)[:length].astype(np.float32)


def hum(length: int, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Returns harmonics of the mains or of a motor, in a little coloured noise."""
    fundamental_hz = rng.choice([50.0, 60.0, rng.uniform(40, 400)])
    time = np.arange(length) / sample_rate
    count = int(min(rng.integers(2, 25), sample_rate / 2 // fundamental_hz))
    wobble = rng.uniform(0, 0.01) * np.sin(2 * np.pi * rng.uniform(0.1, 4) * time)
    sound = np.zeros(length)
    for k in range(1, count + 1):
        phase = 2 * np.pi * (k * fundamental_hz * (time + wobble / 5) + rng.uniform())
        sound += rng.uniform(0.1, 1) * k ** rng.uniform(-1.5, 0) * np.sin(phase)
    background = coloured(length, sample_rate, rng)
    share = rng.uniform(0.02, 0.5) * np.std(sound) / max(float(np.std(background)), 1e-9)
    return (sound + share * background).astype(np.float32)


def clicks(length: int, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Returns short decaying knocks at random times: keys, cutlery, steps."""
    sound = np.zeros(length)
    for _ in range(rng.poisson(rng.uniform(1, 12) * length / sample_rate) + 1):
        decay_s = rng.uniform(0.001, 0.05)
        size = min(int(6 * decay_s * sample_rate), length)
        time = np.arange(size) / sample_rate
        tone = np.sin(2 * np.pi * rng.uniform(150, 6000) * time)
        knock = np.exp(-time / decay_s) * (rng.standard_normal(size) + rng.uniform(0, 3) * tone)
        start = rng.integers(0, max(length - size, 1))
        sound[start : start + size] += rng.uniform(0.1, 1) * knock
    return sound.astype(np.float32)


def modulated(length: int, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Returns coloured noise that comes and goes: waves, gusts, machines, passing cars."""
    points = max(int(rng.uniform(0.5, 12) * length / sample_rate), 2)
    envelope_db = rng.uniform(-30, 0, points)
    position = np.linspace(0, points - 1, length)
    envelope = 10 ** (np.interp(position, range(points), envelope_db) / 20)
    return (coloured(length, sample_rate, rng) * envelope).astype(np.float32)


def wind(length: int, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Returns gusts on a microphone: rumble that swells and, when it is strong, tears."""
    size = fft_size(length)
    frequency_hz = np.fft.rfftfreq(size, 1 / sample_rate)
    corner_hz = rng.uniform(60, 400)
    gain = (1 + (frequency_hz / corner_hz) ** 2) ** -rng.uniform(0.5, 1.2)
    gain[frequency_hz < 20] = 0
    rumble = np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) * gain, size)[:length]
    strength = smooth_steps(length, sample_rate, rng.uniform(0.3, 3), rng) ** 2
    rumble *= strength / max(float(np.std(rumble)), 1e-9)
    return np.tanh(rng.uniform(0.3, 3) * rumble).astype(np.float32)


def engine(length: int, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Returns a machine whose speed drifts: strokes, their harmonics and what they shake."""
    speed_hz = rng.uniform(8, 120) * 2 ** (
        rng.uniform(0, 1) * (smooth_steps(length, sample_rate, rng.uniform(0.1, 1), rng) - 0.5)
    )
    turn = np.cumsum(speed_hz) / sample_rate
    strokes = np.maximum(np.cos(2 * np.pi * turn), 0) ** rng.uniform(2, 20)
    tone = np.zeros(length)
    for k in range(1, int(rng.integers(3, 14))):
        if k * speed_hz.max() < sample_rate / 2:
            tone += rng.uniform(0.1, 1) / k * np.sin(2 * np.pi * (k * turn + rng.uniform()))
    shaken = coloured(length, sample_rate, rng) * (rng.uniform(0, 1) + strokes)
    share = rng.uniform(0.1, 2) * np.std(tone) / max(float(np.std(shaken)), 1e-9)
    return (tone + share * shaken).astype(np.float32)


def signals(length: int, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Returns tones that are switched: telephones, alarms, reversing lorries, birds' calls."""
    time = np.arange(length) / sample_rate
    sound = np.zeros(length)
    for _ in range(rng.integers(1, 4)):
        period_s, share = rng.uniform(0.15, 2), rng.uniform(0.1, 0.8)
        phase = (time / period_s + rng.uniform()) % 1
        envelope = np.clip(np.minimum(phase, share - phase) * period_s / 0.005, 0, 1)
        pitch_hz = rng.uniform(300, 5000) * 2 ** (rng.uniform(-0.5, 0.5) * phase)
        angle = 2 * np.pi * np.cumsum(pitch_hz) / sample_rate
        sound += rng.uniform(0.2, 1) * envelope * np.sin(angle + rng.uniform(0, 2) * np.sin(angle))
    background = coloured(length, sample_rate, rng)
    level = rng.uniform(0, 0.3) * np.std(sound) / max(float(np.std(background)), 1e-9)
    return (sound + level * background).astype(np.float32)


def smooth_steps(
    length: int, sample_rate: int, changes_hz: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Returns (T,) between 0 and 1, gliding between random values that change so often."""
    points = max(int(changes_hz * length / sample_rate) + 2, 3)
    position = np.linspace(0, points - 1, length)
    low = np.minimum(position.astype(int), points - 2)
    glide = 0.5 - 0.5 * np.cos(np.pi * (position - low))
    values = rng.uniform(0, 1, points)
    return np.asarray(values[low] + glide * (values[low + 1] - values[low]))


NOISES: dict[str, NoiseMaker] = {
    "coloured": coloured,
    "hum": hum,
    "clicks": clicks,
    "modulated": modulated,
    "wind": wind,
    "engine": engine,
    "signals": signals,
}
