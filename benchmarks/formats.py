"""Writes docs/formats.md: what survives the way through a file, measured for every format.

    python benchmarks/formats.py [FILE]

For each format, rate and channel count a tagged noise is written and denoised, once as by default
and once with an attenuation limit of 0; the files are compared. Nothing in the table is assumed.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from quieten.audio import AudioInfo, probe, read_audio, write_audio
from quieten.batch import denoise_file
from quieten.errors import AudioError
from quieten.plan import Job, Settings

FORMATS = {  # name: (suffix, subtype)
    "WAV 8 bit": (".wav", "PCM_U8"),
    "WAV 16 bit": (".wav", "PCM_16"),
    "WAV 24 bit": (".wav", "PCM_24"),
    "WAV 32 bit": (".wav", "PCM_32"),
    "WAV float": (".wav", "FLOAT"),
    "WAV double": (".wav", "DOUBLE"),
    "FLAC 16 bit": (".flac", "PCM_16"),
    "FLAC 24 bit": (".flac", "PCM_24"),
    "AIFF 16 bit": (".aiff", "PCM_16"),
    "AIFF 24 bit": (".aiff", "PCM_24"),
    "AIFF float": (".aiff", "FLOAT"),
    "RF64 16 bit": (".rf64", "PCM_16"),
    "W64 24 bit": (".w64", "PCM_24"),
    "CAF 24 bit": (".caf", "PCM_24"),
    "AU 16 bit": (".au", "PCM_16"),
    "Ogg Vorbis": (".ogg", "VORBIS"),
    "Opus": (".opus", "OPUS"),
    "MP3": (".mp3", "MPEG_LAYER_III"),
}
RATES = (8000, 16_000, 44_100, 48_000, 96_000)
TAGS = {
    "title": "Grüße",
    "artist": "Ada",
    "album": "Letters",
    "date": "2026-11-20",
    "comment": "at home",
    "tracknumber": "3",
    "genre": "Speech",
    "copyright": "CC0",
    "software": "recorder",
    "license": "CC0-1.0",
}
FRAMES = (1, 1151, 100_001)  # odd ones: no multiple of any codec's frame


@dataclass(frozen=True)
class Trip:
    """What denoising did to a file."""

    before: AudioInfo
    after: AudioInfo
    frames: int  # samples per channel that were asked for
    difference: float  # largest, between the samples before and after with a limit of 0
    size_ratio: float


def travel(folder: Path, suffix: str, subtype: str, rate: int, channels: int, frames: int) -> Trip:
    """Writes a noise, denoises it and returns what was found in the files."""
    source, target, same = (folder / f"{name}{suffix}" for name in ("in", "out", "same"))
    noise = np.random.default_rng(frames).normal(0, 0.1, (channels, frames))
    write_audio(source, noise, rate, subtype=subtype, tags=TAGS)
    denoise_file(Job(source, target, overwrite=True))
    denoise_file(Job(source, same, settings=Settings(attenuation_limit_db=0.0), overwrite=True))
    pair = read_audio(source)[0], read_audio(same)[0]
    difference = np.max(np.abs(pair[0] - pair[1])) if pair[0].shape == pair[1].shape else np.inf
    ratio = same.stat().st_size / source.stat().st_size
    return Trip(probe(source), probe(target), frames, float(difference), ratio)


def trips(suffix: str, subtype: str) -> Iterator[tuple[int, list[Trip]]]:
    """Yields (rate, trips) for mono and stereo of every length; none where it does not exist."""
    with tempfile.TemporaryDirectory() as folder:
        for rate in RATES:
            try:
                found = [
                    travel(Path(folder), suffix, subtype, rate, channels, frames)
                    for channels in (1, 2)
                    for frames in FRAMES
                ]
            except AudioError as error:
                if "does not hold" not in str(error):
                    raise
                found = []
            yield rate, found


def kept(found: list[Trip]) -> str:
    """Returns "yes", or what changed at one rate; a dash where the format lacks the rate."""
    if not found:
        return "–"
    changed = set()
    for trip in found:
        if not trip.before.frames == trip.after.frames == trip.frames:
            changed.add(f"samples {trip.before.frames} → {trip.after.frames}")
        for name in ("sample_rate", "channels", "format", "subtype", "tags"):
            if getattr(trip.before, name) != getattr(trip.after, name):
                changed.add(name)
    return ", ".join(sorted(changed)) or "yes"


def row(name: str, suffix: str, subtype: str) -> str:
    """Returns a line of the table."""
    found = dict(trips(suffix, subtype))
    every = [trip for some in found.values() for trip in some]
    lost = [tag for tag in TAGS if any(trip.after.tags.get(tag) != TAGS[tag] for trip in every)]
    tags = "all" if not lost else "none" if len(lost) == len(TAGS) else f"not {', '.join(lost)}"
    exact = all(trip.difference == 0 for trip in every)
    ratios = [trip.size_ratio for trip in every if trip.frames == max(FRAMES)]
    size = "" if exact else f"{min(ratios):.2f} to {max(ratios):.2f}"
    cells = [name, *map(kept, found.values()), tags, "yes" if exact else "lossy", size]
    return f"| {' | '.join(cells)} |"


def table() -> str:
    """Returns the page."""
    rates = " | ".join(f"{rate / 1000:g} kHz" for rate in RATES)
    lines = [
        "# What survives",
        "",
        "Written by `python benchmarks/formats.py`: a tagged noise is written to a file and",
        f"denoised, mono and stereo, {', '.join(f'{n:,}' for n in FRAMES)} samples long.",
        "",
        "- A rate's cell says `yes` where sample rate, channels, the exact number of samples,",
        "  container, subtype and tags of the two files are equal; a dash where the format does",
        "  not have the rate.",
        f"- *Tags* are the fields that the format keeps, of {len(TAGS)}: {', '.join(TAGS)}.",
        "- *Bit-exact*: with `--attenuation-limit-db 0` every sample equals the original.",
        "- *Size*: of a lossy file written that way, against the file that it takes after.",
        "",
        "Pictures and other chunks inside a file do not survive. m4a, mp4, webm and kin become",
        "FLAC.",
        "",
        f"| format | {rates} | tags | bit-exact | size |",
        f"|---|{'---|' * len(RATES)}---|---|---|",
        *(row(name, suffix, subtype) for name, (suffix, subtype) in FORMATS.items()),
        "",
        f"Measured with soundfile {soundfile.__version__} "
        f"(libsndfile {soundfile.__libsndfile_version__}).",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/formats.md")
    target.write_text(table(), encoding="utf-8")
    print(f"wrote {target}")
