"""One step with its schedule, clipping, guard and averaging; all of it can be taken up again."""

import math

import pytest
import torch
from torch import nn

from quieten.errors import ConfigError
from quieten.training.config import OptimizerConfig
from quieten.training.optimize import Updater, laid_out_as, parameter_groups
from quieten.training.tensorfile import below


def make_updater(total_steps=100, net=None, **settings):
    torch.manual_seed(0)
    settings = {"warmup_steps": 10, "learning_rate": 0.1} | settings
    return Updater(net or nn.Linear(3, 2), OptimizerConfig(**settings), total_steps)


def loss_of(updater, factor=1.0):
    return factor * updater.net(torch.ones(4, 3)).square().mean()


def weights(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def test_warm_up_is_linear_and_the_cosine_ends_at_its_share():
    rate = make_updater(warmup_steps=4, final_share=0.01).learning_rate
    near = pytest.approx
    assert [rate(step) / 0.1 for step in range(3)] == near([0.25, 0.5, 0.75], abs=1e-2)
    assert rate(50) == near(0.05) and rate(25) == near(0.1 * (1 + math.sqrt(0.5)) / 2)
    assert rate(100) == rate(1000) == near(0.001)
    rates = [rate(step) for step in range(4, 101)]
    assert rates == sorted(rates, reverse=True)


def test_no_warm_up_starts_at_the_full_rate():
    assert make_updater(warmup_steps=0).learning_rate(0) == pytest.approx(0.1)


def test_the_plateau_lowers_the_rate_when_patience_ends():
    updater = make_updater(
        schedule="plateau", warmup_steps=0, plateau_patience=2, plateau_factor=0.5
    )
    seen = []
    for score in (1.0, 2.0, 1.9, 2.0, 1.0, 1.0, 1.0, 1.0, 3.0):
        updater.watch(score)
        seen.append(updater.learning_rate(50) / 0.1)
    assert seen == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_a_step_goes_downhill_and_reports():
    updater = make_updater(learning_rate=0.01)
    before = loss_of(updater).item()
    report = updater.update(loss_of(updater), step=9)
    assert loss_of(updater).item() < before
    assert report["learning_rate"] == pytest.approx(updater.learning_rate(9))
    assert report["gradient_norm"] > 0 and report["skipped"] == 0


def test_gradients_are_clipped():
    updater = make_updater(clip_norm=0.5)
    report = updater.update(loss_of(updater, 1e4), step=0)
    norm = torch.cat([p.grad.flatten() for p in updater.net.parameters()]).norm()
    assert report["gradient_norm"] > 100 and norm.item() == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_gradients_are_skipped_and_counted(bad):
    updater = make_updater(max_bad_steps=3)
    updater.update(loss_of(updater), step=0)
    before, averaged = weights(updater.net), weights(updater.averaged)
    for expected in (1, 2):
        assert updater.update(loss_of(updater, bad), step=1)["skipped"] == expected
    for name, value in before.items():
        assert torch.equal(updater.net.state_dict()[name], value)
        assert torch.equal(updater.averaged.state_dict()[name], averaged[name])
    updater.update(loss_of(updater), step=2)
    assert updater.bad_in_a_row == 0 and updater.skipped == 2


def test_training_stops_when_bad_steps_persist():
    updater = make_updater(max_bad_steps=3)
    with pytest.raises(ConfigError, match=r"3 steps in a row up to step 2.*learning_rate"):
        for step in range(10):
            updater.update(loss_of(updater, math.nan), step)
    assert updater.skipped == 3


def test_bad_input_does_not_stay_in_running_statistics():
    """A norm takes NaN into its mean in the forward pass, before any guard sees a gradient."""
    updater = make_updater(net=nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
    for step, value in enumerate((1.0, math.nan, 1.0)):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step)) * value
        updater.update(updater.net(x).sum(dim=1).square().mean(), step)
    assert updater.skipped == 1
    for net in (updater.net, updater.averaged):
        assert all(torch.isfinite(value).all() for value in net.state_dict().values())


def test_averaged_weights_follow_the_formula():
    """decay = min(ema_decay, (1 + step) / (10 + step)): quick at first."""
    updater = make_updater(ema_decay=0.5)
    expected = weights(updater.averaged)["weight"]
    for step in range(12):
        updater.update(loss_of(updater), step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights(updater.net)["weight"]
        torch.testing.assert_close(updater.averaged.weight, expected)


def test_averaged_weights_are_not_trained():
    updater = make_updater()
    assert not updater.averaged.training
    assert not any(p.requires_grad for p in updater.averaged.parameters())


def test_weight_decay_is_for_matrices_only():
    net = nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.GRU(3, 3))
    decayed, free = parameter_groups(net, 0.1)
    assert decayed["weight_decay"] == 0.1 and all(p.ndim > 1 for p in decayed["params"])
    assert free["weight_decay"] == 0 and all(p.ndim == 1 for p in free["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(list(net.parameters()))


def test_without_gradient_only_matrices_shrink():
    updater = make_updater(weight_decay=0.5, warmup_steps=0)
    before = weights(updater.net)
    updater.update(loss_of(updater, 0.0), step=0)
    torch.testing.assert_close(updater.net.weight.data, before["weight"] * (1 - 0.1 * 0.5))
    torch.testing.assert_close(updater.net.bias.data, before["bias"], rtol=0, atol=0)


def test_restored_updaters_go_on_bit_for_bit():
    one = make_updater(schedule="plateau", plateau_patience=0)
    one.update(loss_of(one, math.nan), 0)
    for step in range(3):
        one.update(loss_of(one), step)
        one.watch(-float(step))
    other = make_updater(schedule="plateau", plateau_patience=0)
    other.update(loss_of(other), 0)  # a state of its own, to be replaced
    other.restore({k: v.clone() for k, v in one.tensors().items()}, one.numbers())
    for updater in (one, other):
        updater.watch(-5.0)
        updater.update(loss_of(updater), 3)
    assert one.numbers() == other.numbers() and one.numbers()["skipped"] == 1
    assert one.learning_rate(9) == other.learning_rate(9) < 0.1
    assert one.tensors().keys() == other.tensors().keys()
    assert all(torch.equal(value, other.tensors()[name]) for name, value in one.tensors().items())


def test_below_takes_the_prefix_off():
    assert below("a/", {"a/x": 1, "ab/y": 2, "a/b/z": 3}) == {"x": 1, "b/z": 3}


def test_the_rate_is_held_before_the_cosine():
    rate = make_updater(warmup_steps=0, hold_share=0.5, final_share=0.02).learning_rate
    assert rate(0) == rate(50) == pytest.approx(0.1)
    assert rate(75) == pytest.approx(0.05) and rate(100) == pytest.approx(0.002)


def test_what_is_copied_is_not_averaged():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4))
    updater = Updater(net, OptimizerConfig(ema_decay=0.9), 100, copied=("2",))
    for step in range(20, 23):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        updater.update((updater.net(x) - x.sum(1, keepdim=True)).square().mean(), step)
    buffers = dict(updater.averaged.named_buffers())
    assert torch.equal(buffers["2.running_mean"], net[2].running_mean)
    assert not torch.equal(buffers["1.running_mean"], net[1].running_mean)
    parameters = dict(updater.averaged.named_parameters())
    assert not torch.equal(parameters["2.weight"], net[2].weight)


def test_states_take_the_layout_of_their_parameter():
    parameter = torch.zeros(4, 3, 2, 2).to(memory_format=torch.channels_last)
    value = torch.randn(4, 3, 2, 2)
    placed = laid_out_as(parameter, value)
    assert placed.stride() == parameter.stride() and torch.equal(placed, value)
    step = torch.tensor(3.0)
    assert laid_out_as(parameter, step) is step
