"""Layers of the networks over (time, frequency) that may look both ways in time.

Letters: B batch, N frames, W bands, C channels.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

ABLATIONS = ("", "latent_zeroed", "latent_shuffled", "skips_zeroed")
"""What can be taken away from a network with a code and skips, to see whether it needs it."""


class SqueezeExcitation(nn.Module):
    """Scales channels by what the frame holds, frame by frame: no time passes through it."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        hidden = max(8, channels // reduction)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        frame = x.mean(-1, keepdim=True)  # (B, C, N, 1)
        return x * torch.sigmoid(self.excite(activate(self.squeeze(frame))))


class Block(nn.Module):
    """Residual convolutions of 3 frames by 3 bands, with squeeze-and-excitation."""

    def __init__(self, channels: int, attention: bool, layers: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                    nn.BatchNorm2d(channels),
                    nn.LeakyReLU(0.1),
                )
                for _ in range(layers)
            )
        )
        self.attention = SqueezeExcitation(channels) if attention else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.attention(self.layers(x))
        return y


class SubBandRecurrence(nn.Module):
    """LSTM along time in both directions, the same in each band, then a mix of the bands."""

    def __init__(self, channels: int, bands: int, hidden: int) -> None:
        super().__init__()
        self.time = nn.LSTM(channels, hidden, batch_first=True, bidirectional=True)
        self.time_out = nn.Linear(2 * hidden, channels)
        self.time_norm = nn.LayerNorm(channels)
        self.mix = nn.Linear(bands, bands)
        self.mix_out = nn.Linear(channels, channels)
        self.mix_norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x (B, N, W, C)."""
        y, _ = self.time(x.transpose(1, 2).flatten(0, 1))  # (B W, N, 2 hidden)
        y = self.time_out(y).unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
        x = x + self.time_norm(y)
        y = activate(self.mix(x.transpose(2, 3))).transpose(2, 3)
        z: Tensor = x + self.mix_norm(self.mix_out(y))
        return z


class FullBandRecurrence(nn.Module):
    """LSTM along time in both directions that sees all bands at once."""

    def __init__(self, channels: int, bands: int, units: int) -> None:
        super().__init__()
        self.enter = nn.Linear(channels * bands, units)
        self.time = nn.LSTM(units, units, batch_first=True, bidirectional=True)
        self.leave = nn.Linear(2 * units, channels * bands)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x (B, N, W, C)."""
        y, _ = self.time(activate(self.enter(x.flatten(2))))
        z: Tensor = x + self.norm(self.leave(y).unflatten(-1, x.shape[2:]))
        return z


def activate(x: Tensor) -> Tensor:
    """Returns the leaky rectifier of the whole family."""
    return functional.leaky_relu(x, 0.1)


def down(channels: int, channels_out: int, stride: tuple[int, int]) -> nn.Module:
    """Returns a convolution that strides over (time, frequency)."""
    return resample(nn.Conv2d, channels, channels_out, stride)


def up(channels: int, channels_out: int, stride: tuple[int, int]) -> nn.Module:
    """Returns the transposed convolution that undoes the stride of `down`."""
    return resample(nn.ConvTranspose2d, channels, channels_out, stride)


def resample(kind: Any, channels: int, channels_out: int, stride: tuple[int, int]) -> nn.Module:
    """Returns a layer whose kernel covers each stride twice, or 3 frames without one."""
    time, frequency = 3 if stride[0] == 1 else 2 * stride[0], 2 * stride[1]
    padding = (time - 1) // 2, (frequency - stride[1]) // 2
    return nn.Sequential(
        kind(channels, channels_out, (time, frequency), stride, padding, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(0.1),
    )


def bounded_mask(raw: Tensor) -> Tensor:
    """Returns a complex mask (B, N, F, 2) from (B, 1 or 2, N, F - 1).

    tanh bounds its magnitude by 1; the DC bin follows the one above it. One channel is a real mask.
    """
    raw = raw.float().permute(0, 2, 3, 1)
    raw = torch.cat([raw[:, :, :1], raw], dim=2)
    size = torch.sqrt(raw.square().sum(-1, keepdim=True) + 1e-8)
    mask = raw * (torch.tanh(size) / size)
    return mask if mask.shape[-1] == 2 else torch.cat([mask, torch.zeros_like(mask)], dim=-1)


def without(
    ablation: str, z_q: Tensor, x: Tensor, skips: list[Tensor]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Returns the decoder's inputs (z_q, x, skips) after one of `ABLATIONS`."""
    if ablation == "latent_zeroed":
        return torch.zeros_like(z_q), x, skips
    if ablation == "latent_shuffled":
        order = torch.randperm(z_q.shape[1], generator=torch.Generator().manual_seed(5))
        return z_q[:, order.to(z_q.device)], x, skips
    assert ablation == "skips_zeroed", ablation
    return z_q, torch.zeros_like(x), [torch.zeros_like(skip) for skip in skips]
