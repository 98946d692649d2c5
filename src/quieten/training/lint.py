"""Looks through the data folders before training: recordings that would teach the wrong thing.

silent        nothing in it
clipped       runs of samples at full scale in clean speech or noise
band_limited  clean speech without anything above a cutoff: it teaches to remove what is there
duplicate     the same sound under two names: drawn twice as often
short         clean speech or noise that is too short to be of use
leaked        the sound, or its speaker, is also in a validation or test folder

It works on the decoded cache, so that it costs seconds and decodes nothing twice.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quieten.training.cache import Recordings, group_name, load_recordings
from quieten.training.config import TrainConfig

SILENT_PEAK = 4
"""In steps of 16 bits: what dither leaves of silence."""
FULL_SCALE = 32_700
CLIPPED_RUN = 3
"""So many samples in a row at full scale are no chance."""
SHORT_S = 0.3
CUTOFFS_HZ = (4000, 6000)
EMPTY_BAND_DB = -60.0
"""Less than this, relative to the whole spectrum, counts as nothing."""
N_FFT = 512
PROBES = 64
"""Frames of each recording that are looked at; a sibilant is in one of them."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one recording."""

    kind: str
    file: str
    detail: str


@dataclass(frozen=True)
class Role:
    """The recordings of one setting, such as `data.clean`."""

    setting: str
    recordings: Recordings
    digests: tuple[bytes, ...]


def lint(config: TrainConfig) -> list[Finding]:
    """Returns what is wrong with the recordings of a configuration, leaks first.

    Raises: ConfigError if a folder is missing or holds no audio.
    """
    data, validation = config.data, config.validation
    clean, noise = load_role(config, "data.clean"), load_role(config, "data.noise")
    rir = [load_role(config, "data.rir")] if data.rir else []
    held_out = [load_role(config, "validation.clean")] if validation.clean else []
    held_out += [load_role(config, "data.test")] if data.test else []
    recorded = validation.noise and validation.noise != "white"
    noises = [load_role(config, "validation.noise")] if recorded else []
    findings = find_leaks([clean, noise, *rir], [*held_out, *noises])
    findings += find_known_speakers(clean, held_out, data.group_pattern)
    findings += find_duplicates([clean, noise, *rir])
    for role in (clean, noise, *rir):
        for i, name in enumerate(role.recordings.names):
            waveform = samples(role.recordings, i)
            findings += [
                Finding(kind, f"{role.setting}: {name}", detail)
                for kind, detail in inspect(waveform, data.sample_rate, role.setting)
            ]
    return findings


def summarize(findings: list[Finding]) -> str:
    """Returns a few lines: each kind with its count and its first three files."""
    kinds: dict[str, list[str]] = {}
    for finding in findings:
        banded = finding.kind == "band_limited"  # one line for each cutoff
        title = f"{finding.kind} ({finding.detail})" if banded else finding.kind
        kinds.setdefault(title, []).append(finding.file)
    lines = []
    for title, files in kinds.items():
        more = ", ..." if len(files) > 3 else ""
        lines.append(f"data: {len(files)} {title}: {', '.join(files[:3])}{more}")
    return "\n".join(lines)


def load_role(config: TrainConfig, setting: str) -> Role:
    """Returns the decoded recordings of a setting such as `data.clean`."""
    section, _, key = setting.partition(".")
    folders = getattr(getattr(config, section), key)
    data = config.data
    recordings = load_recordings(folders, data.cache, data.sample_rate, data.group_pattern)
    digests = (digest(samples(recordings, i)) for i in range(len(recordings)))
    return Role(setting, recordings, tuple(digests))


def digest(waveform: NDArray[np.int16]) -> bytes:
    """Returns what tells sounds apart; nothing for silence, which is reported as such."""
    if not waveform.any():
        return b""
    return hashlib.blake2b(waveform.data, digest_size=16).digest()


def samples(recordings: Recordings, index: int) -> NDArray[np.int16]:
    """Returns all samples (T,) of a recording as they lie in the cache, without a copy."""
    first, last = recordings.offsets[index], recordings.offsets[index + 1]
    return recordings.samples[first:last]


def find_leaks(training: list[Role], held_out: list[Role]) -> list[Finding]:
    """Returns the training recordings whose very samples are held out, too."""
    known: dict[bytes, str] = {}
    for role in held_out:
        for name, key in zip(role.recordings.names, role.digests, strict=True):
            known.setdefault(key, f"{role.setting}: {name}")
    return [
        Finding("leaked", f"{role.setting}: {name}", f"the same sound as {known[key]}")
        for role in training
        for name, key in zip(role.recordings.names, role.digests, strict=True)
        if key and key in known
    ]


def find_known_speakers(clean: Role, held_out: list[Role], pattern: str) -> list[Finding]:
    """Returns one finding for each speaker who is heard in training and held out.

    A file whose whole name is its group says nothing about the speaker.
    """
    known: dict[str, str] = {}
    for role in held_out:
        for name in role.recordings.names:
            known.setdefault(group_name(name, pattern), role.setting)
    speakers: Counter[str] = Counter()
    for name in clean.recordings.names:
        speaker = group_name(name, pattern)
        if speaker != name and speaker in known:
            speakers[speaker] += 1
    return [
        Finding(
            "leaked",
            f"{clean.setting}: {speaker}*",
            f"{count} files of a speaker of {known[speaker]} (see data.group_pattern)",
        )
        for speaker, count in speakers.items()
    ]


def find_duplicates(training: list[Role]) -> list[Finding]:
    """Returns the recordings whose samples came before under another name."""
    seen: dict[bytes, str] = {}
    findings = []
    for role in training:
        for name, key in zip(role.recordings.names, role.digests, strict=True):
            file = f"{role.setting}: {name}"
            first = seen.setdefault(key, file)
            if key and first is not file:
                findings.append(Finding("duplicate", file, f"the same sound as {first}"))
    return findings


def inspect(waveform: NDArray[np.int16], sample_rate: int, setting: str) -> list[tuple[str, str]]:
    """Returns (kind, detail) for what is wrong with one recording (T,)."""
    peak = max(int(waveform.max(initial=0)), -int(waveform.min(initial=0)))
    if peak <= SILENT_PEAK:
        return [("silent", f"peak {peak} of 32768")]
    if setting == "data.rir":
        return []  # short and peaky by nature
    found = []
    if waveform.size < SHORT_S * sample_rate:
        found.append(("short", f"{waveform.size / sample_rate:.2f} s"))
    clipped = clipped_samples(waveform) if peak >= FULL_SCALE else 0
    if clipped:
        found.append(("clipped", f"{clipped} samples in runs at full scale"))
    cutoff_hz = empty_above_hz(waveform, sample_rate) if setting == "data.clean" else None
    if cutoff_hz is not None:
        found.append(("band_limited", f"nothing above {cutoff_hz} Hz"))
    return found


def clipped_samples(waveform: NDArray[np.int16]) -> int:
    """Returns how many samples lie in runs of at least CLIPPED_RUN at full scale."""
    full = (waveform >= FULL_SCALE) | (waveform <= -FULL_SCALE)
    edges = np.flatnonzero(np.diff(full, prepend=False, append=False))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= CLIPPED_RUN].sum())


def empty_above_hz(waveform: NDArray[np.int16], sample_rate: int) -> int | None:
    """Returns the lowest of CUTOFFS_HZ above which a recording holds nothing, else None."""
    if waveform.size < N_FFT:
        return None
    starts = np.linspace(0, waveform.size - N_FFT, PROBES).astype(np.int64)
    frames = waveform[starts[:, None] + np.arange(N_FFT)] * np.hanning(N_FFT).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(frames))).sum(axis=0)  # (F,)
    frequency_hz = np.fft.rfftfreq(N_FFT, 1 / sample_rate)
    for cutoff_hz in CUTOFFS_HZ:
        above = power[frequency_hz > 1.05 * cutoff_hz]  # past the slope of a filter
        if above.size and above.sum() < power.sum() * 10 ** (EMPTY_BAND_DB / 10):
            return cutoff_hz
    return None
