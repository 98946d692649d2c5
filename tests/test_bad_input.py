"""Bad input: one clear line, exit code 1, no traceback, nothing lost, no half-written file."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import tiny_model
from quieten import cli
from quieten.audio import AudioWriter, read_audio, write_audio
from quieten.denoise import Stream

PYTHON = [sys.executable, "-m", "quieten", "denoise"]
FULL = Path("/dev/full")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model that halves everything; the working folder is an empty one."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return str(tiny_model.constant(tmp_path, 0.5))


def make_wav(name: str, waveform: np.ndarray | None = None, subtype: str = "PCM_16") -> Path:
    """Noise at 16 kHz, one second unless given."""
    if waveform is None:
        waveform = np.random.default_rng(0).normal(0, 0.1, (1, 16_000)).astype(np.float32)
    write_audio(Path(name), waveform, 16_000, subtype=subtype)
    return Path(name)


def refusal(*args: str, model: str) -> str:
    """The one line that a run ends with; checks that it failed and left no file behind."""
    before = {path: path.read_bytes() for path in Path.cwd().rglob("*") if path.is_file()}
    result = CliRunner().invoke(cli.app, ["denoise", *args, "--model", model])
    after = {path: path.read_bytes() for path in Path.cwd().rglob("*") if path.is_file()}
    assert result.exit_code == 1
    assert result.stdout == ""
    assert after == before
    (line,) = result.stderr.splitlines()
    assert line.startswith("quieten: ")
    return line


def test_missing(model: str) -> None:
    assert refusal("gone.wav", model=model).startswith("quieten: gone.wav: no such file")


def test_empty(model: str) -> None:
    Path("empty.wav").touch()
    assert "quieten: empty.wav: is empty" in refusal("empty.wav", model=model)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".aiff"])
def test_truncated(model: str, suffix: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 16_000)).astype(np.float32)
    path = Path(f"cut{suffix}")
    write_audio(path, noise, 16_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "truncated" in refusal(path.name, model=model)


def test_zero_samples(model: str) -> None:
    path = make_wav("none.wav")
    path.write_bytes(path.read_bytes()[:40] + bytes(4))  # the header with a data size of 0
    assert "holds no samples" in refusal("none.wav", model=model)


def test_text_renamed_to_wav(model: str) -> None:
    Path("text.wav").write_text("This is no sound at all, but a text of some length.\n" * 20)
    assert "is not an audio file" in refusal("text.wav", model=model)


def test_folder_without_audio(model: str) -> None:
    Path("notes").mkdir()
    Path("notes/text.txt").write_text("no sound")
    assert "no audio files in this folder" in refusal("notes", model=model)


def test_non_finite_samples_are_silenced_and_counted(model: str) -> None:
    waveform = np.full((2, 16_000), 0.1, np.float32)
    waveform[0, 100], waveform[0, 5000], waveform[1, 9000] = np.nan, np.inf, -np.inf
    make_wav("odd.wav", waveform, "FLOAT")
    options = ["--model", model, "--attenuation-limit-db", "0"]
    result = CliRunner().invoke(cli.app, ["denoise", "odd.wav", *options])
    assert result.exit_code == 0
    assert "3 samples were NaN or infinite: replaced by silence" in result.stdout
    repaired = np.where(np.isfinite(waveform), waveform, 0)
    np.testing.assert_array_equal(read_audio(Path("odd.quieten.wav"))[0], repaired)


@pytest.mark.parametrize(("steps", "warns"), [(0, True), (1, True), (200, False)])
def test_one_bit_of_signal(model: str, steps: int, warns: bool) -> None:
    waveform = np.zeros((1, 16_000), np.float32)
    waveform[0, ::50] = steps / 32768
    make_wav("quiet.wav", waveform)
    result = CliRunner().invoke(cli.app, ["denoise", "quiet.wav", "--model", model])
    assert result.exit_code == 0
    assert ("the input is silent" in result.stdout) == warns
    assert np.abs(read_audio(Path("quiet.quieten.wav"))[0]).max() <= steps / 32768


@pytest.mark.parametrize("target", ["file/out.wav", "file/deeper/out.wav", "/proc/out.wav"])
def test_unwritable_target(model: str, target: str) -> None:
    make_wav("in.wav")
    Path("file").write_text("not a folder")
    if target.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("no /proc here")
    assert f"{target}: cannot be written (" in refusal("in.wav", "-o", target, model=model)


def test_unwritable_residual_leaves_no_output_either(model: str) -> None:
    make_wav("in.wav")
    Path("file").write_text("not a folder")
    assert "cannot be written (" in refusal("in.wav", "--residual", "file/rest.wav", model=model)


def test_full_disk_in_the_middle(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wav("in.wav")

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(AudioWriter, "write", full)
    line = refusal("in.wav", "-o", "out.wav", model=model)
    assert "out.wav: cannot be written (no space left on device)" in line


def limit_file_size() -> None:
    """Files of this process cannot grow beyond 64 KiB: like a disk that fills up."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_disk_that_really_fills_up(model: str, suffix: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 160_000)).astype(np.float32)
    write_audio(Path(f"in{suffix}"), noise, 16_000, subtype="PCM_16")
    args = [*PYTHON, f"in{suffix}", "-o", f"out{suffix}", "--model", model]
    done = subprocess.run(args, capture_output=True, preexec_fn=limit_file_size, timeout=120)
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert f"out{suffix}" in line
    assert [path.name for path in Path.cwd().iterdir()] == [f"in{suffix}"]


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
@pytest.mark.parametrize("source", ["-", "in.wav"])
def test_full_stdout_for_the_sound(model: str, source: str) -> None:
    path = make_wav("in.wav")
    with path.open("rb") as stdin, FULL.open("wb") as full:
        args = [*PYTHON, source, "-o", "-", "--model", model]
        done = subprocess.run(args, stdin=stdin, stdout=full, stderr=subprocess.PIPE, timeout=120)
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert "stdout: cannot be written (no space left on device)" in line


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_full_stdout_for_the_report(model: str) -> None:
    make_wav("in.wav")
    with FULL.open("wb") as full:
        args = [*PYTHON, "in.wav", "--model", model]
        done = subprocess.run(args, stdout=full, stderr=subprocess.PIPE, timeout=120)
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert "No space left on device" in line
    assert Path("in.quieten.wav").is_file()  # the sound itself was done


@pytest.mark.parametrize("output", [["-o", "-"], []])
def test_reader_of_stdout_goes_away(model: str, output: list[str]) -> None:
    make_wav("in.wav")
    reader, writer = os.pipe()
    os.close(reader)
    args = [*PYTHON, "in.wav", *output, "--model", model]
    done = subprocess.run(args, stdout=writer, stderr=subprocess.PIPE, timeout=120)
    os.close(writer)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr.decode()
    assert len(done.stderr.decode().splitlines()) == bool(output)


@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
def test_closed_streams(model: str, closed: str) -> None:
    """As the shell's <&-, >&- and 2>&- do; what is said must not land among the samples."""
    path = make_wav("in.wav")
    number = ("stdin", "stdout", "stderr").index(closed)
    args = [*PYTHON, "-" if closed == "stdin" else "in.wav", "-o", "-", "--model", model]
    done = subprocess.run(
        args, capture_output=True, preexec_fn=lambda: os.close(number), timeout=120
    )
    said = done.stderr.decode().splitlines()
    if closed == "stderr":
        assert (done.returncode, len(done.stdout)) == (0, path.stat().st_size)
    else:
        assert done.returncode == 1
        assert [f"{closed} is closed" in line for line in said] == [True]


def test_output_equal_to_input(model: str) -> None:
    make_wav("in.wav")
    Path("link.wav").symlink_to("in.wav")
    for output in ("in.wav", "link.wav", "./in.wav"):
        assert "is the input" in refusal("in.wav", "-o", output, model=model)


def test_output_equal_to_input_with_overwrite_stays_whole_on_errors(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wav("in.wav")

    def fail(*args: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before = Path("in.wav").read_bytes()
    monkeypatch.setattr(Stream, "flush", fail)
    refusal("in.wav", "-o", "in.wav", "--overwrite", model=model)
    assert Path("in.wav").read_bytes() == before


def test_existing_output(model: str) -> None:
    make_wav("in.wav"), make_wav("in.quieten.wav")
    assert "exists already" in refusal("in.wav", model=model)


def test_unknown_model_names_the_known_ones(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wav("in.wav"), make_wav("two.wav")
    monkeypatch.setattr("quieten.runtime.WEIGHTS", tmp_path)
    line = refusal("in.wav", "two.wav", model="no-such-model")
    assert "'no-such-model'" in line
    assert "known: tiny" in line


def test_file_that_is_no_model(model: str) -> None:
    make_wav("in.wav")
    Path("broken.onnx").write_text("no model")
    assert "broken.onnx" in refusal("in.wav", model="broken.onnx")


def test_negative_limit(model: str) -> None:
    make_wav("in.wav")
    assert "attenuation limit" in refusal("in.wav", "--attenuation-limit-db=-3", model=model)


@pytest.mark.parametrize(
    "content", [b"", b"This is no WAV file, but a text.", b"RIFF\0\0\0\0WAVE"], ids=len
)
def test_bad_pipe(model: str, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    result = CliRunner().invoke(cli.app, ["denoise", "-", "--model", model], input=content)
    assert result.exit_code == 1
    assert result.stdout_bytes == b""
    (line,) = result.stderr.splitlines()
    assert line.startswith("quieten: -: ")


def test_ctrl_c_inside_a_block(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wav("in.wav"), make_wav("two.wav")

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Stream, "flush", interrupt)
    args = ["denoise", "in.wav", "two.wav", "-o", "new", "--residual", "rest", "--model", model]
    result = CliRunner().invoke(cli.app, args)
    assert result.exit_code == 130
    assert result.stderr == "quieten: interrupted: no unfinished file was left behind\n"
    assert [
        path for path in Path.cwd().rglob("*") if path.is_file() and path.parent != Path.cwd()
    ] == []


def wait_for(condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


INTERRUPTED = ["quieten: interrupted: no unfinished file was left behind"]


@pytest.mark.parametrize(
    ("number", "code", "lines"), [(signal.SIGINT, 130, INTERRUPTED), (signal.SIGTERM, 143, [])]
)
def test_real_signals(model: str, number: signal.Signals, code: int, lines: list[str]) -> None:
    """The input is a pipe that stays open: the program is still at work when the signal comes."""
    path = make_wav("in.wav", np.full((1, 160_000), 0.1, np.float32))
    args = [*PYTHON, "-", "-o", "out/out.wav", "--model", model]
    with subprocess.Popen(args, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(path.read_bytes()[:300_000])
        process.stdin.flush()
        wait_for(lambda: Path("out").is_dir() and any(Path("out").iterdir()))
        process.send_signal(number)
        process.wait(60)
        assert process.stderr is not None
        said = process.stderr.read().decode()
    assert process.returncode == code
    assert said.splitlines() == lines
    assert list(Path("out").iterdir()) == []
