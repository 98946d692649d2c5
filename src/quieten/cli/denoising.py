"""The verb `denoise`: files, folders and pipes."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from quieten.cli.console import (
    FAILED,
    AsJson,
    app,
    complain,
    duration_text,
    finite,
    is_terminal,
    level_text,
    say,
    say_json,
    stop_on_signal,
)
from quieten.errors import ConfigError

if TYPE_CHECKING:
    from quieten.batch import Progress, Result, Worker
    from quieten.plan import Failure, Job, Request


Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="OUT",
        help="A file, a folder (for several inputs; mirrors the tree of input folders), or - for "
        "WAV on stdout. Without it: NAME.quieten.EXT beside the input.",
    ),
]
Residual = Annotated[
    str | None,
    typer.Option(metavar="OUT", help="Also write what was removed, to a file or folder."),
]
Replace = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]


class Channels(StrEnum):
    """How the channels of a sound are treated."""

    LINKED = "linked"
    SEPARATE = "separate"


@app.command()
def denoise(
    files: Annotated[
        list[str],
        typer.Argument(
            help="Audio files, or folders (their audio files, recursively, except results named "
            "NAME.quieten.EXT), or - for WAV on stdin. With a model of signals also tables: "
            ".csv, .tsv, .npy.",
            show_default=False,
        ),
    ],
    output: Output = None,
    model: Annotated[
        str, typer.Option(metavar="NAME|PATH", help="A model of `quieten models`, or an ONNX file.")
    ] = "speech",
    attenuation_limit_db: Annotated[
        float | None,
        typer.Option(metavar="N", help="Remove at most N dB; 0 gives the input back, bit by bit."),
    ] = None,
    residual: Residual = None,
    channels: Annotated[
        Channels, typer.Option(help="One gain for all channels keeps the stereo image.")
    ] = Channels.LINKED,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Of tables: the columns to clean, by heading or number from 1. Without it: all "
            "but time, running numbers, text and constants.",
        ),
    ] = None,
    fill: Annotated[
        bool,
        typer.Option(
            "--fill", help="Of tables: interpolate over missing values and uneven time steps."
        ),
    ] = False,
    overwrite: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Denoise audio files; rate, channels, length, format and tags stay as they are."""
    from quieten.plan import Request, Settings

    names = None if columns is None else tuple(columns.split(","))
    settings = Settings(model, attenuation_limit_db, channels.value, columns=names, fill=fill)
    request = Request(tuple(files), output, residual, overwrite, settings)
    run(request, as_json)


def run(
    request: "Request",
    as_json: bool,
    worker: "Worker | None" = None,
    doing: str = "denoising",
) -> None:
    """Does all jobs of a request, one after the other; exits with 1 if any of them failed.

    Args:
        worker: what does them, in the place of what the settings name.
        doing: the word before the progress bar.
    """
    from quieten.batch import check, denoise_file
    from quieten.plan import FAILURES, Failure, explain, plan

    signal.signal(signal.SIGTERM, stop_on_signal)
    if worker is None:
        check(request.settings)
    jobs, failures = plan(request)
    _refuse_terminal(jobs)
    is_talk = any(job.target is None for job in jobs)  # stdout carries audio: be silent there
    for failure in failures:
        complain(f"{failure.source}: {failure.reason}")
    results: list[Result] = []
    with _progress(jobs, doing) as advance:
        for job in jobs:
            try:
                results.append(denoise_file(job, advance, worker))
            except FAILURES as error:
                failures.append(Failure(job.name, explain(error, job.name)))
                complain(f"{job.name}: {failures[-1].reason}")
                continue
            if not as_json:
                say(_result_line(results[-1]), is_talk=is_talk)
    if as_json:
        say_json(_report(results, failures), is_talk=is_talk)
    if failures:
        raise typer.Exit(FAILED)


def _refuse_terminal(jobs: "Sequence[Job]") -> None:
    for job in jobs:
        if job.source is None and is_terminal(sys.stdin):
            raise ConfigError("- reads WAV from a pipe, but stdin is a terminal: pipe a file in")
        if job.target is None and is_terminal(sys.stdout):
            raise ConfigError("stdout is a terminal: name a file with -o, or pipe the output")


@contextmanager
def _progress(jobs: "Sequence[Job]", doing: str) -> "Iterator[Progress | None]":
    """A bar with the time left on stderr, if that is a terminal; yields what advances it."""
    if not is_terminal(sys.stderr):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    lengths = [job.duration_s for job in jobs]  # of pipes and some media files not known
    total = None if None in lengths else sum(length or 0.0 for length in lengths)
    columns = (doing, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    # Lines on stdout go around the bar where both share the terminal, else to their file.
    is_shared = is_terminal(sys.stdout)
    with Bar(
        *columns, console=Console(stderr=True), redirect_stdout=is_shared, transient=True
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda seconds: bar.advance(task, seconds)


def _result_line(result: "Result") -> str:
    from quieten.tabular.table import is_table

    before, after = level_text(result.level_before_dbfs), level_text(result.level_after_dbfs)
    line = f"{result.target}  {duration_text(result.duration_s)}  {before} -> {after} "
    line += "dB re 1" if is_table(result.source) else "dBFS"
    line += f"  real-time factor {result.real_time_factor:.3f}"
    return line + "".join(f"  [{warning}]" for warning in result.warnings)


def _report(results: "Sequence[Result]", failures: "Sequence[Failure]") -> dict[str, object]:
    """The document of --json; levels of digital silence are null."""
    files = [
        asdict(result)
        | {
            "level_before_dbfs": finite(result.level_before_dbfs),
            "level_after_dbfs": finite(result.level_after_dbfs),
            "duration_s": result.duration_s,
            "real_time_factor": result.real_time_factor,
        }
        for result in results
    ]
    return {"files": files, "failed": [asdict(failure) for failure in failures]}
