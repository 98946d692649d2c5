"""Makes test sets: clean recordings, and what noise, rooms and codecs make of them.

Everything that is drawn follows from the seed and the list of files, so that the same recipe with
the same files gives the same bytes. `quieten.testsets.pairs` reads what is written here.
"""

import csv
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from quieten.audio import probe, read_audio, write_audio
from quieten.degrade import (
    Waveform,
    add_noise,
    clip_at,
    make_room_response,
    resample,
    resample_down_up,
    reverberate,
    rms,
    telephone_band,
)
from quieten.errors import AudioError, ConfigError
from quieten.sndfile import reason_of
from quieten.testsets.codecs import round_trip
from quieten.testsets.pairs import CLEAN_FOLDER, MANIFEST, NOISY_FOLDER, Item, read_testset
from quieten.testsets.pipeline import degrade, parse_pipeline, rate_of
from quieten.testsets.recipes import ROLES, Mixture, Recipe, Source, plan_mixtures

EARLY_FOLDER, RECIPE_FILE = "clean_early", "recipe.json"

_FORMAT = 1  # of recipe.json
_PARTS = {NOISY_FOLDER, CLEAN_FOLDER, EARLY_FOLDER, MANIFEST, RECIPE_FILE}
_TELEPHONE_RATE = 8000
_PEAK = 0.99  # highest sample of a pair, as a share of full scale
_SILENCE = 1e-5  # RMS; -100 dBFS
_PAUSE = 0.1  # excerpts below this share of the RMS of their file are pauses


@dataclass(frozen=True)
class Pair:
    """The sounds of one mixture, (T,) each; `early` where there is a room.

    `drawn` says what a pipeline drew.
    """

    noisy: Waveform
    clean: Waveform
    early: Waveform | None
    sample_rate: int
    drawn: str = ""

    def waveforms(self) -> list[Waveform]:
        """Noisy, clean and, where there is one, early."""
        return [self.noisy, self.clean, *([] if self.early is None else [self.early])]


def write_testset(
    recipe: Recipe,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Item]:
    """Writes the test set of a recipe into the folder `out`; returns its items.

    Writes `noisy/` and `clean/` as 16-bit FLAC, both with the same gain, so that nothing clips;
    `clean_early/` where there is a room (direct sound and 50 ms of reflections, while `clean/` is
    reverberant); `manifest.csv` and `recipe.json`. The folder appears when all is done. What an
    interrupted run has left beside it is used, and a finished test set of the same recipe and
    files is returned as it is.

    Args:
        overwrite: replace a test set of another recipe.
        progress: called with (pairs done, pairs in all).

    Raises:
        ConfigError: the recipe makes no sense, or `out` holds something else.
        AudioError: a file cannot be read, is silent, or the result cannot be written.
    """
    mixtures, target = plan_mixtures(recipe), Path(out).resolve()
    for place in (*recipe.clean, *recipe.noise, *recipe.rir):
        if Path(place).resolve() in (target, *target.parents):
            raise ConfigError(f"{out}: lies in {place}, which it is made of: name another folder")
    try:
        identity = _identity(recipe, mixtures)
        if not _is_made(target, identity, overwrite):
            _build(recipe, mixtures, identity, target, progress)
    except OSError as error:
        place = error.filename or out
        raise ConfigError(f"{place}: {reason_of(error)}: check space and permissions") from None
    return _read_made(Path(out), len(mixtures))


def _build(
    recipe: Recipe,
    mixtures: Sequence[Mixture],
    identity: dict[str, Any],
    out: Path,
    progress: Callable[[int, int], None] | None,
) -> None:
    work = out.with_name(f".{out.name}.part")
    if work.exists() and _recipe_in(work) != identity:
        _remove(work)
    work.mkdir(parents=True, exist_ok=True)
    (work / RECIPE_FILE).write_text(json.dumps(identity, indent=1) + "\n", "utf-8")
    for done, mixture in enumerate(mixtures, 1):
        _write_pair(mixture, recipe, work)
        if progress:
            progress(done, len(mixtures))
    _write_manifest(recipe, mixtures, work)
    _publish(work, out)


def mix(mixture: Mixture, recipe: Recipe) -> Pair:
    """Returns the pair that a mixture of the recipe describes; peaks stay below full scale.

    Raises:
        AudioError: a file cannot be read, or is silent.
    """
    rng = np.random.default_rng(mixture.seed)
    if recipe.preprocessing:
        return _through_pipeline(mixture, recipe, rng)
    rate = recipe.sample_rate or probe(mixture.clean[0].path).sample_rate
    if recipe.telephone:
        rate = recipe.sample_rate or _TELEPHONE_RATE
    clean = np.concatenate([_read(source.path, rate) for source in mixture.clean])
    if recipe.seconds is not None:
        clean = _excerpt(clean, round(recipe.seconds * rate), rng)
    early = None
    if mixture.rir or recipe.room:
        room = _read(mixture.rir.path, rate) if mixture.rir else make_room_response(rate, rng)
        clean, early = reverberate(clean, room, rate)
    noisy = clean
    if mixture.noise and mixture.snr_db is not None:
        noise = _excerpt(_read(mixture.noise.path, rate), clean.size, rng)
        noisy = add_noise(clean, noise, rate, snr_db=mixture.snr_db)
    pair = Pair(noisy, clean, early, rate)
    if recipe.telephone:
        pair = _through_telephone(pair)
    pair = _within_full_scale(pair)  # codecs clip what is beyond
    return _within_full_scale(replace(pair, noisy=_damage(pair.noisy, rate, recipe)))


def _through_pipeline(mixture: Mixture, recipe: Recipe, rng: np.random.Generator) -> Pair:
    pipeline = parse_pipeline(recipe.preprocessing)
    own = rate_of(pipeline) or probe(mixture.clean[0].path).sample_rate
    rate = recipe.sample_rate or own
    clean = np.concatenate([_read(source.path, rate) for source in mixture.clean])
    if recipe.seconds is not None:
        clean = _excerpt(clean, round(recipe.seconds * rate), rng)
    sound = degrade(clean, rate, pipeline, rng, _Dealt(mixture))
    return _within_full_scale(Pair(sound.degraded, sound.target, None, rate, sound.describe()))


@dataclass(frozen=True)
class _Dealt:
    """The noise and the room that a mixture was dealt."""

    mixture: Mixture

    def noise(self, rng: np.random.Generator, length: int, sample_rate: int) -> Waveform | None:
        source = self.mixture.noise
        return _excerpt(_read(source.path, sample_rate), length, rng) if source else None

    def room(self, rng: np.random.Generator, sample_rate: int) -> Waveform | None:
        source = self.mixture.rir
        return _read(source.path, sample_rate) if source else None


def _read(path: Path, sample_rate: int) -> Waveform:
    """A whole file as (T,): the mean of its channels, at the rate wanted."""
    waveform, own_rate = read_audio(path)
    mono = waveform.mean(axis=0).astype(np.float32)
    if rms(mono) < _SILENCE:
        raise AudioError(f"{path}: is silent: take it out of the folder")
    return resample(mono, own_rate, sample_rate)


def _excerpt(waveform: Waveform, length: int, rng: np.random.Generator) -> Waveform:
    """`length` samples from a place that is no mere pause; a sound that is shorter repeats."""
    if waveform.size < length:
        start = int(rng.integers(waveform.size))
        return np.resize(np.roll(waveform, -start), length)
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    power = (energy[length:] - energy[:-length]) / length  # of the excerpt at every start
    starts = np.flatnonzero(power >= (_PAUSE * rms(waveform)) ** 2)  # never none: a mean is reached
    start = int(rng.choice(starts))
    return waveform[start : start + length]


def _through_telephone(pair: Pair) -> Pair:
    rate = pair.sample_rate
    early = None if pair.early is None else telephone_band(pair.early, rate)
    noisy, clean = telephone_band(pair.noisy, rate), telephone_band(pair.clean, rate)
    return Pair(noisy, clean, early, rate)


def _damage(noisy: Waveform, sample_rate: int, recipe: Recipe) -> Waveform:
    if recipe.clip_db is not None:
        noisy = clip_at(noisy, recipe.clip_db)
    if recipe.low_rate_hz is not None and recipe.low_rate_hz < sample_rate:
        noisy = resample_down_up(noisy, sample_rate, recipe.low_rate_hz)
    codec = _codec(recipe)
    return noisy if codec is None else round_trip(noisy, sample_rate, codec)


def _codec(recipe: Recipe) -> str | None:
    return recipe.codec or ("mulaw" if recipe.telephone else None)


def _within_full_scale(pair: Pair) -> Pair:
    peak = max(float(np.max(np.abs(waveform), initial=0.0)) for waveform in pair.waveforms())
    gain = np.float32(min(1.0, _PEAK / max(peak, _PEAK)))
    early = None if pair.early is None else gain * pair.early
    return replace(pair, noisy=gain * pair.noisy, clean=gain * pair.clean, early=early)


def _paths(folder: Path, name: str, recipe: Recipe) -> list[Path]:
    has_early = (recipe.room or recipe.rir) and not recipe.preprocessing
    parts = [NOISY_FOLDER, CLEAN_FOLDER, *([EARLY_FOLDER] if has_early else [])]
    return [folder / part / f"{name}.flac" for part in parts]


def _write_pair(mixture: Mixture, recipe: Recipe, folder: Path) -> None:
    paths = _paths(folder, mixture.name, recipe)
    if all(path.exists() for path in paths):
        return  # from a run that was interrupted; files appear whole or not at all
    pair = mix(mixture, recipe)
    for path, waveform in zip(paths, pair.waveforms(), strict=True):
        path.parent.mkdir(exist_ok=True)
        tags = {"comment": pair.drawn} if pair.drawn else {}
        write_audio(path, waveform, pair.sample_rate, tags=tags)


def _write_manifest(recipe: Recipe, mixtures: Iterable[Mixture], folder: Path) -> None:
    rows = [_row(mixture, recipe, folder) for mixture in mixtures]
    with (folder / MANIFEST).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _row(mixture: Mixture, recipe: Recipe, folder: Path) -> dict[str, str]:
    info = probe(_paths(folder, mixture.name, recipe)[0])
    return {
        "id": mixture.name,
        "snr_db": _number(mixture.snr_db),
        "noise_type": mixture.noise.group if mixture.noise else "",
        "speaker": mixture.clean[0].group,
        "seconds": f"{info.duration_s:.2f}",
        "sample_rate": str(info.sample_rate),
        "reverb": str(int(has_room(mixture, recipe))),
        "low_rate_hz": _number(recipe.low_rate_hz),
        "clip_db": _number(recipe.clip_db),
        "codec": _codec(recipe) or "",
        "clean_file": " + ".join(source.name for source in mixture.clean),
        "noise_file": mixture.noise.name if mixture.noise else "",
        "rir_file": mixture.rir.name if mixture.rir else "",
        "seed": str(recipe.seed),
        **({"drawn": info.tags.get("comment", "")} if recipe.preprocessing else {}),
    }


def has_room(mixture: Mixture, recipe: Recipe) -> bool:
    """Returns whether a mixture sounds as in a room."""
    if recipe.preprocessing:
        return any(name == "reverb" for name, _ in parse_pipeline(recipe.preprocessing))
    return bool(mixture.rir or recipe.room)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"


def _identity(recipe: Recipe, mixtures: Sequence[Mixture]) -> dict[str, Any]:
    """What decides the bytes of a test set, as JSON holds it: no paths, but what files hold."""
    digests: dict[Path, str] = {}

    def describe(source: Source | None) -> list[str] | None:
        if source is None:
            return None
        if source.path not in digests:
            with source.path.open("rb") as file:
                digests[source.path] = hashlib.file_digest(file, "sha256").hexdigest()
        return [source.name, digests[source.path]]

    settings = {name: value for name, value in vars(recipe).items() if name not in ROLES}
    pairs = [
        {
            "id": mixture.name,
            "snr_db": mixture.snr_db,
            "clean": [describe(source) for source in mixture.clean],
            "noise": describe(mixture.noise),
            "rir": describe(mixture.rir),
        }
        for mixture in mixtures
    ]
    identity = {"format": _FORMAT, "settings": settings, "pairs": pairs}
    same: dict[str, Any] = json.loads(json.dumps(identity))  # tuples become lists
    return same


def _recipe_in(folder: Path) -> object:
    try:
        return json.loads((folder / RECIPE_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _is_made(out: Path, identity: dict[str, Any], overwrite: bool) -> bool:
    """Whether the test set is there already; raises ConfigError where something else is."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    found = _recipe_in(out)
    others = {path.name for path in out.iterdir()} - _PARTS if found else {out.name}
    if found == identity and not overwrite:
        return True
    if others:
        raise ConfigError(f"{out}: holds more than a test set: name another folder")
    if not overwrite:
        raise ConfigError(f"{out}: holds another test set: name another folder or say --overwrite")
    return False


def _read_made(out: Path, count: int) -> list[Item]:
    items = read_testset(out)
    if len(items) != count:
        raise ConfigError(f"{out}: has {len(items)} of {count} pairs: say --overwrite to renew it")
    return items


def _publish(work: Path, out: Path) -> None:
    """Gives the finished folder its name, in the place of what was there."""
    for torn in work.rglob(".*"):  # of a run that was killed while it wrote
        torn.unlink()
    old = out.with_name(f".{out.name}.old")
    if out.exists():
        _remove(old)
        out.rename(old)
    work.rename(out)
    _remove(old)


def _remove(folder: Path) -> None:
    """Removes a test set, whole or not; raises ConfigError where something else is inside."""
    if not folder.exists():
        return
    if {path.name for path in folder.iterdir()} - _PARTS:
        raise ConfigError(f"{folder}: holds more than a test set: move it away")
    shutil.rmtree(folder)
