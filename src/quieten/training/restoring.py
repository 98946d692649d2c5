"""Generators as the family `restorer` uses them: waveforms in, waveforms out, in two halves.

The halves, `late` and `finish`, meet at the activations that collaborative sampling moves.
Letters: B batch, T samples, N frames, F bins, W samples of a window.
"""

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from quieten.errors import ConfigError
from quieten.training.config import Section
from quieten.training.generators import AudioUNet, MultiScale, check_depth, subpixel
from quieten.training.spectral import istft, padded_stft, stft

COMPRESSION = 0.3
SILENCE = 1e-8  # power of a bin against the mean of all, below which nothing is heard
ADDED = (-16.0, 4.0)  # log of the least and the most that is added to a bin, against the mean


class RestorerConfig(Section):
    """Which generator and its size, and how the extras work."""

    generator: Literal["audiounet", "multiscale"] = "multiscale"
    domain: Literal["waveform", "spectrogram"] = "spectrogram"
    """Of `multiscale`; `audiounet` knows waveforms only."""
    sample_rate: int = 22_050
    depth: int = Field(4, ge=1)
    """Levels, each of half the samples or bins."""
    width: float = Field(1.0, gt=0)
    """Share of the channels; 1 is the original's size of `audiounet`."""
    channels: tuple[int, ...] = (32, 48, 64, 96)
    """Of the levels of `multiscale`, before `width`; the last one counts for all below."""
    kernels: tuple[tuple[int, ...], ...] = ((3, 3), (9, 1), (1, 9))
    """Of `multiscale`, side by side: (frames, bins), or (samples,) of waveforms."""
    activation: Literal["leaky", "prelu"] = "leaky"
    """Of `multiscale`; slopes that are learnt are the published way."""
    patch: int = Field(4, ge=1)
    """Neighbouring bins or samples that become channels before the first level."""
    dropout: float = Field(0.0, ge=0, lt=1)
    n_fft: int = 2048
    hop_length: int = 512
    past_frames: int = Field(0, ge=0)
    future_frames: int = Field(0, ge=0)
    """Frames before and after each one from which a spectrogram model predicts it as well."""
    window_frames: int = 128
    """Frames that a spectrogram model sees at once when it is used, and of them:"""
    margin_frames: int = 24
    window: int = 8192
    """Samples that a waveform model, and the discriminator, see at once."""
    extras_from_step: int = Field(0, ge=0)
    conditional: bool = False
    """The discriminator sees the degraded sound as well."""
    judge_width: float = Field(0.25, gt=0)
    """Share of the original's channels in the discriminator."""
    judge_depth: int = Field(5, ge=1)
    autoencoder: str = ""
    """Weights of `restorer_ae` for the features: a .safetensors file of `export`, or a run's."""
    collaborative_step: float = Field(0.1, gt=0)
    collaborative_most: int = Field(50, ge=0)
    """How far, and in how many moves, activations go in collaborative sampling."""
    shaping: bool = False
    """Train the discriminator alone, on samples that it has refined (needs `start_from`)."""


class WaveformGenerator(nn.Module):
    """A generator over samples."""

    def __init__(self, config: RestorerConfig) -> None:
        super().__init__()
        if config.generator == "audiounet":
            check_depth(config.depth, config.window)
            self.body: AudioUNet | MultiScale = AudioUNet(
                config.depth, config.width, config.dropout
            )
        else:
            self.body = make_multiscale(config, 1, 1, 1)

    def late(self, waveform: Tensor) -> Tensor:
        """Returns the last activations before the output."""
        if isinstance(self.body, AudioUNet):
            return self.body.late(waveform)
        return self.body.late(waveform[:, None])

    def finish(self, late: Tensor, waveform: Tensor) -> Tensor:
        """Returns the restored (B, W) from late activations and the input."""
        if isinstance(self.body, AudioUNet):
            return self.body.finish(late, waveform)
        return waveform + self.body.finish(late)[:, 0]

    def forward(self, waveform: Tensor) -> Tensor:
        """Returns the restored (B, W)."""
        return self.finish(self.late(waveform), waveform)


class SpectralGenerator(nn.Module):
    """A generator over spectra: a complex mask on what is there, and what is added to it.

    What is added has the phase of the rectified sound, whose harmonics lie where those of the
    sound go on (the non-linear device of bandwidth extension: Makhoul & Berouti 1979). With
    neighbouring frames it filters across them as well: tones hold their phase for longer than a
    frame, and reverberation is what frames before have left (deep filtering: Mack & Habets 2019).
    """

    optional_parts = ("taps",)  # weights to begin with may lack them

    def __init__(self, config: RestorerConfig) -> None:
        super().__init__()
        self.n_fft, self.hop_length = config.n_fft, config.hop_length
        self.body = make_multiscale(config, 4, 3, 2)
        self.past, self.future = config.past_frames, config.future_frames
        self.offsets = [k for k in range(-self.past, self.future + 1) if k]
        if self.offsets:
            late = self.body.leave.in_channels
            self.taps = nn.Conv2d(late, 2 * len(self.offsets) * config.patch, 3, padding=1)
            nn.init.zeros_(self.taps.weight)
            assert self.taps.bias is not None
            nn.init.zeros_(self.taps.bias)
        if config.n_fft // 2 % self.body.multiple():
            raise ConfigError(
                f"model.n_fft={config.n_fft}: half of it must be a multiple of "
                f"{self.body.multiple()}, patch * 2^(depth - 1): change patch or depth"
            )
        with torch.no_grad():
            bias = self.body.leave.bias
            assert bias is not None
            bias.zero_()
            bias.view(config.patch, 3)[:, 0] = 1.1  # near a mask of one
            bias.view(config.patch, 3)[:, 2] = -7.0

    def forward(self, seen: Tensor) -> Tensor:
        """Returns (B, N, F, 4): the mask, and what is added, for spectra and their rectified ones.

        Args: seen (B, N, F, 4), real views of both side by side.
        """
        x, level = self.features(seen)
        return self.answer(self.body.late(x), seen, level)

    def features(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Returns compressed values without the DC bin (B, 4, N, F - 1) and the level (B,1,1,1)."""
        sound, rectified = seen[..., :2], seen[..., 2:]
        level = torch.sqrt(2 * sound.square().mean((1, 2, 3), keepdim=True) + 1e-12)
        power = (sound / level).square().sum(-1, keepdim=True) + SILENCE
        compressed = sound / level * power.pow((COMPRESSION - 1) / 2)
        other = (rectified / level).square().sum(-1, keepdim=True) + SILENCE
        x = torch.cat([compressed, power.pow(COMPRESSION / 2), other.pow(COMPRESSION / 2)], dim=-1)
        x = x[:, :, 1:].permute(0, 3, 1, 2)
        return x.contiguous(memory_format=torch.channels_last), level

    def answer(self, late: Tensor, seen: Tensor, level: Tensor) -> Tensor:
        """Returns (B, N, F, 4) from late activations; DC follows the bin above it."""
        raw = self.body.finish(late).float().permute(0, 2, 3, 1)  # (B, N, F - 1, 3)
        raw = torch.cat([raw[:, :, :1], raw], dim=2)
        size = torch.sqrt(raw[..., :2].square().sum(-1, keepdim=True) + 1e-8)
        mask = raw[..., :2] * (2 * torch.tanh(size / 2) / size)
        rectified = seen[..., 2:]
        magnitude = torch.sqrt(rectified.square().sum(-1, keepdim=True) + SILENCE * level**2)
        added = rectified / magnitude * level * raw[..., 2:].clamp(*ADDED).exp()
        if self.offsets:
            added = added + self.filtered(late, seen[..., :2])
        return torch.cat([mask, added], dim=-1)

    def filtered(self, late: Tensor, spectrum: Tensor) -> Tensor:
        """Returns what neighbouring frames say about each, (B, N, F, 2), for (B, N, F, 2)."""
        taps = subpixel(self.taps(late), self.body.patch).float().permute(0, 2, 3, 1)
        taps = functional.pad(torch.tanh(taps), (0, 0, 1, 0))  # (B, N, F, 2K), none at DC
        padded = functional.pad(spectrum, (0, 0, 0, 0, self.past, self.future))
        total = torch.zeros_like(spectrum)
        for i, offset in enumerate(self.offsets):
            first = self.past + offset
            x = padded[:, first : first + spectrum.shape[1]]
            real, imaginary = taps[..., 2 * i : 2 * i + 1], taps[..., 2 * i + 1 : 2 * i + 2]
            turned = torch.cat([-x[..., 1:], x[..., :1]], dim=-1)
            total = total + real * x + imaginary * turned
        return total

    def late(self, waveform: Tensor) -> Tensor:
        """Returns the last activations before the output."""
        return self.body.late(self.features(self.seen(waveform))[0])

    def finish(self, late: Tensor, waveform: Tensor) -> Tensor:
        """Returns the restored (B, T - n_fft + hop) from late activations and the input."""
        seen = self.seen(waveform)
        with torch.autocast(waveform.device.type, enabled=False):
            return self.waveform(self.answer(late, seen, self.features(seen)[1]), seen)

    def seen(self, waveform: Tensor, padded: bool = False) -> Tensor:
        """Returns spectra and rectified spectra (B, N, F, 4) of (B, T), T a multiple of the hop."""
        spectrum = (padded_stft if padded else stft)(waveform, self.n_fft, self.hop_length)
        return torch.cat([spectrum, rectify(spectrum, self.n_fft)], dim=-1)

    def waveform(self, answer: Tensor, seen: Tensor) -> Tensor:
        """Returns the waveform (B, T) of spectra under their answer."""
        mask, spectrum = answer[..., :2].contiguous(), seen[..., :2].contiguous()
        product = torch.view_as_complex(mask) * torch.view_as_complex(spectrum)
        restored = torch.view_as_real(product) + answer[..., 2:]
        return istft(restored, self.n_fft, self.hop_length)


def rectify(spectrum: Tensor, n_fft: int) -> Tensor:
    """Returns the spectra (B, N, F, 2) of the frames without their signs; windows have none."""
    frames = torch.fft.irfft(torch.view_as_complex(spectrum.contiguous()), n=n_fft)
    return torch.view_as_real(torch.fft.rfft(frames.abs()))


def make_multiscale(config: RestorerConfig, inputs: int, outputs: int, axes: int) -> MultiScale:
    """Returns the body of a configuration for waveforms (1 axis) or spectrograms (2).

    Raises: ConfigError if its kernels have another number of axes, or even sizes.
    """
    if any(len(kernel) != axes for kernel in config.kernels) or not config.kernels:
        wanted = "[[9], [33]]" if axes == 1 else "[[3, 3], [9, 1]]"
        raise ConfigError(f"model.kernels: a {config.domain} needs such as {wanted}")
    if any(size % 2 == 0 for kernel in config.kernels for size in kernel):
        raise ConfigError("model.kernels: sizes must be odd")
    given = [*config.channels, *[config.channels[-1]] * config.depth][: config.depth]
    channels = [max(4, round(count * config.width)) for count in given]
    return MultiScale(
        inputs,
        outputs,
        channels,
        config.kernels,
        config.patch,
        config.dropout,
        config.activation,
    )


def windowed(net: Callable[[Tensor], Tensor], waveform: Tensor, window: int) -> Tensor:
    """Returns (B, T) from windows at every quarter of one, averaged with Hann weights.

    As `quieten.signals` does it with the exported network.
    """
    length = waveform.shape[-1]
    full = max(length, window)
    padded = waveform
    while padded.shape[-1] < full:  # a reflection cannot be longer than the sound
        padded = functional.pad(
            padded, (0, min(full - padded.shape[-1], padded.shape[-1] - 1)), mode="reflect"
        )
    starts = list(range(0, full - window + 1, window // 4))
    if starts[-1] != full - window:
        starts.append(full - window)
    hann = torch.sin(torch.pi * (torch.arange(window) + 0.5) / window).square()
    total, weight = torch.zeros_like(padded), torch.zeros(full)
    for start in starts:
        answer = net(padded[:, start : start + window])
        total[:, start : start + window] += answer * hann
        weight[start : start + window] += hann
    return (total / weight)[:, :length]
