"""Runs foreign programs that denoise, on copies, without a shell.

A command is text such as `tool --strong {in} {out}`. It is split like a shell would split it, once,
and only then are names put in, so spaces, quotes and semicolons in names mean nothing. `{in}` and
`{out}` are one WAV file each; `{in_dir}` and `{out_dir}` are folders that hold all of them.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from quieten.audio import probe, read_audio, write_audio
from quieten.errors import AudioError, ConfigError

TIMEOUT_S = 600.0  # for each file

_PLACE = re.compile(r"\{(in|out|in_dir|out_dir)\}")
_EXACT_SUBTYPES = ("PCM_16", "PCM_24", "FLOAT")
_QUOTED = 200  # characters of a program's last line

_running: set["subprocess.Popen[bytes]"] = set()  # for `end_programs`, which a signal may call


def check_command(command: str) -> None:
    """Looks at a command before anything is run.

    Raises:
        ConfigError: it cannot be split, names no input or output, or its program is not there.
    """
    arguments = _split(command)
    places = set(_PLACE.findall(command))
    if len(places & {"in", "in_dir"}) != 1 or len(places & {"out", "out_dir"}) != 1:
        raise ConfigError(f"command {command!r}: use {{in}} {{out}} or {{in_dir}} {{out_dir}}")
    if places == {"in_dir", "out"}:
        raise ConfigError(f"command {command!r}: {{in_dir}} gives many results: use {{out_dir}}")
    if shutil.which(arguments[0]) is None:
        raise ConfigError(f"command {command!r}: no program {arguments[0]}: install it, or correct")


def takes_folder(command: str) -> bool:
    """Returns whether one call of the command denoises all files."""
    return "{in_dir}" in command


def denoise_files(
    command: str,
    noisy: Sequence[Path],
    denoised: Sequence[Path],
    work: Path,
    timeout_s: float = TIMEOUT_S,
) -> float:
    """Runs a command on files and returns the processor seconds that it took, start-up included.

    The program gets copies, as WAV (of the same samples where 16, 24 or 32 bit float hold them),
    so it can neither spoil a test set nor stumble over a format. Where the system does not count
    the processor time of children, the seconds are those of the clock.

    Args:
        command: with placeholders, see above.
        noisy: the files to denoise, one for a command with `{in}`.
        denoised: where the results go, as they come; a result that the program did not write
            is not there afterwards.
        work: an existing folder, for temporary files.
        timeout_s: for each file.

    Raises:
        AudioError: a file cannot be read, or the program fails, takes too long or, for a single
            file, writes nothing; its last line of output is quoted.
    """
    with tempfile.TemporaryDirectory(dir=work) as folder:
        given, made = Path(folder, "noisy"), Path(folder, "denoised")
        given.mkdir()
        made.mkdir()
        names = [f"{number:04d}_{path.stem}.wav" for number, path in enumerate(noisy)]
        for path, name in zip(noisy, names, strict=True):
            _copy(path, given / name)
        log = Path(folder, "log")
        with log.open("wb") as sink:
            arguments = _filled(command, given, made, names[0])
            code, seconds = _run(arguments, sink, timeout_s * len(names))
        words = _last_line(log)
        if code:
            raise AudioError(_ending(code) + words)
        found = [_collect(made, name, path) for name, path in zip(names, denoised, strict=True)]
        if not any(found):
            raise AudioError("wrote no result" + words)
        return seconds


def end_programs() -> None:
    """Ends the programs that this process is running; for a process that must leave at once."""
    for child in list(_running):
        with suppress(OSError):  # it has ended just now
            _kill(child)


def _split(command: str) -> list[str]:
    try:
        arguments = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"command {command!r}: {error}: correct the quotes".lower()) from None
    if not arguments:
        raise ConfigError("a command is empty: name a program")
    return arguments


def _filled(command: str, given: Path, made: Path, name: str) -> list[str]:
    """The arguments with names in place; one pass, so that names are never looked into."""
    places = {
        "in": str(given / name),
        "out": str(made / name),
        "in_dir": str(given),
        "out_dir": str(made),
    }
    return [_PLACE.sub(lambda place: places[place[1]], word) for word in _split(command)]


def _copy(source: Path, target: Path) -> None:
    info = probe(source)
    if info.format in ("WAV", "WAVEX"):
        shutil.copyfile(source, target)
        return
    waveform, sample_rate = read_audio(source)
    subtype = info.subtype if info.subtype in _EXACT_SUBTYPES else "FLOAT"
    write_audio(target, waveform, sample_rate, subtype=subtype)


def _run(arguments: list[str], log: BinaryIO, timeout_s: float) -> tuple[int, float]:
    """Returns (exit status, processor seconds); leaves no process behind."""
    before = _children_s()
    try:
        child = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its own children can be ended with it
        )
    except OSError as error:
        raise AudioError(f"cannot be started ({error.strerror}): check the command") from None
    _running.add(child)
    try:
        code = child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        raise AudioError(f"took longer than {timeout_s:g} s and was ended") from None
    finally:
        if child.poll() is None:
            _kill(child)
            child.wait()
        _running.discard(child)
    return code, _children_s() - before


def _kill(child: "subprocess.Popen[bytes]") -> None:
    """Ends a program that has not been waited for, and its own children."""
    if sys.platform == "win32":
        child.kill()
    else:
        os.killpg(child.pid, signal.SIGKILL)


def _children_s() -> float:
    """Processor seconds of all children that have ended; the clock where nobody counts them."""
    if sys.platform == "win32":
        return time.perf_counter()
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _collect(made: Path, name: str, target: Path) -> bool:
    """Moves the result for an input to its place; programs may add to the name they were given."""
    stem = Path(name).stem
    same = [path for path in made.iterdir() if path.name == name]
    found = same or [path for path in made.iterdir() if path.name.startswith(stem)]
    if len(found) != 1 or not found[0].is_file():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    if found[0].is_symlink():  # what it points to goes away
        shutil.copyfile(found[0], target)
    else:
        found[0].replace(target)
    return True


def _ending(code: int) -> str:
    if code < 0:
        return f"ended by signal {signal.Signals(-code).name}"
    return f"exit status {code}"


def _last_line(log: Path) -> str:
    """What a program said last, in parts fit for a table."""
    text = log.read_bytes()[-10_000:].decode(errors="replace")
    lines = [" ".join(line.split()) for line in re.split(r"[\r\n]", text)]
    last = next((line for line in reversed(lines) if line), "")
    return f": {''.join(filter(str.isprintable, last))[:_QUOTED]}" if last else ""
