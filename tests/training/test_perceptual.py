"""The likeness of PESQ: best for what is equal, deaf to what nobody hears, near the real one."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from quieten.metrics import pesq_wb
from quieten.training.perceptual import BEST, bark_tables, disturbances, loudness, pesq_loss

RATE = 16_000


@pytest.fixture(scope="module")
def speech(voice):
    """(2, T) at 16 kHz."""
    return torch.from_numpy(np.stack([voice(seed, 3.0, RATE) for seed in (1, 2)]))


def noise(like, seed=3):
    return 0.1 * torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


def test_equality_is_the_best_score(speech):
    assert pesq_loss(speech, speech, RATE).item() == pytest.approx(-BEST, abs=0.01)


def test_more_noise_is_worse(speech):
    steps = [pesq_loss(speech + share * noise(speech), speech, RATE) for share in (0.01, 0.1, 1)]
    assert -BEST < steps[0] < steps[1] < steps[2]


@pytest.mark.parametrize("gain", [0.1, 5.0])
def test_a_gain_is_not_heard(speech, gain):
    noisy = speech + 0.1 * noise(speech)
    plain, louder = (pesq_loss(g * noisy, speech, RATE).item() for g in (1.0, gain))
    assert louder == pytest.approx(plain, abs=1e-3)


def test_what_is_added_weighs_more_than_what_is_missing(speech):
    """The asymmetric disturbance is there for that."""
    _, added = disturbances(speech + 0.3 * noise(speech), speech, RATE)
    _, missing = disturbances(speech, speech + 0.3 * noise(speech), RATE)
    assert torch.all(added > missing)


def test_it_ranks_as_pesq_does(voice):
    scores = []
    for seed in range(4):
        clean = voice(seed, 3.0, RATE)
        rng = np.random.default_rng(seed)
        for share in (0.003, 0.01, 0.03, 0.1):
            slope = np.cumsum(rng.standard_normal(clean.size)) if seed % 2 else 0
            sound = rng.standard_normal(clean.size) + 0.05 * slope
            noisy = (clean + share * sound / np.std(sound)).astype(np.float32)
            pair = torch.from_numpy(noisy)[None], torch.from_numpy(clean)[None]
            scores.append((-pesq_loss(*pair, RATE).item(), pesq_wb(noisy, clean, RATE)))
    assert spearmanr(*zip(*scores, strict=True)).statistic > 0.9


def test_silence_gives_finite_values_and_gradients(speech):
    for clean in (torch.zeros_like(speech), speech):
        for start in (torch.zeros_like(speech), 1e3 * noise(speech)):
            denoised = start.clone().requires_grad_()
            loss = pesq_loss(denoised, clean, RATE)
            (gradient,) = torch.autograd.grad(loss, denoised)
            assert torch.isfinite(loss) and torch.all(torch.isfinite(gradient))


def test_items_without_speech_do_not_count(speech):
    noisy = speech + noise(speech)
    alone = pesq_loss(noisy[:1], speech[:1], RATE)
    silent = torch.cat([speech[:1], torch.zeros_like(speech[:1])])
    torch.testing.assert_close(pesq_loss(noisy, silent, RATE), alone)


def test_bands_share_the_power_out():
    pooling, threshold, exponent, width = bark_tables(RATE, torch.device("cpu"))
    torch.testing.assert_close(pooling[1:-1].sum(1), torch.ones(255))
    assert torch.all(exponent >= 0.23) and torch.all(threshold > 0)
    assert width.sum().item() == pytest.approx(22.5, abs=0.1)  # Bark up to 8 kHz


def test_loudness_grows_as_zwicker_says():
    """Far above the threshold ten times the power is 10^0.23 times as loud."""
    power = torch.full((1, 1, 49), 1e9)
    ratio = loudness(10 * power, RATE) / loudness(power, RATE)
    assert ratio[..., 20:40].mean().item() == pytest.approx(10**0.23, rel=0.01)


def test_the_threshold_is_not_heard():
    _, threshold, _, _ = bark_tables(RATE, torch.device("cpu"))
    assert torch.all(loudness(threshold, RATE) == 0)
