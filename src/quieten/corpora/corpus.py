"""A corpus as quieten trains on it: mono files in train/, valid/ and test/, and a manifest.

Whole groups go to one side: all recordings of a speaker where the speakers are known, else each
recording by itself. Where recordings come from is not known here.
"""

import csv
import hashlib
import io
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quieten.audio import write_audio
from quieten.degrade import resample
from quieten.errors import AudioError, ConfigError
from quieten.sndfile import reason_of

Waveform = NDArray[np.float32]
Row = dict[str, str]
Progress = Callable[[int, int | None, str], None]

MANIFEST = "manifest.csv"
TRAIN = "train"
_UNFIT = re.compile(r"[^A-Za-z0-9]+")  # for a file name, whose start training takes for a speaker


@dataclass(frozen=True)
class Recording:
    """One recording as it comes.

    Attributes:
        name: unique in its corpus.
        data: the bytes of an audio file.
        speaker: who speaks; empty where that is not known.
        labels: columns of the manifest.
    """

    name: str
    data: bytes
    speaker: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """How a corpus is written.

    Attributes:
        sample_rate: of the files, Hz.
        suffix: .flac or .wav; 16 bit.
        shares: folder -> share of the groups that goes there; the rest goes to train/.
        seed: decides which group goes where.
    """

    sample_rate: int = 8000
    suffix: str = ".flac"
    shares: Mapping[str, float] = field(default_factory=lambda: {"valid": 0.1, "test": 0.1})
    seed: int = 0


def write_corpus(
    recordings: Iterable[Recording], out: Path, layout: Layout, progress: Progress | None = None
) -> list[Row]:
    """Writes a corpus into the new folder `out`; returns the rows of its manifest.

    The folder appears when all is done; an interrupted run leaves nothing. The same recordings
    give the same files. A recording that comes twice is written once.

    Args:
        recordings: in any order.
        out: a folder that is not there, or is empty.
        layout: rate, format and shares.
        progress: called with (recordings done, None, name).

    Raises:
        ConfigError: the layout makes no sense, `out` holds something, two recordings share a
            name, or there are too few.
        AudioError: a recording cannot be read, or a file not be written.
    """
    _check(layout, out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".quieten-") as folder:
            work = Path(folder, "corpus")
            rows = _write_all(recordings, work / TRAIN, layout, progress)
            _assign(rows, layout)
            _sort_into_folders(rows, work)
            (work / MANIFEST).write_text(_manifest(rows), "utf-8", newline="")
            if out.exists():
                out.rmdir()
            work.rename(out)
    except OSError as error:
        raise ConfigError(f"{out}: {reason_of(error)}: check space and permissions") from None
    return rows


def _check(layout: Layout, out: Path) -> None:
    if not 2000 <= layout.sample_rate <= 192_000:
        raise ConfigError(f"a rate of {layout.sample_rate} Hz: use 2000 to 192000")
    shares = layout.shares.values()
    if not all(0 <= share < 1 for share in shares) or sum(shares) >= 1:
        raise ConfigError("shares must be between 0 and 1 and leave some recordings to train with")
    if layout.seed < 0:
        raise ConfigError("the seed must not be negative")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out}: is there already: name a new folder")


def _write_all(
    recordings: Iterable[Recording], folder: Path, layout: Layout, progress: Progress | None
) -> list[Row]:
    """Writes each recording once, all into one folder; returns the rows by the name of the file."""
    folder.mkdir(parents=True)
    seen: dict[str, bytes] = {}
    rows = []
    for recording in recordings:
        name = _file_name(recording, layout.suffix)
        digest = hashlib.sha256(recording.data).digest()
        if name in seen:
            if seen[name] != digest:
                raise ConfigError(f"{recording.name}: two recordings have this name: rename one")
            continue
        seen[name] = digest
        waveform = decode(recording, layout.sample_rate)
        write_audio(folder / name, waveform, layout.sample_rate)
        rows.append(_row(recording, name, waveform.size / layout.sample_rate, layout))
        if progress:
            progress(len(rows), None, recording.name)
    return sorted(rows, key=lambda row: row["path"])


def _file_name(recording: Recording, suffix: str) -> str:
    """The speaker, where there is one, comes first: so that training knows the group again."""
    parts = [_UNFIT.sub("", part) for part in (recording.speaker, recording.name)]
    return "_".join(part for part in parts if part) + suffix


def decode(recording: Recording, sample_rate: int) -> Waveform:
    """Returns a recording as (T,): the mean of its channels, at the rate wanted.

    Raises:
        AudioError: its bytes are no audio file, or one without samples.
    """
    import soundfile

    try:
        file = io.BytesIO(recording.data)
        samples, own_rate = soundfile.read(file, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        reason = str(error).rsplit(": ", 1)[-1].rstrip(".")
        raise AudioError(
            f"{recording.name}: cannot be read ({reason}): get the corpus again"
        ) from None
    if samples.size == 0:
        raise AudioError(f"{recording.name}: holds no samples: get the corpus again")
    return resample(samples.mean(axis=1), own_rate, sample_rate)  # (T, C) -> (T,)


def _row(recording: Recording, name: str, seconds: float, layout: Layout) -> Row:
    return {
        "path": name,  # the folder comes later
        "split": TRAIN,
        "speaker": recording.speaker,
        "rate": str(layout.sample_rate),
        "seconds": f"{seconds:.2f}",
        **recording.labels,
    }


def _assign(rows: Sequence[Row], layout: Layout) -> None:
    """Writes into each row where it goes; its group is its speaker, else itself."""
    groups = sorted({row["speaker"] or row["path"] for row in rows})
    order = np.random.default_rng(layout.seed).permutation(len(groups))
    counts = {
        name: max(1, round(share * len(groups)))
        for name, share in layout.shares.items()
        if share > 0
    }
    if sum(counts.values()) >= len(groups):
        kind = "speakers" if any(row["speaker"] for row in rows) else "recordings"
        raise ConfigError(f"{len(groups)} {kind} are too few to split: lower the shares")
    names = [name for name, count in counts.items() for _ in range(count)]
    split = {groups[index]: name for index, name in zip(order, names, strict=False)}
    for row in rows:
        row["split"] = split.get(row["speaker"] or row["path"], TRAIN)


def _sort_into_folders(rows: Sequence[Row], work: Path) -> None:
    for row in rows:
        name = row["path"]
        row["path"] = f"{row['split']}/{name}"
        target = work / row["path"]
        target.parent.mkdir(exist_ok=True)
        (work / TRAIN / name).rename(target)


def _manifest(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
