"""Measures real-time factors and peak memory on this machine, one thread.

    python benchmarks/speed.py [--model NAME|PATH] [--memory]

The real-time factor is seconds of work for each second of sound. `--memory` also denoises a
5-minute and a 2-hour stereo file at 48 kHz through the command line (minutes, 3 GB of disk).
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from quieten import Denoiser

Waveform = NDArray[np.float32]

# A child's peak counts from the size of its parent, so a small process stands between.
WATCH = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def main() -> None:
    """Prints a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="speech")
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    denoiser = Denoiser(arguments.model)
    for rate, channels in ((16_000, 1), (48_000, 1), (48_000, 2)):
        noise = np.random.default_rng(1).standard_normal((channels, 30 * rate), dtype=np.float32)
        print(f"whole  {rate:6} Hz x {channels}: {whole(denoiser, 0.05 * noise, rate):.4f}")
        print(f"stream {rate:6} Hz x {channels}: {streamed(denoiser, 0.05 * noise, rate):.4f}")
    if arguments.memory:
        for minutes in (5, 120):
            print(f"peak memory, {minutes:3} min: {peak_mb(arguments.model, minutes):.0f} MB")


def whole(denoiser: Denoiser, noise: Waveform, rate: int) -> float:
    """Returns the best of three real-time factors of one call."""
    return min(timed(lambda: denoiser(noise, rate)) for _ in range(3)) * rate / noise.shape[-1]


def streamed(denoiser: Denoiser, noise: Waveform, rate: int) -> float:
    """Returns the best of three real-time factors of a stream fed 10 ms at a time."""

    def feed_all() -> None:
        stream = denoiser.stream(rate, noise.shape[0])
        for start in range(0, noise.shape[-1], rate // 100):
            stream.feed(noise[:, start : start + rate // 100])
        stream.flush()

    return min(timed(feed_all) for _ in range(3)) * rate / noise.shape[-1]


def timed(work: Callable[[], object]) -> float:
    """Returns the processor seconds of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def peak_mb(model: str, minutes: int) -> float:
    """Returns the peak resident memory of `quieten denoise` on a 48 kHz stereo file, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.wav"
        rng = np.random.default_rng(1)
        with soundfile.SoundFile(path, "w", 48_000, 2, "PCM_16") as file:
            for _ in range(minutes * 6):
                file.write(0.05 * rng.standard_normal((480_000, 2), dtype=np.float32))
        command = [sys.executable, "-m", "quieten", "denoise", str(path), "--model", model]
        done = subprocess.run(
            [sys.executable, "-c", WATCH, *command], check=True, capture_output=True, text=True
        )
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return int(done.stdout) * unit / 1e6


if __name__ == "__main__":
    main()
