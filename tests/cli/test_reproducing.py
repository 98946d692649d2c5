"""`quieten reproduce` and `quieten data` as a user types them."""

import csv
import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import tiny_model
from quieten import cli, runtime
from quieten.audio import write_audio

Quieten = Callable[..., Result]
SETTINGS = {"sample_rate": "8000", "n_fft": "512", "hop_length": "128"}


@pytest.fixture
def quieten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speech_like: Callable) -> Quieten:
    """A function that runs `quieten ARGS`; beside its folder lies one of speech, ../speech."""
    weights, speech, work = (tmp_path / name for name in ("weights", "speech", "work"))
    for folder in (weights, speech, work):
        folder.mkdir()
    write_audio(speech / "a.wav", speech_like(4.0, 8000), 8000)
    write_audio(speech / "b.wav", speech_like(9.0, 8000, 1), 8000)
    tiny_model.constant(weights, gain=0.5, name="telephone", **SETTINGS)
    monkeypatch.setattr(runtime, "WEIGHTS", weights)
    monkeypatch.chdir(work)

    def run(*args: object) -> Result:
        return CliRunner().invoke(cli.app, [str(arg) for arg in args], prog_name="quieten")

    return run


def test_reproduce_prints_both_conditions_and_what_was_published(quieten: Quieten):
    result = quieten("reproduce", "vqvae_unet", "--data", "../speech", "--json", "new/r.json")
    assert result.exit_code == 0, result.stderr
    summary, easy, hard, published, pitfalls = result.stdout.split("\n\n")
    assert summary.startswith("3 clips from 2 files, 4 to 8 s at 8000 Hz; longer files are cut")
    assert easy.startswith("E: white noise at 9.7 dB\nmethod ")
    assert hard.startswith("H: white noise at -5.47 dB\nmethod ")
    assert "not comparable: the published noisy row compares different utterances" in published
    assert published.splitlines()[-2:] == [
        "noisy     0.248  1.178    3.520",
        "denoised  0.852  2.477    0.052",
    ]
    names = [line.split("  ")[0] for line in pitfalls.splitlines()[2:]]
    assert names == ["real_part, clean", "bin_noise, clean", "unpaired, E", "unpaired, H"]
    assert "paper: not measured: no weights: give --weights paper=FILE" in result.stderr
    rows = json.loads(Path("new/r.json").read_text("utf-8"))["rows"]
    table = {(row["condition"], row["method"]): row for row in rows}
    assert len(table) == len(rows) == 20
    for condition, text in (("E", easy), ("H", hard)):
        row = table[condition, "noisy"]
        (line,) = (line for line in text.splitlines() if line.startswith("noisy "))
        assert line.split()[1] == f"{row['stoi']:.3f}"
        assert table[condition, "ours"]["nsr"] is not None
        assert table[condition, "paper"]["stoi"] is None
        assert "--weights paper=FILE" in table[condition, "paper"]["reason"]


def test_weights_by_option(quieten: Quieten, tmp_path: Path):
    """Half of the noisy sound: its NSR follows from the definition."""
    path = tiny_model.constant(tmp_path, gain=0.0, name="mine", **SETTINGS)
    options = ("--weights", f"best_without_vq={path}", "--limit", "1", "--json", "r.json")
    result = quieten("reproduce", "vqvae_unet", "--data", "../speech", *options)
    assert result.exit_code == 0, result.stderr
    rows = json.loads(Path("r.json").read_text("utf-8"))["rows"]
    nsr = {row["method"]: row["nsr"] for row in rows if row["condition"] == "H"}
    assert nsr["best_without_vq"] == pytest.approx(1.0, abs=1e-3)  # silence
    assert nsr["ours"] == pytest.approx(0.25 + 3.52 / 4, rel=0.02)


def test_ablations_need_the_network_and_torch(
    quieten: Quieten, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "weights" / "telephone.safetensors").write_bytes(b"no network")
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("quieten.training")]:
        monkeypatch.delitem(sys.modules, name)
    result = quieten("reproduce", "vqvae_unet", "--data", "../speech", "--limit", "1")
    assert result.exit_code == 0, result.stderr
    assert "ours_latent_zeroed: not measured: " in result.stderr
    assert 'pip install "quieten[train]"' in result.stderr


@pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")
def test_a_broken_network_is_named(quieten: Quieten, tmp_path: Path):
    (tmp_path / "weights" / "telephone-paper.safetensors").write_bytes(b"no network")
    result = quieten("reproduce", "vqvae_unet", "--data", "../speech", "--limit", "1")
    assert result.exit_code == 1
    assert "telephone-paper.safetensors is not a checkpoint of quieten" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no such folder: name one of clean speech with --data"),
        (("--data", "../speech", "--weights", "ours"), "--weights ours: write METHOD=PATH"),
        (("--data", "../speech", "--weights", "noisy=x.onnx"), "weights of noisy: choose among"),
        (("--data", "../speech", "--limit", "0"), "use 1 or more"),
    ],
)
def test_mistakes_end_in_one_line(quieten: Quieten, arguments: tuple[str, ...], words: str):
    result = quieten("reproduce", "vqvae_unet", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_unknown_system_or_corpus_is_a_usage_error(quieten: Quieten):
    assert quieten("reproduce", "vqvae").exit_code == 2
    assert quieten("data", "minds15", "out").exit_code == 2


@pytest.fixture
def copy(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A local copy with ten calls in en-US and one in de-DE."""
    for number in range(11):
        language = "de-DE" if number == 10 else "en-US"
        path = tmp_path / "copy" / f"{language}~BALANCE" / f"{number:024x}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_audio(path, rng.normal(0, 0.1, 800).astype(np.float32), 8000)
    return tmp_path / "copy"


def test_data_writes_folders_and_a_manifest(quieten: Quieten, copy: Path):
    result = quieten("data", "minds14", "out", "--from", copy, "--test", "0.2")
    assert (result.exit_code, result.stdout) == (0, "out  7 train  1 valid  2 test\n")
    with Path("out", "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert {(row["language"], row["intent"], row["rate"]) for row in rows} == {
        ("en-US", "balance", "8000")
    }
    assert all(Path("out", row["path"]).suffix == ".flac" for row in rows)


def test_data_in_another_language_rate_and_format(quieten: Quieten, copy: Path):
    options = ("--language", "de-DE", "--valid", "0", "--test", "0", "--format", "wav")
    result = quieten("data", "minds14", "out", "--from", copy, *options, "--rate", "16000")
    assert (result.exit_code, result.stdout) == (0, "out  1 train\n")
    (path,) = Path("out", "train").iterdir()
    assert path.suffix == ".wav"


def test_data_says_what_to_do_in_one_line(
    quieten: Quieten, copy: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "datasets", None)
    for arguments, words in (
        ((), '(a local copy goes with --from) needs: pip install "quieten[hub]"'),
        (("--language", "en"), "language en: choose among cs-CZ"),
        (("--from", "nowhere"), "nowhere: is not there: copy https://huggingface.co/datasets/"),
        (("--from", copy, "--language", "fr-FR"), "holds no recordings of fr-FR"),
        (("--from", copy, "--valid", "1"), "shares must be between 0 and 1"),
    ):
        result = quieten("data", "minds14", "out", *arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert words in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert not Path("out").exists()
