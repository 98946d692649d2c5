"""Denoises one sound from file to file: `denoise_file` is the unit of work of every run.

Sound goes in blocks, in memory that does not grow with the file; tables go as a whole. Results
are plain frozen values, so that a process pool can return them. Nothing is printed here; `plan.py`
makes the jobs.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from quieten.audio import AudioReader, AudioWriter
from quieten.denoise import Denoiser, Samples
from quieten.errors import AudioError, ConfigError
from quieten.formats import AudioInfo
from quieten.guard import Verdict, VoiceGuard
from quieten.plan import PIPE, Job, Settings, refuse_loss
from quieten.restore import TASKS, Restorer
from quieten.runtime import available, available_waveform
from quieten.signals import SignalDenoiser, is_signal_model
from quieten.tabular.table import is_table, read_table, writing
from quieten.wav_pipe import WavStreamWriter, read_wav_stream

SILENCE_DBFS = -90.0  # one step of 16 bits is -90.3 dBFS: nothing below it can be speech

_Writer = AudioWriter | WavStreamWriter
Progress = Callable[[float], None]  # called with the seconds of sound just finished


@dataclass(frozen=True)
class Result:
    """What became of one sound."""

    source: str
    target: str
    residual: str | None
    sample_rate: float  # Hz; of a table it may be a fraction
    channels: int  # of a table, columns that were cleaned
    frames: int
    # RMS over all channels, -inf for silence; of a table re 1 of its unit and without its means
    level_before_dbfs: float
    level_after_dbfs: float
    voice_lost_s: float  # seconds of what sounds like a voice that came out much quieter
    elapsed_s: float
    warnings: tuple[str, ...]

    @property
    def duration_s(self) -> float:
        """Length of the sound in seconds."""
        return self.frames / self.sample_rate

    @property
    def real_time_factor(self) -> float:
        """Seconds of work for each second of sound."""
        return self.elapsed_s / max(self.duration_s, 1e-9)


Worker = Denoiser | SignalDenoiser | Restorer


def _denoiser(settings: Settings) -> Worker:
    """The denoiser, loaded once for all files of a run; anew if the model's file has changed."""
    name = settings.model or TASKS.get(settings.task or "", "")
    path = (available() | available_waveform()).get(name, Path(name))
    return _load(settings, path, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=2)
def _load(settings: Settings, path: Path, changed_ns: int) -> Worker:
    if settings.task is not None:
        return Restorer(
            settings.task,
            model=settings.model or None,
            rate=settings.rate,
            strength_db=settings.attenuation_limit_db,
            threads=settings.threads,
            window_batch=settings.window_batch,
        )
    if is_signal_model(settings.model):
        return SignalDenoiser(
            settings.model,
            attenuation_limit_db=settings.attenuation_limit_db,
            threads=settings.threads,
        )
    return Denoiser(
        settings.model,
        attenuation_limit_db=settings.attenuation_limit_db,
        channels=settings.channels,
        threads=settings.threads,
    )


def check(settings: Settings) -> None:
    """Loads the model, so that a wrong setting shows before the first file.

    Raises:
        ModelError: the model is unknown or broken.
        ConfigError: a setting is out of range.
    """
    _denoiser(settings)


def denoise_file(
    job: Job, progress: Progress | None = None, worker: Worker | None = None
) -> Result:
    """Denoises one sound in blocks, or one table at once, and returns what became of it.

    The results appear under their names only when they are whole; after an error or Ctrl-C
    there is no trace of them.

    Args:
        job: what to do.
        progress: told how far it is.
        worker: what does it, in the place of what the settings of the job name.

    Raises:
        AudioError: the input cannot be read or the output not be written.
        ModelError, ConfigError: the settings do not fit.
    """
    began = time.perf_counter()
    refuse_loss(job)
    denoiser = worker or _denoiser(job.settings)
    if job.source is not None and is_table(job.source):
        return _denoise_table(job, denoiser, began)
    if job.settings.columns is not None:
        raise AudioError("is no table, so it has no columns: leave --columns out")
    with ExitStack() as stack:
        source = stack.enter_context(_open_source(job))
        stream = denoiser.stream(source.info.sample_rate, source.info.channels)
        blocks = _not_empty(source.blocks(stream.block_length))
        guard = VoiceGuard(source.info.sample_rate) if isinstance(denoiser, Denoiser) else None
        sinks = _Sinks(job, source.info, _output_info(denoiser, source.info), guard, stack)
        for block in blocks:
            sinks.put(block, stream.feed(block))
            if progress:
                progress(block.shape[1] / source.info.sample_rate)
        sinks.put(block[:, :0], stream.flush(), last=True)
        with _writing(job):
            stack.close()  # the results get their final names
    return sinks.result(time.perf_counter() - began, source.non_finite())


def _output_info(worker: Worker, info: AudioInfo) -> AudioInfo:
    """What the result is to be like: as the input, but perhaps at another rate."""
    if not isinstance(worker, Restorer):
        return info
    rate = worker.output_rate(info.sample_rate)
    return replace(info, sample_rate=rate, frames=-(-info.frames * rate // info.sample_rate))


@dataclass(frozen=True)
class _Source:
    """An opened input, be it a file or stdin."""

    info: AudioInfo
    blocks: Callable[[int], Iterator[Samples]]  # of a length, (C, T) each
    non_finite: Callable[[], int]


@contextmanager
def _open_source(job: Job) -> Iterator[_Source]:
    if job.source is None:
        pipe = read_wav_stream(_binary(sys.stdin, "stdin"))
        yield _Source(pipe.info, pipe.blocks, lambda: pipe.non_finite)
        return
    with AudioReader(job.source) as reader:
        yield _Source(reader.info, reader.blocks, lambda: reader.non_finite)


def _binary(stream: TextIO | None, name: str) -> BinaryIO:
    if stream is None:  # the caller closed it, as the shell's <&- does
        raise AudioError(f"{name} is closed: open it, or name a file")
    return stream.buffer


def _not_empty(blocks: Iterator[Samples]) -> Iterator[Samples]:
    """The blocks; looks at the first at once, so that bad input fails before an output opens."""
    first = next(blocks, None)
    if first is None:
        raise AudioError("holds no samples: nothing to denoise")
    return chain([first], blocks)


class _Sinks:
    """Where the samples of one job go, and what is counted on their way.

    The stream's output lags behind its input, so the input waits here for its output.
    """

    def __init__(
        self,
        job: Job,
        source: AudioInfo,
        info: AudioInfo,
        guard: VoiceGuard | None,
        stack: ExitStack,
    ) -> None:
        if job.residual is not None and source.sample_rate != info.sample_rate:
            raise ConfigError("another rate leaves no residual: leave --rate or --residual out")
        self._job, self._info, self._guard = job, info, guard
        with _writing(job):
            self._output = stack.enter_context(_writer(job.target, info))
            self._residual = (
                None if job.residual is None else stack.enter_context(_writer(job.residual, info))
            )
        self._waiting: Samples = np.zeros((info.channels, 0), np.float32)  # (C, T)
        self._frames_before, self._frames, self._peak = 0, 0, 0.0
        self._energy_before, self._energy_after = 0.0, 0.0

    def put(self, block: Samples, denoised: Samples, last: bool = False) -> None:
        """Takes the next block of the input, (C, T), and what the stream gave for it."""
        if self._guard is not None:
            self._guard.feed(block, denoised, last)
        length = denoised.shape[1]
        with _writing(self._job):
            stored = self._output.write(denoised)
            if self._residual is not None:
                self._waiting = np.concatenate([self._waiting, block], axis=1)
                original, self._waiting = self._waiting[:, :length], self._waiting[:, length:]
                self._residual.write(original - stored)
        self._frames_before += block.shape[1]
        self._frames += length
        self._peak = max(self._peak, float(np.abs(block).max(initial=0.0)))
        self._energy_before += float(np.square(block, dtype=np.float64).sum())
        self._energy_after += float(np.square(stored, dtype=np.float64).sum())

    def result(self, elapsed_s: float, non_finite: int) -> Result:
        """The account of the job, once the writers are closed."""
        job, info = self._job, self._info
        samples = self._frames_before * info.channels
        verdict = Verdict(0.0, 0.0) if self._guard is None else self._guard.verdict()
        return Result(
            source=job.name,
            target=PIPE if job.target is None else str(job.target),
            residual=None if job.residual is None else str(job.residual),
            sample_rate=info.sample_rate,
            channels=info.channels,
            frames=self._frames,
            level_before_dbfs=_dbfs(self._energy_before / samples),
            level_after_dbfs=_dbfs(self._energy_after / (self._frames * info.channels)),
            voice_lost_s=verdict.lost_s,
            elapsed_s=elapsed_s,
            warnings=tuple(self._warnings(non_finite, verdict)),
        )

    def _warnings(self, non_finite: int, verdict: Verdict) -> Iterator[str]:
        if self._job.note:
            yield self._job.note
        if non_finite:
            yield f"{non_finite} samples were NaN or infinite: replaced by silence"
        if (peak_dbfs := _dbfs(self._peak**2)) < SILENCE_DBFS:
            yield f"the input is silent (peak {peak_dbfs:.0f} dBFS): is it the right file?"
        if verdict.alarming:
            yield (
                f"{verdict.lost_s:.0f} of {verdict.voiced_s:.0f} s that sound like a voice or an "
                "instrument were removed: listen with --residual, keep more with "
                "--attenuation-limit-db 12"
            )
        for writer, role in ((self._output, "result"), (self._residual, "residual")):
            if writer is not None and writer.limited:
                yield f"{writer.limited} samples of the {role} beyond full scale: limited"


def _writer(path: Path | None, info: AudioInfo) -> AbstractContextManager[_Writer]:
    if path is None:
        return WavStreamWriter(_binary(sys.stdout, "stdout"), info)
    path.parent.mkdir(parents=True, exist_ok=True)
    return AudioWriter(path, info)


@contextmanager
def _writing(job: Job) -> Iterator[None]:
    """Says which output could not be written."""
    try:
        yield
    except OSError as error:
        target = "stdout" if job.target is None else job.target
        reason = (error.strerror or str(error)).lower()
        remedy = "make room or choose another place with -o"
        if isinstance(error, BrokenPipeError):
            remedy = "its reader has gone"
        raise AudioError(f"{target}: cannot be written ({reason}): {remedy}") from error


def _denoise_table(job: Job, denoiser: Worker, began: float) -> Result:
    """Does a job whose files are tables."""
    assert job.source is not None and job.target is not None  # tables do not go through pipes
    if not isinstance(denoiser, SignalDenoiser):
        raise AudioError(
            f"is a table, but model {job.settings.model!r} is for sound: choose one for signals"
            " with --model, as `signals` or your own"
        )
    info, warnings = denoiser.model.info, [job.note] if job.note else []
    table = read_table(job.source, columns=job.settings.columns, fill=job.settings.fill)
    warnings += table.warnings
    if table.sample_rate is None:
        warnings.append(f"no time column: taken as {info.sample_rate:g} Hz, the model's rate")
    rate = table.sample_rate or info.sample_rate
    # An offset is no noise. Where amplitudes are known (zero phase), the signal must stay as it is.
    offset = table.signal.mean(axis=1, keepdims=True) * (info.phase == "any")
    denoised = denoiser(table.signal - offset, rate) + offset
    content, stored = table.render(table.at_rows(denoised))
    results = {job.target: content}
    if job.residual is not None:
        results[job.residual] = table.render(table.values - stored)[0]
    with _writing(job), ExitStack() as stack:
        for path, data in results.items():
            stack.enter_context(writing(path, data))
    return Result(
        source=job.name,
        target=str(job.target),
        residual=None if job.residual is None else str(job.residual),
        sample_rate=rate,
        channels=table.values.shape[0],
        frames=table.values.shape[1],
        level_before_dbfs=_dbfs(float(table.values.var(axis=1).mean())),
        level_after_dbfs=_dbfs(float(stored.var(axis=1).mean())),
        voice_lost_s=0.0,
        elapsed_s=time.perf_counter() - began,
        warnings=tuple(warnings),
    )


def _dbfs(mean_square: float) -> float:
    return 10 * math.log10(mean_square) if mean_square > 0 else -math.inf
