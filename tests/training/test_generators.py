"""The original's layers, shape by shape, and what all generators keep."""

import pytest
import torch
from torch import nn

from quieten.errors import ConfigError
from quieten.training.config import load_config
from quieten.training.generators import (
    AudioUNet,
    Discriminator,
    MultiScale,
    check_depth,
    subpixel,
    superpixel,
)
from quieten.training.models.restorer import Restorer
from quieten.training.restoring import RestorerConfig

# (in, out, kernel) of each convolution for 4 levels, from the paper: channels min(2^(6+b), 512),
# kernels max(2^(7-b)+1, 9); each way up has twice the channels, halved by its sub-pixels.
ORIGINAL = [
    (1, 128, 65),
    (128, 256, 33),
    (256, 512, 17),
    (512, 512, 9),
    (512, 512, 9),  # bottleneck
    (512, 1024, 9),
    (1024, 1024, 17),
    (1024, 512, 33),
    (512, 256, 65),
    (256, 2, 9),
]
WINDOW = 2048


def convolutions(net):
    return [
        (layer.in_channels, layer.out_channels, layer.kernel_size[0])
        for layer in net.modules()
        if isinstance(layer, nn.Conv1d)
    ]


def test_the_original_generator_layer_by_layer():
    net = AudioUNet(depth=4)
    assert convolutions(net) == ORIGINAL
    expected = sum(before * after * kernel + after for before, after, kernel in ORIGINAL)
    assert sum(p.numel() for p in net.parameters()) == expected == 56_411_394
    with torch.no_grad():
        latent, levels = net.eval().latent(torch.zeros(1, WINDOW))
        assert [tuple(level.shape) for level in levels] == [
            (1, 128, 1024),
            (1, 256, 512),
            (1, 512, 256),
            (1, 512, 128),
        ]
        assert latent.shape == (1, 512, 64)
        assert net.late(torch.zeros(1, WINDOW)).shape == (1, 256, 1024)
        assert net(torch.zeros(1, WINDOW)).shape == (1, WINDOW)


def test_a_step_of_the_paper_size_runs():
    """Its configuration is the original's: 2048 samples, depth 4, dropout 0.5, rate 1e-4, L2."""
    overrides = ['data.clean=["x"]', 'validation.clean=["x"]', "data.batch_size=1"]
    config = load_config("restorer_paper", overrides)
    settings = RestorerConfig.model_validate(config.model)
    assert (settings.window, settings.depth, settings.width) == (WINDOW, 4, 1.0)
    assert settings.dropout == 0.5 and config.optimizer.learning_rate == 1e-4
    assert config.loss == {"l2": 1.0} and config.data.stride == 1024
    assert round(config.data.segment_s * config.data.sample_rate) == WINDOW
    family = Restorer(config)
    body = family.updaters["net"].net.body
    assert convolutions(body) == ORIGINAL
    before = body.bottleneck.weight.detach().clone()
    clean = 0.1 * torch.randn(1, WINDOW, generator=torch.Generator().manual_seed(0))
    losses = family.step(0.5 * clean, clean, 100)
    assert losses["l2"] > 0 and not torch.equal(before, body.bottleneck.weight)


@pytest.mark.parametrize(("depth", "window"), [(11, 2048), (0, 2048), (4, 2000), (10, 1024)])
def test_depth_is_checked(depth, window):
    with pytest.raises(ConfigError, match=r"log2\(window\) - 1"):
        check_depth(depth, window)


def test_the_deepest_network_is_allowed():
    check_depth(10, 2048)
    assert AudioUNet(10, 0.02).eval()(torch.zeros(1, 2048)).shape == (1, 2048)


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 3, 5, 8)])
@pytest.mark.parametrize("factor", [2, 4])
def test_sub_pixels_undo_superpixels(shape, factor):
    x = torch.randn(shape)
    y = superpixel(x, factor)
    assert y.shape == (shape[0], factor * shape[1], *shape[2:-1], shape[-1] // factor)
    assert torch.equal(subpixel(y, factor), x)


def test_superpixels_hold_neighbours():
    x = torch.arange(8.0)[None, None]
    assert superpixel(x, 2)[0].tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]  # even, odd


@pytest.mark.parametrize(
    ("kernels", "shape"), [(((3,), (9,)), (2, 2, 64)), (((3, 3), (5, 1)), (2, 2, 7, 64))]
)
@pytest.mark.parametrize("activation", ["leaky", "prelu"])
def test_branches_of_any_shape_keep_the_shape(kernels, shape, activation):
    net = MultiScale(2, 3, (8, 12, 16), kernels, 4, 0.0, activation)
    assert net.multiple() == 16
    x = torch.randn(shape)
    y = net(x)
    assert y.shape == (shape[0], 3, *shape[2:])
    assert torch.equal(net.eval().finish(net.late(x)), net(x))
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


@pytest.mark.parametrize("conditional", [False, True])
def test_the_discriminator_sees_the_degraded_sound_only_if_it_may(conditional):
    net = Discriminator(256, 3, 0.1, conditional).eval()
    sound, one, other = torch.randn(3, 4, 256)
    assert net(sound, one).shape == (4,)
    assert torch.equal(net(sound, one), net(sound, other)) is not conditional


def test_the_autoencoder_has_nothing_but_its_latent():
    """Without skips, a latent of zeros gives the same for any input."""
    net = AudioUNet(3, 0.1, 0.0, skips=False).eval()
    net.bottleneck.weight.data.zero_()
    one, other = net(torch.randn(2, 256))
    assert torch.equal(one, other)
