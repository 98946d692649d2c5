"""Benchmarks E and H: their rows, their weights, and what stays empty."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tiny_model
from quieten import runtime
from quieten.audio import write_audio
from quieten.denoise import Denoiser
from quieten.errors import ConfigError, MissingExtra
from quieten.metrics import nsr
from quieten.reproduce.clips import add_white_noise, read_clips
from quieten.reproduce.vqvae_unet import (
    ABLATIONS,
    CONDITIONS,
    METHODS,
    PUBLISHED,
    SAMPLE_RATE,
    WHY_NOT_COMPARABLE,
    Reproduction,
    find_weights,
    open_method,
    reproduce,
)

Waveform = np.ndarray
SETTINGS = {"sample_rate": "8000", "n_fft": "512", "hop_length": "128"}


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of installed models."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(runtime, "WEIGHTS", folder)
    return folder


@pytest.fixture
def speech(tmp_path: Path, speech_like: Callable) -> Path:
    """One file of 4 s and one of 9 s: three clips."""
    for number, seconds in enumerate((4.0, 9.0)):
        path = tmp_path / "speech" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        write_audio(path, speech_like(seconds, 8000, seed=number), 8000, subtype="FLOAT")
    return tmp_path / "speech"


class FakeTorch:
    """Stands in for torch: gives the share of the sound that it has for the ablation."""

    def __init__(self, **shares: float) -> None:
        self.shares = {"": 1.0} | shares
        self.opened: list[tuple[str, str]] = []

    def __call__(self, path: Path, ablation: str) -> Callable[[Waveform], Waveform]:
        self.opened.append((path.name, ablation))
        if ablation not in self.shares:
            raise ConfigError(f"{path}: there is no {ablation}")
        return lambda noisy: np.float32(self.shares[ablation]) * noisy


def without_torch(path: Path, ablation: str) -> Callable[[Waveform], Waveform]:
    raise MissingExtra("train", "this row")


def numbers(result: Reproduction, metric: str) -> dict[tuple[str, str], float | None]:
    written = result.to_json()["rows"]
    assert isinstance(written, list)
    return {(row["condition"], row["method"]): row[metric] for row in written}


def test_rows_without_weights_are_measured_and_the_others_say_why(speech: Path, weights: Path):
    result = reproduce(speech, without_torch)
    assert (result.clips, result.files) == (3, 2)
    assert [(row.condition, row.method) for row in result.rows] == [
        (condition, method) for condition in CONDITIONS for method in METHODS
    ]
    measured = {row.method for row in result.rows if row.count}
    assert measured == {"noisy", "logmmse", "logmmse_known_level", "oracle_mask"}
    for row in result.rows:
        assert bool(row.reason) == (row.method not in measured), row
    assert "--weights ours=FILE, or install telephone" in next(
        row.reason for row in result.rows if row.method == "ours_latent_zeroed"
    )


def test_conditions_are_the_published_noise_levels(speech: Path, weights: Path):
    found = numbers(reproduce(speech, without_torch), "nsr")
    assert found["E", "noisy"] == pytest.approx(0.107, abs=5e-4)
    assert found["H", "noisy"] == pytest.approx(PUBLISHED["noisy"]["nsr"], abs=5e-3)
    for condition in CONDITIONS:
        order = ["oracle_mask", "logmmse_known_level", "noisy"]
        ranked = [found[condition, method] for method in order]
        assert ranked == sorted(ranked)  # the ceiling, a classic, and nothing done


def test_published_rows_stand_beside_with_the_reason(speech: Path, weights: Path):
    written = reproduce(speech, without_torch, limit=1).to_json()
    assert written["published"] == {
        "rows": [
            {"method": "noisy", "stoi": 0.248, "pesq_nb": 1.178, "nsr": 3.52},
            {"method": "denoised", "stoi": 0.852, "pesq_nb": 2.477, "nsr": 0.052},
        ],
        "why_not_comparable": WHY_NOT_COMPARABLE,
    }
    assert "different utterances" in WHY_NOT_COMPARABLE
    assert written["clips"] == 1


def test_our_model_runs_as_onnx_and_its_ablations_in_torch(speech: Path, weights: Path):
    tiny_model.constant(weights, gain=0.5, name="telephone", **SETTINGS)
    (weights / "telephone.safetensors").touch()
    torch = FakeTorch(latent_zeroed=0.0, latent_shuffled=-1.0, skips_zeroed=0.9)
    found = numbers(reproduce(speech, torch, limit=2), "nsr")
    assert torch.opened == [("telephone.safetensors", name) for name in ABLATIONS.values()]
    clips = read_clips(speech, SAMPLE_RATE, 2)
    noisy = [(add_white_noise(clip, CONDITIONS["H"], 1), clip.clean) for clip in clips]
    for method, share in (("ours", 0.5), ("ours_latent_shuffled", -1), ("ours_skips_zeroed", 0.9)):
        expected = np.mean([nsr(np.float32(share) * sound, clean) for sound, clean in noisy])
        assert found["H", method] == pytest.approx(expected, rel=1e-4)  # ONNX windows its frames
    assert found["H", "ours_latent_zeroed"] == pytest.approx(1.0)  # silence


def test_the_method_ours_gives_what_a_denoiser_gives(weights: Path, speech_like: Callable):
    path = tiny_model.smoother(weights, name="telephone", **SETTINGS)
    method = open_method("ours", find_weights({}), without_torch)
    assert not isinstance(method, str)
    noisy = speech_like(1.0, 8000)
    np.testing.assert_array_equal(method(noisy, noisy), Denoiser(path)(noisy, 8000))


def test_safetensors_alone_go_through_torch(weights: Path, speech_like: Callable):
    (weights / "telephone-paper.safetensors").touch()
    torch = FakeTorch()
    method = open_method("paper", find_weights({}), torch)
    assert not isinstance(method, str)
    assert torch.opened == [("telephone-paper.safetensors", "")]
    noisy = speech_like(1.0, 8000)
    assert np.array_equal(method(noisy, noisy), noisy)


def test_weights_that_are_given_replace_installed_ones(weights: Path, tmp_path: Path):
    tiny_model.constant(weights, name="telephone", **SETTINGS)
    (weights / "telephone-no-vq.safetensors").touch()
    mine = tmp_path / "mine.safetensors"
    mine.touch()
    assert find_weights({"ours": mine}) == {
        "ours": mine,
        "best_without_vq": weights / "telephone-no-vq.safetensors",
    }
    torch = FakeTorch(latent_zeroed=0.0)
    assert not isinstance(open_method("ours_latent_zeroed", {"ours": mine}, torch), str)
    assert torch.opened == [("mine.safetensors", "latent_zeroed")]


def test_reasons_why_a_row_stays_empty(weights: Path):
    path = tiny_model.constant(weights, name="telephone", **SETTINGS)
    found = {"ours": path}
    reason = open_method("ours_skips_zeroed", found, without_torch)
    assert reason == "needs the network as well: telephone.safetensors is not beside telephone.onnx"
    path.with_suffix(".safetensors").touch()
    reason = open_method("ours_skips_zeroed", found, without_torch)
    assert reason == 'this row needs: pip install "quieten[train]"'
    reason = open_method("ours_skips_zeroed", found, FakeTorch())
    assert isinstance(reason, str)
    assert "there is no skips_zeroed" in reason
    assert not isinstance(open_method("ours", found, without_torch), str)


def test_broken_weights_are_an_error_not_an_empty_row(weights: Path, tmp_path: Path):
    def broken(path: Path, ablation: str) -> Callable[[Waveform], Waveform]:
        raise ConfigError(f"{path} is not a checkpoint of quieten")

    path = tmp_path / "x.safetensors"
    path.touch()
    with pytest.raises(ConfigError, match="not a checkpoint"):
        open_method("paper", {"paper": path}, broken)


@pytest.mark.parametrize(
    ("method", "file", "words"),
    [
        ("noisy", "x.onnx", "weights of noisy: choose among ours, paper, best_without_vq"),
        ("ours", "absent.onnx", "name an .onnx or .safetensors file"),
        ("paper", "x.txt", "name an .onnx or .safetensors file"),
    ],
)
def test_weights_that_make_no_sense(tmp_path: Path, method: str, file: str, words: str):
    for name in ("x.onnx", "x.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=words):
        find_weights({method: tmp_path / file})


def test_progress_counts_the_clips_of_what_can_run(speech: Path, weights: Path):
    seen: list[tuple[int, int, str]] = []
    reproduce(speech, without_torch, limit=1, progress=lambda *step: seen.append(step))
    assert [(done, total) for done, total, _ in seen] == [(step, 8) for step in range(1, 9)]
    assert seen[0][2] == "noisy"


def test_the_line_about_the_clips_says_that_files_are_cut():
    line = Reproduction(75, 42, (), ()).describe()
    assert line.startswith("75 clips from 42 files, 4 to 8 s at 8000 Hz")
    assert "cut into equal pieces" in line


def test_clips_of_the_shared_recordings(shared_data: Path):
    """Few files are 4 to 8 s long by themselves: pieces of longer ones make up the benchmark."""
    clips = read_clips(shared_data / "speech_test", SAMPLE_RATE)
    assert len(clips) == 75
    assert sum("#" not in clip.name for clip in clips) == 6
