"""The clean-speech VQ-VAE: it learns, its distance rises with noise, and frames stay local.

PESQ is replaced by a quality that falls with the noise, so that pesq need not be installed.
"""

import numpy as np
import pytest
import torch

from quieten.training.config import load_config
from quieten.training.models.vqvae_clean import (
    ExportedNet,
    VQVAEClean,
    VQVAECleanNet,
    correlation,
    cosine_distance,
    heard,
    target,
)
from quieten.training.spectral import stft

SMALL = [
    "model.width=24",
    "model.code_dim=8",
    "model.judged=0",
    "model.codebook_size=32",
    "data.batch_size=2",
    "optimizer.warmup_steps=2",
    "optimizer.ema_decay=0.5",
]
N_FFT, HOP = 512, 256


@pytest.fixture
def make_family(monkeypatch):
    """A function (*overrides) -> a small family with fixed weights."""

    def make(*overrides: str) -> VQVAEClean:
        torch.manual_seed(1)
        family = VQVAEClean(load_config("vqvae_clean", [*SMALL, *overrides]))
        monkeypatch.setattr(family, "judge", judged_by_snr)
        return family

    return make


def judged_by_snr(noisy: torch.Tensor, clean: torch.Tensor, rng: np.random.Generator):
    """In the place of PESQ: a sound and its quality."""
    noise = (noisy - clean).square().mean() / clean.square().mean()
    return noisy, 1 / (1 + 10 * noise.sqrt())


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
    family = make_family("model.judged=2")
    family.step(clean, clean, 0)
    for name, parameter in family.net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_only_the_readout_learns_from_noise(make_family, clean):
    changes = ("model.judged=2", "optimizer.clip_norm=1e9")  # clipping looks at all gradients
    one, two = make_family(*changes), make_family(*changes)
    for family, noisy in ((one, clean), (two, clean + 0.1 * torch.randn_like(clean))):
        torch.manual_seed(0)
        family.step(noisy, clean, 0)
    theirs = dict(two.net.named_parameters())
    pairs = {name: (value, theirs[name]) for name, value in one.net.named_parameters()}
    changed = {name for name, pair in pairs.items() if not torch.equal(*pair)}
    assert changed and all(name.startswith("readout.") for name in changed)


def test_qualities_fall_with_noise(make_family, clean):
    family = make_family("steps=200", "model.judged=2", "loss.quality=10")
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(4))
    gains = torch.tensor([0.0, 0.02, 0.1, 0.3])
    for step in range(200):
        torch.manual_seed(step)
        drawn = gains[torch.randint(4, (2, 1))]
        family.step(clean + drawn * noise, clean, step)
    means = [distances(family, clean + gain * noise).mean().item() for gain in gains]
    assert means == sorted(means) and means[3] > means[0] + 0.3


def test_sounds_without_a_voice_are_not_judged(make_family, clean, monkeypatch):
    family = make_family("model.judged=2")
    monkeypatch.setattr(family, "judge", lambda noisy, clean, rng: None)
    assert family.step(clean, clean, 0)["quality"] == 0


def test_a_judged_sound_comes_with_its_pesq(clean):
    pytest.importorskip("pesq")
    from quieten.metrics import pesq_wb

    family = VQVAEClean(load_config("vqvae_clean", SMALL))
    noisy = clean[0] + 0.01 * torch.randn(clean[0].shape, generator=torch.manual_seed(1))
    found = family.judge(noisy, clean[0], np.random.default_rng(0))
    assert found is not None
    sound, quality = found
    assert quality == pytest.approx(target(pesq_wb(sound.numpy(), clean[0].numpy(), 16_000)))


def test_targets_lie_between_the_ends_of_pesq():
    assert [target(pesq) for pesq in (0.99, 1.0, 1.911, 4.644)] == [0, 0, 0.5, 1]


def test_only_sound_is_heard():
    spectrum = torch.ones(1, 6, 3, 2) * torch.tensor([1, 1, 1, 0.02, 0.005, 0])[:, None, None]
    assert heard(spectrum).tolist() == [[1, 1, 1, 1, 0, 0]]


def test_distances_between_vectors_are_those_of_directions():
    x, y = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(2))
    cosine = torch.nn.functional.cosine_similarity(x, y, dim=-1)
    torch.testing.assert_close(cosine_distance(x, y), 1 - cosine, atol=1e-5, rtol=0)


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
    assert (scorer.info.window_frames, scorer.info.margin_frames) == (1000, 8)
    assert np.isfinite(scorer(clean[0].numpy(), 16_000).value)


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
