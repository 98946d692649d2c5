"""The torch twin of `quieten.stft`: same window, same framing, differentiable.

Letters: B batch, T samples, N frames, F frequency bins.
"""

import torch
from torch import Tensor
from torch.nn import functional

from quieten.stft import analysis_window


def window(n_fft: int, like: Tensor) -> Tensor:
    """Returns the analysis and synthesis window (n_fft,) of `quieten.stft`."""
    return torch.tensor(analysis_window(n_fft), dtype=torch.float32, device=like.device)


def stft(waveform: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Returns the real view (B, N, F, 2) of the STFT; N = T / hop_length.

    Frame k covers samples (k + 1) * hop_length - n_fft up to (k + 1) * hop_length, with zeros
    before the start.

    Args: waveform (B, T), T a multiple of hop_length.
    """
    padded = functional.pad(waveform, (n_fft - hop_length, 0))
    frames = padded.unfold(-1, n_fft, hop_length) * window(n_fft, waveform)  # (B, N, n_fft)
    return torch.view_as_real(torch.fft.rfft(frames))


def istft(spectrum: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Returns (B, T - n_fft + hop_length) samples: those that every frame has contributed to.

    Args: spectrum (B, N, F, 2) as `stft` gives it.
    """
    frames = torch.fft.irfft(torch.view_as_complex(spectrum.contiguous()), n=n_fft)
    overlap = n_fft // hop_length
    scale = 2.0 * hop_length / n_fft  # squared sqrt-Hann windows add up to overlap / 2
    frames = frames * window(n_fft, frames) * scale
    n = frames.shape[1]
    parts = frames.reshape(*frames.shape[:2], overlap, hop_length)  # (B, N, overlap, hop)
    blocks = sum(parts[:, overlap - 1 - i : n - i, i] for i in range(overlap))
    assert isinstance(blocks, Tensor)
    return blocks.flatten(1)


def padded_stft(waveform: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Returns the real view (B, N, F, 2) of all frames that touch the waveform (B, T), any T.

    The frames of `quieten.stft.stft`; `istft` gives at least T samples back.
    """
    tail = n_fft - hop_length + (-waveform.shape[-1]) % hop_length
    return stft(functional.pad(waveform, (0, tail)), n_fft, hop_length)
