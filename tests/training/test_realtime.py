"""The family `realtime`: causal, its state carries everything, and it learns."""

import pytest
import torch

from quieten.errors import ConfigError
from quieten.training.config import load_config
from quieten.training.layers import bounded_mask
from quieten.training.models.realtime import Realtime, RealtimeConfig, RealtimeNet
from quieten.training.spectral import stft

SMALL = RealtimeConfig(channels=(4, 4, 4), full_band=8)


def make_net(config=SMALL, seed=1):
    """A network whose norms have seen data, as a trained one has."""
    torch.manual_seed(seed)
    net = RealtimeNet(config)
    with torch.no_grad():
        net(spectrum(2, 20), net.initial_state(2))
    return net.eval()


def spectrum(batch=1, frames=12, seed=2, level=0.1):
    generator = torch.Generator().manual_seed(seed)
    return stft(level * torch.randn(batch, frames * 256, generator=generator), 512, 256)


@pytest.fixture
def family(tiny):
    torch.manual_seed(1)
    return Realtime(tiny("optimizer.learning_rate=5e-3", "optimizer.warmup_steps=0", "steps=1000"))


def pair(batch=2, hops=32):
    """A tone to keep, noise to remove: (noisy, clean)."""
    generator = torch.Generator().manual_seed(3)
    time = torch.arange(hops * 256) / 16_000
    clean = 0.1 * torch.sin(2 * torch.pi * 440 * time).repeat(batch, 1)
    return clean + 0.1 * torch.randn(batch, hops * 256, generator=generator), clean


def test_the_default_network_keeps_its_promises():
    """At most 1.2 million parameters and 32 ms: bars of the model."""
    config = RealtimeConfig()
    assert sum(p.numel() for p in RealtimeNet(config).parameters()) <= 1_200_000
    assert config.n_fft / config.sample_rate <= 0.032


def test_shapes_of_mask_and_states():
    net = make_net()
    states = net.initial_state(3)
    mask, after = net(spectrum(3, 7), states)
    assert mask.shape == (3, 7, 257, 2) and mask.dtype == torch.float32
    assert [s.shape for s in after] == [s.shape for s in states]
    assert not any(state.any() for state in states)
    assert len(set(net.state_names())) == len(states)


def test_future_frames_never_change_past_masks():
    net, x = make_net(), spectrum(frames=12)
    changed = x.clone()
    changed[:, 6:] = 100 * spectrum(frames=6, seed=5)
    with torch.no_grad():
        before, _ = net(x, net.initial_state(1))
        after, _ = net(changed, net.initial_state(1))
    assert torch.equal(before[:, :6], after[:, :6])
    assert (before[:, 6:] - after[:, 6:]).abs().max() > 1e-3


def test_the_past_is_remembered():
    net, x = make_net(), spectrum(frames=12)
    changed = x.clone()
    changed[:, 0] *= 30
    with torch.no_grad():
        masks = [net(y, net.initial_state(1))[0][:, 3:] for y in (x, changed)]
    assert not torch.equal(*masks)


@pytest.mark.parametrize("cuts", [[6], [1, 2, 3], [11], list(range(1, 12))])
def test_pieces_equal_the_whole(cuts):
    """1e-5: the same sums in another order."""
    net, x = make_net(), spectrum(batch=2, frames=12)
    with torch.no_grad():
        whole, end = net(x, net.initial_state(2))
        states, parts = net.initial_state(2), []
        for piece in torch.tensor_split(x, cuts, dim=1):
            part, states = net(piece, states)
            parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=0)
    for state, expected in zip(states, end, strict=True):
        torch.testing.assert_close(state, expected, atol=1e-5, rtol=0)


def test_items_of_a_batch_do_not_see_each_other():
    net, x = make_net(), spectrum(batch=3)
    with torch.no_grad():
        together, _ = net(x, net.initial_state(3))
        alone, _ = net(x[1:2], net.initial_state(1))
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("level", [0.0, 1e-4, 0.1, 1.0, 1000.0])
def test_masks_are_finite_and_never_amplify(level):
    """Magnitude tanh(...) < 1; 1e-6 is rounding."""
    net = make_net()
    with torch.no_grad():
        net.leave.bias.fill_(20.0)  # far into saturation
        mask, _ = net(spectrum(level=level), net.initial_state(1))
    assert torch.all(torch.isfinite(mask))
    assert mask.square().sum(-1).sqrt().max() <= 1 + 1e-6


def test_the_mask_keeps_the_phase_of_its_raw_values():
    raw = torch.tensor([[3.0, -0.5], [4.0, 0.0]]).reshape(1, 2, 1, 2)
    mask = bounded_mask(raw)[0, 0]  # (F, 2), DC first
    size = torch.tanh(torch.tensor([5.0, 5.0, 0.5]))[:, None]
    expected = size * torch.tensor([[0.6, 0.8], [0.6, 0.8], [-1.0, 0.0]])
    torch.testing.assert_close(mask, expected, atol=1e-5, rtol=0)


def test_a_new_network_lets_sound_pass():
    net = make_net()
    with torch.no_grad():
        mask, _ = net(spectrum(), net.initial_state(1))
    assert mask[..., 0].mean() > 0.3


def test_gradients_reach_every_parameter(family):
    net = family.updaters["net"].net
    family.step(*pair(), 0)
    missing = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []


def test_the_loss_falls_on_one_batch(family):
    noisy, clean = pair()
    reports = [family.step(noisy, clean, step) for step in range(60)]
    terms = {"magnitude", "complex", "waveform", "stoi", "pesq"}
    assert set(reports[0]) == terms | {"gradient_norm", "learning_rate", "skipped"}
    for name in ("magnitude", "complex", "waveform"):
        assert reports[-1][name] < reports[0][name]
    assert reports[-1]["waveform"] < reports[0]["waveform"] - 3  # dB


@pytest.mark.parametrize("length", [1, 255, 256, 1000, 4097])
def test_denoising_keeps_the_length(family, length):
    noisy = pair()[0][:, :length]
    denoised = family.denoise(noisy)
    assert denoised.shape == noisy.shape and torch.all(torch.isfinite(denoised))


def test_a_mask_of_one_gives_the_input_back(family):
    """Framing, padding and synthesis of `denoise` are exact to float32 rounding."""
    net = family.updaters["net"].averaged
    net.forward = lambda x, states: (torch.tensor([1.0, 0.0]).expand_as(x), states)
    noisy = pair()[0][:, :5000]
    torch.testing.assert_close(family.denoise(noisy), noisy, atol=1e-6, rtol=0)


def test_denoising_is_by_the_averaged_weights(family):
    noisy, _ = pair()
    before = family.denoise(noisy)
    with torch.no_grad():
        for parameter in family.updaters["net"].net.parameters():
            parameter.fill_(9.0)
    assert torch.equal(family.denoise(noisy), before)


def test_bfloat16_trains_in_float32_weights(tiny):
    torch.manual_seed(1)
    family = Realtime(tiny("precision=bfloat16", "optimizer.learning_rate=5e-3", "steps=1000"))
    noisy, clean = pair()
    reports = [family.step(noisy, clean, step) for step in range(25)]
    assert reports[-1]["waveform"] < reports[0]["waveform"] and reports[-1]["skipped"] == 0
    assert {p.dtype for p in family.updaters["net"].net.parameters()} == {torch.float32}


def test_bfloat16_is_near_float32(tiny):
    """8 bits of mantissa: a per cent or so of the loss."""
    reports = []
    for precision in ("bfloat16", "float32"):
        torch.manual_seed(1)
        reports.append(Realtime(tiny(f"precision={precision}")).step(*pair(), 0))
    for name in ("magnitude", "complex", "waveform"):
        assert reports[0][name] == pytest.approx(reports[1][name], rel=0.05, abs=0.02)


def test_unknown_model_settings_name_the_known():
    with pytest.raises(ConfigError, match=r"model\.width.*channels, compression"):
        Realtime(load_config("realtime", ["model.width=3"]))


def test_a_loss_without_a_term_stops_at_once(tiny):
    with pytest.raises(ConfigError, match="no loss is called polqa"):
        Realtime(tiny("loss.polqa=1"))


@pytest.mark.parametrize("term", ["stoi", "pesq"])
def test_listening_terms_are_there_when_they_weigh(tiny, term):
    noisy, clean = pair()
    plain = Realtime(tiny("loss={waveform=1}"))
    assert term not in plain.step(noisy, clean, 0)
    family = Realtime(tiny(f"loss.{term}=5"))
    reports = [family.step(noisy, clean, step) for step in range(12)]
    assert reports[-1][term] < reports[0][term]
