"""Measures speed and memory of our models and of other denoisers, one thread each.

    python benchmarks/speed.py [--model NAME|PATH]... [--peer NAME]... [--memory] [--dry-run]

Without names: all models, the classical denoisers, and the peers of `peers.py` that are here.
Writes a section of docs/benchmarks.md, unless --dry-run is given. All is measured in one run, each
system in processes of its own, so that ratios hold where seconds do not. `--memory` also takes a
5-minute and a 2-hour stereo file at 48 kHz through our models (minutes, 3 GB of disk). Needs a
Unix system; a `--peer-python` may hold the packages of peers.txt instead of this environment.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from common import (
    HERE,
    ONE_THREAD,
    PAGE,
    choose,
    measured,
    peers_here,
    table,
    versions,
    write_section,
)
from peers import PEERS
from quieten import Stream
from quieten.baselines import BASELINES
from quieten.runtime import available

DEMO = HERE.parent / "src" / "quieten" / "assets" / "demo_noisy.flac"
CONDITIONS = {"16 kHz mono": (16_000, 1), "48 kHz stereo": (48_000, 2)}
REPEATS = 3  # the best counts
LONG_MINUTES = (5, 120)

# A child's peak counts from the size of its parent, so a small process stands between.
WATCH = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
# What a program of one file does with the package, as peers.py does it with a peer.
PROGRAM = """
import sys
from quieten import Denoiser, read_audio, write_audio
noisy, rate = read_audio(sys.argv[2])
write_audio(sys.argv[3], Denoiser(sys.argv[1])(noisy, rate), rate)
"""


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        kind: "model" or "peer".
        name: of the model or the peer.
        about: how the tables call it.
        python: the interpreter that has its packages.
    """

    kind: str
    name: str
    about: str
    python: str = sys.executable

    def program(self, source: Path, target: Path) -> list[str]:
        """Returns the command that denoises one file in a fresh process."""
        if self.kind == "model":
            return [self.python, "-c", PROGRAM, self.name, str(source), str(target)]
        if sound_filter := PEERS[self.name].sound_filter:
            command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", str(source)]
            return [*command, "-af", sound_filter, str(target)]
        return [self.python, str(HERE / "peers.py"), self.name, str(source), str(target)]


def main() -> None:
    """Measures, prints, and writes the section."""
    options = parse()
    found = peers_here(options.peer_python)
    ours, others = choose(options.model, options.peer, [*available(), *BASELINES], found)
    subjects = [Subject("model", name, f"quieten `{Path(name).stem}`") for name in ours]
    subjects += [Subject("peer", n, found[n]["about"], options.peer_python) for n in others]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = [factors(subjects, folder, options.seconds)]
        parts += [paced(subjects, folder, options.seconds), programs(subjects, folder)]
        if options.memory:
            parts.append(long_files([s for s in subjects if s.kind == "model"][:1], folder))
    text = "\n\n".join([measured(versions(others, found)), *parts])
    print(text)
    if not options.dry_run:
        write_section(options.page, "speed", text)


def parse() -> argparse.Namespace:
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", help="one of ours; may be given again")
    parser.add_argument("--peer", action="append", choices=PEERS, help="may be given again")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter of the peers")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the sounds")
    parser.add_argument("--memory", action="store_true", help="also files of 5 minutes and 2 hours")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write into")
    parser.add_argument("--dry-run", action="store_true", help="prints only")
    return parser.parse_args()


def sound_file(folder: Path, rate: int, n_channels: int, seconds: float) -> Path:
    """Writes the demo clip, repeated, and returns its file; channels are shifted copies."""
    clip, clip_rate = soundfile.read(DEMO, dtype="float32")
    clip = soxr.resample(clip, clip_rate, rate)
    length = round(seconds * rate)
    channels = [np.resize(np.roll(clip, n * rate), length) for n in range(n_channels)]
    path = folder / f"{rate}_{n_channels}_{seconds:g}.wav"
    soundfile.write(path, np.stack(channels, axis=1), rate, subtype="PCM_16")
    return path


def timing(what: str, subject: Subject, path: Path) -> float | list[float] | None:
    """Returns what `timing.py` measures, in a process with one thread."""
    command = [subject.python, str(HERE / "timing.py"), what, subject.kind, subject.name, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ONE_THREAD)
    if done.returncode:
        raise SystemExit(f"{subject.about}: {done.stderr.strip().splitlines()[-1]}")
    answer: float | list[float] | None = json.loads(done.stdout)
    return answer


def factors(subjects: Sequence[Subject], folder: Path, seconds: float) -> str:
    """Returns the table of real-time factors; rounds alternate between the systems."""
    columns: dict[str, dict[Subject, float]] = {}
    for condition, (rate, n_channels) in CONDITIONS.items():
        path = sound_file(folder, rate, n_channels, seconds)
        for what, word in (("whole", "file"), ("stream", "10 ms pieces")):
            best = columns.setdefault(f"{condition}, {word}", {})
            for _ in range(REPEATS):
                for subject in subjects:
                    factor = timing(what, subject, path)
                    if isinstance(factor, float):
                        best[subject] = min(factor, best.get(subject, factor))
    rows = [
        [s.about, *(ratio_cell(best.get(s), best.get(subjects[0])) for best in columns.values())]
        for s in subjects
    ]
    return (
        "Processor seconds for each second of sound, and the ratio to the first row (best of"
        f" {REPEATS}, {seconds:g} s of sound):\n\n" + table(["system", *columns], rows)
    )


def ratio_cell(factor: float | None, ours: float | None) -> str:
    """Returns a factor with its ratio to ours; a dash where there is none."""
    if factor is None:
        return "–"
    return f"{factor:.4f}" + (f" ({factor / ours:.2g} ×)" if ours else "")


def paced(subjects: Sequence[Subject], folder: Path, seconds: float) -> str:
    """Returns the table of a loop that gets 10 ms of sound every 10 ms."""
    path = sound_file(folder, 16_000, 1, seconds)
    rows = []
    for subject in subjects:
        took = timing("paced", subject, path)
        if isinstance(took, list):
            rows.append([subject.about, *paced_cells(took), f"{latency_ms(subject):.0f}"])
    header = ["system", "p50 ms", "p95 ms", "p99 ms", "max ms", "late", "latency ms"]
    return (
        "Milliseconds from call to answer in a loop that gets 10 ms of sound at 16 kHz every 10 ms"
        f" ({seconds:g} s). *Late* counts answers after more than 10 ms; *latency* is what the"
        " method itself needs to hear:\n\n" + table(header, rows)
    )


def latency_ms(subject: Subject) -> float:
    """Returns the latency by design of something that streams: frame and delay."""
    if subject.kind == "model":
        return Stream(16_000, model=subject.name).latency_ms
    return PEERS[subject.name].latency_ms or 0.0


def paced_cells(took: Sequence[float]) -> list[str]:
    """Returns p50, p95, p99 and maximum of milliseconds, and how many are beyond 10."""
    percentiles: NDArray[np.float64] = np.percentile(took, [50, 95, 99, 100])
    return [*(f"{value:.2f}" for value in percentiles), str(sum(ms > 10 for ms in took))]


def programs(subjects: Sequence[Subject], folder: Path) -> str:
    """Returns the table of fresh processes: start-up with a second of sound, peak memory."""
    second = sound_file(folder, 16_000, 1, 1.0)
    minute = sound_file(folder, 48_000, 2, 60.0)
    rows = []
    for subject in subjects:
        start_s = min(wall_s(subject.program(second, folder / "out.wav")) for _ in range(REPEATS))
        peak = peak_mb(subject.program(minute, folder / "out.wav"))
        rows.append([subject.about, f"{start_s:.2f}", f"{peak:.0f}"])
    return (
        "A fresh process from file to file: seconds for one second of 16 kHz mono (imports and"
        f" loading included, best of {REPEATS}), and peak memory with one minute of 48 kHz"
        " stereo:\n\n" + table(["system", "start-up s", "peak MB"], rows)
    )


def wall_s(command: Sequence[str]) -> float:
    """Returns the seconds of the clock that a command takes."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=os.environ | ONE_THREAD)
    return time.perf_counter() - start


def peak_mb(command: Sequence[str]) -> float:
    """Returns the peak resident memory of a command, in MB."""
    watched = [sys.executable, "-c", WATCH, *command]
    env = os.environ | ONE_THREAD
    done = subprocess.run(watched, check=True, capture_output=True, text=True, env=env)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return int(done.stdout) * unit / 1e6


def long_files(subjects: Sequence[Subject], folder: Path) -> str:
    """Returns the table of peak memory of `quieten denoise` on long 48 kHz stereo files."""
    rows = []
    for minutes in LONG_MINUTES:
        path = folder / "long.wav"
        minute = soundfile.read(sound_file(folder, 48_000, 2, 60.0), dtype="int16")[0]
        with soundfile.SoundFile(path, "w", 48_000, 2, "PCM_16") as file:
            for _ in range(minutes):
                file.write(minute)
        command = [sys.executable, "-m", "quieten", "denoise", str(path)]
        command += ["-o", str(folder / "long_out.wav"), "--overwrite", "--model"]
        rows.append([f"{minutes} min", *(f"{peak_mb([*command, s.name]):.0f}" for s in subjects)])
    header = ["length", *(f"{subject.about}, peak MB" for subject in subjects)]
    return "`quieten denoise` on long files, 48 kHz stereo:\n\n" + table(header, rows)


if __name__ == "__main__":
    main()
