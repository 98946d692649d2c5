"""Export: ONNX says what torch says, for whole files, streams and the CLI's model file."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import quieten
from quieten import Denoiser
from quieten.errors import ConfigError, ModelError
from quieten.runtime import Model
from quieten.training import export as exporter
from quieten.training.checkpoint import save, start_from
from quieten.training.exportable import Exportable
from quieten.training.models import FAMILIES
from quieten.training.tensorfile import load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def run_dir(overrides, tmp_path_factory):
    """A run folder with a best checkpoint of a tiny network whose weights are not at rest."""
    from quieten.training.config import load_config

    config = load_config("realtime", [*overrides, "licence=CC0-1.0"])
    torch.manual_seed(3)
    family = FAMILIES["realtime"](config)
    with torch.no_grad():
        for value in family.updaters["net"].averaged.state_dict().values():
            if value.is_floating_point():
                value.add_(0.1 * torch.rand_like(value))
    folder = tmp_path_factory.mktemp("run")
    save(family.updaters, folder / "best.safetensors", config, 17, 0.5)
    return folder, family


@pytest.fixture(scope="module")
def exported(run_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "tiny.onnx"
    return exporter.main(run_dir[0], out, None)


def test_onnx_gives_the_masks_and_states_of_torch(exported) -> None:
    assert exported.largest_difference <= 1e-5  # float32 rounding over a few layers


def test_whole_files_sound_as_torch_makes_them(run_dir, exported, voice) -> None:
    noisy = voice(7, 1.37)
    noisy = noisy[np.abs(noisy).argmax() :]  # loud from the first frame on: no lift of the level
    expected = run_dir[1].denoise(torch.from_numpy(noisy[None]))[0].numpy()
    denoised = Denoiser(exported.path)(noisy, 16_000)
    # float32 transforms on both sides; the output is far from the input, so this is no identity
    np.testing.assert_allclose(denoised, expected, atol=2e-5)
    assert np.abs(denoised - noisy).max() > 0.01


def test_streams_give_what_whole_files_give(exported, voice) -> None:
    noisy = voice(8, 1.1)
    stream = Denoiser(exported.path).stream(16_000)
    pieces = [stream.feed(noisy[i : i + 160]) for i in range(0, noisy.size, 160)]
    streamed = np.concatenate([*pieces, stream.flush()])
    np.testing.assert_allclose(streamed, Denoiser(exported.path)(noisy, 16_000), atol=1e-5)


def test_the_file_says_what_it_is(run_dir, exported) -> None:
    info = Model(exported.path).info
    assert (info.name, info.family, info.version) == ("tiny", "realtime", quieten.__version__)
    assert (info.sample_rate, info.n_fft, info.hop_length) == (16_000, 512, 256)
    assert info.states == ("state_sub_band_0", "state_full_band")
    assert info.licence == "CC0-1.0"
    net = run_dir[1].updaters["net"].averaged
    assert info.parameters == sum(p.numel() for p in net.parameters())
    assert info.latency_ms == 32.0


def test_scores_are_written_into_the_file(exported, tmp_path: Path) -> None:
    copy = tmp_path / "scored.onnx"
    copy.write_bytes(exported.path.read_bytes())
    exporter.set_scores(copy, {"stoi": 0.8})
    assert Model(copy).info.scores == {"stoi": 0.8}
    assert Model(copy).info.name == "tiny"
    with pytest.raises(ConfigError, match="export it first"):
        exporter.set_scores(tmp_path / "nothing.onnx", {})


def test_a_graph_that_disagrees_is_not_written(run_dir, tmp_path: Path, monkeypatch) -> None:
    exportable = run_dir[1].exportable()
    faithful = exporter.to_onnx

    def unfaithful(exportable: Exportable, path: Path) -> None:
        faithful(exportable, path)
        model = onnx.load(str(path))
        weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        weight.raw_data = bytes(len(weight.raw_data))
        onnx.save(model, str(path))

    monkeypatch.setattr(exporter, "to_onnx", unfaithful)
    metadata = {"quieten_format": "1", "name": "x", "parameters": "1"}
    metadata |= {"family": "realtime", "version": "1", "sample_rate": "16000", "n_fft": "512"}
    metadata |= {"hop_length": "256", "licence": "MIT", "scores": "{}"}
    metadata |= {"states": '["state_sub_band_0", "state_full_band"]'}
    with pytest.raises(ModelError, match="differ"):
        exporter.export(exportable, tmp_path / "wrong.onnx", metadata)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train first"):
        exporter.main(tmp_path, tmp_path / "x.onnx", None)


def test_fine_tuning_begins_with_the_exported_weights(exported, tiny) -> None:
    weights = exported.path.with_suffix(".safetensors")
    config = tiny()
    fresh, tuned = FAMILIES["realtime"](config), FAMILIES["realtime"](config)
    start_from(tuned.updaters, str(weights))
    noisy = torch.randn(1, 4096, generator=torch.Generator().manual_seed(0))
    expected = Denoiser(exported.path)(noisy[0].numpy(), 16_000)
    np.testing.assert_allclose(tuned.denoise(noisy)[0].numpy(), expected, atol=2e-5)
    assert not np.allclose(fresh.denoise(noisy)[0].numpy(), expected, atol=1e-2)
    net = tuned.updaters["net"]
    for name, value in net.net.state_dict().items():
        assert torch.equal(value, net.averaged.state_dict()[name])


def test_fine_tuning_of_another_network_is_refused(exported, tiny, tmp_path: Path) -> None:
    family = FAMILIES["realtime"](tiny("model.full_band=12"))
    with pytest.raises(ConfigError, match="another network"):
        start_from(family.updaters, str(exported.path.with_suffix(".safetensors")))
    with pytest.raises(ConfigError, match="no checkpoint"):
        start_from(family.updaters, str(tmp_path / "none.safetensors"))


def test_metadata_that_nobody_could_read_stops_the_export(run_dir, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="metadata"):
        exporter.export(run_dir[1].exportable(), tmp_path / "x.onnx", {"quieten_format": "1"})
    assert list(tmp_path.iterdir()) == []


class Window(torch.nn.Module):
    """A network that takes any window."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, spectrum: torch.Tensor) -> torch.Tensor:
        return self.gain * torch.tanh(spectrum)


def test_models_with_windows_are_tried_with_several_lengths(tmp_path: Path, monkeypatch) -> None:
    tried = []
    faithful = exporter.difference_of

    def note(exportable: Exportable, path: Path, lengths: tuple[int, ...], seed: int) -> float:
        tried.append((lengths, seed))
        if (lengths, seed) == ((7,), 0):
            return 1.0  # a code that fell to the other side
        return faithful(exportable, path, lengths, seed)

    monkeypatch.setattr(exporter, "difference_of", note)
    exportable = Exportable(Window(), 8000, 64, 16, window_frames=20, margin_frames=2)
    exporter.to_onnx(exportable, tmp_path / "window.onnx")
    assert exporter.compare(exportable, tmp_path / "window.onnx") < 1e-6
    assert tried == [((n,), seed) for n in (1, 2, 7, 20) for seed in range(3)]


def test_the_safetensors_file_names_its_family(exported) -> None:
    _, numbers = load_checkpoint(exported.path.with_suffix(".safetensors"))
    assert numbers["family"] == "realtime" and numbers["model"]["full_band"] == 8


def test_a_family_of_the_future_is_explained(tmp_path: Path, tiny) -> None:
    numbers = {"config": tiny("family=later").model_dump(mode="json"), "step": 1}
    save_checkpoint(tmp_path / "best.safetensors", {"x": torch.zeros(1)}, numbers)
    with pytest.raises(ConfigError, match="unknown family later"):
        exporter.main(tmp_path, tmp_path / "x.onnx", None)


def test_weights_alone_in_float16_are_smaller_and_alike(run_dir, exported, tmp_path) -> None:
    whole, half = (
        exporter.main(run_dir[0], tmp_path / f"{name}.safetensors", None, half=name == "half")
        for name in ("whole", "half")
    )
    assert whole.parameters == half.parameters == exported.parameters
    assert half.size_bytes < whole.size_bytes and half.largest_difference is None
    assert not (tmp_path / "half.onnx").exists()
    theirs = load_checkpoint(half.path)[0]
    for name, value in load_checkpoint(whole.path)[0].items():
        torch.testing.assert_close(theirs[name].to(value.dtype), value, atol=1e-4, rtol=1e-3)


def test_half_is_refused_for_onnx(run_dir, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"name a \.safetensors file, not x\.onnx"):
        exporter.main(run_dir[0], tmp_path / "x.onnx", None, half=True)
