"""Makes the demo clip of the package, and the picture of it in the README.

Speech comes from Debian's espeak-ng, the noise from the code below: the air of a large room,
the murmur of people, mains hum and some clatter of dishes. One seed, so every run gives the
same samples (with the same version of espeak-ng).

    python benchmarks/make_demo_clip.py                                # src/quieten/assets/*.flac
    python benchmarks/make_demo_clip.py --picture docs/images/demo.png # from the clip and the model
"""

import argparse
import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

Waveform = NDArray[np.float64]

SAMPLE_RATE = 16_000
SNR_DB = 4.0
PEAK = 0.7
SEED = 20261120
ASSETS = Path(__file__).resolve().parents[1] / "src" / "quieten" / "assets"
TEXT = (
    "The harbour wakes before the town does. "
    "Ropes creak, a kettle sings, and somebody counts the boats that came home."
)
LEAD_IN_S, LEAD_OUT_S = 0.8, 0.5  # noise alone, so that the ear hears what goes


def speak(text: str) -> Waveform:
    """Speech at 16 kHz from espeak-ng, with a moment of silence on both sides, shape (T,)."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise SystemExit("espeak-ng is missing: apt-get install espeak-ng")
    command = [program, "-v", "en-gb", "-s", "155", "-p", "42", "--stdout", text]
    wav = subprocess.run(command, check=True, capture_output=True).stdout
    samples, sample_rate = soundfile.read(io.BytesIO(wav), dtype="float64")
    speech = soxr.resample(samples, sample_rate, SAMPLE_RATE, quality="VHQ")
    before, after = int(LEAD_IN_S * SAMPLE_RATE), int(LEAD_OUT_S * SAMPLE_RATE)
    return np.pad(speech, (before, after))


def coloured_noise(rng: np.random.Generator, length: int, slope_db: float) -> Waveform:
    """Noise whose power falls by `slope_db` per octave above 50 Hz, power 1."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequency_hz = np.maximum(np.fft.rfftfreq(length, 1 / SAMPLE_RATE), 50.0)
    noise = np.fft.irfft(spectrum * frequency_hz ** (-slope_db / 6.02), length)
    return noise / np.sqrt(np.mean(noise**2))


def slow_gain(rng: np.random.Generator, length: int, rate_hz: float, depth_db: float) -> Waveform:
    """A gain that wanders by about `depth_db`, `rate_hz` times a second."""
    points = rng.standard_normal(int(length / SAMPLE_RATE * rate_hz) + 3)
    at = np.arange(length) * rate_hz / SAMPLE_RATE
    return 10 ** (depth_db / 20 * np.interp(at, np.arange(len(points)), points))


def murmur(rng: np.random.Generator, length: int) -> Waveform:
    """Noise in the bands of speech, each coming and going like syllables far away, power 1."""
    frequency_hz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    total = np.zeros(length)
    for centre_hz in (220.0, 450.0, 700.0, 1200.0, 1900.0, 2600.0):
        octaves = np.log2(np.maximum(frequency_hz, 1.0) / centre_hz)
        spectrum = np.fft.rfft(rng.standard_normal(length)) * np.exp(-0.5 * (octaves / 0.25) ** 2)
        band = np.fft.irfft(spectrum, length) * slow_gain(rng, length, 5.0, 5.0)
        total += band / np.sqrt(np.mean(band**2)) * (centre_hz / 220.0) ** -0.6
    return total / np.sqrt(np.mean(total**2))


def hum(length: int) -> Waveform:
    """Mains hum: 50 Hz and some overtones, power 1."""
    seconds = np.arange(length) / SAMPLE_RATE
    parts = {50: 0.5, 100: 1.0, 150: 0.35, 200: 0.3, 300: 0.2, 400: 0.1}
    wave = sum(level * np.sin(2 * np.pi * f * seconds + f) for f, level in parts.items())
    return np.asarray(wave / np.sqrt(np.mean(np.square(wave))))


def clatter(rng: np.random.Generator, length: int, count: int) -> Waveform:
    """Dishes: short strokes that ring at a few unrelated pitches, peak 1."""
    seconds = np.arange(int(0.25 * SAMPLE_RATE)) / SAMPLE_RATE
    total = np.zeros(length + len(seconds))
    for start in rng.integers(0, length, count):
        pitches_hz = rng.uniform(1500, 6500, 4)
        decay_s = rng.uniform(0.008, 0.05, 4)
        ring = np.sin(2 * np.pi * pitches_hz[:, None] * seconds)
        stroke = np.sum(ring * np.exp(-seconds / decay_s[:, None]), axis=0)
        total[start : start + len(seconds)] += rng.uniform(0.3, 1.0) * stroke
    return total[:length] / np.max(np.abs(total))


def place(rng: np.random.Generator, length: int) -> Waveform:
    """The noise of a busy room, shape (T,)."""
    air = coloured_noise(rng, length, slope_db=4.0) * slow_gain(rng, length, 0.7, 2.0)
    people = murmur(rng, length) * slow_gain(rng, length, 0.5, 2.0)
    return air + 0.6 * people + 0.3 * hum(length) + 2.0 * clatter(rng, length, 9)


def quantise(waveform: Waveform) -> Waveform:
    return np.rint(waveform * 32768) / 32768


def make_clip(folder: Path) -> None:
    """Writes demo_clean.flac and demo_noisy.flac (16 kHz, mono, 16 bit) into `folder`."""
    speech = speak(TEXT)
    noise = place(np.random.default_rng(SEED), len(speech))
    noise *= np.sqrt(np.mean(speech**2) / np.mean(noise**2)) * 10 ** (-SNR_DB / 20)
    scale = PEAK / np.max(np.abs(speech + noise))
    folder.mkdir(parents=True, exist_ok=True)
    for name, waveform in (("clean", speech), ("noisy", speech + noise)):
        stored = np.asarray(quantise(scale * waveform) * 32768, dtype=np.int16)
        soundfile.write(folder / f"demo_{name}.flac", stored, SAMPLE_RATE, subtype="PCM_16")


def level_db(waveform: Waveform) -> Waveform:
    """Log-magnitude spectrogram in dB for the picture, shape (F, N)."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 512)[::128]
    spectrum = np.fft.rfft(frames * np.hanning(512), axis=-1)
    return 20 * np.log10(np.abs(spectrum.T) + 1e-4)


def draw_picture(folder: Path, target: Path) -> None:
    """Draws the spectrograms of the noisy clip and of what quieten makes of it."""
    import matplotlib  # the dev extra has it; nothing else here needs it

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from quieten import Denoiser

    noisy, sample_rate = soundfile.read(folder / "demo_noisy.flac", dtype="float32")
    panels = {"noisy": noisy, "denoised": Denoiser()(noisy, sample_rate)}
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), sharey=True, layout="constrained")
    for axis, (title, waveform) in zip(axes, panels.items(), strict=True):
        extent = (0.0, len(waveform) / sample_rate, 0.0, sample_rate / 2000)
        axis.imshow(
            level_db(waveform), origin="lower", aspect="auto", extent=extent, vmin=-50, vmax=30
        )
        axis.set(title=title, xlabel="seconds")
    axes[0].set_ylabel("kHz")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110, metadata={"Software": None})  # no version: same bytes again
    plt.close(figure)


def main() -> None:
    """Makes the clip, or with --picture the picture."""
    parser = argparse.ArgumentParser(description="Make the demo clip or the picture of it.")
    parser.add_argument("--folder", type=Path, default=ASSETS, help="where the clip lies")
    parser.add_argument("--picture", type=Path, help="draw this PNG instead of making the clip")
    options = parser.parse_args()
    if options.picture is not None:
        draw_picture(options.folder, options.picture)
    else:
        make_clip(options.folder)


if __name__ == "__main__":
    main()
