"""Family `vqvae_clean`: a VQ-VAE that has heard clean speech only; what surprises it is not clean.

It codes short patches of compressed magnitudes as entries of a codebook and makes the frames from
them again. Speech that it knows lies in the direction of an entry; noise, damage and the artefacts
of denoisers lie between them. The angle between a patch's vector and its entry tells quality
without a reference: Fu et al., "Self-supervised speech quality estimation and enhancement using
only clean speech" (VQScore), ICLR 2024, from where normalised input and cosine distance come.

The encoder is linear on purpose. A deep one maps whatever it hears close to some entry, and its
distances say little; a linear one with uncorrelated codes of unit variance keeps far what is far.

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
    normalization: Literal["level", "mean", "instance"] = "mean"
    """What is taken out of a window: its level; of every bin the mean as well; its deviation."""
    kernel: int = Field(7, gt=0)
    """Frames of a patch; odd."""
    code_dim: int = Field(16, gt=0)
    codebook_size: int = Field(1024, gt=1)
    width: int = Field(128, gt=0)
    """Channels of the decoder."""
    window_frames: int = Field(1000, gt=0)
    """Frames that the exported model sees at once: 16 s."""
    margin_frames: int = Field(4, ge=0)
    """Of them, those on each side that lack context."""


class VQVAECleanNet(nn.Module):
    """Linear encoder, codebook, decoder over frames of compressed magnitudes."""

    def __init__(self, config: VQVAECleanConfig) -> None:
        super().__init__()
        self.config = config
        bins, kernel, width = config.n_fft // 2, config.kernel, config.width  # without DC
        self.encoder = nn.Conv1d(bins, config.code_dim, kernel, padding=kernel // 2, bias=False)
        self.spread = nn.BatchNorm1d(config.code_dim, affine=False)  # unit variance
        self.quantizer = VectorQuantizer(config.code_dim, config.codebook_size)
        self.decoder = nn.Sequential(
            nn.Conv1d(config.code_dim, width, kernel, padding=kernel // 2),
            nn.LeakyReLU(0.1),
            nn.Conv1d(width, bins, 3, padding=1),
        )

    def forward(self, spectrum: Tensor) -> tuple[Tensor, Tensor, Tensor, Quantized]:
        """Returns what is coded and what was made of the code (B, F - 1, N), z_e, and the code.

        Args: spectrum (B, N, F, 2), the real view of the STFT.
        """
        features, _, _ = self.features(spectrum)
        z_e = self.spread(self.encoder(features)).transpose(1, 2)  # (B, N, D)
        code = self.quantizer(z_e)
        made = self.decoder(code.z_q.transpose(1, 2))
        return features, made, z_e, code

    def features(self, spectrum: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns normalised compressed magnitudes (B, F - 1, N), their mean and deviation before.

        Args: spectrum (B, N, F, 2).
        """
        power = spectrum[:, :, 1:].square().sum(-1).transpose(1, 2)
        relative = power / (power.mean((1, 2), keepdim=True) + 1e-12)
        x = (relative + SILENCE).pow(self.config.compression / 2)
        mean, deviation = torch.zeros_like(x[:, :, :1]), torch.ones_like(x[:, :, :1])
        if self.config.normalization != "level":
            mean = x.mean(2, keepdim=True)
        if self.config.normalization == "instance":
            deviation = (x - mean).square().mean(2, keepdim=True).sqrt() + 0.05
        return (x - mean) / deviation, mean, deviation

    def gains(self, spectrum: Tensor) -> Tensor:
        """Returns what the code makes of the magnitudes, as gains (B, N, F, 1), at most 1."""
        _, mean, deviation = self.features(spectrum)
        features, made, _, _ = self(spectrum)
        before, after = features * deviation + mean, made * deviation + mean
        gain = (after.clamp(min=0) / before).pow(1 / self.config.compression).clamp(max=1)
        return functional.pad(gain, (0, 0, 1, 0)).transpose(1, 2)[..., None]


class ExportedNet(nn.Module):
    """The network as `quieten score` runs it."""

    def __init__(self, net: VQVAECleanNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, spectrum: Tensor) -> Tensor:
        """Returns the distance (B, N) of each frame: one minus the cosine of vector and entry.

        Args: spectrum (B, N, F, 2).
        """
        _, _, z_e, code = self.net(spectrum)
        product = (z_e * code.z_q).sum(-1)
        lengths = (z_e.square().sum(-1) * code.z_q.square().sum(-1)).sqrt()
        distance: Tensor = 1 - product / (lengths + 1e-6)
        return distance


def correlation(z_e: Tensor) -> Tensor:
    """Returns the mean over dimensions of the squared covariances with the others.

    As in VICReg (Bardes, Ponce, LeCun, ICLR 2022).

    Args: z_e (B, N, D).
    """
    flat = z_e.flatten(0, 1)
    flat = flat - flat.mean(0)
    covariance = flat.T @ flat / len(flat)
    others = covariance - torch.diag(covariance.diagonal())
    mean: Tensor = others.square().sum() / len(covariance)
    return mean


class VQVAEClean:
    """The family: how the network is trained, validated and exported.

    It is small enough to be trained in float32 whatever the precision of the run.
    """

    config_class: type[Section] = VQVAECleanConfig

    def __init__(self, config: TrainConfig) -> None:
        self.config = checked_section(VQVAECleanConfig, config.model, "model")
        self.weights = config.loss
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
        features, made, z_e, code = self.net(spectrum)
        losses = {
            "reconstruction": (made - features).square().mean(),
            "commitment": code.commitment,
            "correlation": correlation(z_e),
        }
        report = self.updaters["net"].update(weighted_sum(losses, self.weights), step)
        report |= self.net.quantizer.health
        return {name: value.item() for name, value in losses.items()} | report

    @torch.no_grad()
    def denoise(self, noisy: Tensor) -> Tensor:
        """Returns (B, T): the magnitudes that the code makes, under the phase that was given."""
        config = self.config
        net = self.updaters["net"].averaged
        assert isinstance(net, VQVAECleanNet)
        spectrum = padded_stft(noisy, config.n_fft, config.hop_length)
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
