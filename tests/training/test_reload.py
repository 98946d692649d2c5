"""Exported networks and checkpoints of runs, opened again in torch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quieten.errors import ConfigError
from quieten.reproduce.vqvae_unet import ABLATIONS
from quieten.training.checkpoint import save
from quieten.training.config import OptimizerConfig, TrainConfig, load_config
from quieten.training.models import FAMILIES
from quieten.training.optimize import Updater
from quieten.training.reload import open_denoiser
from quieten.training.tensorfile import save_checkpoint


class Amplifier(nn.Module):
    """One trained number."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))


class AmplifierFamily:
    """A family whose part, its gain, can be taken away."""

    def __init__(self, config: TrainConfig) -> None:
        net = Amplifier(config.model["start"])
        self.updaters = {"net": Updater(net, OptimizerConfig(), 1)}

    def denoise(self, noisy: Tensor, ablation: str = "") -> Tensor:
        if ablation not in ("", "gain"):
            raise ConfigError(f"no ablation {ablation}")
        return noisy if ablation else noisy * self.updaters["net"].averaged.gain.detach()


class PlainFamily(AmplifierFamily):
    """A family without parts."""

    def denoise(self, noisy: Tensor) -> Tensor:  # type: ignore[override]
        return super().denoise(noisy)


@pytest.fixture(autouse=True)
def families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "amplifier", AmplifierFamily)
    monkeypatch.setitem(FAMILIES, "plain", PlainFamily)


@pytest.fixture
def exported(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes what `export` writes: a gain of 3."""

    def write(**numbers: object) -> Path:
        path = tmp_path / "net.safetensors"
        numbers = {"model": {"start": 1.0}} | numbers
        save_checkpoint(path, {"net/gain": torch.tensor(3.0)}, numbers)
        return path

    return write


@pytest.fixture
def noisy(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, 0.1, 1234).astype(np.float32)


def test_an_exported_network_has_its_weights(exported: Callable, noisy: np.ndarray):
    denoised = open_denoiser(exported(family="amplifier"))(noisy)
    assert denoised.dtype == np.float32
    np.testing.assert_array_equal(denoised, 3 * noisy)


def test_a_part_can_be_taken_away(exported: Callable, noisy: np.ndarray):
    path = exported(family="amplifier")
    np.testing.assert_array_equal(open_denoiser(path, "gain")(noisy), noisy)


def test_an_unknown_part_is_known_before_any_work(exported: Callable):
    with pytest.raises(ConfigError, match="no ablation bias"):
        open_denoiser(exported(family="amplifier"), "bias")


def test_a_family_without_parts_says_so(exported: Callable, noisy: np.ndarray):
    path = exported(family="plain")
    np.testing.assert_array_equal(open_denoiser(path)(noisy), 3 * noisy)
    with pytest.raises(ConfigError, match="there is no gain for this network"):
        open_denoiser(path, "gain")


def test_a_checkpoint_of_a_run_gives_its_averaged_weights(tmp_path: Path, noisy: np.ndarray):
    config = TrainConfig(family="amplifier", model={"start": 1.0}, precision="bfloat16")
    family = AmplifierFamily(config)
    updater = family.updaters["net"]
    with torch.no_grad():
        updater.net.gain.fill_(7.0)
        updater.averaged.gain.fill_(5.0)
    path = tmp_path / "best.safetensors"
    save(family.updaters, path, config, 10, 0.5)
    np.testing.assert_array_equal(open_denoiser(path)(noisy), 5 * noisy)


def test_the_shipped_network_gives_what_its_onnx_file_gives(speech_like: Callable):
    """Its file names no family: that of the ONNX file beside it counts."""
    from quieten.denoise import Denoiser
    from quieten.runtime import WEIGHTS

    noisy = speech_like(1.0, 16_000)
    path = WEIGHTS / "speech.safetensors"
    expected = Denoiser("identity")(noisy, 16_000)  # as long as the input
    denoised = open_denoiser(path)(noisy)
    assert denoised.shape == expected.shape
    onnx = Denoiser(path.with_suffix(".onnx"))(noisy, 16_000)
    np.testing.assert_allclose(denoised[4000:], onnx[4000:], atol=5e-3)


def test_the_parts_of_a_network_with_a_code(tmp_path: Path, noisy: np.ndarray):
    """What `quieten reproduce` takes away is there to be taken away, and is heard."""
    config = load_config("vqvae_unet")
    family = FAMILIES["vqvae_unet"](config)
    weights = family.updaters["net"].averaged.state_dict()
    path = tmp_path / "net.safetensors"
    named = {f"net/{name}": value for name, value in weights.items()}
    save_checkpoint(path, named, {"family": "vqvae_unet", "model": config.model})
    whole = open_denoiser(path)(noisy)
    for part in ABLATIONS.values():
        without = open_denoiser(path, part)(noisy)
        assert without.shape == noisy.shape
        assert np.abs(without - whole).max() > 1e-6, part


def test_files_that_are_none(tmp_path: Path):
    with pytest.raises(ConfigError, match="no checkpoint"):
        open_denoiser(tmp_path / "absent.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="is not a checkpoint of quieten"):
        open_denoiser(tmp_path / "x.safetensors")
