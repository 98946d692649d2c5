"""Family `realtime`: a causal speech denoiser that predicts a complex mask frame by frame.

A U-Net along frequency: convolutions with squeeze-and-excitation that squeeze per frame (so they
stay causal), and recurrence over time in the bottleneck. Each frame sees only itself and the
recurrent state, so whole files, blocks and streams give the same result.

What it takes from the field: strided frequency encoder with recurrent bottleneck (GTCRN, Rong et
al. 2024; FastEnhancer, 2025), dual-path recurrence (DPCRN, Le et al. 2021), squeeze-and-excitation
(Hu et al. 2018), sub-pixel convolution (Shi et al. 2016), power-compressed spectra (Braun & Tashev
2021). What it leaves out is slow to train: attention at full resolution, concatenated skips, GRUs
(on a CPU an LSTM of the same size takes half the time).

Letters: B batch, N frames, F frequency bins, C channels, W bands (frequency after striding).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from quieten.training.config import Section, TrainConfig, checked_section
from quieten.training.exportable import Exportable
from quieten.training.judges import TERMS as JUDGED
from quieten.training.judges import Judges
from quieten.training.layers import bounded_mask
from quieten.training.losses import (
    check_terms,
    denoising_losses,
    same_level,
    stoi_loss,
    weighted_sum,
)
from quieten.training.optimize import Updater
from quieten.training.perceptual import pesq_loss
from quieten.training.spectral import istft, stft

TERMS = ("magnitude", "complex", "waveform", "stoi", "pesq", *JUDGED)


class RealtimeConfig(Section):
    """Size of the network."""

    sample_rate: int = 16_000
    n_fft: int = 512
    hop_length: int = 256
    compression: float = 0.3
    """Exponent on magnitudes at the input: loud and soft parts weigh more alike."""
    channels: tuple[int, int, int] = (32, 48, 64)
    """Channels at 64, 32 and 16 bands; multiples of 16 are quickest."""
    full_band: int = 224
    """Units of the recurrence that sees all bands at once."""
    sub_band_layers: int = 2
    """Recurrences that run along time in each band with shared weights."""


class SqueezeExcitation(nn.Module):
    """Scales channels by what the whole frame holds (Hu et al. 2018), frame by frame."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        hidden = max(4, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # (B, N, W, C), as it lies in memory
        gain = torch.sigmoid(self.excite(functional.relu(self.squeeze(x.mean(dim=2)))))
        return (x * gain.unsqueeze(2)).permute(0, 3, 1, 2)  # (B, C, N, W)


class Block(nn.Module):
    """Residual convolution along frequency, with or without squeeze-and-excitation."""

    def __init__(self, channels: int, attention: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, (1, 3), padding=(0, 1), bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.activation = nn.LeakyReLU(0.1, inplace=True)
        self.attention = SqueezeExcitation(channels) if attention else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.attention(self.activation(self.norm(self.conv(x))))
        return x + y


class SubBandRecurrence(nn.Module):
    """LSTM along time with the same weights in each band, then a mix of the bands of each frame."""

    def __init__(self, channels: int, bands: int) -> None:
        super().__init__()
        self.time = nn.LSTM(channels, channels)
        self.time_out = nn.Linear(channels, channels)
        self.time_norm = nn.LayerNorm(channels)
        self.mix = nn.Linear(bands, bands)
        self.mix_out = nn.Linear(channels, channels)
        self.mix_norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Args: x (N, B, W, C); state (B, W, 2 C), hidden and cell."""
        frames, batch, bands, channels = x.shape
        rows = state.reshape(1, batch * bands, 2 * channels)
        y, after = recur(self.time, x.reshape(frames, batch * bands, channels), rows)
        x = x + self.time_norm(self.time_out(y.reshape(x.shape)))
        y = functional.relu(self.mix(x.transpose(2, 3))).transpose(2, 3)
        return x + self.mix_norm(self.mix_out(y)), after.reshape(state.shape)


class FullBandRecurrence(nn.Module):
    """LSTM along time that sees all bands at once: which voice, which noise."""

    def __init__(self, channels: int, bands: int, units: int) -> None:
        super().__init__()
        self.enter = nn.Linear(channels * bands, units)
        self.time = nn.LSTM(units, units)
        self.leave = nn.Linear(units, channels * bands)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Args: x (N, B, W, C); state (B, 2 units), hidden and cell."""
        y, after = recur(self.time, functional.relu(self.enter(x.flatten(2))), state.unsqueeze(0))
        return x + self.leave(y).reshape(x.shape), after.squeeze(0)


def recur(layer: nn.LSTM, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the outputs (N, rows, C) and the state after them.

    Args: x (N, rows, C); state (1, rows, 2 C), hidden and cell.
    """
    hidden, cell = state.chunk(2, dim=-1)
    y, (hidden, cell) = layer(x, (hidden.contiguous(), cell.contiguous()))
    return y, torch.cat([hidden, cell], dim=-1)


class RealtimeNet(nn.Module):
    """Complex mask from the spectrum, frame by frame."""

    bands = 16

    def __init__(self, config: RealtimeConfig) -> None:
        super().__init__()
        self.config = config
        c1, c2, c3 = config.channels
        self.enter = nn.Conv2d(3, c1, (1, 8), stride=(1, 4), padding=(0, 2), bias=False)
        self.enter_norm = nn.BatchNorm2d(c1)
        self.enter_activation = nn.LeakyReLU(0.1, inplace=True)
        self.encode1 = Block(c1)
        self.down1 = down(c1, c2)
        self.encode2 = Block(c2)
        self.down2 = down(c2, c3)
        self.encode3 = Block(c3, attention=True)
        self.sub_bands = nn.ModuleList(
            SubBandRecurrence(c3, self.bands) for _ in range(config.sub_band_layers)
        )
        self.full_band = FullBandRecurrence(c3, self.bands, config.full_band)
        self.skip3 = nn.Conv2d(c3, c3, 1)
        self.decode3 = Block(c3, attention=True)
        self.up2 = up(c3, c2)
        self.skip2 = nn.Conv2d(c2, c2, 1)
        self.decode2 = Block(c2)
        self.up1 = up(c2, c1)
        self.skip1 = nn.Conv2d(c1, c1, 1)
        self.decode1 = Block(c1)
        self.leave = nn.Conv2d(c1, 8, (1, 3), padding=(0, 1))  # 4 bins of each band, complex
        with torch.no_grad():
            assert self.leave.bias is not None
            self.leave.bias.copy_(torch.tensor([1.0, 0.0] * 4))  # starts by letting pass

    def initial_state(self, batch: int) -> list[Tensor]:
        """Returns zeros: per sub-band layer (B, W, 2 C), then full band (B, 2 units)."""
        c3 = self.config.channels[2]
        weight = self.skip3.weight
        states = [weight.new_zeros(batch, self.bands, 2 * c3) for _ in self.sub_bands]
        return [*states, weight.new_zeros(batch, 2 * self.config.full_band)]

    def state_names(self) -> list[str]:
        """Returns what the exported model calls its states, in the order of `initial_state`."""
        layers = [f"state_sub_band_{i}" for i in range(len(self.sub_bands))]
        return [*layers, "state_full_band"]

    def forward(self, spectrum: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Returns the complex mask (B, N, F, 2), magnitude below 1, and the states after it.

        Args: spectrum (B, N, F, 2), the real view of the STFT; states as `initial_state` gives.
        """
        x = self.features(spectrum)  # (B, 3, N, F - 1)
        x1 = self.encode1(self.enter_activation(self.enter_norm(self.enter(x))))  # (B, C1, N, 64)
        x2 = self.encode2(self.down1(x1))  # (B, C2, N, 32)
        x3 = self.encode3(self.down2(x2))  # (B, C3, N, 16)
        y = x3.permute(2, 0, 3, 1)  # (N, B, W, C3)
        after = []
        for layer, state in zip([*self.sub_bands, self.full_band], states, strict=True):
            y, new_state = layer(y, state)
            after.append(new_state)
        y = y.permute(1, 3, 0, 2).contiguous(memory_format=torch.channels_last)
        y = self.decode3(y + self.skip3(x3))
        y = self.decode2(self.up2(y) + self.skip2(x2))
        y = self.decode1(self.up1(y) + self.skip1(x1))
        return bounded_mask(sub_pixels(self.leave(y))), after

    def features(self, spectrum: Tensor) -> Tensor:
        """Returns compressed real part, imaginary part and magnitude without the DC bin."""
        real, imaginary = spectrum[:, :, 1:].unbind(-1)  # (B, N, F - 1)
        power = real.square() + imaginary.square() + 1e-9
        magnitude = power.pow(self.config.compression / 2)
        gain = magnitude * power.rsqrt()
        x = torch.stack([real * gain, imaginary * gain, magnitude], dim=-1)  # (B, N, F - 1, 3)
        return x.permute(0, 3, 1, 2)


def sub_pixels(x: Tensor) -> Tensor:
    """Returns (B, 2, N, 4 W) from (B, 8, N, W): each band's channels are 4 bins side by side."""
    batch, channels, frames, bands = x.shape
    y = x.permute(0, 2, 3, 1).reshape(batch, frames, 4 * bands, channels // 4)
    return y.permute(0, 3, 1, 2)


class ExportedNet(nn.Module):
    """The network with its states as plain arguments and results, as ONNX has them."""

    def __init__(self, net: RealtimeNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, spectrum: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Returns (mask, *states after)."""
        mask, after = self.net(spectrum, list(states))
        return (mask, *after)


def down(channels: int, channels_out: int) -> nn.Module:
    """Returns a layer that halves the bands."""
    return nn.Sequential(
        nn.Conv2d(channels, channels_out, (1, 4), stride=(1, 2), padding=(0, 1), bias=False),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(0.1, inplace=True),
    )


def up(channels: int, channels_out: int) -> nn.Module:
    """Returns a layer that doubles the bands."""
    return nn.Sequential(
        nn.ConvTranspose2d(channels, channels_out, (1, 4), (1, 2), padding=(0, 1), bias=False),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(0.1, inplace=True),
    )


class Realtime:
    """The family: how the network is trained, validated and exported."""

    config_class: type[Section] = RealtimeConfig

    def __init__(self, config: TrainConfig) -> None:
        self.config = checked_section(RealtimeConfig, config.model, "model")
        self.weights = config.loss
        check_terms(self.weights, TERMS)
        self.precision = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
        self.device = config.device
        # channels last is how the features come: a fifth of a step is saved on a CPU
        net = RealtimeNet(self.config).to(config.device)
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.judges = Judges(config)
        updater = Updater(net, config.optimizer, config.steps)
        self.updaters = {"net": updater, **self.judges.updaters}

    def step(self, noisy: Tensor, clean: Tensor, step: int) -> dict[str, float]:
        """Takes one training step and returns its named losses.

        Args: noisy, clean (B, T), T a multiple of the hop.
        """
        updater = self.updaters["net"]
        updater.net.train()
        spectrum = stft(noisy, self.config.n_fft, self.config.hop_length)
        denoised = self.apply(updater.net, spectrum, self.precision)
        losses = self.losses(denoised, clean, noisy)
        report = updater.update(weighted_sum(losses, self.weights), step)
        if self.judges.updaters:
            length = denoised.shape[-1]
            sounds = same_level(denoised.detach(), clean[..., :length], noisy[..., :length])
            report |= self.judges.learn(*sounds, step)
        return {name: value.item() for name, value in losses.items()} | report

    def losses(self, denoised: Tensor, clean: Tensor, noisy: Tensor) -> dict[str, Tensor]:
        """Returns the named loss terms; the last, incomplete samples of the targets drop out."""
        length = denoised.shape[-1]
        clean, noisy = clean[..., :length], noisy[..., :length]
        config = self.config
        losses = denoising_losses(
            denoised, clean, noisy, config.compression, config.n_fft, config.hop_length
        )
        denoised, clean, _ = same_level(denoised, clean, noisy)
        if "stoi" in self.weights:
            losses["stoi"] = stoi_loss(denoised, clean, config.sample_rate)
        if "pesq" in self.weights:
            losses["pesq"] = pesq_loss(denoised, clean, config.sample_rate)
        return losses | self.judges.terms(denoised, clean)

    def apply(self, net: nn.Module, spectrum: Tensor, precision: torch.dtype) -> Tensor:
        """Returns the waveform (B, T) of a spectrum (B, N, F, 2) after the network's mask."""
        config = self.config
        states = net.initial_state(spectrum.shape[0])  # type: ignore[operator]
        kind = torch.device(self.device).type
        with torch.autocast(kind, precision, enabled=precision != torch.float32):
            mask, _ = net(spectrum, states)
        product = torch.view_as_complex(spectrum) * torch.view_as_complex(mask.contiguous())
        return istft(torch.view_as_real(product), config.n_fft, config.hop_length)

    @torch.no_grad()
    def denoise(self, noisy: Tensor) -> Tensor:
        """Returns (B, T) from the averaged weights in float32, as the exported model gives it."""
        config = self.config
        length = noisy.shape[-1]
        tail = config.n_fft - config.hop_length
        padded = functional.pad(noisy, (0, tail + (-length) % config.hop_length))
        spectrum = stft(padded, config.n_fft, config.hop_length)
        return self.apply(self.updaters["net"].averaged, spectrum, torch.float32)[:, :length]

    def exportable(self) -> Exportable:
        """Returns the averaged network as ONNX is to have it."""
        net, config = self.updaters["net"].averaged, self.config
        assert isinstance(net, RealtimeNet)
        return Exportable(
            ExportedNet(net),
            config.sample_rate,
            config.n_fft,
            config.hop_length,
            states=dict(zip(net.state_names(), net.initial_state(2), strict=True)),
        )
