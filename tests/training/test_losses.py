"""Loss terms: least where they should be, finite everywhere, weighed by name."""

import numpy as np
import pytest
import torch

from quieten.errors import ConfigError
from quieten.metrics import stoi
from quieten.training.losses import (
    check_terms,
    compress,
    denoising_losses,
    mel_bands,
    mel_loss,
    resolution_losses,
    snr_loss_db,
    spectral_distances,
    stoi_loss,
    third_octaves,
    weighted_sum,
)


def noise(seed=1, length=4096):
    return 0.1 * torch.randn(2, length, generator=torch.Generator().manual_seed(seed))


def losses(denoised, clean, noisy):
    return denoising_losses(denoised, clean, noisy, 0.3, 512, 256)


def test_equality_is_the_minimum():
    clean, noisy = noise(1), noise(1) + noise(2)
    perfect, poor = losses(clean, clean, noisy), losses(noisy, clean, noisy)
    assert perfect["magnitude"] == 0 and perfect["complex"] == 0
    assert perfect["waveform"].item() == pytest.approx(-30, abs=1e-3)  # no reward beyond 30 dB
    assert all(perfect[name] < poor[name] for name in poor)


def test_nearer_is_better():
    clean, other = noise(1), noise(2)
    steps = [losses(clean + share * other, clean, clean + other) for share in (0.1, 0.3, 1.0)]
    for name in steps[0]:
        assert steps[0][name] < steps[1][name] < steps[2][name]


@pytest.mark.parametrize("gain", [0.03, 10.0])
def test_the_level_of_a_recording_does_not_matter(gain):
    """To 1 %: small constants that keep silence finite weigh a little more in quiet recordings."""
    clean, noisy = noise(1), noise(1) + noise(2)
    estimate = 0.7 * noisy
    plain, scaled = (losses(estimate * g, clean * g, noisy * g) for g in (1.0, gain))
    for name in plain:
        assert scaled[name].item() == pytest.approx(plain[name].item(), rel=0.01)


def test_the_sign_counts_in_the_complex_term_only():
    clean = noise(1)
    flipped = losses(-clean, clean, clean)
    assert flipped["magnitude"].item() == pytest.approx(0, abs=1e-6)
    assert flipped["complex"] > 0.01


@pytest.mark.parametrize("denoised", [torch.zeros(2, 4096), noise(3), 1e3 * noise(3)])
@pytest.mark.parametrize("clean", [torch.zeros(2, 4096), noise(1)])
@pytest.mark.parametrize("noisy", [torch.zeros(2, 4096), noise(2)])
def test_silence_gives_finite_values_and_gradients(denoised, clean, noisy):
    denoised = denoised.clone().requires_grad_()
    terms = losses(denoised, clean, noisy)
    (gradient,) = torch.autograd.grad(sum(terms.values()), denoised)
    assert all(torch.isfinite(term) for term in terms.values())
    assert torch.all(torch.isfinite(gradient))


def test_snr_of_known_mixtures():
    """An error of a tenth of the amplitude is -20 dB; the floor of -30 dB adds a tenth to it."""
    clean = noise(1)
    loss_db = snr_loss_db(1.1 * clean, clean, torch.zeros_like(clean)).item()
    assert loss_db == pytest.approx(-20 + 10 * torch.log10(torch.tensor(1.1)).item(), abs=0.01)


def test_compression_raises_the_magnitude_and_keeps_the_phase():
    spectrum = torch.tensor([[3.0, 4.0], [0.0, -32.0]])
    compressed, magnitude = compress(spectrum, 0.5)
    torch.testing.assert_close(magnitude[:, 0], torch.tensor([5.0, 32.0]).sqrt())
    expected = torch.tensor([[0.6, 0.8], [0.0, -1.0]]) * magnitude
    torch.testing.assert_close(compressed, expected)


def test_weights_pick_and_scale_terms():
    terms = {"a": torch.tensor(2.0), "b": torch.tensor(5.0), "c": torch.tensor(torch.nan)}
    assert weighted_sum(terms, {"a": 3.0, "b": 0.5}).item() == 8.5


@pytest.mark.parametrize(
    ("weights", "words"),
    [({"a": 1, "magnitud": 1}, "magnitud.*a, b"), ({}, "no loss has a weight")],
)
def test_wrong_weights_are_explained(weights, words):
    with pytest.raises(ConfigError, match=words):
        weighted_sum({"a": torch.tensor(1.0), "b": torch.tensor(1.0)}, weights)


def test_terms_are_checked_before_a_run():
    check_terms({"a": 1.0}, ("a", "b"))
    with pytest.raises(ConfigError, match="no loss is called c: choose among a, b"):
        check_terms({"a": 1.0, "c": 1.0}, ("b", "a"))


def voices(voice, seconds=2.0):
    """Clean and noise (2, T) at 8 kHz."""
    clean = np.stack([voice(seed, seconds, 8000) for seed in (1, 2)])
    return torch.from_numpy(clean), noise(5, clean.shape[1])


OTHERS = {
    "resolutions": lambda d, c: sum(resolution_losses(d, c, 0.3, [(256, 64), (512, 128)]).values()),
    "stoi": lambda d, c: stoi_loss(d, c, 8000),
    "mel": lambda d, c: mel_loss(d, c, 8000),
    "distances": lambda d, c: sum(spectral_distances(d, c, 512, 128).values()),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_terms_are_least_at_equality_and_rise_with_noise(voice, name):
    clean, noise_ = voices(voice)
    values = [OTHERS[name](clean + gain * noise_, clean).item() for gain in (0, 0.1, 0.5, 2)]
    assert values == sorted(values) and values[0] == pytest.approx(0, abs=2e-3)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("sound", ["silence", "noise"])
def test_other_terms_are_finite_in_silence(name, sound):
    clean = torch.zeros(2, 8192) if sound == "silence" else noise(length=8192)
    denoised = torch.zeros(2, 8192, requires_grad=True)
    value = OTHERS[name](denoised, clean)
    (gradient,) = torch.autograd.grad(value, denoised)
    assert torch.isfinite(value) and torch.isfinite(gradient).all()


def test_one_resolution_is_the_plain_loss():
    """At 256 samples, where the scale is one."""
    clean, other = noise(1), noise(2)
    one = resolution_losses(clean + other, clean, 0.3, [(256, 64)])
    level = 0.1 / clean.square().mean(-1, keepdim=True).sqrt()
    plain = denoising_losses(clean + other, clean, clean + other, 0.3, 256, 64)
    again = resolution_losses((clean + other) * level, clean * level, 0.3, [(256, 64)])
    for name, value in again.items():
        assert value.item() == pytest.approx(plain[name].item(), rel=1e-3)
        assert value.item() != one[name].item()


def test_the_stoi_term_follows_the_metric():
    """To 0.03 over a range of 0.5, in sound without pauses, which both handle in their own way."""
    noise_ = noise(5, 24_000)
    bands = [noise(seed, 24_000) for seed in range(10, 20)]
    time = torch.arange(24_000) / 8000
    clean = sum(
        band * torch.cos(2 * torch.pi * (300 * i + 150) * time) * (1 + torch.sin(9 * i + 20 * time))
        for i, band in enumerate(bands)
    )
    for gain in (0.1, 1.0, 3.0, 10.0):
        noisy = clean + gain * noise_
        metric = np.mean([stoi(noisy[i].numpy(), clean[i].numpy(), 8000) for i in range(2)])
        assert 1 - stoi_loss(noisy, clean, 8000).item() == pytest.approx(metric, abs=0.03)


def test_the_stoi_term_does_not_see_levels(voice):
    clean, noise_ = voices(voice)
    noisy = clean + 0.5 * noise_
    plain, quiet = stoi_loss(noisy, clean, 8000), stoi_loss(0.1 * noisy, clean, 8000)
    assert plain.item() == pytest.approx(quiet.item(), abs=0.01)


def test_third_octaves_follow_on_each_other():
    """15 bands from 150 Hz: none shares a bin, and none is empty."""
    transform, bands = third_octaves(205, 8000, torch.device("cpu"))
    assert transform.shape == (205, len(bands)) and bands.shape[1] == 15
    assert bands.sum(1).eq(1).all() and (bands.sum(0) > 0).all()
    tone = torch.cos(2 * torch.pi * 1200 / 8000 * torch.arange(205))
    assert ((tone @ transform).square() @ bands).argmax().item() == 9  # 150 * 2 ** (9 / 3) = 1200


def test_third_octaves_hold_what_a_fourier_transform_does():
    transform, bands = third_octaves(205, 8000, torch.device("cpu"))
    frame = torch.randn(205, generator=torch.Generator().manual_seed(1))
    window = torch.hann_window(205)
    spectrum = torch.view_as_real(torch.fft.rfft(frame * window, 256)).square().sum(-1)
    first, last = 5, 136  # bins from 133.6 to 4276 Hz, 31.25 Hz apart; 129 bins reach 4000 Hz
    expected = spectrum[first : last + 1].sum()
    torch.testing.assert_close(((frame @ transform).square() @ bands).sum(), expected)


def test_mel_bands_are_overlapping_triangles():
    bands = mel_bands(256, 8000, 20)
    assert bands.shape == (129, 20) and bands.min() >= 0 and bands.max() <= 1
    inner = bands[5:100].sum(1)
    torch.testing.assert_close(inner, torch.ones(95), atol=1e-5, rtol=0)
