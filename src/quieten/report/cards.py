"""What a report shows of one item: its versions as sounds, pictures and scores, all in step.

Letters: C channels (1 or 2), T samples.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import soxr
from numpy.typing import NDArray

from quieten import mp3
from quieten.audio import read_audio
from quieten.errors import AudioError, ConfigError
from quieten.evaluation.results import Evaluation
from quieten.metrics import LOWER_IS_BETTER
from quieten.report.pictures import grey_levels, grey_png, outline, outline_path, spectrogram_db

Waveform = NDArray[np.float32]
Role = Literal["noisy", "denoised", "removed", "clean"]

MAX_SECONDS = 60.0
"""Longer sounds are cut: a picture of more would show nothing."""

PLAYED_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Rates that every browser plays as MP3; others are resampled to the next one above."""

KBPS = (96, 64, 48)
"""Rates of the sounds for each channel; the first that fits is taken."""

_PAGE_BYTES = 500_000.0  # of a page without its cards
_VERSION_BYTES = 1500  # of the markup around a version

BEST, WORST, MIDDLE, CHOSEN = "Most improved", "Least improved", "Median", "Chosen"


@dataclass(frozen=True)
class Source:
    """Where one version of an item comes from; it is shown `delay_s` earlier than it lies there."""

    role: Role
    name: str
    path: Path
    scores: dict[str, float] = field(default_factory=dict)
    delay_s: float = 0.0


@dataclass(frozen=True)
class Version:
    """One version of an item: `waveform` (C, T), `picture` a grey PNG, `wave` an SVG path."""

    role: Role
    name: str
    scores: dict[str, float]
    waveform: Waveform
    picture: bytes
    wave: str


@dataclass(frozen=True)
class Card:
    """An item as a report shows it; `notes` say what differs from the files themselves."""

    name: str
    why: str
    labels: dict[str, str]
    sample_rate: int
    versions: tuple[Version, ...]
    notes: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return int(self.versions[0].waveform.shape[-1]) / self.sample_rate


def choose(
    evaluation: Evaluation, system: str, metric: str, count: int, named: Sequence[str]
) -> list[tuple[str, str]]:
    """Returns (item, why it is shown), the most telling first: named, best, worst, median, best...

    Best and worst are those where `system` improves `metric` most and least over the noisy file.
    Items without that number are chosen only by name, or if there is no number at all.

    Raises:
        ConfigError: a named item does not exist, or `count` is negative.
    """
    names = [item.name for item in evaluation.items]
    unknown = [name for name in named if name not in names]
    if unknown:
        some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise ConfigError(f"no item is called {unknown[0]}: there are {some}")
    if count < 0:
        raise ConfigError(f"count {count}: use 0 or more")
    gains = improvements(evaluation, system, metric)
    ranked = sorted(gains, key=lambda name: -gains[name]) or names
    middle = sorted(ranked, key=lambda name: abs(ranked.index(name) - (len(ranked) - 1) / 2))
    chosen = dict.fromkeys(named, CHOSEN)
    for rank in range(min(count, len(ranked))):
        for name, why in ((ranked[rank], BEST), (ranked[-1 - rank], WORST), (middle[rank], MIDDLE)):
            chosen.setdefault(name, why if gains else CHOSEN)
    return list(chosen.items())


def improvements(evaluation: Evaluation, system: str, metric: str) -> dict[str, float]:
    """Returns item -> how much better `system` is than the noisy file, where both have a number."""
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    gains = {}
    for item in evaluation.items:
        pair = [evaluation.scores.get((name, item.name)) for name in ("noisy", system)]
        values = [score.values.get(metric) if score else None for score in pair]
        if values[0] is not None and values[1] is not None:
            gains[item.name] = sign * (values[1] - values[0])
    return gains


def make_card(
    name: str, why: str, labels: dict[str, str], sources: Sequence[Source], removed: int = 1
) -> Card:
    """Returns the card of an item, its sounds read.

    Args:
        name: of the item.
        why: it is shown.
        labels: what the test set says about it.
        sources: the noisy file first, then those made of it, the clean one last where there is one.
        removed: for how many of the denoised versions that which they removed is shown as well.

    Raises:
        AudioError: a file cannot be read.
    """
    noisy, rate = read_audio(sources[0].path)
    total = noisy.shape[1]
    length = min(total, round(MAX_SECONDS * rate))
    channels = 2 if noisy.shape[0] == 2 else 1
    waves = [_fitted(source, rate, length, channels) for source in sources]
    pairs = list(zip(sources, waves, strict=True))
    rest = [pair for pair in pairs if pair[0].role == "clean"]
    pairs = [pair for pair in pairs if pair[0].role != "clean"]
    denoised = [pair for pair in pairs if pair[0].role == "denoised"]
    for source, wave in denoised[:removed]:
        label = "Removed" if len(denoised) == 1 else f"Removed by {source.name}"
        pairs.append((Source("removed", label, source.path), waves[0] - wave))
    peak = max(float(np.max(np.abs(wave))) for _, wave in pairs + rest)
    gain = np.float32(0.98 / peak if peak > 1 else 1)
    notes = [f"first {MAX_SECONDS:g} s of {total / rate:.0f} s"] if length < total else []
    if gain < 1:
        notes.append(f"all versions {-20 * np.log10(gain):.1f} dB lower, to fit full scale")
    versions = _versions([(source, wave * gain) for source, wave in pairs + rest], rate)
    return Card(name, why, labels, rate, versions, tuple(notes))


def _fitted(source: Source, sample_rate: int, length: int, channels: int) -> Waveform:
    """Reads a sound as (channels, length) at a rate: cut, or filled up with silence."""
    wave, own_rate = read_audio(source.path)
    if wave.shape[0] != channels:
        wave = np.repeat(wave.mean(axis=0, keepdims=True), channels, axis=0)
    wave = np.asarray(wave, np.float32)
    if own_rate != sample_rate:
        wave = np.asarray(soxr.resample(wave.T, own_rate, sample_rate, "HQ").T, np.float32)
    delay = round(source.delay_s * sample_rate)
    wave = np.pad(wave[:, max(0, delay) :], ((0, 0), (max(0, -delay), length)))
    return np.asarray(wave[:, :length], np.float32)


def _versions(pairs: Sequence[tuple[Source, Waveform]], rate: int) -> tuple[Version, ...]:
    """Pictures on one scale: the loudest point of all versions is the top of each."""
    spectra = [spectrogram_db(wave, rate) for _, wave in pairs]
    top_db = max(float(levels.max()) for levels in spectra)
    peak = max(float(np.max(np.abs(wave))) for _, wave in pairs)
    return tuple(
        Version(
            source.role,
            source.name,
            source.scores,
            wave,
            grey_png(grey_levels(levels, top_db)),
            outline_path(outline(wave), peak),
        )
        for (source, wave), levels in zip(pairs, spectra, strict=True)
    )


def encode(waveform: Waveform, sample_rate: int, kbps: int) -> bytes:
    """Returns a waveform (C, T) as an MP3 file of constant bit rate, `kbps` for each channel.

    Raises:
        AudioError: libsndfile here cannot write MP3.
    """
    import soundfile

    rate = played_rate(sample_rate)
    if rate != sample_rate:
        waveform = np.asarray(soxr.resample(waveform.T, sample_rate, rate, "HQ").T, np.float32)
    file = io.BytesIO()
    settings = mp3.encoder_settings(rate, 1000 * kbps * waveform.shape[0])
    try:
        with soundfile.SoundFile(
            file, "w", rate, waveform.shape[0], "MPEG_LAYER_III", None, "MP3", **settings
        ) as handle:
            handle.write(waveform.T)
    except (soundfile.LibsndfileError, ValueError):
        raise AudioError("MP3 cannot be written here: update the package soundfile") from None
    return file.getvalue()


def played_rate(sample_rate: int) -> int:
    """Returns the rate in Hz at which a sound is put into the page."""
    return next((rate for rate in PLAYED_RATES if rate >= sample_rate), PLAYED_RATES[-1])


def fit_cards(cards: Sequence[Card], max_bytes: int) -> tuple[list[Card], int]:
    """Returns the cards that fit into a page and the rate of their sounds in kbit/s.

    The rate goes down first, then the last cards are left out; one card always stays.
    """
    for kbps in KBPS:
        if _weight(cards, kbps) <= max_bytes:
            return list(cards), kbps
    kept = list(cards)
    while len(kept) > 1 and _weight(kept, kbps) > max_bytes:
        kept.pop()
    return kept, kbps


def _weight(cards: Sequence[Card], kbps: int) -> float:
    """Returns about how many bytes a page with these cards has; base64 adds a third."""
    total = _PAGE_BYTES
    for card in cards:
        for one in card.versions:
            sound = 125 * kbps * (card.duration_s + 0.1) * one.waveform.shape[0]
            total += 4 / 3 * (len(one.picture) + sound) + len(one.wave) + _VERSION_BYTES
    return total
