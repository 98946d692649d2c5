"""The torch twin of quieten.stft says the same, and can be differentiated."""

import numpy as np
import pytest
import torch

from quieten import stft as reference
from quieten.training.spectral import istft, stft

SIZES = pytest.mark.parametrize(("n_fft", "hop"), [(512, 256), (512, 128), (64, 16), (320, 160)])


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@SIZES
def test_equals_the_numpy_stft(n_fft, hop):
    """To 1e-5 of the largest value: both are float32."""
    x = noise(2, 10 * hop)
    ours = torch.view_as_complex(stft(x, n_fft, hop)).numpy()  # (B, N, F)
    theirs = reference.stft(x.numpy(), n_fft, hop).swapaxes(-1, -2)[:, :10]
    assert ours.shape == theirs.shape == (2, 10, n_fft // 2 + 1)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


@SIZES
def test_inverse_gives_the_signal_back(n_fft, hop):
    x = noise(3, 12 * hop)
    y = istft(stft(x, n_fft, hop), n_fft, hop)
    assert y.shape == (3, 12 * hop - n_fft + hop)
    torch.testing.assert_close(y, x[:, : y.shape[1]], atol=1e-5, rtol=0)


def test_one_hop_gives_one_frame():
    assert stft(noise(1, 256), 512, 256).shape == (1, 1, 257, 2)


def test_frames_are_causal():
    """Frame k ends with sample (k + 1) * hop - 1: later samples do not reach it."""
    x = noise(1, 2048)
    y = x.clone()
    y[:, 3 * 256 :] += 1.0
    a, b = stft(x, 512, 256), stft(y, 512, 256)
    assert torch.equal(a[:, :3], b[:, :3]) and not torch.equal(a[:, 3], b[:, 3])


def test_both_directions_have_gradients():
    x = noise(1, 1024).requires_grad_()
    y = istft(stft(x, 512, 256), 512, 256)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    expected = torch.zeros_like(gradient)
    expected[:, : y.shape[1]] = 1.0  # y is x, cut
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=0)
