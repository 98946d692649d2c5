"""The clean-speech VQ-VAE: it learns, its distance rises with noise, and frames stay local."""

import numpy as np
import pytest
import torch

from quieten.training.config import load_config
from quieten.training.models.vqvae_clean import ExportedNet, VQVAEClean, VQVAECleanNet, correlation
from quieten.training.spectral import stft

SMALL = [
    "model.width=24",
    "model.code_dim=8",
    "model.codebook_size=32",
    "data.batch_size=2",
    "optimizer.warmup_steps=2",
    "optimizer.ema_decay=0.5",
]
N_FFT, HOP = 512, 256


@pytest.fixture
def make_family():
    """A function (*overrides) -> a small family with fixed weights."""

    def make(*overrides: str) -> VQVAEClean:
        torch.manual_seed(1)
        return VQVAEClean(load_config("vqvae_clean", [*SMALL, *overrides]))

    return make


@pytest.fixture
def clean(voice) -> torch.Tensor:
    """Two voices (B, T) of 1 s."""
    return torch.from_numpy(np.stack([voice(seed, 1.0)[: 62 * HOP] for seed in (1, 2)]))


def trained(family: VQVAEClean, clean: torch.Tensor, steps: int) -> list[dict[str, float]]:
    reports = []
    for step in range(steps):
        torch.manual_seed(step)
        reports.append(family.step(clean, clean, step))
    return reports


def distances(family: VQVAEClean, waveform: torch.Tensor) -> torch.Tensor:
    net = family.updaters["net"].averaged
    assert isinstance(net, VQVAECleanNet)
    with torch.no_grad():
        return ExportedNet(net).eval()(stft(waveform, N_FFT, HOP))


@pytest.mark.parametrize("normalization", ["level", "mean", "instance"])
def test_the_loss_falls_on_one_batch(make_family, clean, normalization):
    family = make_family(f"model.normalization={normalization}", "steps=60")
    reports = trained(family, clean, 60)
    first, last = reports[0]["reconstruction"], reports[-1]["reconstruction"]
    assert last < 0.5 * first
    assert 1 < reports[-1]["perplexity"] <= 32
    assert {"dead_codes", "restarts", "vq_error", "commitment"} <= set(reports[-1])


def test_gradient_reaches_every_parameter(make_family, clean):
    family = make_family()
    family.step(clean, clean, 0)
    for name, parameter in family.net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_only_the_clean_sound_is_learnt(make_family, clean):
    one, two = make_family(), make_family()
    for family, noisy in ((one, clean), (two, torch.randn_like(clean))):
        torch.manual_seed(0)
        family.step(noisy, clean, 0)
    for a, b in zip(one.net.parameters(), two.net.parameters(), strict=True):
        assert torch.equal(a, b)


def test_distances_rise_with_noise(make_family, clean):
    family = make_family("steps=100")
    trained(family, clean, 100)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(4))
    means = [distances(family, clean + gain * noise).mean().item() for gain in (0, 0.02, 0.3)]
    assert means == sorted(means) and means[2] > 2 * means[0]


def test_distances_are_those_of_directions(make_family, clean):
    family = make_family()
    trained(family, clean, 3)
    net = family.updaters["net"].averaged
    with torch.no_grad():
        _, _, z_e, code = net(stft(clean, N_FFT, HOP))
    cosine = torch.nn.functional.cosine_similarity(z_e, code.z_q, dim=-1)
    torch.testing.assert_close(distances(family, clean), 1 - cosine, atol=1e-5, rtol=0)


def test_codes_become_uncorrelated_with_unit_variance(make_family, clean):
    family = make_family("steps=100", "loss.correlation=1.0")
    reports = trained(family, clean, 100)
    assert reports[-1]["correlation"] < 0.4 * reports[0]["correlation"]
    with torch.no_grad():
        _, _, z_e, _ = family.net(stft(clean, N_FFT, HOP))  # normalised by the batch
    covariance = torch.cov(z_e.flatten(0, 1).T)
    torch.testing.assert_close(covariance.diagonal(), torch.ones(8), atol=0.02, rtol=0)
    expected = (covariance - torch.diag(covariance.diagonal())).square().sum() / 8
    torch.testing.assert_close(correlation(z_e), expected, atol=0.01, rtol=0.05)


@pytest.mark.parametrize("gain", [1e-3, 30.0])
def test_level_does_not_matter(make_family, clean, gain):
    family = make_family()
    trained(family, clean, 3)
    expected = distances(family, clean)
    torch.testing.assert_close(distances(family, gain * clean), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_any_number_of_frames(make_family, clean, frames):
    family = make_family()
    trained(family, clean, 1)
    found = distances(family, clean[:, : frames * HOP])
    assert found.shape == (2, frames) and torch.isfinite(found).all()


def test_silence_is_finite(make_family, clean):
    family = make_family()
    trained(family, clean, 1)
    assert torch.isfinite(distances(family, torch.zeros_like(clean))).all()


def test_context_ends_within_the_margin(make_family, clean):
    """A change of direction, not of level, far away is not heard."""
    family = make_family("model.normalization=level")
    trained(family, clean, 1)
    margin = family.config.margin_frames
    spectrum = stft(clean, N_FFT, HOP)
    turned = spectrum.clone()
    turned[:, 40:, 1:] = turned[:, 40:, 1:].flip(2)  # same power, other bins
    net = ExportedNet(family.updaters["net"].averaged).eval()
    with torch.no_grad():
        before, after = net(spectrum), net(turned)
    torch.testing.assert_close(after[:, : 40 - margin], before[:, : 40 - margin])
    assert (after[:, 40:] - before[:, 40:]).abs().max() > 1e-3


@pytest.mark.parametrize("length", [62 * HOP, 62 * HOP - 99])
def test_denoise_keeps_phase_and_length(make_family, clean, length):
    family = make_family("steps=150")
    trained(family, clean, 150)
    sound = clean[:, :length]
    made = family.denoise(sound)
    assert made.shape == sound.shape
    error = (made - sound).square().sum() / sound.square().sum()
    assert error < 0.5  # it has heard just these two voices


def test_the_exported_model_scores_as_torch_does(make_family, clean, tmp_path):
    from quieten.runtime import open_session
    from quieten.score import Scorer
    from quieten.training.export import describe, export

    family = make_family()
    trained(family, clean, 3)
    exportable = family.exportable()
    config = load_config("vqvae_clean", SMALL)
    made = export(exportable, tmp_path / "vqscore.onnx", describe(config, exportable, "x", 3))
    assert made.largest_difference < 1e-5
    session = open_session(made.path)
    for frames in (1, 3, 62):
        spectrum = stft(clean[:, : frames * HOP], N_FFT, HOP)
        (found,) = session.run(["distance"], {"spectrum": spectrum.numpy()})
        np.testing.assert_allclose(found, distances(family, clean[:, : frames * HOP]), atol=1e-5)
    scorer = Scorer(made.path)
    assert (scorer.info.window_frames, scorer.info.margin_frames) == (1000, 4)
    assert 0 < scorer(clean[0].numpy(), 16_000).value < 1


def test_resume_is_exact(make_family, clean, tmp_path):
    from quieten.training.checkpoint import restore, save

    whole, half = make_family(), make_family()
    trained(whole, clean, 4)
    trained(half, clean, 2)
    save(half.updaters, tmp_path / "last.safetensors", load_config("vqvae_clean", SMALL), 2, 0.0)
    again = make_family()
    restore(again.updaters, tmp_path / "last.safetensors")
    for step in (2, 3):
        torch.manual_seed(step)
        again.step(clean, clean, step)
    for kind in ("net", "averaged"):
        expected = getattr(whole.updaters["net"], kind).state_dict()
        for name, value in getattr(again.updaters["net"], kind).state_dict().items():
            assert torch.equal(value, expected[name]), name
