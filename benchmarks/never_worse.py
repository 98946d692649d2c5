"""Measures what a model does to sound that needs no cleaning, and to voices unlike its training's.

    python benchmarks/never_worse.py TESTSET DATA [--model NAME|PATH] [--dry-run]

TESTSET is a folder of pairs for `quieten evaluate`; of DATA the folders speech_test, noise_test,
music_test and speech_train are read. Children, whispering and shouting are imitated by code from
speech_test. Writes a section of docs/benchmarks.md, unless --dry-run is given. Needs
quieten[eval,pesq].
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.linalg import solve_toeplitz
from scipy.signal import lfilter

from common import PAGE, measured, table, write_section
from quality import is_wet
from quieten import Denoiser, read_audio
from quieten.degrade import add_noise, change_speed, fit_length, rms
from quieten.guard import VoiceGuard
from quieten.metrics import METRICS
from quieten.testsets.pairs import read_testset

COMMAND = "python benchmarks/never_worse.py TESTSET DATA"
RATE = 16_000
CLIPS, SECONDS = 12, 8.0
SNR_DB = 5.0
HEADINGS = ("PESQ-WB", "STOI", "SI-SDR dB")
MEASURED = ("pesq_wb", "stoi", "si_sdr_db")
LANGUAGES = {
    "German": "kerstin_*",
    "French": "asterisk_fr*",
    "Spanish": "asterisk_es*",
    "Italian": "asterisk_it*",
    "Russian": "asterisk_ru*",
    "Arabic": "asc_*",
}

Sound = NDArray[np.float32]
Change = Callable[[Sound, np.random.Generator], Sound]


def main() -> None:
    """Measures, prints, and writes the section."""
    options = parse()
    denoiser = Denoiser(options.model)
    text = "\n\n".join(
        [
            f"`{COMMAND} --model {options.model}`. {measured()}",
            clean_section(denoiser, options.testset),
            voices_section(denoiser, options.data),
            silence_section(denoiser),
            music_section(denoiser, options.data / "music_test"),
        ]
    )
    print(text)
    if not options.dry_run:
        write_section(PAGE, "never-worse", text)


def parse() -> argparse.Namespace:
    """Returns what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("testset", type=Path, metavar="TESTSET")
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--model", default="speech")
    parser.add_argument("--dry-run", action="store_true", help="leave the page alone")
    return parser.parse_args()


def clean_section(denoiser: Denoiser, testset: Path) -> str:
    """Returns what becomes of the clean sides of a test set."""
    items = read_testset(testset)[::3]
    clips = [read_mono(item.clean) for item in items if item.clean and not is_wet(item)]
    scores = np.array([quality(denoiser(clip, RATE), clip) for clip in clips])
    names = ("mean", "worst")
    rows = [
        [name, *formatted(values)]
        for name, values in zip(names, (scores.mean(0), scores.min(0)), strict=True)
    ]
    header = [f"{len(clips)} clean recordings through the model", *HEADINGS]
    return table(header, rows)


def voices_section(denoiser: Denoiser, data: Path) -> str:
    """Returns what becomes of each kind of voice, clean and in noise."""
    noises = [read_mono(path) for path in sound_files(data / "noise_test")]
    kinds = {name: changed(change, data / "speech_test") for name, change in CHANGES.items()}
    kinds |= {name: voices(data / "speech_train", glob) for name, glob in LANGUAGES.items()}
    header = ["voice", "clean: PESQ-WB", "SI-SDR dB", "voice lost s"]
    header += [f"at {SNR_DB:.0f} dB: PESQ-WB", "STOI", "SI-SDR dB"]
    return table(header, [voice_row(denoiser, name, c, noises) for name, c in kinds.items()])


def changed(change: Change, folder: Path) -> Iterator[Sound]:
    """Yields the voices of a folder, each after a change."""
    for number, clip in enumerate(voices(folder, "*")):
        yield change(clip, np.random.default_rng(number))


def voice_row(
    denoiser: Denoiser, name: str, clips: Iterator[Sound], noises: Sequence[Sound]
) -> list[str]:
    """Returns the row of a kind of voice."""
    untouched, before, after, lost_s = [], [], [], 0.0
    for number, clip in enumerate(clips):
        output = denoiser(clip, RATE)
        untouched.append(quality(output, clip))
        guard = VoiceGuard(RATE)
        guard.feed(clip[None], output[None], last=True)
        lost_s += guard.verdict().lost_s
        noise = np.resize(noises[number % len(noises)], clip.size)
        noisy = add_noise(clip, noise, RATE, snr_db=SNR_DB)
        before.append(quality(noisy, clip))
        after.append(quality(denoiser(noisy, RATE), clip))
    pesq, _, si_sdr_db = formatted(np.mean(untouched, axis=0))
    arrows = [
        f"{old} → {new}"
        for old, new in zip(
            formatted(np.mean(before, axis=0)), formatted(np.mean(after, axis=0)), strict=True
        )
    ]
    return [name, pesq, si_sdr_db, f"{lost_s:.1f}", *arrows]


def silence_section(denoiser: Denoiser) -> str:
    """Returns what becomes of digital silence and of a quiet room without a voice."""
    room = np.random.default_rng(1).standard_normal(10 * RATE).astype(np.float32)
    rows = []
    for name, level in (("digital silence", 0.0), ("white noise at -70 dBFS", 10 ** (-70 / 20))):
        output = denoiser(room * np.float32(level), RATE)
        peak = float(np.abs(output).max())
        rows.append([name, f"{20 * np.log10(peak):.0f} dBFS" if peak else "silence"])
    return table(["in", "peak out"], rows)


def music_section(denoiser: Denoiser, folder: Path) -> str:
    """Returns what a model for speech takes from music, which it was not made for."""
    rows = []
    for path in sound_files(folder):
        music, sample_rate = read_audio(path)
        output = denoiser(music, sample_rate)
        level_db = 20 * np.log10(rms(output.ravel()) / rms(music.ravel()))
        si_sdr_db = METRICS["si_sdr_db"](output[0], music[0], sample_rate)
        rows.append([path.stem, f"{level_db:+.1f}", f"{si_sdr_db:.1f}"])
    return table(["music", "level dB", "SI-SDR dB"], rows)


def quality(output: Sound, clean: Sound) -> list[float]:
    """Returns PESQ-WB, STOI and SI-SDR in dB."""
    return [METRICS[name](output, clean, RATE) for name in MEASURED]


def formatted(values: Sequence[float] | NDArray[np.float64]) -> list[str]:
    """Returns the three of `quality` as the tables show them."""
    pesq, stoi, si_sdr_db = values
    return [f"{pesq:.2f}", f"{stoi:.3f}", f"{si_sdr_db:.1f}"]


def sound_files(folder: Path, pattern: str = "*") -> list[Path]:
    """Returns the recordings of a folder in order."""
    return sorted(p for p in folder.glob(pattern) if p.suffix in {".flac", ".wav", ".opus", ".ogg"})


def read_mono(path: Path) -> Sound:
    """Returns a recording (T,) at the rate of the measurements."""
    sound, sample_rate = read_audio(path)
    mono: Sound = soxr.resample(sound.mean(axis=0), sample_rate, RATE).astype(np.float32)
    return mono


def voices(folder: Path, pattern: str) -> Iterator[Sound]:
    """Yields clips of different recordings, spread evenly over the folder."""
    paths = sound_files(folder, pattern)
    for path in paths[:: max(1, len(paths) // CLIPS)][:CLIPS]:
        yield read_mono(path)[: round(SECONDS * RATE)]


def whisper(voice: Sound, rng: np.random.Generator) -> Sound:
    """Returns the voice without its pitch: noise through the filter of the mouth.

    Linear prediction (Atal & Hanauer 1971) over 32 ms; the residual is replaced by white noise of
    the same energy, and low frequencies, which a whisper lacks, fall.
    """
    length, order = 512, 18
    window = np.hanning(length + 1)[:-1]
    result = np.zeros(voice.size + length)
    padded = np.pad(voice.astype(np.float64), (0, length))
    for start in range(0, voice.size, length // 2):
        frame = padded[start : start + length] * np.hanning(length)
        correlation = np.correlate(frame, frame, "full")[length - 1 : length + order]
        if correlation[0] < 1e-6:
            continue
        correlation[0] *= 1.001
        taps = solve_toeplitz(correlation[:-1], correlation[1:])
        energy = max(correlation[0] - taps @ correlation[1:], 0.0) / np.square(window).sum()
        noise = rng.standard_normal(length) * np.sqrt(energy)
        result[start : start + length] += lfilter([1.0], [1.0, *-taps], noise) * window
    whispered = lfilter([1.0, -0.9], [1.0], result[: voice.size])
    return (whispered * rms(voice) / max(rms(whispered), 1e-9)).astype(np.float32)


def shout(voice: Sound, rng: np.random.Generator) -> Sound:
    """Returns the voice higher, with stronger high frequencies and evener, as effort makes it."""
    high = fit_length(change_speed(voice, 1.2), voice.size)
    bright = high + 1.5 * np.diff(high, prepend=high[:1])
    return (0.25 * np.tanh(4 * bright / max(float(np.abs(bright).max()), 1e-9))).astype(np.float32)


CHANGES: dict[str, Change] = {
    "as recorded (English)": lambda voice, rng: voice,
    "like a child: 35 % higher": lambda voice, rng: change_speed(voice, 1.35),
    "like a giant: 25 % lower": lambda voice, rng: change_speed(voice, 0.75),
    "whispered": whisper,
    "shouted": shout,
    "far too quiet: -40 dB": lambda voice, rng: voice * np.float32(0.01),
}


if __name__ == "__main__":
    main()
