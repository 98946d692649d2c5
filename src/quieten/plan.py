"""The plan of a run: which file becomes which, and what is refused since it would lose something.

Nothing is written or printed here, and no sound is read beyond its header. Jobs are plain frozen
values, so that a process pool can take them; `batch.denoise_file` does one.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from quieten.audio import probe
from quieten.denoise import Channels
from quieten.errors import AudioError, ConfigError, QuietenError
from quieten.formats import AUDIO_SUFFIXES, AudioInfo, output_format, target_format
from quieten.signals import is_signal_model
from quieten.sndfile import check_readable
from quieten.tabular.table import TABLE_SUFFIXES, is_table

PIPE = "-"  # as an input: WAV on stdin; as an output: WAV on stdout

# What one job may fail with; soundfile raises RuntimeError, and UnicodeError for odd file names.
FAILURES = (QuietenError, OSError, RuntimeError, MemoryError, UnicodeError)


@dataclass(frozen=True)
class Settings:
    """How to denoise; the same for all files of a run."""

    model: str = "speech"
    attenuation_limit_db: float | None = None
    channels: Channels = "linked"
    threads: int = 1
    task: str | None = None  # a key of `restore.TASKS`; None: denoise only, `model` says how
    rate: int | None = None  # of the restored sound, Hz; None: what the task wants
    window_batch: int = 1  # windows of a restoring model in one call
    columns: tuple[str, ...] | None = None  # of tables, by heading or number; None: all signals
    fill: bool = False  # interpolate where a table lacks values or even steps


@dataclass(frozen=True)
class Request:
    """What a user asked for; `output` and `residual` are a file, a folder, or `-`."""

    inputs: tuple[str, ...]
    output: str | None = None
    residual: str | None = None
    overwrite: bool = False
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True)
class Job:
    """One sound to denoise. `source` None is stdin, `target` None is stdout."""

    source: Path | None
    target: Path | None
    residual: Path | None = None
    settings: Settings = field(default_factory=Settings)
    overwrite: bool = False
    duration_s: float | None = None  # as far as known, for the progress bar
    note: str = ""  # says so where the format had to change

    @property
    def name(self) -> str:
        """The input as the user knows it."""
        return PIPE if self.source is None else str(self.source)


@dataclass(frozen=True)
class Failure:
    """One input that gave nothing, and why, in one line."""

    source: str
    reason: str


def explain(error: BaseException, name: str = "") -> str:
    """The reason of an error as one line, without the name that stands before it anyway."""
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror + (f": {error.filename}" if error.filename else "")
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split()).removeprefix(f"{name}: ")


def plan(request: Request) -> tuple[list[Job], list[Failure]]:
    """The jobs of a request, and the inputs that cannot become one.

    Raises:
        ConfigError: the request as a whole makes no sense (nothing was touched).
    """
    if PIPE in request.inputs or request.output == PIPE:
        return [_pipe_job(request)], []
    many = len(request.inputs) > 1 or any(Path(name).is_dir() for name in request.inputs)
    output = _destination(request.output, many, "-o")
    residual = _destination(request.residual, many, "--residual")
    jobs: list[Job] = []
    failures: list[Failure] = []
    for source, inside in _sources(request, failures):
        try:
            jobs.append(_job(source, inside, output, residual, request))
        except FAILURES as error:
            failures.append(Failure(str(source), explain(error, str(source))))
    return _without_clashes(jobs, failures), failures


@dataclass(frozen=True)
class _Destination:
    """Where results go: a file for the only input, or a folder that mirrors the inputs."""

    path: Path
    is_folder: bool

    def resolve(self, inside: Path) -> Path:
        return self.path / inside if self.is_folder else self.path


def _destination(text: str | None, many: bool, option: str) -> _Destination | None:
    if text is None:
        return None
    if text in ("", PIPE):
        raise ConfigError(f"{option} {text!r} is not possible here: name a file or a folder")
    path = Path(text)
    is_folder = many or path.is_dir() or text.endswith(("/", os.sep))
    if is_folder and path.exists() and not path.is_dir():
        raise ConfigError(f"{option} {text} is a file, but a folder is needed: name another place")
    return _Destination(path, is_folder)


def _sources(request: Request, failures: list[Failure]) -> Iterator[tuple[Path, Path]]:
    """(file, its place below an output folder), each file once; folders without audio fail."""
    seen: set[str] = set()
    for name in request.inputs:
        path = Path(name)
        found = list(_scan(path, request, failures)) if path.is_dir() else [path]
        if not found:
            reason = "no audio files in this folder (results NAME.quieten.EXT do not count)"
            failures.append(Failure(name, f"{reason}: name files or another folder"))
        for file in found:
            if (real := os.path.realpath(file)) not in seen:
                seen.add(real)
                yield file, file.relative_to(path) if path.is_dir() else Path(file.name)


def _scan(folder: Path, request: Request, failures: list[Failure]) -> Iterator[Path]:
    """The audio files below a folder, sorted, without hidden files and our own results."""
    suffixes = AUDIO_SUFFIXES
    if is_signal_model(request.settings.model):
        suffixes = suffixes | TABLE_SUFFIXES
    own = [os.path.realpath(text) for text in (request.output, request.residual) if text]

    def unreadable(error: OSError) -> None:
        failures.append(Failure(str(error.filename), explain(error, str(error.filename))))

    for root, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(
            name
            for name in folders
            if name[0] != "." and os.path.realpath(Path(root, name)) not in own
        )
        for name in sorted(names):
            path = Path(root, name)
            if path.suffix.lower() in suffixes and name[0] != "." and not _is_result(path):
                yield path


def _is_result(path: Path) -> bool:
    return path.stem.endswith(".quieten")


def _job(
    source: Path,
    inside: Path,
    output: _Destination | None,
    residual: _Destination | None,
    request: Request,
) -> Job:
    if source.exists() and not source.is_file():
        raise AudioError("not a regular file: give a pipe as -, in WAV")
    if is_table(source):
        return _table_job(source, inside, output, residual, request)
    info = probe(source)
    suffix, note = output_format(info)
    inside = inside if inside.suffix.lower() == suffix else inside.with_suffix(suffix)
    if output is None:
        target = source.with_name(f"{source.stem}.quieten{inside.suffix}")
    else:
        target = output.resolve(inside)
        note = _note(target, info) if target.suffix.lower() != suffix else note
    job = Job(
        source=source,
        target=target,
        residual=residual.resolve(inside) if residual else None,
        settings=request.settings,
        overwrite=request.overwrite,
        duration_s=info.duration_s or None,
        note=note,
    )
    refuse_loss(job)
    return job


def _table_job(
    source: Path,
    inside: Path,
    output: _Destination | None,
    residual: _Destination | None,
    request: Request,
) -> Job:
    """A job that keeps the format, whatever it is."""
    check_readable(source)
    beside = source.with_name(f"{source.stem}.quieten{source.suffix}")
    job = Job(
        source=source,
        target=output.resolve(inside) if output else beside,
        residual=residual.resolve(inside) if residual else None,
        settings=request.settings,
        overwrite=request.overwrite,
    )
    for path in (job.target, job.residual):
        if path is not None and path.suffix.lower() != source.suffix.lower():
            raise AudioError(f"{path} is another format: a table keeps its own, {source.suffix}")
    refuse_loss(job)
    return job


def _note(target: Path, info: AudioInfo) -> str:
    """What changes where the user chose another format than the input's."""
    _, subtype = target_format(target, info)
    return f"{info.subtype} becomes {subtype}" if subtype != info.subtype else ""


def _pipe_job(request: Request) -> Job:
    if len(request.inputs) > 1 or (request.inputs[0] != PIPE and Path(request.inputs[0]).is_dir()):
        raise ConfigError("- takes one sound at a time: give one input only")
    source = None if request.inputs[0] == PIPE else Path(request.inputs[0])
    if source is not None and is_table(source):
        raise ConfigError(f"{source} is a table, - is WAV: name a file with -o")
    is_stdout = request.output in (None, PIPE)
    output = None if is_stdout else _destination(request.output, False, "-o")
    residual = _destination(request.residual, False, "--residual")
    inside = Path("stdin.wav" if source is None else source.name)
    job = Job(
        source=source,
        target=output.resolve(inside) if output else None,
        residual=residual.resolve(inside) if residual else None,
        settings=request.settings,
        overwrite=request.overwrite,
    )
    refuse_loss(job)
    return job


def _without_clashes(jobs: list[Job], failures: list[Failure]) -> list[Job]:
    """The jobs less those whose result would replace another one's, or another one's input."""
    owner = {os.path.realpath(job.source): job for job in jobs if job.source is not None}
    kept = []
    for job in jobs:
        paths = [os.path.realpath(path) for path in (job.target, job.residual) if path is not None]
        rival = next((owner[path] for path in paths if owner.get(path, job) is not job), None)
        if rival is None:
            owner.update(dict.fromkeys(paths, job))
            kept.append(job)
        else:
            reason = f"its result {job.target} would replace a file of {rival.name}"
            failures.append(Failure(job.name, f"{reason}: rename one, or denoise it by itself"))
    return kept


def refuse_loss(job: Job) -> None:
    """Raises AudioError where writing the results of a job would lose something."""
    for path, option in ((job.target, "-o"), (job.residual, "--residual")):
        if path is None or not os.path.lexists(path):
            continue
        same = job.source is not None and _is_same(path, job.source)
        if path.exists() and not path.is_file():
            raise AudioError(f"{path} is not a regular file: choose another {option}")
        if same and (not job.overwrite or path == job.residual):
            remedy = " or say --overwrite" if path == job.target else ""
            raise AudioError(f"the output {path} is the input: choose another {option}{remedy}")
        if not job.overwrite:
            raise AudioError(f"{path} exists already: choose another {option} or say --overwrite")
    if job.target is not None and job.residual is not None and _is_same(job.target, job.residual):
        raise AudioError("the residual and the output are one file: choose another --residual")


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths name one file, also through links."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return os.path.realpath(one) == os.path.realpath(other)
