"""Family `vqvae_clean`: a VQ-VAE that has heard clean speech only; what surprises it is not clean.

It codes each frame of compressed magnitudes, with a little context, as one entry of a codebook and
makes the frame from that entry again. Speech that it knows falls near an entry; noise and damage
fall between them. The distance between the vector and its entry tells quality without a reference:
Fu et al., "Self-supervised speech quality estimation and enhancement using only clean speech"
(VQScore), ICLR 2024, whose normalised codes and cosine distance are used here.

The exported model gives distances for `quieten score`. `denoise` makes the sound from the codes
and the phase it was given: on clean speech it shows how well the codebook covers unseen voices.

Letters: B batch, T samples, N frames, F frequency bins, C channels, D code dimension.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from quieten.training.config import Section, TrainConfig, checked_section
from quieten.training.exportable import Exportable
from quieten.training.losses import weighted_sum
from quieten.training.optimize import Updater
from quieten.training.quantizer import Quantized, VectorQuantizer
from quieten.training.spectral import istft, padded_stft, stft

SILENCE = 1e-5
"""Power of a bin, relative to the mean of a window, that counts as nothing."""


class VQVAECleanConfig(Section):
    """Size and choices of the network."""

    sample_rate: int = 16_000
    n_fft: int = 512
    hop_length: int = 256
    compression: float = 0.3
    """Exponent on magnitudes: loud and soft parts weigh more alike."""
    normalization: Literal["level", "instance"] = "level"
    """What is taken out of a window: its level, or mean and deviation of every bin over time."""
    width: int = Field(192, gt=0)
    """Channels of encoder and decoder."""
    kernel: int = Field(3, gt=0)
    """Frames that a convolution sees; odd."""
    blocks: int = Field(2, ge=0)
    """Residual blocks on each side of the code."""
    code_dim: int = Field(32, gt=0)
    codebook_size: int = Field(1024, gt=1)
    cosine: bool = True
    """Vectors and entries have length 1, so that the distance is that of their directions."""
    window_frames: int = Field(1000, gt=0)
    """Frames that the exported model sees at once: 16 s."""
    margin_frames: int = Field(10, ge=0)
    """Of them, those on each side that lack context."""


class Block(nn.Module):
    """Residual convolution along time; normalised frame by frame, so that only near ones matter."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x (B, C, N)."""
        y = self.norm(x.transpose(1, 2)).transpose(1, 2)
        y = functional.leaky_relu(self.conv(y), 0.1)
        mixed: Tensor = self.mix(y)
        return x + mixed


class VQVAECleanNet(nn.Module):
    """Encoder, codebook, decoder over frames of compressed magnitudes."""

    def __init__(self, config: VQVAECleanConfig) -> None:
        super().__init__()
        self.config = config
        bins, width = config.n_fft // 2, config.width  # without DC
        self.encoder = self.stack(bins, width)
        self.to_code = nn.Conv1d(width, config.code_dim, 1)
        self.quantizer = VectorQuantizer(
            config.code_dim, config.codebook_size, normalized=config.cosine
        )
        self.decoder = self.stack(config.code_dim, width)
        self.to_bins = nn.Conv1d(width, bins, 1)

    def stack(self, channels: int, width: int) -> nn.Module:
        """Returns convolutions from (B, channels, N) to (B, width, N)."""
        kernel = self.config.kernel
        blocks = [Block(width, kernel) for _ in range(self.config.blocks)]
        return nn.Sequential(
            nn.Conv1d(channels, width, kernel, padding=kernel // 2), *blocks, nn.LeakyReLU(0.1)
        )

    def forward(self, spectrum: Tensor) -> tuple[Tensor, Tensor, Tensor, Quantized]:
        """Returns what is coded and what was made of the code (B, F - 1, N), z_e, and the code.

        Args: spectrum (B, N, F, 2), the real view of the STFT.
        """
        features, mean, scale = self.features(spectrum)
        z_e = self.to_code(self.encoder((features - mean) / scale)).transpose(1, 2)  # (B, N, D)
        if self.config.cosine:
            z_e = functional.normalize(z_e.float(), dim=-1)
        code = self.quantizer(z_e)
        made = self.to_bins(self.decoder(code.z_q.transpose(1, 2))).float()
        return features, made * scale + mean, z_e, code

    def features(self, spectrum: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns compressed magnitudes (B, F - 1, N) without DC, at level 1; mean and scale."""
        power = spectrum[:, :, 1:].square().sum(-1).transpose(1, 2)
        relative = power / (power.mean((1, 2), keepdim=True) + 1e-12)
        features = (relative + SILENCE).pow(self.config.compression / 2)
        if self.config.normalization == "instance":
            mean = features.mean(2, keepdim=True)
            deviation = (features - mean).square().mean(2, keepdim=True).sqrt()
            return features, mean, deviation + 0.05
        return (
            features,
            torch.zeros_like(features[:1, :1, :1]),
            torch.ones_like(features[:1, :1, :1]),
        )

    def gains(self, spectrum: Tensor) -> Tensor:
        """Returns what the code makes of the magnitudes, as gains (B, N, F, 1), at most 1."""
        features, made, _, _ = self(spectrum)
        exponent = 1 / self.config.compression
        gain = (made.clamp(min=0) / features).pow(exponent).clamp(max=1)  # (B, F - 1, N)
        return functional.pad(gain, (0, 0, 1, 0)).transpose(1, 2)[..., None]


class ExportedNet(nn.Module):
    """The network as `quieten score` runs it."""

    def __init__(self, net: VQVAECleanNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, spectrum: Tensor) -> Tensor:
        """Returns the distance (B, N) of each frame's vector from its entry.

        One minus the cosine of their angle, or the squared distance over the dimension.

        Args: spectrum (B, N, F, 2).
        """
        _, _, z_e, code = self.net(spectrum)
        scale = 0.5 if self.net.config.cosine else 1 / self.net.config.code_dim
        distance: Tensor = (z_e - code.z_q).square().sum(-1)
        return scale * distance


class VQVAEClean:
    """The family: how the network is trained, validated and exported."""

    config_class = VQVAECleanConfig

    def __init__(self, config: TrainConfig) -> None:
        self.config = checked_section(VQVAECleanConfig, config.model, "model")
        self.weights = config.loss
        self.precision = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
        self.device = config.device
        self.net = VQVAECleanNet(self.config).to(config.device)
        updater = Updater(self.net, config.optimizer, config.steps, copied=("quantizer",))
        self.updaters = {"net": updater}

    def step(self, noisy: Tensor, clean: Tensor, step: int) -> dict[str, float]:
        """Takes one training step on the clean sound alone; returns its named losses.

        With them goes the health of the codebook.

        Args: noisy, clean (B, T), T a multiple of the hop.
        """
        self.net.train()
        spectrum = stft(clean, self.config.n_fft, self.config.hop_length)
        kind = torch.device(self.device).type
        with torch.autocast(kind, self.precision, enabled=self.precision != torch.float32):
            features, made, _, code = self.net(spectrum)
        losses = {
            "reconstruction": (made - features).square().mean(),
            "commitment": code.commitment * self.config.code_dim,
        }
        report = self.updaters["net"].update(weighted_sum(losses, self.weights), step)
        report |= self.net.quantizer.health
        return {name: value.item() for name, value in losses.items()} | report

    @torch.no_grad()
    def denoise(self, noisy: Tensor) -> Tensor:
        """Returns (B, T): the magnitudes that the code makes, under the phase that was given."""
        config = self.config
        spectrum = padded_stft(noisy, config.n_fft, config.hop_length)
        net = self.updaters["net"].averaged
        assert isinstance(net, VQVAECleanNet)
        made = spectrum * net.gains(spectrum)
        return istft(made, config.n_fft, config.hop_length)[:, : noisy.shape[-1]]

    def exportable(self) -> Exportable:
        """Returns the averaged network as ONNX is to have it."""
        net, config = self.updaters["net"].averaged, self.config
        assert isinstance(net, VQVAECleanNet)
        return Exportable(
            ExportedNet(net),
            config.sample_rate,
            config.n_fft,
            config.hop_length,
            output="distance",
            window_frames=config.window_frames,
            margin_frames=config.margin_frames,
        )
