"""Generators in two halves that make the whole; taps that take from the frames they name."""

import pytest
import torch

from quieten.training.restoring import (
    RestorerConfig,
    SpectralGenerator,
    WaveformGenerator,
)

SMALL = {
    "sample_rate": 8000,
    "n_fft": 256,
    "hop_length": 64,
    "depth": 2,
    "patch": 2,
    "channels": (8, 12),
    "window": 512,
}


def spectral(**more):
    torch.manual_seed(1)
    return SpectralGenerator(RestorerConfig(**SMALL, **more)).eval()


def test_taps_take_from_their_frames():
    """One tap alone gives the spectrum of that frame, turned and scaled; beyond the ends, zeros."""
    net = spectral(past_frames=2, future_frames=1)
    assert net.offsets == [-2, -1, 1]
    spectrum = torch.randn(1, 6, 129, 2)
    late = torch.zeros(1, net.taps.in_channels, 6, 64)
    for place, offset in enumerate(net.offsets):
        net.taps.bias.data.zero_()
        taps = net.taps.bias.data.view(2, 6)  # (patch, 2K): real and imaginary of each tap
        taps[:, 2 * place], taps[:, 2 * place + 1] = 0.5, -0.25
        gain = torch.complex(torch.tanh(torch.tensor(0.5)), torch.tanh(torch.tensor(-0.25)))
        made = torch.view_as_complex(net.filtered(late, spectrum).contiguous())
        expected = torch.zeros_like(made)
        x = torch.view_as_complex(spectrum)
        for n in range(6):
            if 0 <= n + offset < 6:
                expected[:, n, 1:] = gain * x[:, n + offset, 1:]
        torch.testing.assert_close(made, expected)


@pytest.mark.parametrize("frames", [0, 2])
def test_both_halves_of_a_spectral_generator_make_the_whole(frames):
    """What collaborative sampling takes apart is what training and export use."""
    net = spectral(past_frames=frames, future_frames=frames)
    sound = 0.1 * torch.randn(2, 2048)
    seen = net.seen(sound)
    halves = net.finish(net.late(sound), sound)
    torch.testing.assert_close(halves, net.waveform(net(seen), seen))


def test_both_halves_of_a_waveform_generator_make_the_whole():
    torch.manual_seed(1)
    config = RestorerConfig(generator="audiounet", domain="waveform", width=0.05, window=512)
    net = WaveformGenerator(config).eval()
    sound = 0.1 * torch.randn(2, 2048)
    torch.testing.assert_close(net.finish(net.late(sound), sound), net(sound))
