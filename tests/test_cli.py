"""The command line: what is printed where, and exit codes."""

import io
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import tiny_model
from quieten import __version__, cli, runtime
from quieten.audio import read_audio, write_audio
from quieten.errors import ConfigError

Quieten = Callable[..., Result]
PYTHON = [sys.executable, "-m", "quieten"]


@pytest.fixture
def quieten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Quieten:
    """A function that runs `quieten ARGS`; the tiny model is known as `speech`."""
    weights = tmp_path / "weights"
    weights.mkdir()
    tiny_model.smoother(weights, name="speech")
    monkeypatch.setattr(runtime, "WEIGHTS", weights)
    monkeypatch.chdir(tmp_path)

    def run(*args: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(cli.app, list(args), input=stdin, prog_name="quieten")

    return run


def make_wav(path: Path | str, level: float = 0.1, channels: int = 1) -> Path:
    """A second of noise at 16 kHz, 16 bit."""
    noise = np.random.default_rng(0).normal(0, level, (channels, 16_000))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_audio(Path(path), noise.astype(np.float32), 16_000, subtype="PCM_16")
    return Path(path)


def in_subprocess(*args: str, **options: object) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([*PYTHON, *args], capture_output=True, timeout=120, **options)


def test_version_and_help(quieten: Quieten) -> None:
    assert quieten("--version").stdout == f"quieten {__version__}\n"
    for args in ([], ["denoise"], ["models"], ["doctor"], ["demo"], ["train"], ["export"]):
        result = quieten(*args, "--help")
        assert result.exit_code == 0
        assert "Usage: quieten" in result.stdout
    assert "NAME.quieten.EXT" in " ".join(quieten("denoise", "--help").stdout.split())


def test_help_loads_nothing_heavy() -> None:
    heavy = ["numpy", "onnxruntime", "torch", "soundfile", "soxr", "rich.progress"]
    program = (
        "import sys; from quieten.cli import app\n"
        "try: app(['denoise', '--help'])\n"
        "except SystemExit as done: assert done.code == 0\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().splitlines()[-1] == "[]"


def test_a_line_per_file_on_stdout(quieten: Quieten) -> None:
    make_wav("one.wav"), make_wav("two.wav", channels=2)
    result = quieten("denoise", "one.wav", "two.wav")
    assert (result.exit_code, result.stderr) == (0, "")
    first, second = result.stdout.splitlines()
    assert first.startswith("one.quieten.wav  0:00:01.0  -20.")
    assert " dBFS  real-time factor 0." in first
    assert second.startswith("two.quieten.wav")


def test_everything_at_once(quieten: Quieten) -> None:
    make_wav("talks/deep/one.wav", channels=2)
    options = ["--model", "speech", "--attenuation-limit-db", "12", "--channels", "separate"]
    result = quieten("denoise", "talks", "-o", "new", "--residual", "rest", *options)
    assert result.exit_code == 0, result.stderr
    before = read_audio(Path("talks/deep/one.wav"))[0]
    parts = read_audio(Path("new/deep/one.wav"))[0] + read_audio(Path("rest/deep/one.wav"))[0]
    np.testing.assert_array_equal(parts, before)


def test_json_is_one_document(quieten: Quieten) -> None:
    make_wav("one.wav")
    make_wav("silent.wav", level=0)
    Path("broken.wav").write_text("no sound")
    result = quieten("denoise", "one.wav", "silent.wav", "broken.wav", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    one, silent = report["files"]
    assert (one["source"], one["target"], one["residual"]) == ("one.wav", "one.quieten.wav", None)
    assert (one["duration_s"], one["sample_rate"], one["channels"]) == (1.0, 16_000, 1)
    assert one["level_after_dbfs"] < one["level_before_dbfs"] == pytest.approx(-20, abs=0.2)
    assert one["warnings"] == []
    assert silent["level_before_dbfs"] is None
    assert [failure["source"] for failure in report["failed"]] == ["broken.wav"]
    assert result.stderr.startswith("quieten: broken.wav: ")


def test_one_failure_does_not_stop_the_others(quieten: Quieten) -> None:
    make_wav("one.wav"), make_wav("two.wav")
    Path("broken.wav").write_text("no sound")
    result = quieten("denoise", "one.wav", "broken.wav", "missing.wav", "two.wav")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 2
    complaints = result.stderr.splitlines()
    assert [line.split(": ")[:2] for line in complaints] == [
        ["quieten", "broken.wav"],
        ["quieten", "missing.wav"],
    ]


def test_wav_through_pipes(quieten: Quieten) -> None:
    source = make_wav("one.wav")
    assert quieten("denoise", "one.wav", "-o", "file.wav").exit_code == 0
    result = quieten("denoise", "-", stdin=source.read_bytes())
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("-  0:00:01.0  ")  # the line is talk, stdout is the sound
    Path("piped.wav").write_bytes(result.stdout_bytes)
    difference = read_audio(Path("piped.wav"))[0] - read_audio(Path("file.wav"))[0]
    assert np.abs(difference).max() <= 2**-15


def test_from_pipe_to_file_and_back(quieten: Quieten) -> None:
    source = make_wav("one.wav")
    result = quieten("denoise", "-", "-o", "out.wav", stdin=source.read_bytes())
    assert result.stdout.startswith("out.wav  ")
    result = quieten("denoise", "one.wav", "-o", "-", "--json")
    assert result.stdout_bytes[:4] == b"RIFF"
    assert json.loads(result.stderr)["files"][0]["target"] == "-"


def test_names_that_are_no_text_can_be_printed(quieten: Quieten) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    try:
        make_wav("one.wav").rename(name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    make_wav("one.wav")
    result = quieten("denoise", name, "one.wav")
    assert "caf\\udce9" in result.stdout + result.stderr
    assert "one.quieten.wav" in result.stdout


@pytest.mark.parametrize(
    "args",
    [
        ["denoise"],
        ["denoise", "one.wav", "--no-such-option"],
        ["denoise", "one.wav", "--channels", "sideways"],
        ["denoise", "one.wav", "--attenuation-limit-db", "much"],
        ["no-such-verb"],
    ],
)
def test_wrong_usage_is_exit_code_2(quieten: Quieten, args: list[str]) -> None:
    assert quieten(*args).exit_code == 2


def test_models_as_table_and_json(quieten: Quieten) -> None:
    heading, row = quieten("models").stdout.splitlines()
    assert heading.startswith("name    family  version  rate      latency  size")
    assert row.split() == ["speech", "tiny", "1", "16000", "Hz", "32", "ms", *row.split()[7:]]
    assert row.endswith("MIT      pesq 1.5")
    (model,) = json.loads(quieten("models", "--json").stdout)
    assert (model["name"], model["latency_ms"], model["scores"]) == ("speech", 32.0, {"pesq": 1.5})


def test_no_models(quieten: Quieten, tmp_path: Path) -> None:
    (tmp_path / "weights" / "speech.onnx").unlink()
    assert "no models are installed" in quieten("models").stderr
    assert quieten("models", "--json").stdout == "[]\n"


class FakeTraining(types.ModuleType):
    """Stands for quieten.training.train and .export and keeps what it was called with."""

    called: tuple[object, ...] = ()

    def main(self, *args: object) -> types.SimpleNamespace:
        self.called = args
        path, size = Path("new.onnx"), 1_500_000
        return types.SimpleNamespace(
            path=path, parameters=7, size_bytes=size, largest_difference=2.5e-7
        )


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> FakeTraining:
    fake, package = FakeTraining("fake"), types.ModuleType("quieten.training")
    package.train = package.export = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "quieten.training", package)
    return fake


def test_train_hands_on_what_it_was_given(quieten: Quieten, training: FakeTraining) -> None:
    assert quieten("train", "realtime").exit_code == 0
    assert training.called == ("realtime", None, [], Path("runs/realtime"), False)
    folders = ["--clean", "a", "--clean", "b c", "--noise", "n", "--rir", "r"]
    rest = ["--set", "steps=5", "--config", "x.toml", "--out", "here", "--resume"]
    assert quieten("train", "realtime", *folders, *rest).exit_code == 0
    overrides = ['data.clean=["a", "b c"]', 'data.noise=["n"]', 'data.rir=["r"]', "steps=5"]
    assert training.called == ("realtime", Path("x.toml"), overrides, Path("here"), True)


def test_export_hands_on_what_it_was_given(quieten: Quieten, training: FakeTraining) -> None:
    result = quieten("export", "run", "-o", "new.onnx", "--name", "new")
    parity = "largest difference to torch 2.5e-07"
    assert result.stdout == f"new.onnx  7 parameters  1.50 MB  {parity}\n"
    assert training.called == (Path("run"), Path("new.onnx"), "new", False)


def test_errors_of_training_are_one_line(
    quieten: Quieten, training: FakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise ConfigError("unknown key 'stepz': known are steps")

    monkeypatch.setattr(training, "main", refuse)
    result = quieten("train", "realtime")
    assert (result.exit_code, result.stderr) == (
        1,
        "quieten: unknown key 'stepz': known are steps\n",
    )


@pytest.mark.parametrize("args", [["train", "realtime"], ["export", "run", "-o", "new.onnx"]])
def test_without_torch_the_extra_is_named(tmp_path: Path, args: list[str]) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no torch', name='torch')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = in_subprocess(*args, env=os.environ | {"PYTHONPATH": path})
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert 'pip install "quieten[train]"' in line


def test_progress_shows_on_a_terminal_only(quieten: Quieten, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    make_wav("one.wav")
    leader, follower = pty.openpty()
    args = ["denoise", "one.wav", "--model", str(tmp_path / "weights" / "speech.onnx")]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    done = subprocess.run(
        [*PYTHON, *args], stdout=subprocess.PIPE, stderr=follower, env=environment, timeout=120
    )
    os.close(follower)
    with io.FileIO(leader) as terminal:
        shown = terminal.read(65536) or b""
    assert done.returncode == 0
    assert b"denoising" in shown
    assert done.stdout.decode().startswith("one.quieten.wav  ")  # no bar in the results


def test_terminals_are_no_pipes(quieten: Quieten, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wav("one.wav")
    monkeypatch.setattr(cli.denoising, "is_terminal", lambda stream: True)
    for args in (["-", "-o", "out.wav"], ["one.wav", "-o", "-"]):
        result = quieten("denoise", *args)
        assert result.exit_code == 1
        assert "is a terminal" in result.stderr


def test_ctrl_c_inside_a_compiled_import(
    quieten: Quieten, training: FakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object) -> None:
        raise ImportError("initialization failed") from KeyboardInterrupt()

    monkeypatch.setattr(training, "main", interrupted)
    result = quieten("train", "realtime")
    assert (result.exit_code, result.stderr.split(":")[:2]) == (130, ["quieten", " interrupted"])
