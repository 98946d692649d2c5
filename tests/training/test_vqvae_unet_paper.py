"""The published system: its spectrogram, its noise, its network, and what its authors did else."""

import numpy as np
import pytest
import torch
from scipy import signal

from quieten.errors import ConfigError
from quieten.training.checkpoint import save
from quieten.training.config import load_config
from quieten.training.layers import ABLATIONS
from quieten.training.models.vqvae_unet_paper import (
    PaperNet,
    VQVAEUNetPaper,
    VQVAEUNetPaperConfig,
    paper_istft,
    paper_stft,
)
from quieten.training.reload import open_denoiser

TINY = ["model.width=8", "model.se_reduction=1", "threads=1", "precision=float32"]
SMALL = [*TINY, "model.window_length=64", "model.overlap=48", "model.piece_s=0.128"]
"""Pieces of 1024 samples: 33 x 65 values, odd at every level."""


def make(*more):
    torch.manual_seed(1)
    return VQVAEUNetPaper(load_config("vqvae_unet_paper", [*SMALL, *more]))


def sounds(batch=2, length=1024, seed=3):
    """A tone to keep, noise to remove: (noisy, clean)."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(length) / 8000
    clean = 0.1 * torch.sin(2 * torch.pi * 440 * time).repeat(batch, 1)
    return clean + 0.1 * torch.randn(batch, length, generator=generator), clean


def trained(*more, steps=12):
    family = make(*more)
    for step in range(steps):
        torch.manual_seed(step)
        family.step(*sounds(), step)
    return family


def test_a_second_is_260_by_260_as_scipy_has_it():
    """The paper's figures: nperseg 519, noverlap 488 at 8 kHz; 1e-6 of float32."""
    config = load_config("vqvae_unet_paper")
    settings = VQVAEUNetPaperConfig.model_validate(config.model)
    x = np.random.default_rng(1).standard_normal(8000)
    _, _, expected = signal.stft(x, fs=8000, nperseg=519, noverlap=488)
    waveform = torch.from_numpy(x.astype(np.float32))[None]
    found = paper_stft(waveform, settings.window_length, settings.overlap)
    assert expected.shape == (260, 260) and found.shape == (1, 260, 260)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-6)
    assert config.data.segment_s == settings.piece_s == 1.0


@pytest.mark.parametrize(("window", "overlap"), [(519, 488), (64, 48), (65, 40)])
@pytest.mark.parametrize("length", [8000, 1024, 999])
def test_the_inverse_is_scipys_and_gives_the_sound_back(window, overlap, length):
    x = np.random.default_rng(2).standard_normal(length).astype(np.float32)
    spectrum = paper_stft(torch.from_numpy(x)[None], window, overlap)
    _, expected = signal.istft(spectrum[0].numpy(), nperseg=window, noverlap=overlap)
    found = paper_istft(spectrum, window, overlap, length)[0].numpy()
    np.testing.assert_allclose(found, expected[:length], atol=1e-5)
    np.testing.assert_allclose(found, x, atol=1e-5)


def test_the_published_width_has_31_million_parameters():
    assert VQVAEUNetPaperConfig().width == 64
    count = sum(p.numel() for p in PaperNet(VQVAEUNetPaperConfig()).parameters())
    assert 31.0e6 < count < 31.5e6


def test_the_published_settings_are_the_defaults():
    config = load_config("vqvae_unet_paper")
    assert config.loss == {"mse": 1.0, "l1": 0.5, "codebook": 1.0, "commitment": 0.25}
    assert config.optimizer.learning_rate == 4e-3 and config.data.batch_size == 16
    assert (config.optimizer.schedule, config.optimizer.plateau_factor) == ("plateau", 0.1)
    assert config.optimizer.plateau_patience == 5 and config.optimizer.ema_decay == 0
    model = VQVAEUNetPaperConfig.model_validate(config.model)
    assert (model.codebook_size, model.codebook_dim, model.quantizer) == (512, 64, "gradient")
    assert (model.se_reduction, model.dropout, model.noise_sigma) == (16, 0.1, 1.0)
    assert (model.noise, model.standardise) == ("bins", "data")


@pytest.mark.parametrize(
    "change",
    [
        "model.parts=complex",
        "model.parts=real",
        "model.code_order=pixels",
        "model.quantizer=none",
        "model.quantizer=ema",
        "model.standardise=piece",
        "model.noise=sound",
        "model.noise=mixture",
    ],
)
def test_every_choice_learns_with_all_its_parameters(change):
    family = make(change, "model.dropout=0", "optimizer.learning_rate=2e-3")
    net = family.updaters["net"].net
    reports = []
    for step in range(25):
        torch.manual_seed(step)
        reports.append(family.step(*sounds(), step))
        if step == 0:
            missing = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
            assert missing == []
    assert reports[-1]["mse"] < 0.8 * reports[0]["mse"]
    assert reports[-1]["l1"] < reports[0]["l1"]


def test_the_first_batch_sets_the_standardisation_for_good():
    family = trained(steps=1)
    net = family.updaters["net"].net
    spectra = family.seen(family.spectra(sounds()[1]))
    assert net.mean.item() == pytest.approx(spectra.mean().item(), abs=1e-9)
    assert net.deviation.item() == pytest.approx(spectra.std().item())
    family.step(*(7 * sound for sound in sounds(seed=9)), 1)
    assert net.deviation.item() == pytest.approx(spectra.std().item())
    averaged = family.updaters["net"].averaged
    assert torch.equal(averaged.deviation, net.deviation)


def test_most_of_the_noise_on_bins_is_no_sound():
    """With 16.7 windows over each sample, 12.3 dB of independent noise vanish in the istft."""
    torch.manual_seed(1)
    family = VQVAEUNetPaper(load_config("vqvae_unet_paper", [*TINY, "model.noise=sound"]))
    target = family.seen(family.spectra(torch.randn(1, 8000)))
    target = target / target.std()
    left = (family.with_noise(target, target) - target).var().item()
    assert 10 * np.log10(left) == pytest.approx(-12.3, abs=0.1)


def test_noise_on_bins_has_the_stated_deviation():
    family = make("model.noise_sigma=0.5")
    target = torch.zeros(4, 2, 33, 65)
    torch.manual_seed(2)
    assert family.with_noise(target, target).std().item() == pytest.approx(0.5, rel=0.03)
    mixture = torch.ones(1, 2, 33, 65)
    assert make("model.noise=mixture").with_noise(target, mixture) is mixture


def test_the_real_part_alone_loses_half_of_the_sound():
    """A pitfall of the published code: even a perfect estimate is not the sound."""
    _, clean = sounds()
    results = []
    for parts in ("complex", "real"):
        family = make(f"model.parts={parts}")
        results.append(family.sound(family.seen(family.spectra(clean))))
    torch.testing.assert_close(results[0], clean, atol=1e-5, rtol=0)
    error = (results[1] - clean).square().sum() / clean.square().sum()
    assert error > 0.2


def test_codes_stand_for_places_or_for_runs_of_pixels():
    z_e = torch.randn(1, 64, 4, 16, generator=torch.Generator().manual_seed(1))
    for order, expected in (("channels", (1, 4, 16, 1, 1)), ("pixels", (64, 1, 1))):
        net = make(f"model.code_order={order}").updaters["net"].net
        z_q, code = net.quantize(z_e)
        assert z_q.shape == z_e.shape and code.indices.shape == expected
    # of pixels: the first code is the first channel's 4 x 16 values
    entry = net.quantizer.books[0, 0, code.indices[0, 0, 0]]
    torch.testing.assert_close(z_q[0, 0].flatten(), entry)


@pytest.mark.parametrize("length", [1, 1023, 1024, 2500])
def test_denoising_works_piece_by_piece_and_keeps_the_length(length):
    family = trained()
    noisy = sounds(length=3000)[0][:, :length]
    denoised = family.denoise(noisy)
    assert denoised.shape == noisy.shape and torch.isfinite(denoised).all()
    if length > 2048:
        torch.testing.assert_close(denoised[:, 1024:2048], family.denoise(noisy[:, 1024:2048]))


def test_the_standardisation_is_undone():
    """A network that gives its input back gives the sound back."""
    family = trained()
    net = family.updaters["net"].averaged
    net.forward = lambda x, ablation: (x, None)
    noisy, _ = sounds(length=1500)
    torch.testing.assert_close(family.denoise(noisy), noisy, atol=1e-5, rtol=0)


def test_every_ablation_changes_the_result():
    family = trained("model.quantizer=ema")
    noisy, _ = sounds()
    results = [family.denoise(noisy, ablation) for ablation in ABLATIONS]
    for i, one in enumerate(results):
        assert not any(torch.equal(one, other) for other in results[i + 1 :])
    with pytest.raises(ConfigError, match="no ablation se"):
        family.denoise(noisy, "se")


def test_there_is_no_onnx_but_the_checkpoint_opens(tmp_path):
    family = trained()
    with pytest.raises(ConfigError, match="no ONNX form"):
        family.exportable()
    config = load_config("vqvae_unet_paper", SMALL)
    save(family.updaters, tmp_path / "best.safetensors", config, 12, 0.5)
    noisy = sounds(batch=1, length=1500)[0]
    denoised = open_denoiser(tmp_path / "best.safetensors")(noisy[0].numpy())
    np.testing.assert_allclose(denoised, family.denoise(noisy)[0].numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.overlap=64", "overlap must be less than"),
        ("loss.snr=1", "no loss is called snr: choose among codebook, commitment, l1, mse"),
        ("model.depth=3", r"unknown key model\.depth.*width"),
    ],
)
def test_wrong_settings_stop_at_once(override, words):
    with pytest.raises(ConfigError, match=words):
        make(override)
