"""The command line: one function a verb. The only module that prints.

Results go to stdout, talk goes to stderr. What a user can cause ends in one line and exit
code 1 (2 for a wrong option, 130 for Ctrl-C), never in a traceback. Heavy imports sit inside
the functions, so that help and completion come at once.
"""

import json
import math
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from quieten import __version__
from quieten.errors import ConfigError, MissingExtra, QuietenError

if TYPE_CHECKING:
    from quieten.batch import Progress, Result
    from quieten.plan import Failure, Job, Request
    from quieten.runtime import ModelInfo

FAILED, INTERRUPTED = 1, 130  # exit codes; 2 (usage) is typer's own


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Texts = list[str] | None


class Channels(StrEnum):
    """How the channels of a sound are treated."""

    LINKED = "linked"
    SEPARATE = "separate"


class _Verbs(TyperGroup):
    """Ends every verb in one line and an exit code, also under `python -m` and in tests."""

    def invoke(self, ctx: Any) -> Any:
        with _one_line_errors():
            return super().invoke(ctx)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    for stream in (sys.stdout, sys.stderr):  # a file name need not be text that can be printed
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
    try:
        yield
    except (KeyboardInterrupt, ImportError) as error:
        if not _is_interrupt(error):
            raise
        _complain("interrupted: no unfinished file was left behind")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        raise typer.Exit(FAILED) from None
    except QuietenError as error:
        _complain(str(error))
        raise typer.Exit(FAILED) from None
    except OSError as error:
        name = f": {error.filename}" if error.filename else ""
        _complain(f"{error.strerror or error}{name}: make room or choose another place")
        raise typer.Exit(FAILED) from None
    finally:
        _flush_stdout()


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind it: compiled modules make an ImportError of it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _flush_stdout() -> None:
    """Sends what cannot be written to nowhere, so that the interpreter's last flush is silent."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(text: str, *, is_talk: bool = False) -> None:
    stream = sys.stderr if is_talk else sys.stdout
    if stream is not None:  # None: the caller closed it, as the shell's 2>&- does
        print(text, file=stream, flush=True)


def _complain(reason: str) -> None:
    _say(f"quieten: {reason}", is_talk=True)


def _say_json(value: object, *, is_talk: bool = False) -> None:
    _say(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False), is_talk=is_talk)


def _say_table(rows: Sequence[Sequence[str]]) -> None:
    """Prints columns as wide as their widest cell; the first row is the heading."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        _say("  ".join(cells).rstrip())


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Remove noise from speech recordings, on the CPU, offline.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        _say(f"quieten {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@app.command()
def denoise(
    files: Annotated[
        list[str],
        typer.Argument(
            help="Audio files, or folders (their audio files, recursively, except results named "
            "NAME.quieten.EXT), or - for WAV on stdin.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="A file, a folder (for several inputs; mirrors the tree of input folders), or - "
            "for WAV on stdout. Without it: NAME.quieten.EXT beside the input.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME|PATH", help="A model of `quieten models`, or an ONNX file.")
    ] = "speech",
    attenuation_limit_db: Annotated[
        float | None,
        typer.Option(metavar="N", help="Remove at most N dB; 0 gives the input back, bit by bit."),
    ] = None,
    residual: Annotated[
        str | None,
        typer.Option(metavar="OUT", help="Also write what was removed, to a file or folder."),
    ] = None,
    channels: Annotated[
        Channels, typer.Option(help="One gain for all channels keeps the stereo image.")
    ] = Channels.LINKED,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    as_json: AsJson = False,
) -> None:
    """Denoise audio files; rate, channels, length, format and tags stay as they are."""
    from quieten.plan import Request, Settings

    settings = Settings(model, attenuation_limit_db, channels.value)
    request = Request(tuple(files), output, residual, overwrite, settings)
    _run_denoise(request, as_json)


def _stop(number: int, frame: object) -> None:
    """Makes of a signal what unwinds, so that unfinished files are removed."""
    raise SystemExit(128 + number)


def _run_denoise(request: "Request", as_json: bool) -> None:
    """Does all jobs of a request, one after the other; exits with 1 if any of them failed."""
    from quieten.batch import check, denoise_file
    from quieten.plan import FAILURES, Failure, explain, plan

    signal.signal(signal.SIGTERM, _stop)
    check(request.settings)
    jobs, failures = plan(request)
    _refuse_terminal(jobs)
    is_talk = any(job.target is None for job in jobs)  # stdout carries audio: be silent there
    for failure in failures:
        _complain(f"{failure.source}: {failure.reason}")
    results: list[Result] = []
    with _progress(jobs) as advance:
        for job in jobs:
            try:
                results.append(denoise_file(job, advance))
            except FAILURES as error:
                failures.append(Failure(job.name, explain(error, job.name)))
                _complain(f"{job.name}: {failures[-1].reason}")
                continue
            if not as_json:
                _say(_result_line(results[-1]), is_talk=is_talk)
    if as_json:
        _say_json(_report(results, failures), is_talk=is_talk)
    if failures:
        raise typer.Exit(FAILED)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _refuse_terminal(jobs: "Sequence[Job]") -> None:
    for job in jobs:
        if job.source is None and _is_terminal(sys.stdin):
            raise ConfigError("- reads WAV from a pipe, but stdin is a terminal: pipe a file in")
        if job.target is None and _is_terminal(sys.stdout):
            raise ConfigError("stdout is a terminal: name a file with -o, or pipe the output")


@contextmanager
def _progress(jobs: "Sequence[Job]") -> "Iterator[Progress | None]":
    """A bar with the time left on stderr, if that is a terminal; yields what advances it."""
    if not _is_terminal(sys.stderr):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    lengths = [job.duration_s for job in jobs]  # of pipes and some media files not known
    total = None if None in lengths else sum(length or 0.0 for length in lengths)
    columns = ("denoising", BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    # Lines on stdout go around the bar where both share the terminal, else to their file.
    is_shared = _is_terminal(sys.stdout)
    with Bar(
        *columns, console=Console(stderr=True), redirect_stdout=is_shared, transient=True
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda seconds: bar.advance(task, seconds)


def _level(dbfs: float) -> str:
    return f"{dbfs:.1f}" if math.isfinite(dbfs) else "silence"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:04.1f}"


def _result_line(result: "Result") -> str:
    before, after = _level(result.level_before_dbfs), _level(result.level_after_dbfs)
    line = f"{result.target}  {_duration(result.duration_s)}  {before} -> {after} dBFS"
    line += f"  real-time factor {result.real_time_factor:.3f}"
    return line + "".join(f"  [{warning}]" for warning in result.warnings)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON knows no infinity


def _report(results: "Sequence[Result]", failures: "Sequence[Failure]") -> dict[str, object]:
    """The document of --json; levels of digital silence are null."""
    files = [
        asdict(result)
        | {
            "level_before_dbfs": _finite(result.level_before_dbfs),
            "level_after_dbfs": _finite(result.level_after_dbfs),
            "duration_s": result.duration_s,
            "real_time_factor": result.real_time_factor,
        }
        for result in results
    ]
    return {"files": files, "failed": [asdict(failure) for failure in failures]}


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the models: rate, latency, size, licence, scores."""
    from quieten.runtime import available, load

    infos = [load(name).info for name in sorted(available())]
    if as_json:
        extra = ({"path": str(info.path), "latency_ms": info.latency_ms} for info in infos)
        _say_json([asdict(info) | more for info, more in zip(infos, extra, strict=True)])
    elif not infos:
        _complain("no models are installed: give an ONNX file to --model")
    else:
        heading = ["name", "family", "version", "rate", "latency", "size", "licence", "scores"]
        _say_table([heading, *(_model_row(info) for info in infos)])


def _model_row(info: "ModelInfo") -> list[str]:
    scores = ", ".join(f"{name} {value:g}" for name, value in info.scores.items())
    rate, latency = f"{info.sample_rate} Hz", f"{info.latency_ms:g} ms"
    size = f"{info.size_bytes / 1e6:.2f} MB"
    return [info.name, info.family, info.version, rate, latency, size, info.licence, scores or "-"]


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check this installation: versions, readable formats, self-test, speed of each model."""
    from quieten.doctor import examine

    report = examine()
    if as_json:
        _say_json(asdict(report) | {"healthy": report.healthy})
    else:
        _say_table([[name, version] for name, version in report.versions.items()])
        for decoder, suffixes in report.formats.items():
            _say(f"{decoder}: {' '.join(suffixes)}")
        for name, factor in report.real_time_factors.items():
            _say(f"model {name}: real-time factor {factor:.3f} on one core")
        _say(f"self-test: {report.problem or 'passed'}")
    if not report.healthy:
        raise typer.Exit(FAILED)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder for the files.")] = Path("quieten-demo"),
) -> None:
    """Denoise the bundled clip and tell what changed."""
    from quieten.demo import run

    report = run(out)
    result = report.result
    before, after = _level(result.level_before_dbfs), _level(result.level_after_dbfs)
    _say(f"level             {before} -> {after} dBFS")
    _say(f"SNR               {report.snr_before_db:.1f} -> {report.snr_after_db:.1f} dB")
    _say(
        f"real-time factor  {result.real_time_factor:.3f} ({_duration(result.duration_s)} of sound)"
    )
    for role, path in report.files.items():
        _say(f"{role:<16}  {path}")


@app.command()
def train(
    family: Annotated[str, typer.Argument(help="The family of models, such as realtime.")],
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A TOML file.")] = None,
    set_: Annotated[
        Texts, typer.Option("--set", metavar="KEY=VALUE", help="One setting; repeatable.")
    ] = None,
    clean: Annotated[Texts, typer.Option(metavar="DIR", help="Clean speech; repeatable.")] = None,
    noise: Annotated[Texts, typer.Option(metavar="DIR", help="Noise; repeatable.")] = None,
    rir: Annotated[Texts, typer.Option(metavar="DIR", help="Room responses; repeatable.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="RUN_DIR", help="Default: runs/FAMILY.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run ended.")] = False,
) -> None:
    """Train a model (needs quieten[train])."""
    folders = {"clean": clean, "noise": noise, "rir": rir}
    sugar = [f"data.{key}={json.dumps(value)}" for key, value in folders.items() if value]
    with _extra_train("training"):
        from quieten.training import train as loop

        loop.main(family, config, [*sugar, *(set_ or [])], out or Path("runs", family), resume)


@app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A folder of `train`.")],
    out: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.onnx")],
    name: Annotated[str | None, typer.Option(help="The name of the model.")] = None,
) -> None:
    """Export a trained model to ONNX and prove that it does the same (needs quieten[train])."""
    with _extra_train("export"):
        from quieten.training import export as exporter

        made = exporter.main(run_dir, out, name)
    size = f"{made.parameters} parameters  {made.size_bytes / 1e6:.2f} MB"
    _say(f"{made.path}  {size}  largest difference to torch {made.largest_difference:.1e}")


@contextmanager
def _extra_train(purpose: str) -> Iterator[None]:
    """Names the remedy where a package of the extra `train` is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "quieten":
            raise
        raise MissingExtra("train", purpose) from error
