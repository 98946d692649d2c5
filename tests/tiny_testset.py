"""Small test sets and foreign programs made by code, for the tests of the measuring side."""

import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quieten.audio import write_audio
from quieten.testsets.pairs import Item

RATE = 16_000


def write_items(
    folder: Path, count: int = 3, *, channels: int = 1, sample_rate: int = RATE, seed: int = 0
) -> tuple[Item, ...]:
    """Writes pairs of a tone with pauses and the same in noise, half a second and longer each."""
    rng = np.random.default_rng(seed)
    items = []
    for number in range(count):
        seconds = np.arange(round((0.5 + 0.1 * number) * sample_rate)) / sample_rate
        tone = 0.3 * np.sin(2 * np.pi * (300 + 100 * number) * seconds) * (seconds % 0.2 < 0.15)
        clean = np.stack([tone / (channel + 1) for channel in range(channels)])
        noisy = clean + rng.normal(0, 0.01 * (number + 1), clean.shape)
        item = Item(
            name=f"{number:03d}",
            noisy=folder / "noisy" / f"{number:03d}.wav",
            clean=folder / "clean" / f"{number:03d}.wav",
            labels={"snr_db": str(10 - 5 * number), "noise_type": "hiss"},
        )
        for path, sound in ((item.noisy, noisy), (item.clean, clean)):
            assert path is not None
            path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(path, sound.astype(np.float32), sample_rate, subtype="FLOAT")
        items.append(item)
    return tuple(items)


def program(folder: Path, body: str, name: str = "program") -> str:
    """Returns the start of a command that runs Python code; its arguments are `args`."""
    script = folder / f"{name}.py"
    script.write_text("import os, shutil, sys, time\nargs = sys.argv[1:]\n" + body, "utf-8")
    # -S -E: without site-packages, it starts in half the time
    return f"{shlex.quote(sys.executable)} -S -E {shlex.quote(str(script))}"


def wait_for_end(pids: Sequence[int]) -> bool:
    """Returns whether all processes have ended, half a minute from now at the latest."""
    deadline = time.monotonic() + 30
    while running := any(map(_is_running, pids)):
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return not running


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # a zombie has ended, though nobody has asked for it yet
    return not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")
