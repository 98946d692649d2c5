"""Waveform models as ONNX: the file says what it is, and gives what torch gives."""

import json

import numpy as np
import onnx
import pytest
import torch

import quieten
from quieten import runtime
from quieten.errors import ModelError
from quieten.signals import denoise_signal, load_signal_model
from quieten.sines import GENERAL, PAPER
from quieten.training import export as exporter
from quieten.training import waveforms
from quieten.training.checkpoint import save, start_from
from quieten.training.config import load_config
from quieten.training.models.signal_gan import SignalGAN
from quieten.training.tensorfile import load_checkpoint

NAMES = ("signal_gan", "signal_general", "signal_gan_paper")


def make(name, folder):
    """(family, config) with weights that are not at rest; its run is in the folder."""
    config = load_config(name, ["licence=CC0-1.0"])
    torch.manual_seed(3)
    family = SignalGAN(config)
    with torch.no_grad():
        for value in family.updaters["net"].averaged.parameters():
            value.add_(0.02 * torch.randn_like(value))
    save(family.updaters, folder / "best.safetensors", config, 17, 0.5)
    return family, config


@pytest.fixture(scope="module", params=NAMES)
def exported(request, tmp_path_factory):
    """(family, its config, what `export` returned) of each packaged configuration."""
    folder = tmp_path_factory.mktemp(request.param)
    family, config = make(request.param, folder)
    return family, config, exporter.main(folder, folder / "tiny.onnx", None)


def test_onnx_gives_what_torch_gives(exported):
    family, _, made = exported
    model = load_signal_model(made.path)
    for signals in (PAPER, GENERAL):
        noisy = signals.draw(np.random.default_rng(1), 70)[1]
        expected = family.denoise(torch.from_numpy(noisy)).numpy()
        # 1e-4 as exports demand: the softmax over bins is sharp
        np.testing.assert_allclose(model.run(noisy), expected, atol=1e-4)
    assert np.abs(expected - noisy).max() > 0.1  # no identity


def test_the_file_says_what_it_is(exported):
    family, _, made = exported
    info = load_signal_model(made.path).info
    assert (info.name, info.family, info.version) == ("tiny", "signal_gan", quieten.__version__)
    assert (info.sample_rate, info.window, info.phase) == (256, 256, family.config.phase)
    assert info.licence == "CC0-1.0"
    assert info.parameters == sum(p.numel() for p in family.updaters["net"].net.parameters())
    metadata = {entry.key: entry.value for entry in onnx.load(str(made.path)).metadata_props}
    assert metadata["kind"] == "waveform" and json.loads(metadata["training"])["step"] == 17
    assert not {"n_fft", "hop_length", "states"} & set(metadata)


def test_a_bank_of_waves_is_stored_once(exported):
    """448 waves of 256 samples are 459 kB; the published network has 1.13 MB of weights."""
    assert exported[2].size_bytes < 1_250_000


def test_it_is_no_model_of_spectra(exported):
    with pytest.raises(ModelError):
        runtime.load(exported[2].path)


def test_long_signals_are_cleaned_by_a_model_of_any_phase(tmp_path):
    make("signal_general", tmp_path)
    model = load_signal_model(exporter.main(tmp_path, tmp_path / "m.onnx", None).path)
    time = np.arange(1500) / 256
    clean = np.sin(2 * np.pi * 20 * time)[None]
    noisy = (clean + 0.7 * np.random.default_rng(2).standard_normal(clean.shape)).astype(np.float32)
    error, before = (np.square(x - clean).mean() for x in (denoise_signal(model, noisy), noisy))
    assert error < before / 4


def test_the_weights_beside_it_begin_another_run(exported):
    family, config, made = exported
    weights = made.path.with_suffix(".safetensors")
    settings = load_checkpoint(weights)[1]["model"]
    assert settings == family.config.model_dump(mode="json") and settings["length"] == 256
    tuned = SignalGAN(config)
    start_from(tuned.updaters, str(weights))
    noisy = torch.randn(2, 256, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(tuned.denoise(noisy), family.denoise(noisy))


def test_a_graph_that_disagrees_is_not_written(tmp_path, monkeypatch):
    make("signal_gan", tmp_path)
    monkeypatch.setattr(exporter, "waveform_difference", lambda *_: 0.1)
    with pytest.raises(ModelError, match="differ"):
        exporter.main(tmp_path, tmp_path / "out" / "wrong.onnx", None)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_difference_is_relative_to_the_loudest_sample(tmp_path):
    family, _ = make("signal_general", tmp_path)
    exportable = family.exportable()
    path = tmp_path / "x.onnx"
    waveforms.write_waveform_graph(exportable, path)
    assert waveforms.waveform_difference(exportable, path) < 1e-4
    with torch.no_grad():
        exportable.module.net.slots.scale.mul_(1.01)
    assert waveforms.waveform_difference(exportable, path) == pytest.approx(0.01, rel=0.1)
