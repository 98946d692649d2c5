"""`quieten score` as a user types it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import tiny_model
from quieten import cli, runtime
from quieten.audio import write_audio
from quieten.cli import scoring

Quieten = Callable[..., Result]
RATE = 16_000


def make_tone(seconds: float, rms: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (1.4142 * rms * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)


@pytest.fixture
def quieten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Quieten:
    """A function that runs `quieten ARGS`; its scorer is as far from clean as a sound is loud."""
    weights = tmp_path / "weights"
    weights.mkdir()
    tiny_model.scorer(weights, offset=0.0, slope=1.0)
    monkeypatch.setattr(runtime, "WEIGHTS", weights)
    monkeypatch.chdir(tmp_path)
    write_audio("loud.wav", np.concatenate([make_tone(2, 0.1), make_tone(1, 0.4)]), RATE)
    write_audio("quiet.wav", np.stack([make_tone(2, 0.1)] * 2), RATE)
    write_audio("silence.wav", np.zeros(RATE, np.float32), RATE)

    def run(*args: object) -> Result:
        return CliRunner().invoke(cli.app, [str(arg) for arg in args], prog_name="quieten")

    return run


def test_a_row_for_each_file(quieten: Quieten) -> None:
    result = quieten("score", "loud.wav", "quiet.wav", "silence.wav")
    assert result.exit_code == 0, result.output
    rows = [
        [cell.strip() for cell in line.split("  ") if cell] for line in result.stdout.splitlines()
    ]
    assert rows[0] == ["score", "lowest", "at", "duration", "file"]
    assert rows[1] == ["0.801", "0.606", "2 s", "0:00:03.0", "loud.wav"]
    assert rows[2][0] == "0.900" and rows[2][3:] == ["0:00:02.0", "quiet.wav"]
    assert rows[3] == ["silence", "-", "-", "0:00:01.0", "silence.wav"]


def test_json_holds_the_curve_and_null_for_silence(quieten: Quieten) -> None:
    result = quieten("score", "--json", "quiet.wav", "silence.wav")
    assert result.exit_code == 0
    quiet, silence = json.loads(result.stdout)
    assert quiet["file"] == "quiet.wav" and quiet["duration_s"] == 2
    assert quiet["score"] == pytest.approx(0.9, abs=0.002)
    assert quiet["curve"] == pytest.approx([0.9, 0.9], abs=0.003)
    assert silence["score"] is None and silence["curve"] == [None]


def test_a_picture_of_the_curves(quieten: Quieten, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    result = quieten("score", "loud.wav", "quiet.wav", "--plot", "pictures/curve.png")
    assert result.exit_code == 0 and "wrote pictures/curve.png" in result.stderr
    with image.open(tmp_path / "pictures" / "curve.png") as picture:
        assert picture.format == "PNG" and picture.width > picture.height > 300
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 10  # two curves, not a blank page
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["curve.png"]


def test_files_that_cannot_be_read_are_named_and_the_rest_is_scored(quieten: Quieten) -> None:
    Path("text.wav").write_text("once upon a time")
    result = quieten("score", "text.wav", "quiet.wav", "nowhere.wav")
    assert result.exit_code == 1 and "quiet.wav" in result.stdout
    complaints = result.stderr.splitlines()
    assert len(complaints) == 2
    assert "text.wav" in complaints[0] and "nowhere.wav" in complaints[1]


def test_nothing_to_draw_is_no_picture(quieten: Quieten) -> None:
    result = quieten("score", "nowhere.wav", "--plot", "curve.png")
    assert result.exit_code == 1 and not Path("curve.png").exists()


def test_a_picture_is_a_png(quieten: Quieten) -> None:
    result = quieten("score", "quiet.wav", "--plot", "curve.jpg")
    assert result.exit_code == 1 and "name a .png file" in result.stderr


def test_without_matplotlib_the_extra_is_named(
    quieten: Quieten, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = quieten("score", "quiet.wav", "--plot", "curve.png")
    assert result.exit_code == 1 and "quieten[eval]" in result.stderr


def test_another_model(quieten: Quieten, tmp_path: Path) -> None:
    other = tiny_model.scorer(tmp_path, offset=0.5)
    result = quieten("score", "quiet.wav", "--model", other)
    assert result.stdout.splitlines()[1].startswith("0.500")
    denoiser = tiny_model.constant(tmp_path)
    result = quieten("score", "quiet.wav", "--model", denoiser)
    assert result.exit_code == 1 and "gives no distances" in result.stderr


def test_the_verb_is_there() -> None:
    assert scoring.score.__name__ in {
        command.callback.__name__ for command in cli.app.registered_commands
    }
