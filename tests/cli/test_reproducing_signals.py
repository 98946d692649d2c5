"""`quieten reproduce signal_gan` and `quieten data sines` as a user types them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import tiny_signal_model
from quieten import runtime
from quieten.cli import app, reproducing
from quieten.reproduce import estimators, signal_gan

Quieten = Callable[..., Result]

assert reproducing  # imported for its verbs


@pytest.fixture
def quieten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Quieten:
    """A function that runs `quieten ARGS` where one model is installed: half of the mixture."""
    weights, work = (tmp_path / name for name in ("weights", "work"))
    weights.mkdir()
    work.mkdir()
    tiny_signal_model.gain(weights, 0.5, name="sines", window="256")
    monkeypatch.setattr(runtime, "WEIGHTS", weights)
    monkeypatch.setattr(estimators, "_MOMENTS", 10_000)
    monkeypatch.setattr(signal_gan, "EXAMPLES", 2)  # drawing takes most of the time
    estimators.mmse_matrix.cache_clear()
    monkeypatch.chdir(work)

    def run(*args: object) -> Result:
        return CliRunner().invoke(app, [str(arg) for arg in args], prog_name="quieten")

    return run


def test_reproduce_prints_both_tables_and_what_is_missing(quieten: Quieten):
    result = quieten("reproduce", "signal_gan", "--limit", "6", "--json", "new/r.json")
    assert result.exit_code == 0, result.stderr
    summary, published, general, notes = result.stdout.split("\n\n")
    assert summary.startswith("6 fresh signals of 256 samples at 256 Hz, in white noise at -2 dB")
    assert published.startswith("published: 3 sines of 10 to 64 Hz and amplitude 1, phase 0")
    assert general.startswith("general: 1 to 5 sines of 10 to 64 Hz and amplitude 0.3 to 1, any")
    assert "oracle_frequencies: knows the true frequencies" in notes
    assert "published: nothing to compare with: the original shows eight examples" in notes
    assert "published: paper: not measured: no weights: give --weights paper=" in result.stderr
    assert "general: ours: not measured: no weights: give --weights general=" in result.stderr
    rows = json.loads(Path("new/r.json").read_text("utf-8"))["rows"]
    assert [row["method"] for row in rows] == list(signal_gan.METHODS)
    lines = {line.split()[0]: line.split() for line in published.splitlines()[2:]}
    for row in rows:
        cells = lines[row["method"]]
        assert cells[1] == ("-" if row["l1"] is None else f"{row['l1']:.4f}")
    found = {row["method"]: row["snr_db"] for row in rows}
    assert found["oracle_frequencies"] > found["fft_threshold"] > found["lowpass"] > found["noisy"]
    assert found["ours"] is not None


def test_pictures_of_models_by_option(quieten: Quieten, tmp_path: Path):
    pytest.importorskip("matplotlib")
    path = tiny_signal_model.gain(tmp_path, name="mine", window="256")
    options = ("--limit", "1", "--weights", f"general={path}", "--picture", "pictures")
    result = quieten("reproduce", "signal_gan", *options)
    assert result.exit_code == 0, result.stderr
    names = {path.name for path in Path("pictures").iterdir()}
    assert names == {"examples-ours.png", "examples-general.png"}
    general = result.stdout.split("\n\n")[2].splitlines()
    noisy, ours = (line.split()[1:] for line in (general[2], general[-1]))
    assert noisy == ours  # the model is the identity


def test_curves_of_a_run(quieten: Quieten):
    pytest.importorskip("matplotlib")
    Path("run").mkdir()
    Path("run", "log.csv").write_text("step,l1\n0,0.5\n1,0.4\n")
    result = quieten("reproduce", "signal_gan", "--curves", "run")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("wrote ") and Path("run", "curves.png").stat().st_size > 1000
    assert quieten("reproduce", "signal_gan", "--curves", "run", "--picture", "x").exit_code == 0
    assert Path("x", "curves.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("signal_gan", "--limit", "0"), "a limit of 0 signals: use 1 or more"),
        (("signal_gan", "--data", "x"), "--data means nothing for signal_gan: leave it out"),
        (("vqvae_unet", "--picture", "x"), "--picture means nothing for vqvae_unet"),
        (("vqvae_unet", "--curves", "x"), "--curves means nothing for vqvae_unet"),
        (("signal_gan", "--weights", "best=x.onnx"), "choose among paper, ours, general"),
        (("signal_gan", "--weights", "ours=x.onnx"), "x.onnx: name an .onnx file"),
        (("signal_gan", "--curves", "x"), "no such file: name the folder of a run"),
    ],
)
def test_mistakes_end_in_one_line(quieten: Quieten, arguments: tuple[str, ...], words: str):
    result = quieten("reproduce", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_data_draws_the_folders_and_a_picture(quieten: Quieten):
    pytest.importorskip("matplotlib")
    options = ("--train", "4", "--valid", "2", "--format", "npy", "--plot", "kinds.png")
    result = quieten("data", "sines", "out", *options)
    assert (result.exit_code, result.stdout) == (0, "out  4 train  2 validation\n"), result.stderr
    mixed = sorted(Path("out", "train", "mixed").iterdir())
    assert [path.name for path in mixed] == [f"{number:04d}.npy" for number in range(4)]
    assert np.load(mixed[0], allow_pickle=False).dtype == np.float32
    assert Path("kinds.png").stat().st_size > 1000


def test_data_as_wav_is_the_default(quieten: Quieten):
    assert quieten("data", "sines", "out", "--train", "1", "--valid", "0").exit_code == 0
    assert Path("out", "train", "clean", "0000.wav").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sines", "out", "--valid", "0.1"), "--valid 0.1: for sines, say how many signals"),
        (("sines", "out", "--format", "flac"), "signals as .flac: choose wav or npy"),
        (("sines", "out", "--rate", "8000"), "--rate means nothing for sines: leave it out"),
        (("sines", "out", "--from", "x"), "--from means nothing for sines"),
        (("sines", "out", "--train", "0", "--valid", "0"), "no signals: ask for 1 or more"),
        (("minds14", "out", "--train", "5"), "--train means nothing for minds14"),
        (("minds14", "out", "--format", "npy"), "--format npy means nothing for minds14"),
        (("piano", "out", "--valid", "0.1"), "--valid 0.1: for piano, say how many pieces"),
        (("piano", "out", "--plot", "x.png"), "--plot means nothing for piano"),
        (("piano", "out", "--seconds", "1"), "pieces need 5 s or more"),
        (("sines", "out", "--program", "3"), "--program means nothing for sines"),
        (("piano", "out", "--soundfont", "none.sf2"), "none.sf2: no such soundfont"),
    ],
)
def test_data_says_what_to_do_in_one_line(quieten: Quieten, arguments: tuple[str, ...], words: str):
    result = quieten("data", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not Path("out").exists()
