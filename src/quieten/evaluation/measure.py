"""One system on one item: denoise, keep the sound, score it. `measure` is the unit of work.

Jobs and scores are plain frozen values, so that a process pool can take and return them.
Waveforms are (C, T).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from quieten.audio import probe, read_audio, write_audio
from quieten.baselines import oracle_mask
from quieten.denoise import Denoiser, Samples
from quieten.errors import AudioError
from quieten.evaluation.foreign import denoise_files
from quieten.evaluation.results import Score, System
from quieten.evaluation.scoring import Waveform, fit, score_sounds
from quieten.plan import FAILURES, explain
from quieten.testsets.pairs import Item

_WARM_UP = 8000  # samples at 16 kHz, before anything is timed


@dataclass(frozen=True)
class Job:
    """One system on one item.

    Attributes:
        system: what denoises.
        item: what it denoises.
        target: where its sound goes.
        work: an existing folder, for temporary files.
        metrics: keys of `METRICS`.
        align: whether a constant delay is taken out before scoring.
        timeout_s: how long a foreign program may take.
        identity: changes when the system does, so that a changed model is loaded anew.
        fingerprint: goes into the score as it is.
        load: where `target` has been made already, processor seconds for each second of it.
        failure: why it could not be made.
    """

    system: System
    item: Item
    target: Path
    work: Path
    metrics: tuple[str, ...]
    align: bool
    timeout_s: float
    identity: str
    fingerprint: str
    load: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class _Result:
    waveform: Waveform
    cpu_s: float | None
    note: str = ""


def measure(job: Job) -> Score:
    """Returns the score of a job; where the job fails, all metrics are missing for that reason.

    A failed job leaves no sound.
    """
    duration_s, cpu_s, note = 0.0, None, ""
    values: dict[str, float] = {}
    try:
        noisy, sample_rate = _read(job.item.noisy)
        duration_s = noisy.shape[1] / sample_rate
        clean = _read_clean(job.item, sample_rate)
        result = _denoise(job, noisy, clean, sample_rate)
        cpu_s, note = result.cpu_s, result.note
        values, missing = score_sounds(
            result.waveform, clean, sample_rate, job.metrics, align=job.align
        )
    except FAILURES as error:
        missing, cpu_s = dict.fromkeys(job.metrics, explain(error)), None
        if job.system.kind != "noisy":
            job.target.unlink(missing_ok=True)
    return Score(
        job.system.name, job.item.name, values, missing, cpu_s, duration_s, job.fingerprint, note
    )


def denoise_folder(jobs: Sequence[Job]) -> list[Job]:
    """Runs a command that takes a folder; returns its jobs, ready for `measure`.

    Processor seconds are shared out by duration.
    """
    first = jobs[0]
    noisy, targets = [job.item.noisy for job in jobs], [job.target for job in jobs]
    for target in targets:
        target.unlink(missing_ok=True)
    try:
        cpu_s = denoise_files(first.system.spec, noisy, targets, first.work, first.timeout_s)
        load = cpu_s / max(sum(map(_duration_s, noisy)), 1e-9)
    except FAILURES as error:
        return [replace(job, failure=explain(error)) for job in jobs]
    return [
        replace(job, load=load)
        if job.target.is_file()
        else replace(job, failure="the program wrote no result for this file")
        for job in jobs
    ]


def _duration_s(path: Path) -> float:
    if known := probe(path).duration_s:
        return known
    waveform, sample_rate = read_audio(path)  # a stream, whose header does not tell
    return float(waveform.shape[1] / sample_rate)


def _read(path: Path) -> tuple[Waveform, int]:
    waveform, sample_rate = read_audio(path)
    return waveform.astype(np.float32, copy=False), sample_rate


def _read_clean(item: Item, sample_rate: int) -> Waveform | None:
    if item.clean is None:
        return None
    clean, clean_rate = _read(item.clean)
    if clean_rate != sample_rate:
        raise AudioError(f"noisy has {sample_rate} Hz, clean {clean_rate} Hz: make them the same")
    return clean


def _denoise(job: Job, noisy: Waveform, clean: Waveform | None, sample_rate: int) -> _Result:
    kind = job.system.kind
    if kind == "noisy":
        return _Result(noisy, None)
    if kind == "command":
        return _foreign(job, noisy, sample_rate)
    work: Callable[[], Samples]
    if kind == "oracle":
        work = partial(_oracle, noisy, clean, sample_rate)
    else:
        work = partial(_denoiser(job.system.spec, job.identity).__call__, noisy, sample_rate)
    began = time.thread_time()  # models run in one thread; a progress bar in another
    denoised = work().astype(np.float32, copy=False)
    cpu_s = time.thread_time() - began
    job.target.parent.mkdir(parents=True, exist_ok=True)
    write_audio(job.target, denoised, sample_rate, subtype="FLOAT")
    return _Result(denoised, cpu_s)


def _foreign(job: Job, noisy: Waveform, sample_rate: int) -> _Result:
    if job.failure:
        raise AudioError(job.failure)
    load = job.load
    if load is None:
        job.target.unlink(missing_ok=True)
        paths = [job.item.noisy], [job.target]
        cpu_s = denoise_files(job.system.spec, *paths, job.work, job.timeout_s)
    else:
        cpu_s = load * noisy.shape[1] / sample_rate
    made, made_rate = _read(job.target)
    denoised, note = fit(made, made_rate, noisy, sample_rate)
    return _Result(denoised, cpu_s, note)


def _oracle(noisy: Waveform, clean: Waveform | None, sample_rate: int) -> Waveform:
    if clean is None:
        raise AudioError("the oracle needs the clean file: there is none")
    pairs = zip(noisy, clean, strict=True)
    return np.stack([oracle_mask(*pair, sample_rate) for pair in pairs])


@lru_cache(maxsize=4)
def _denoiser(spec: str, identity: str) -> Denoiser:
    """The denoiser, loaded and warmed up once in each process."""
    denoiser = Denoiser(spec, threads=1)
    denoiser(np.random.default_rng(0).normal(0, 0.05, _WARM_UP).astype(np.float32), 16_000)
    return denoiser
