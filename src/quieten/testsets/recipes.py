"""What a test set is to be made of, and which file meets which: planned, nothing made yet.

Every draw follows from the seed and the list of files. `mixing.py` does what is planned
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quieten.audio import probe
from quieten.errors import ConfigError
from quieten.testsets.codecs import parse_codec
from quieten.testsets.pairs import audio_files
from quieten.testsets.pipeline import parse_pipeline

ROLES = ("clean", "noise", "rir")
"""The fields of a recipe that name files."""


@dataclass(frozen=True)
class Recipe:
    """What a test set is made of. Files may be files or folders, which are searched through.

    The SNR is that of active speech level against noise RMS (`degrade.add_noise`), before clipping,
    band loss and codec, which follow in this order and leave the clean file alone. The telephone
    band comes before them and narrows the clean file as well: nobody can know what it cut off.
    A pipeline (`quieten.testsets.pipeline`) says all of that itself; noise and rir are what its
    steps take from, and the clean file is its target.
    """

    clean: tuple[Path, ...]
    noise: tuple[Path, ...] = ()  # none: no noise is added
    snr_db: tuple[float, ...] = ()
    rir: tuple[Path, ...] = ()  # room impulse responses
    room: bool = False  # rooms made by code instead
    sample_rate: int | None = None  # of the result; None: that of each clean file
    low_rate_hz: int | None = None  # the noisy sound goes down to this rate and back up
    clip_db: float | None = None  # the noisy sound is cut off this far below its peak
    telephone: bool = False  # 300 to 3400 Hz of all sounds; without a rate or codec 8 kHz, mu-law
    preprocessing: str = ""  # a pipeline in the place of all of the above but the rate
    codec: str | None = None  # a name of `codecs.CODECS`, perhaps with :KBPS
    count: int | None = None  # pairs; None: every clean file once per SNR
    seconds: float | None = None  # length of each pair; None: whole clean files
    seed: int = 0


@dataclass(frozen=True)
class Source:
    """A file of a recipe: where it is, its name below the folder given, and whose it is."""

    path: Path
    name: str
    group: str  # the folder that it lies in below the one given, else its stem


@dataclass(frozen=True)
class Mixture:
    """One pair to make: files and level, drawn already."""

    name: str
    clean: tuple[Source, ...]  # several are joined
    noise: Source | None
    snr_db: float | None
    rir: Source | None
    seed: tuple[int, int]  # for the excerpts and the room


def plan_mixtures(recipe: Recipe) -> list[Mixture]:
    """Returns the pairs of a recipe, with files and levels drawn but nothing read.

    Files are dealt like cards, shuffled anew when all are used, so each is used about as often.

    Raises:
        ConfigError: the recipe makes no sense, or a folder holds no audio files.
    """
    _check(recipe)
    clean, noise, rir = (_sources(role, getattr(recipe, role)) for role in ROLES)
    levels: tuple[float | None, ...] = recipe.snr_db or (None,)
    chains = _joined(clean, recipe.seconds)
    count = recipe.count or len(clean) * len(levels)
    rngs = [np.random.default_rng((recipe.seed, number)) for number in range(3)]
    if recipe.count is None:
        starts = [index for index in range(len(clean)) for _ in levels]
    else:
        starts = _deal(len(clean), count, rngs[0])
    noises, rirs = _deal(len(noise), count, rngs[1]), _deal(len(rir), count, rngs[2])
    digits = max(3, len(str(count)))
    return [
        Mixture(
            name=f"{number + 1:0{digits}}",
            clean=chains[start],
            noise=noise[noises[number]] if noise else None,
            snr_db=levels[number % len(levels)],
            rir=rir[rirs[number]] if rir else None,
            seed=(recipe.seed, 3 + number),
        )
        for number, start in enumerate(starts)
    ]


def _check(recipe: Recipe) -> None:
    """Raises ConfigError where a recipe makes no sense."""
    complaints = {
        "no clean files: name some": not recipe.clean,
        "a pipeline says all but the rate itself: leave the other settings out": (
            recipe.preprocessing
            and (recipe.snr_db or recipe.room or recipe.telephone or recipe.codec is not None)
        )
        or (
            recipe.preprocessing and (recipe.clip_db is not None or recipe.low_rate_hz is not None)
        ),
        "noise without an SNR: give one in dB": recipe.noise
        and not (recipe.snr_db or recipe.preprocessing),
        "an SNR without noise: name noise files": recipe.snr_db and not recipe.noise,
        "an SNR must be a number of dB between -100 and 100": any(
            not abs(level) <= 100 for level in recipe.snr_db
        ),
        "both room responses and made rooms: choose one": recipe.rir and recipe.room,
        "count must be 1 or more": recipe.count is not None and recipe.count < 1,
        "seconds must be 0.1 or more": recipe.seconds is not None and not recipe.seconds >= 0.1,
        "the seed must not be negative": recipe.seed < 0,
        "clipping must be 0 dB or more below the peak": recipe.clip_db is not None
        and not recipe.clip_db >= 0,
        "rates must be between 2000 and 192000 Hz": any(
            rate is not None and not 2000 <= rate <= 192_000
            for rate in (recipe.sample_rate, recipe.low_rate_hz)
        ),
    }
    for complaint, applies in complaints.items():
        if applies:
            raise ConfigError(complaint)
    if recipe.codec is not None:
        parse_codec(recipe.codec)
    parse_pipeline(recipe.preprocessing)


def _sources(role: str, places: Sequence[Path]) -> list[Source]:
    """The audio files at the places given, in the order of their names, each file once."""
    found: dict[Path, Source] = {}
    for place in map(Path, places):
        files = sorted(audio_files(place)) if place.is_dir() else [place]
        if not files or not files[0].exists():
            what = "holds no audio files" if files == [] else "is not there"
            raise ConfigError(f"{place}: {what}: name files or folders of {role} sound")
        for file in files:
            inside = file.relative_to(place) if place.is_dir() else Path(file.name)
            group = inside.parent.name or inside.stem
            found.setdefault(file.resolve(), Source(file, inside.as_posix(), group))
    return list(found.values())


def _deal(size: int, count: int, rng: np.random.Generator) -> list[int]:
    """`count` indices below `size`: whole permutations, one after the other."""
    if size == 0:
        return []
    packs = [rng.permutation(size) for _ in range(-(-count // size))]
    return [int(index) for index in np.concatenate(packs)[:count]]


def _joined(clean: Sequence[Source], seconds: float | None) -> list[tuple[Source, ...]]:
    """For each file: it and as many of those behind it as last `seconds` together."""
    if seconds is None:
        return [(source,) for source in clean]
    durations_s = [probe(source.path).duration_s for source in clean]
    if sum(durations_s) < seconds:
        raise ConfigError(f"the clean files last {sum(durations_s):.1f} s in all: lower seconds")
    chains = []
    for start in range(len(clean)):
        order: list[int] = []
        length_s = 0.0
        while length_s < seconds and len(order) < len(clean):
            order.append((start + len(order)) % len(clean))
            length_s += durations_s[order[-1]]
        chains.append(tuple(clean[index] for index in order))
    return chains
