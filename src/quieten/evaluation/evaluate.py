"""Measures denoisers on a test set: every system on every item, in processes, step by step.

A score is written as soon as it is known and used again as long as nothing has changed that
decides it, so a run that was stopped goes on where it was. The unit of work is in `measure.py`,
the files of the folder in `results.py`.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import IO

from quieten import __version__
from quieten.baselines import load_any
from quieten.errors import ConfigError, QuietenError
from quieten.evaluation.foreign import check_command, end_programs, takes_folder
from quieten.evaluation.measure import Job, denoise_folder, measure
from quieten.evaluation.results import (
    DESCRIPTION,
    FORMAT,
    NOISY,
    SCORES,
    Evaluation,
    Request,
    Score,
    System,
    denoised_path,
    read_evaluation,
    read_scores,
    score_line,
    write_description,
    write_scores,
)
from quieten.evaluation.workers import open_workers
from quieten.metrics import METRICS
from quieten.testsets.pairs import Item

__all__ = [
    "NOISY",
    "Evaluation",
    "Progress",
    "Request",
    "Score",
    "System",
    "evaluate",
    "read_evaluation",
]

Progress = Callable[[int, int, str], None]  # scores known, scores in all, what came last

_LOCK, _WORK = ".lock", ".work"
_NAME = re.compile(r"\w[\w.+-]*")
_MEASURING = ("pesq", "pystoi", "scipy", "soxr", "speechmos")  # packages that decide figures


def evaluate(request: Request, progress: Progress | None = None) -> Evaluation:
    """Scores all systems of a request on all items and returns the evaluation.

    Scores that the folder holds already are used again where their fingerprint agrees: files,
    model or command, metrics and versions are the same. What failed is tried again. An exception
    or a kill loses only what was being worked on.

    Args:
        request: what to measure, and the folder that keeps it.
        progress: called with (scores known, scores in all, what came last).

    Raises:
        ConfigError: the request makes no sense, a program is missing, or the folder holds other
            files or is in use.
        ModelError: a model is unknown or broken.
        MissingExtra: never; metrics that cannot be computed are missing for that reason.
    """
    request = _completed(request)
    identities = {system.name: _identity(system) for system in request.systems}
    _check_folder(request.out)
    with _locked(request.out):
        jobs = _jobs(request, identities)
        known = _keep_known(request, jobs)
        left = [job for job in jobs if (job.system.name, job.item.name) not in known]
        work = request.out / _WORK
        shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
        work.mkdir()
        try:
            _run(request, left, len(known), progress)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return read_evaluation(request.out)


def _completed(request: Request) -> Request:
    """The request with the noisy files as its first system and absolute paths, checked."""
    systems = (NOISY, *(system for system in request.systems if system != NOISY))
    items = tuple(
        replace(
            item,
            noisy=item.noisy.absolute(),
            clean=None if item.clean is None else item.clean.absolute(),
        )
        for item in request.items
    )
    _check_names(systems, items)
    if request.workers < 1:
        raise ConfigError(f"workers is {request.workers}: use 1 or more")
    unknown = [name for name in request.metrics if name not in METRICS]
    if unknown or not request.metrics:
        what = f"metric {unknown[0]!r} is unknown" if unknown else "there is no metric"
        raise ConfigError(f"{what}: use some of {', '.join(METRICS)}")
    return replace(request, systems=systems, items=items, out=request.out.absolute())


def _check_names(systems: tuple[System, ...], items: tuple[Item, ...]) -> None:
    if not items:
        raise ConfigError("the test set is empty: give at least one item")
    for name in (system.name for system in systems):
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r} is no name for a system: use letters, digits and .+-_")
    for name in (item.name for item in items):
        path = PurePath(name)
        if not path.parts or path.is_absolute() or ".." in path.parts:
            raise ConfigError(f"{name!r} is no name for an item: use a plain relative one")
    for what, names in (("system", [s.name for s in systems]), ("item", [i.name for i in items])):
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"two {what}s are called {twice!r}: give them different names")


def _identity(system: System) -> str:
    """What decides how a system denoises; raises where it cannot be used."""
    if system.kind == "command":
        check_command(system.spec)
        return system.spec
    if system.kind == "model":
        info = load_any(system.spec).info
        return info.name if info.path is None else _digest(info.path)
    return system.kind


def _check_folder(out: Path) -> None:
    """Refuses a folder that is not an evaluation's, so that nothing of it is overwritten."""
    if (out / DESCRIPTION).exists():
        read_evaluation(out)
    elif out.exists() and (not out.is_dir() or any(p.name[0] != "." for p in out.iterdir())):
        raise ConfigError(f"{out}: holds something else than an evaluation: name a new folder")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the folder; the system lets go of it when the process ends, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _LOCK).open("a+")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"{folder}: cannot be written ({reason}): name another place") from None
    with file:
        if not _lock(file):
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise ConfigError(
                f"{folder}: another evaluation is at work in it (process {holder}):"
                " wait for it, or name another folder"
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _lock(file: IO[str]) -> bool:
    """Whether this process may have the file; it may where the file system knows no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(1000)  # beyond the text, which others may read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True


def _jobs(request: Request, identities: dict[str, str]) -> list[Job]:
    """A job for each system and item."""
    sounds = {
        item.name: [_digest(item.noisy), item.clean and _digest(item.clean)]
        for item in request.items
    }
    return [
        Job(
            system=system,
            item=item,
            target=denoised_path(request.out, system.name, item.name),
            work=request.out / _WORK,
            metrics=request.metrics,
            align=request.align,
            timeout_s=request.timeout_s,
            identity=identities[system.name],
            fingerprint=_fingerprint(
                system.kind,
                identities[system.name],
                sounds[item.name],
                sorted(request.metrics),
                request.align,
            ),
        )
        for system in request.systems
        for item in request.items
    ]


def _fingerprint(*parts: object) -> str:
    content = json.dumps([FORMAT, __version__, _versions(), *parts])
    return hashlib.sha256(content.encode()).hexdigest()


@lru_cache(maxsize=1)
def _versions() -> tuple[str | None, ...]:
    def installed(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    return tuple(installed(name) for name in _MEASURING)


def _digest(path: Path) -> str:
    """SHA-256 of a file; of one that cannot be read, empty: its job will say why."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _keep_known(request: Request, jobs: Iterable[Job]) -> set[tuple[str, str]]:
    """Returns the pairs whose scores still hold, after the files have been rid of others.

    Scores of systems and items that are not asked for this time stay for another time.
    """
    if not (request.out / DESCRIPTION).exists():
        write_description(request)
    asked = {(job.system.name, job.item.name): job for job in jobs}
    latest = {(score.system, score.item): score for score in read_scores(request.out)}
    kept = {
        pair: score
        for pair, score in latest.items()
        if pair not in asked or _holds(score, asked[pair])
    }
    write_scores(request.out, list(kept.values()))
    write_description(request)
    return kept.keys() & asked.keys()


def _holds(score: Score, job: Job) -> bool:
    sound = job.system.kind == "noisy" or job.target.is_file()
    return sound and not score.failed and score.fingerprint == job.fingerprint


def _run(request: Request, jobs: list[Job], known: int, progress: Progress | None) -> None:
    """Does the jobs and appends their scores; commands that take folders come first."""
    total = known + len(jobs)
    by_folder: dict[str, list[Job]] = {}
    tasks: deque[Job | list[Job]] = deque()
    for job in jobs:
        if job.system.kind == "command" and takes_folder(job.system.spec):
            by_folder.setdefault(job.system.name, []).append(job)
        else:
            tasks.append(job)
    tasks.extendleft(by_folder.values())
    with (request.out / SCORES).open("a", encoding="utf-8", newline="") as sink:
        if progress:
            progress(known, total, "")
        with closing(_scores(tasks, request.workers)) as scores:
            for done, score in enumerate(scores, known + 1):
                sink.write(score_line(score))
                sink.flush()
                if progress:
                    progress(done, total, f"{score.system} {score.item}")


def _do(task: Job | list[Job]) -> Score | list[Job]:
    return denoise_folder(task) if isinstance(task, list) else measure(task)


def _scores(tasks: deque[Job | list[Job]], workers: int) -> Generator[Score, None, None]:
    """Yields scores as they come; no more tasks are handed out than there are workers."""
    running: set[Future[Score | list[Job]]] = set()
    try:
        with open_workers(workers, end_programs) as pool:
            while tasks or running:
                while tasks and len(running) < workers:
                    running.add(pool.submit(_do, tasks.popleft()))
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    result = future.result()
                    if isinstance(result, Score):
                        yield result
                    else:
                        tasks.extend(result)
    except BrokenProcessPool:
        raise QuietenError(
            "a worker was ended from outside, perhaps for want of memory: start again with fewer "
            "workers; what is finished is kept"
        ) from None
