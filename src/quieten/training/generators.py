"""Generators of the audio restorer, and the networks that judge what they make.

`AudioUNet` is the original's (Kuleshov, Enam, Ermon, "Audio super-resolution using neural
networks", 2017): strided convolutions down, sub-pixels up, stacking skips, an additive residual.
`MultiScale` follows Kim & Sathe, "Adversarial audio super-resolution with unsupervised feature
losses", 2019: several kernels side by side, PReLU, superpixels instead of strides; here for
waveforms or for spectrograms.
Letters: B batch, C channels, T samples, N frames, W the axis that is halved (samples or bins).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from quieten.errors import ConfigError

Kernel = tuple[int, ...]


def superpixel(x: Tensor, factor: int) -> Tensor:
    """Returns (B, factor * C, ..., W / factor): neighbours along W become channels."""
    x = x.unflatten(-1, (x.shape[-1] // factor, factor))  # type: ignore[no-untyped-call]
    # (B, C, ..., W / r, r)
    return x.movedim(x.ndim - 1, 1).flatten(1, 2)  # no copy where channels lie last in memory


def subpixel(x: Tensor, factor: int) -> Tensor:
    """Returns (B, C / factor, ..., factor * W): undoes `superpixel`."""
    x = x.unflatten(1, (factor, x.shape[1] // factor))  # type: ignore[no-untyped-call]
    # (B, r, C / r, ..., W)
    return x.movedim(1, x.ndim - 1).flatten(-2, -1)


def level_channels(level: int, width: float) -> int:
    """Returns the channels of level 1, 2, ... of the original: 128, 256, 512, 512, ..."""
    return max(2, 2 * round(min(64 << level, 512) * width / 2))


def level_kernel(level: int) -> int:
    """Returns the kernel of level 1, 2, ... of the original: 65, 33, 17, 9, 9, ..."""
    return max((128 >> level) + 1, 9)


def check_depth(depth: int, window: int) -> None:
    """Raises ConfigError unless a window can be halved depth + 1 times, as the original does."""
    if not 1 <= depth <= window.bit_length() - 2 or window % 2 ** (depth + 1):
        raise ConfigError(
            f"model.depth={depth}: a window of {window} samples takes 1 to log2(window) - 1 "
            "levels, and a multiple of 2^(depth + 1) samples: change model.depth or the window"
        )


class AudioUNet(nn.Module):
    """The original generator.

    Args:
        depth: levels.
        width: share of the original's channels, 1 for all.
        dropout: share of what is dropped behind the bottleneck and the ways up.
        skips: whether the ways down are stacked on the ways up; the autoencoder has none.
    """

    def __init__(
        self, depth: int = 4, width: float = 1.0, dropout: float = 0.5, skips: bool = True
    ) -> None:
        super().__init__()
        channels = [level_channels(level, width) for level in range(1, depth + 1)]
        kernels = [level_kernel(level) for level in range(1, depth + 1)]
        self.skips = skips
        self.down, before = nn.ModuleList(), 1
        for count, kernel in zip(channels, kernels, strict=True):
            self.down.append(nn.Conv1d(before, count, kernel, 2, kernel // 2))
            before = count
        self.bottleneck = nn.Conv1d(before, before, kernels[-1], 2, kernels[-1] // 2)
        self.up = nn.ModuleList()
        for count, kernel in zip(channels[::-1], kernels[::-1], strict=True):
            self.up.append(nn.Conv1d(before, 2 * count, kernel, 1, kernel // 2))
            before = 2 * count if skips else count
        self.dropout = nn.Dropout(dropout)
        self.leave = nn.Conv1d(before, 2, 9, 1, 4)

    def latent(self, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns the bottleneck (B, C, T / 2^(depth + 1)) and what the levels before it gave."""
        x, levels = waveform[:, None], []
        for layer in self.down:
            x = functional.leaky_relu(layer(x), 0.2)
            levels.append(x)
        return functional.leaky_relu(self.dropout(self.bottleneck(x)), 0.2), levels

    def late(self, waveform: Tensor) -> Tensor:
        """Returns the last activations (B, C, T / 2) before the output."""
        x, levels = self.latent(waveform)
        for layer, level in zip(self.up, levels[::-1], strict=True):
            x = subpixel(functional.relu(self.dropout(layer(x))), 2)
            if self.skips:
                x = torch.cat([x, level], dim=1)
        return x

    def finish(self, late: Tensor, waveform: Tensor) -> Tensor:
        """Returns the output (B, T) from late activations and the input."""
        made: Tensor = subpixel(self.leave(late), 2)[:, 0]
        return waveform + made if self.skips else made

    def forward(self, waveform: Tensor) -> Tensor:
        """Returns the restored (B, T), T a multiple of 2^(depth + 1)."""
        return self.finish(self.late(waveform), waveform)


class Discriminator(nn.Module):
    """The first half of the original generator with batch norm, then one linear unit.

    Args:
        window: samples that it judges.
        conditional: whether it sees the degraded sound as well.
    """

    def __init__(self, window: int, depth: int, width: float, conditional: bool) -> None:
        super().__init__()
        check_depth(depth, window)
        layers: list[nn.Module] = []
        before = 2 if conditional else 1
        for level in range(1, depth + 1):
            count, kernel = level_channels(level, width), level_kernel(level)
            layers += [
                nn.Conv1d(before, count, kernel, 2, kernel // 2),
                nn.BatchNorm1d(count),
                nn.LeakyReLU(0.2),
            ]
            before = count
        self.conditional = conditional
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(before * (window >> depth), 1)

    def forward(self, waveform: Tensor, degraded: Tensor) -> Tensor:
        """Returns logits (B,), positive for clean; the sigmoid sits in the losses.

        Args: waveform, degraded (B, T), T the window.
        """
        seen = [waveform, degraded] if self.conditional else [waveform]
        logits: Tensor = self.head(self.body(torch.stack(seen, dim=1)).flatten(1))
        return logits[:, 0]


class Branches(nn.Module):
    """Convolutions with several kernels side by side, then batch norm and an activation."""

    def __init__(
        self, channels: int, channels_out: int, kernels: Sequence[Kernel], activation: str
    ) -> None:
        super().__init__()
        share = channels_out // len(kernels)
        counts = [channels_out - share * (len(kernels) - 1), *[share] * (len(kernels) - 1)]
        conv: Any = nn.Conv1d if len(kernels[0]) == 1 else nn.Conv2d
        norm = nn.BatchNorm1d if len(kernels[0]) == 1 else nn.BatchNorm2d
        self.branches = nn.ModuleList(
            conv(channels, count, kernel, padding=tuple(size // 2 for size in kernel), bias=False)
            for count, kernel in zip(counts, kernels, strict=True)
        )
        self.norm = norm(channels_out)
        # to learn the slopes costs a third of a step on a CPU
        self.activate = (
            nn.PReLU(channels_out, init=0.1) if activation == "prelu" else nn.LeakyReLU(0.1)
        )

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([branch(x) for branch in self.branches], dim=1)
        y: Tensor = self.activate(self.norm(joined))
        return y


class Residual(nn.Module):
    """Two rows of branches around which the input passes."""

    def __init__(self, channels: int, kernels: Sequence[Kernel], activation: str) -> None:
        super().__init__()
        self.first = Branches(channels, channels, kernels, activation)
        self.second = Branches(channels, channels, kernels, activation)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.second(self.first(x))
        return y


class MultiScale(nn.Module):
    """U-Net of branches: superpixels down, sub-pixels up, stacking skips.

    Args:
        inputs: channels in.
        outputs: channels out.
        channels: of each level, from the top.
        kernels: side by side at each level; (samples,) each, or (frames, bins).
        patch: so many neighbours along W become channels before the first level.
        dropout: share of what is dropped on the ways up.
        activation: prelu or leaky.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        channels: Sequence[int],
        kernels: Sequence[Kernel],
        patch: int,
        dropout: float,
        activation: str,
    ) -> None:
        super().__init__()
        point: Kernel = (1,) * len(kernels[0])
        conv = nn.Conv1d if len(point) == 1 else nn.Conv2d
        self.patch = patch
        self.enter = Branches(inputs * patch, channels[0], kernels, activation)
        self.encode = nn.ModuleList(Residual(count, kernels, activation) for count in channels)
        steps = list(pairwise(channels))
        self.down = nn.ModuleList(
            Branches(2 * upper, lower, [point], activation) for upper, lower in steps
        )
        self.up = nn.ModuleList(
            Branches(lower, 2 * upper, [point], activation) for upper, lower in steps
        )
        self.join = nn.ModuleList(
            Branches(2 * upper, upper, [point], activation) for upper, _ in steps
        )
        self.decode = nn.ModuleList(Residual(upper, kernels, activation) for upper, _ in steps)
        self.dropout = nn.Dropout(dropout)
        wide = tuple(min(3, size) for size in map(max, zip(*kernels, strict=True)))
        self.leave = conv(
            channels[0], outputs * patch, wide, padding=tuple(size // 2 for size in wide)
        )

    def multiple(self) -> int:
        """Returns what W must be a multiple of."""
        return self.patch << len(self.down)

    def late(self, x: Tensor) -> Tensor:
        """Returns the last activations (B, C, ..., W / patch) before the output."""
        x = self.enter(superpixel(x, self.patch))
        levels = []
        for encode, down in zip(self.encode, self.down, strict=False):
            x = encode(x)
            levels.append(x)
            x = down(superpixel(x, 2))
        x = self.encode[-1](x)
        for i in reversed(range(len(self.up))):
            x = subpixel(self.dropout(self.up[i](x)), 2)
            x = self.decode[i](self.join[i](torch.cat([x, levels[i]], dim=1)))
        return x

    def finish(self, late: Tensor) -> Tensor:
        """Returns (B, outputs, ..., W) from late activations."""
        return subpixel(self.leave(late), self.patch)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B, outputs, ..., W) for (B, inputs, ..., W)."""
        return self.finish(self.late(x))
