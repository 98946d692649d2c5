"""The family of 1-D signals: the published sizes, what slots find, who trains whom when."""

import math

import numpy as np
import pytest
import torch

from quieten.errors import ConfigError
from quieten.sines import GENERAL, PAPER
from quieten.training.config import DataConfig, load_config
from quieten.training.models.signal_gan import (
    Discriminator,
    PaperGenerator,
    SignalGAN,
    SignalGANConfig,
    SlotGenerator,
    reconstruction_losses,
)
from quieten.training.signals import measure

BUDGET = 282_177
"""Parameters at inference that ours may have: those of the published generator."""


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def make(name="signal_gan", *overrides):
    torch.manual_seed(0)
    return SignalGAN(load_config(name, list(overrides)))


def draw(model=PAPER, count=64):
    mixtures = model.draw_mixtures(np.random.default_rng(4), count)
    return mixtures.noisy, mixtures.clean, mixtures.gain[:, None].astype(np.float32)


def test_the_published_networks_have_the_published_sizes():
    assert parameters(PaperGenerator()) == 282_177
    assert parameters(Discriminator()) == 10_577


@pytest.mark.parametrize("name", ["signal_gan", "signal_general", "signal_gan_paper"])
def test_the_packaged_generators_keep_within_the_budget(name):
    assert parameters(make(name).updaters["net"].net) <= BUDGET


@pytest.mark.parametrize("name", ["signal_gan", "signal_general", "signal_gan_paper"])
def test_windows_come_back_with_their_shape(name):
    family = make(name)
    denoised = family.denoise(torch.randn(3, 256))
    assert denoised.shape == (3, 256) and denoised.isfinite().all()


def test_slots_beat_the_bar_of_oracle_frequencies_before_any_training():
    """They are inference in the known data model: 15 dB takes the true frequencies otherwise."""
    noisy, clean, _ = draw(count=256)
    denoised = make().denoise(torch.from_numpy(noisy)).numpy()
    assert measure(denoised, clean, noisy)["snr_db"] > 14


def test_slots_of_any_phase_find_waves_untrained_and_keep_the_level():
    noisy, clean, gain = draw(GENERAL, 256)
    denoised = make("signal_general").denoise(torch.from_numpy(noisy)).numpy()
    assert measure(denoised, gain * clean, noisy)["improvement_db"] > 8


def test_the_unit_of_a_signal_of_any_phase_does_not_matter():
    noisy = torch.from_numpy(draw(GENERAL, 4)[0])
    family = make("signal_general")
    # 1e-4: sharp softmaxes make much of rounding
    torch.testing.assert_close(
        family.denoise(1e3 * noisy), 1e3 * family.denoise(noisy), atol=0.1, rtol=1e-4
    )


def test_silence_stays_silence():
    assert make("signal_general").denoise(torch.zeros(1, 256)).abs().max() < 1e-6


def test_one_wave_alone_is_found_whatever_its_phase():
    time = torch.arange(256) / 256
    phases = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    clean = torch.sin(2 * math.pi * 23.4 * time + phases)
    denoised = make("signal_general").denoise(clean)
    error = (denoised - clean).square().mean(1) / clean.square().mean(1)
    assert (error < 10 ** (-17 / 10)).all()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], {"phase": "zero", "slots": 3, "low_hz": 9.0, "spacing_hz": 0.125, "units": 0}),
        (["data.signals.random_phase=true"], {"phase": "any", "spacing_hz": 0.25}),
        (["data.signals.count=[1, 7]"], {"slots": 7}),
        (["data.clean=x"], {"phase": "any", "low_hz": 0.5, "bins": 255, "units": 192}),
        (["data.sample_rate=500", "data.segment_s=0.5"], {"length": 250, "sample_rate": 500}),
        (["model.slots=2", "data.clean=x"], {"slots": 2}),
    ],
)
def test_what_is_left_open_follows_the_data(overrides, expected):
    config = load_config("signal_gan", overrides)
    fitted = SignalGANConfig(**config.model).fitted(config.data)
    assert {key: getattr(fitted, key) for key in expected} == expected
    assert fitted.low_hz + fitted.bins * fitted.spacing_hz <= fitted.sample_rate / 2
    assert fitted.fitted(DataConfig()) == fitted  # nothing is open any more


@pytest.mark.parametrize(
    ("name", "override", "words"),
    [
        ("signal_gan", "data.segment_s=0.01", "data.segment_s"),
        ("signal_gan", "data.segment_s=1000", "data.segment_s"),
        ("signal_gan_paper", "data.segment_s=0.97", "multiple of 16"),
        ("signal_gan", "model.size=3", "unknown key model.size"),
        ("signal_gan", "loss.fame=1", "no loss is called fame"),
    ],
)
def test_settings_that_do_not_fit_are_explained(name, override, words):
    with pytest.raises(ConfigError, match=words):
        make(name, override)


def test_losses_have_known_values():
    clean = torch.ones(2, 4)
    noisy = torch.zeros(2, 4)
    losses = reconstruction_losses([noisy, clean + 0.1], clean, noisy)
    assert losses["l1"].item() == pytest.approx(0.1)
    assert losses["snr_db"].item() == pytest.approx(10 * math.log10(0.011), abs=1e-3)
    assert losses["earlier"].item() == pytest.approx(20 + 10 * math.log10(1.001), abs=1e-3)


def small_paper(*more):
    return make("signal_gan_paper", "model.generator_only_steps=2", *more)


def weights(family, name):
    return [p.clone() for p in family.updaters[name].net.parameters()]


def changed(before, family, name):
    pairs = zip(before, family.updaters[name].net.parameters(), strict=True)
    return any(not torch.equal(a, b) for a, b in pairs)


def test_the_discriminator_joins_when_it_is_told():
    family = small_paper()
    noisy, clean, _ = (torch.from_numpy(part) for part in draw(count=16))
    before = weights(family, "discriminator")
    reports = [family.step(noisy, clean, step) for step in (0, 1)]
    assert not changed(before, family, "discriminator")
    reports.append(family.step(noisy, clean, 2))
    assert changed(before, family, "discriminator")
    # the same columns in every row of the log, and at first nothing but chance
    assert reports[0].keys() == reports[2].keys()
    assert reports[0]["adversarial"] == pytest.approx(math.log(2), abs=0.1)
    assert 0 <= reports[2]["discriminator_accuracy"] <= 1


def test_the_adversarial_term_moves_the_generator_only_after_the_discriminator_joined():
    noisy, clean, _ = (torch.from_numpy(part) for part in draw(count=16))

    def gradient(step, weight):
        family = small_paper(f"loss.adversarial={weight}")
        family.step(noisy, clean, step)
        return family.updaters["net"].net.leave.weight.grad.clone()

    assert torch.equal(gradient(0, 3.0), gradient(0, 30.0))
    assert not torch.equal(gradient(2, 3.0), gradient(2, 30.0))


def test_each_network_has_its_published_rate():
    updaters = make("signal_gan_paper").updaters
    assert updaters["net"].learning_rate(0) == 1e-3
    assert updaters["discriminator"].learning_rate(0) == 1e-4
    assert [updaters["net"].learning_rate(s) for s in (1599, 1600, 3200)] == [1e-3, 5e-4, 2.5e-4]


@pytest.mark.parametrize("name", ["signal_general", "signal_gan_paper"])
def test_steps_bring_the_estimate_nearer(name):
    family = make(name, "optimizer.ema_decay=0", "optimizer.warmup_steps=0")
    noisy, clean, gain = (torch.from_numpy(part) for part in draw(GENERAL, 50))
    losses = [family.step(noisy, gain * clean, step)["l1"] for step in range(6)]
    assert min(losses[-3:]) < 0.99 * losses[0]


def test_the_correction_is_at_rest_at_first_and_learns_nothing_of_its_waves():
    config = SignalGANConfig(units=16, slots=1).fitted(load_config("signal_general").data)
    net = SlotGenerator(config)
    estimates = net(torch.randn(2, 256))
    assert len(estimates) == config.passes + 1
    torch.testing.assert_close(estimates[-1], estimates[-2], atol=0.5, rtol=0)
    assert not [name for name in net.state_dict() if name.endswith("waves")]
