"""Discriminators of speech learn to tell, and the denoiser has terms to follow."""

import pytest
import torch

from quieten.training.checkpoint import save, start_from
from quieten.training.judges import Judges, MetricDiscriminator, as_share
from quieten.training.models.realtime import Realtime

RATE = 16_000
JUDGED = "loss={waveform=1,adversarial=1,features=1,metric=1}"


def sounds(batch=2):
    """Returns (denoised, clean, noisy), each (B, T): a chord, alone and in noise."""
    generator = torch.Generator().manual_seed(1)
    time = torch.arange(RATE) / RATE
    clean = sum(0.05 * torch.sin(2 * torch.pi * hz * time) for hz in (200, 400, 600))
    noise = torch.randn(batch, RATE, generator=generator)
    clean = clean.expand(batch, -1)
    return clean + 0.02 * noise, clean, clean + 0.2 * noise


@pytest.fixture
def judges(tiny):
    torch.manual_seed(0)
    quick = ["steps=1000", "optimizer.learning_rate=2e-3", "optimizer.warmup_steps=0"]
    return Judges(tiny(JUDGED, *quick))


def test_spectrogram_discriminators_learn_to_tell(judges):
    _, clean, noisy = sounds()
    for step in range(30):
        losses = judges.learn(noisy, clean, noisy, step)
    assert len(judges.updaters) == 4 and max(losses.values()) < 1.0
    made, real = (judges.terms(s, clean)["adversarial"].item() for s in (noisy, clean))
    assert real < 0.25 < 0.75 < made  # 0.25 is what a verdict of one half costs


def test_features_of_the_same_sound_agree(judges):
    denoised, clean, noisy = sounds()
    assert judges.terms(clean, clean)["features"].item() == 0
    near, far = (judges.terms(s, clean)["features"].item() for s in (denoised, noisy))
    assert 0 < near < far


def test_the_metric_discriminator_learns_pesq(judges, voice):
    pytest.importorskip("pesq")
    clean = torch.from_numpy(voice(1, 2.0))[None].float()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    noisy = clean + 0.1 * clean.std() * noise
    shares, kept = judges.measured(noisy, clean)
    assert kept == [0] and 0 < shares.item() < 1
    net = judges.updaters["metric_discriminator"].net
    for step in range(80):
        judges.learn(noisy, clean, noisy, step)
    with torch.no_grad():
        assert net(noisy, clean).item() == pytest.approx(shares.item(), abs=0.1)
        assert net(clean, clean).item() == pytest.approx(1.0, abs=0.1)


def test_silence_has_no_pesq(judges):
    silence = torch.zeros(2, RATE)
    assert judges.measured(silence, silence)[1] == []


def test_the_share_of_pesq():
    assert as_share(1.0) == 0 and as_share(4.64) == pytest.approx(1)


def test_gradients_reach_the_denoiser_and_no_judge_moves(judges):
    denoised, clean, _ = sounds()
    denoised.requires_grad_()
    before = [p.clone() for u in judges.updaters.values() for p in u.net.parameters()]
    sum(judges.terms(denoised, clean).values()).backward()
    assert denoised.grad is not None and denoised.grad.any()
    after = [p for u in judges.updaters.values() for p in u.net.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_judges_join_a_denoiser_that_had_none(tiny, tmp_path):
    alone, path = Realtime(tiny()), tmp_path / "alone.safetensors"
    save(alone.updaters, path, tiny(), 1, 0.0)
    judged = Realtime(tiny(JUDGED))
    start_from(judged.updaters, str(path))
    expected = alone.updaters["net"].averaged.state_dict()
    for name, value in judged.updaters["net"].net.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    report = judged.step(sounds()[2][:, :15872], sounds()[1][:, :15872], 0)
    assert {"adversarial", "features", "metric", "metric_discriminator_loss"} <= set(report)


def test_the_metric_discriminator_sees_both_sounds():
    torch.manual_seed(0)
    net = MetricDiscriminator()
    denoised, clean, noisy = sounds()
    guesses = net(denoised, clean)
    assert guesses.shape == (2,) and not torch.equal(guesses, net(noisy, clean))
    assert not torch.equal(guesses, net(denoised, noisy))
