"""Loss terms: least where they should be, finite everywhere, weighed by name."""

import pytest
import torch

from quieten.errors import ConfigError
from quieten.training.losses import compress, denoising_losses, snr_loss_db, weighted_sum


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
