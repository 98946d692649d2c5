"""The demonstration: denoises the bundled clip and measures against its clean original."""

import shutil
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from quieten.audio import read_audio
from quieten.batch import Result, check, denoise_file
from quieten.errors import AudioError
from quieten.metrics import snr_db
from quieten.plan import Job, Settings


@dataclass(frozen=True)
class Report:
    """What the demonstration changed; `files` maps the role of a sound to where it lies."""

    result: Result
    snr_before_db: float
    snr_after_db: float
    files: dict[str, Path]


def run(out: Path, model: str = "speech") -> Report:
    """Writes noisy, denoised, removed and clean sound into a folder and compares them.

    Raises:
        AudioError: the folder cannot be written.
        ModelError: the model is unknown or broken.
    """
    settings = Settings(model)
    check(settings)
    paths = {role: out / f"demo_{role}.flac" for role in ("noisy", "denoised", "removed", "clean")}
    _copy_clips(out, [paths["noisy"], paths["clean"]])
    job = Job(paths["noisy"], paths["denoised"], paths["removed"], settings, overwrite=True)
    result = denoise_file(job)
    before, after = (_snr_db(paths[role], paths["clean"]) for role in ("noisy", "denoised"))
    return Report(result, before, after, paths)


def _copy_clips(out: Path, targets: list[Path]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        for target in targets:
            with as_file(files("quieten") / "assets" / target.name) as clip:
                shutil.copyfile(clip, target)
    except OSError as error:
        raise AudioError(
            f"cannot write to {out}: {error.strerror}: choose another --out"
        ) from error


def _snr_db(path: Path, reference: Path) -> float:
    sound, sample_rate = read_audio(path)
    clean, _ = read_audio(reference)
    return snr_db(sound[0], clean[0], sample_rate)
