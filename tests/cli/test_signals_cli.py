"""`quieten denoise` with models of signals: tables come back clean, and nothing else changes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import tiny_model
import tiny_signal_model
from quieten import cli, runtime
from quieten.audio import probe, read_audio, write_audio
from quieten.signals import denoise_signal, load_signal_model

Quieten = Callable[..., Result]
RATE = 256


@pytest.fixture
def quieten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Quieten:
    """A function that runs `quieten ARGS`; tiny models are known as `speech` and `signals`."""
    weights = tmp_path / "weights"
    weights.mkdir()
    tiny_model.smoother(weights, name="speech")
    tiny_signal_model.projection(weights, bins=6, name="signals")
    monkeypatch.setattr(runtime, "WEIGHTS", weights)
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> Result:
        return CliRunner().invoke(cli.app, list(args), prog_name="quieten")

    return run


def waves(seconds: float = 60.0) -> tuple[np.ndarray, np.ndarray]:
    """Clean and noisy slow waves (2, T); the second stands on a large offset."""
    time = np.arange(round(seconds * RATE)) / RATE
    clean = np.stack([np.sin(2 * np.pi * 3.1 * time), 1000 + 20 * np.cos(2 * np.pi * 5.3 * time)])
    noise = np.random.default_rng(5).standard_normal(clean.shape) * [[0.5], [10]]
    return clean, clean + noise


def write_csv(path: str, values: np.ndarray) -> list[list[str]]:
    """Writes a table with time stamps, two signals and a label, and returns its cells."""
    rows = [["time", "axis x", "pressure", "state"]]
    rows += [
        [f"{i / RATE:.6f}", f"{x:.5f}", f"{y:.2f}", "on" if i % 2 else "off"]
        for i, (x, y) in enumerate(values.T)
    ]
    Path(path).write_text("".join(",".join(row) + "\r\n" for row in rows), newline="")
    return rows


def read_csv(path: str) -> list[list[str]]:
    text = Path(path).read_bytes().decode()
    assert text.endswith("\r\n")
    return [line.split(",") for line in text.split("\r\n")[:-1]]


def columns_of(cells: list[list[str]], *columns: int) -> list[list[str]]:
    return [[row[column] for column in columns] for row in cells]


def test_a_minute_of_two_channels_comes_back_clean_and_nothing_else_changes(
    quieten: Quieten,
) -> None:
    clean, noisy = waves()
    before = write_csv("sensor.csv", noisy)
    content = Path("sensor.csv").read_bytes()
    result = quieten("denoise", "--model", "signals", "sensor.csv")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("sensor.quieten.csv  0:01:00.0  ")
    assert "dB re 1  real-time factor 0.0" in result.stdout
    assert "column 'state' (text) was left as it is" in result.stdout
    assert Path("sensor.csv").read_bytes() == content
    after = read_csv("sensor.quieten.csv")
    assert len(after) == 60 * RATE + 1
    assert after[0] == before[0]
    assert columns_of(after, 0, 3) == columns_of(before, 0, 3)
    cleaned = np.array(columns_of(after[1:], 1, 2), float).T
    errors, noises = np.std(cleaned - clean, axis=1), np.std(noisy - clean, axis=1)
    assert (errors < 0.6 * noises).all()
    assert (abs(cleaned.mean(axis=1) - noisy.mean(axis=1)) < 0.01 * noises).all()


def test_the_result_is_that_of_the_library(quieten: Quieten) -> None:
    _, noisy = waves(3.0)
    np.save("sensor.npy", noisy[:1].astype(np.float32))
    assert quieten("denoise", "--model", "signals", "sensor.npy", "-o", "x.npy").exit_code == 0
    signal = noisy[:1].astype(np.float32).astype(np.float64)
    expected = denoise_signal(load_signal_model("signals"), signal - signal.mean()) + signal.mean()
    np.testing.assert_allclose(np.load("x.npy"), expected, atol=1e-5)


def test_options_for_tables(quieten: Quieten) -> None:
    before = write_csv("sensor.csv", waves(2.0)[1])
    before[7][2] = ""
    Path("gap.csv").write_text("\n".join(",".join(row) for row in before) + "\n")
    options = ["denoise", "--model", "signals", "gap.csv", "--overwrite"]
    failed = quieten(*options)
    assert failed.exit_code == 1
    assert "gap.csv: row 7 (line 8) has no value in column 'pressure': --fill" in failed.stderr
    assert not Path("gap.quieten.csv").exists()
    assert quieten(*options, "--columns", "axis x").exit_code == 0
    after = [line.split(",") for line in Path("gap.quieten.csv").read_text().splitlines()]
    assert columns_of(after, 0, 2, 3) == columns_of(before, 0, 2, 3)
    assert columns_of(after, 1) != columns_of(before, 1)
    filled = quieten(*options, "--fill")
    assert filled.exit_code == 0
    assert "1 missing values in column 'pressure' were interpolated" in filled.stdout


def test_residual_and_limit(quieten: Quieten) -> None:
    before = write_csv("sensor.csv", waves(2.0)[1])
    options = ["--residual", "rest.csv", "--attenuation-limit-db", "6"]
    assert quieten("denoise", "--model", "signals", "sensor.csv", *options).exit_code == 0
    parts = [read_csv(name) for name in ("sensor.csv", "sensor.quieten.csv", "rest.csv")]
    noisy, cleaned, rest = (np.array(columns_of(cells[1:], 1, 2), float) for cells in parts)
    np.testing.assert_allclose(cleaned + rest, noisy, atol=1e-9)
    assert 0 < rest.std() < noisy.std()
    options = ["--attenuation-limit-db", "0", "-o", "same.csv"]
    quieten("denoise", "--model", "signals", "sensor.csv", *options)
    cells = columns_of(read_csv("same.csv")[1:], 1)
    assert np.array_equal(np.array(cells, float), np.array(columns_of(before[1:], 1), float))


def test_zero_phase_sees_the_values_as_they_are(quieten: Quieten, tmp_path: Path) -> None:
    path = tiny_signal_model.projection(tmp_path, bins=1, phase="zero", name="zero")
    values = np.repeat([[1.0], [3.0]], 64, axis=0) + np.tile([[0.5], [-0.5]], (64, 1))
    np.save("steps.npy", values[:, 0])
    result = quieten("denoise", "--model", str(path), "steps.npy", "--json")
    (report,) = json.loads(result.stdout)["files"]
    assert report["warnings"] == ["no time column: taken as 256 Hz, the model's rate"]
    assert (report["sample_rate"], report["channels"], report["frames"]) == (256, 1, 128)
    np.testing.assert_allclose(np.load("steps.quieten.npy"), np.repeat([1.0, 3.0], 64), atol=1e-6)


def test_wav_of_the_rate_of_the_model(quieten: Quieten) -> None:
    _, noisy = waves(10.0)
    noisy = (noisy - noisy.mean(axis=1, keepdims=True)) / 100
    write_audio("slow.wav", noisy.astype(np.float32), RATE, subtype="FLOAT")
    write_audio("fast.wav", noisy.astype(np.float32), 1000, subtype="FLOAT")
    result = quieten("denoise", "--model", "signals", "slow.wav", "fast.wav")
    assert result.exit_code == 1
    assert "fast.wav: has 1000 Hz, but model 'signals' is for 256 Hz: resample it" in result.stderr
    assert not Path("fast.quieten.wav").exists()
    info = probe("slow.quieten.wav")
    assert (info.sample_rate, info.channels, info.frames) == (RATE, 2, 10 * RATE)
    expected = denoise_signal(load_signal_model("signals"), noisy.astype(np.float32))
    np.testing.assert_allclose(read_audio("slow.quieten.wav")[0], expected, atol=1e-6)


def test_folders_hold_tables_for_models_of_signals_only(quieten: Quieten) -> None:
    Path("probes/deep").mkdir(parents=True)
    write_csv("probes/deep/one.csv", waves(1.0)[1])
    np.save("probes/two.npy", waves(1.0)[1])
    result = quieten("denoise", "--model", "signals", "probes", "-o", "new")
    assert result.exit_code == 0, result.stderr
    assert Path("new/deep/one.csv").is_file()
    assert Path("new/two.npy").is_file()
    assert "no audio files" in quieten("denoise", "probes", "-o", "newer").stderr


def test_what_does_not_fit_is_said_in_one_line(quieten: Quieten) -> None:
    write_csv("sensor.csv", waves(1.0)[1])
    Path("slow.csv").write_text("time,x\n" + "".join(f"{i},{i % 3}\n" for i in range(9)))
    write_audio("a.wav", np.zeros((1, 300), np.float32), RATE)
    cases = [
        (["sensor.csv"], "sensor.csv: is a table, but model 'speech' is for sound"),
        (["sensor.csv", "--model", "signals", "-o", "x.wav"], "another format: a table keeps its"),
        (["sensor.csv", "--model", "signals", "-o", "-"], "is a table, - is WAV"),
        (["sensor.csv", "--model", "signals", "-o", "sensor.csv"], "is the input"),
        (["sensor.csv", "--model", "signals", "--columns", "w"], "has no column 'w'"),
        (["slow.csv", "--model", "signals"], "slow.csv: has 1 Hz, but model 'signals' is for 256"),
        (["none.csv", "--model", "signals"], "none.csv: no such file"),
        (["a.wav", "--model", "signals", "--columns", "1"], "a.wav: is no table"),
    ]
    before = sorted(Path().iterdir())
    for args, words in cases:
        result = quieten("denoise", *args)
        assert result.exit_code == 1
        assert words in result.stderr, result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert sorted(Path().iterdir()) == before


def test_models_are_listed_with_rate_and_window(quieten: Quieten) -> None:
    lines = quieten("models").stdout.splitlines()
    (row,) = [line for line in lines if line.startswith("signals")]
    assert "256 Hz" in row
    assert "250 ms" in row
    listed = {one["name"]: one for one in json.loads(quieten("models", "--json").stdout)}
    assert set(listed) == {"signals", "speech"}
    assert (listed["signals"]["window"], listed["signals"]["phase"]) == (64, "any")
    assert listed["signals"]["sample_rate"] == 256
