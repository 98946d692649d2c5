"""What all verbs share: the app itself, one-line errors, exit codes, tables, the progress bar.

What a user can cause ends in one line and exit code 1 (2 for a wrong option, 130 for Ctrl-C),
never in a traceback. Results go to stdout, talk goes to stderr.
"""

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from quieten import __version__
from quieten.errors import ConfigError, MissingExtra, QuietenError

FAILED, INTERRUPTED = 1, 130  # exit codes; 2 (usage) is typer's own

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Texts = list[str] | None


class Verbs(TyperGroup):
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
        complain("interrupted: no unfinished file was left behind")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        raise typer.Exit(FAILED) from None
    except QuietenError as error:
        complain(str(error))
        raise typer.Exit(FAILED) from None
    except OSError as error:
        name = f": {error.filename}" if error.filename else ""
        complain(f"{error.strerror or error}{name}: make room or choose another place")
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


def say(text: str, *, is_talk: bool = False) -> None:
    """Prints a line: a result to stdout, talk to stderr."""
    stream = sys.stderr if is_talk else sys.stdout
    if stream is not None:  # None: the caller closed it, as the shell's 2>&- does
        print(text, file=stream, flush=True)


def refuse(what: str, options: Mapping[str, object]) -> None:
    """Complains about an option that was given and would be ignored.

    Raises:
        ConfigError: one was.
    """
    for name, value in options.items():
        if value is not None:
            raise ConfigError(f"{name} means nothing for {what}: leave it out")


def complain(reason: str) -> None:
    """Prints what went wrong to stderr."""
    say(f"quieten: {reason}", is_talk=True)


def say_json(value: object, *, is_talk: bool = False) -> None:
    """Prints a JSON document; it may hold no NaN or infinity (see `finite`)."""
    say(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False), is_talk=is_talk)


def say_table(rows: Sequence[Sequence[str]]) -> None:
    """Prints columns as wide as their widest cell; the first row is the heading."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(cells).rstrip())


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Remove noise from speech recordings, on the CPU, offline.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"quieten {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options of the program itself."""


def stop_on_signal(number: int, frame: object) -> None:
    """Makes of a signal what unwinds, so that unfinished files are removed."""
    raise SystemExit(128 + number)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody sits there."""
    return stream is not None and stream.isatty()


@contextmanager
def counting_bar(label: str) -> Iterator[Callable[..., None] | None]:
    """A bar on stderr, if that is a terminal; yields what is called with (done, total, what="")."""
    if not is_terminal(sys.stderr):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    what = TextColumn("{task.description}", markup=False)
    columns = (label, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), what)
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def advance(done: int, total: int, what: str = "") -> None:
            bar.update(task, completed=done, total=total, description=what)

        yield advance


def level_text(dbfs: float) -> str:
    """Returns a level with one decimal; digital silence by name."""
    return f"{dbfs:.1f}" if math.isfinite(dbfs) else "silence"


def duration_text(seconds: float) -> str:
    """Returns h:mm:ss.s."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:04.1f}"


def finite(value: float) -> float | None:
    """Returns the value, or None for what JSON cannot hold: infinity and NaN."""
    return value if math.isfinite(value) else None


@contextmanager
def extra_train(purpose: str) -> Iterator[None]:
    """Names the remedy where a package of the extra `train` is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "quieten":
            raise
        raise MissingExtra("train", purpose) from error
