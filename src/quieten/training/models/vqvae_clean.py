"""Family `vqvae_clean`: a VQ-VAE that has heard clean speech only; what surprises it is not clean.

It codes short patches of compressed magnitudes as entries of a codebook and makes the frames from
them again. Speech that it knows lies in the direction of an entry; noise, damage and the artefacts
of denoisers lie between them. How far a patch is from its entry, and what the entry cannot make of
it, tells quality without a reference: Fu et al., "Self-supervised speech quality estimation and
enhancement using only clean speech" (VQScore), ICLR 2024, from where normalised input and cosine
distance come.

Unlike there, a small readout weighs these errors. It alone hears noise and denoisers in training,
and learns from PESQ what they are worth to a listener; the code stays one of clean speech.

The encoder is linear on purpose. A deep one maps whatever it hears close to some entry, and its
distances say little; a linear one with uncorrelated codes of unit variance keeps far what is far.

The exported model gives distances for `quieten score`. `denoise` makes the sound from the codes
and the phase it was given: on clean speech it shows how well the codebook covers unseen voices.

Letters: B batch, T samples, N frames, F frequency bins, C channels, D code dimension, J errors.
"""

import math
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from quieten.denoise import Denoiser
from quieten.errors import AudioError
from quieten.metrics import METRICS
from quieten.training.config import Section, TrainConfig, checked_section
from quieten.training.exportable import Exportable
from quieten.training.losses import weighted_sum
from quieten.training.optimize import Updater
from quieten.training.quantizer import Quantized, VectorQuantizer
from quieten.training.spectral import istft, padded_stft, stft

SILENCE = 1e-5
"""Power of a bin, relative to the mean of a window, that counts as nothing."""

BANDS = 16
"""Groups of bins, as wide as they are high, in which errors are looked at."""

DENOISERS = ("identity", "identity", "speech", "logmmse", "wiener", "spectral-gate")
"""What may have happened to a sound that is judged; each is as likely, the first twice."""

PESQ_RANGE = 1.0, 4.644
"""What PESQ can be, ITU-T P.862.2 (2007), but for a few hundredths."""

HEARD_DB = 40.0
"""Frames further below the loud ones are silence, as in `quieten.score`."""


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
    margin_frames: int = Field(8, ge=0)
    """Of them, those on each side that lack context."""
    readout: int = Field(48, gt=0)
    """Units of the layer that weighs the errors."""
    judged: int = Field(4, ge=0)
    """Examples of a batch that get a PESQ of their own, from which the readout learns."""


class VQVAECleanNet(nn.Module):
    """Linear encoder, codebook, decoder over frames of compressed magnitudes; a readout."""

    bands: Tensor

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
        edges = torch.logspace(0, math.log10(bins), BANDS + 1).round()
        number = torch.arange(bins)
        bands = ((number >= edges[:-1, None] - 1) & (number < edges[1:, None] - 1)).float()
        bands = bands[bands.sum(1) > 0]  # the lowest may hold no bin
        self.register_buffer("bands", bands / bands.sum(1, keepdim=True), persistent=False)
        errors = 2 * len(bands) + 2 * config.code_dim + 3
        self.spread_errors = nn.BatchNorm1d(errors, affine=False)
        self.readout = nn.Sequential(
            nn.Linear(errors, config.readout), nn.LeakyReLU(0.1), nn.Linear(config.readout, 1)
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

    def errors(self, spectrum: Tensor) -> Tensor:
        """Returns what the code makes of each frame, and what not (B, N, J), mostly logarithms.

        Args: spectrum (B, N, F, 2).
        """
        features, made, z_e, code = self(spectrum)
        inside, missed = (
            torch.log(functional.linear(part.square().transpose(1, 2), self.bands) + 1e-3)
            for part in (features, made - features)
        )
        away = (z_e - code.z_q).square()
        lengths = [torch.log(part.sum(-1, keepdim=True) + 0.01) for part in (away, z_e.square())]
        parts = [torch.log(part + 0.01) for part in (away, z_e.square())]
        distance = cosine_distance(z_e, code.z_q)[..., None]
        return torch.cat([inside, missed, *parts, *lengths, distance], dim=-1)

    def quality(self, errors: Tensor) -> Tensor:
        """Returns the quality of each frame (B, N) from its errors (B, N, J): see `target`."""
        spread = self.spread_errors(errors.flatten(0, 1)).view(errors.shape)
        quality: Tensor = self.readout(spread)[..., 0]
        return quality

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
        """Returns the distance (B, N) of each frame: one minus its quality.

        Args: spectrum (B, N, F, 2).
        """
        return 1 - self.net.quality(self.net.errors(spectrum))


def cosine_distance(x: Tensor, y: Tensor) -> Tensor:
    """Returns one minus the cosine between vectors (..., D)."""
    lengths = (x.square().sum(-1) * y.square().sum(-1)).sqrt()
    return 1 - (x * y).sum(-1) / (lengths + 1e-6)


def target(pesq: float) -> float:
    """Returns the quality that a PESQ stands for, 0 to 1; its lower end counts more.

    Most noisy speech has a PESQ below 2, so the root tells it apart.
    """
    low, high = PESQ_RANGE
    return math.sqrt(max(pesq - low, 0.0) / (high - low))


def heard(spectrum: Tensor) -> Tensor:
    """Returns which frames (B, N) are no silence, as 0 or 1.

    Args: spectrum (B, N, F, 2).
    """
    level_db = 10 * torch.log10(spectrum.square().sum((2, 3)) + 1e-12)
    return (level_db > level_db.quantile(0.95, dim=1, keepdim=True) - HEARD_DB).float()


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
        self.seed = config.seed
        self.denoisers: dict[str, Denoiser] = {}  # loaded when they are needed

    def step(self, noisy: Tensor, clean: Tensor, step: int) -> dict[str, float]:
        """Takes one training step and returns its named losses, and the health of the codebook.

        The code sees the clean sound alone. The noisy one, perhaps denoised, is for the readout.

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
        health = dict(self.net.quantizer.health)
        if "quality" in self.weights:
            losses["quality"] = self.quality_loss(noisy, clean, step)
        report = self.updaters["net"].update(weighted_sum(losses, self.weights), step)
        return {name: value.item() for name, value in losses.items()} | health | report

    def quality_loss(self, noisy: Tensor, clean: Tensor, step: int) -> Tensor:
        """Returns the mean squared error of the qualities of some examples.

        Raises: MissingExtra if pesq is not installed.
        """
        rng = np.random.default_rng([self.seed, step])
        pairs = list(zip(noisy, clean, strict=True))[: self.config.judged]
        known = [found for pair in pairs if (found := self.judge(*pair, rng)) is not None]
        if not known:
            return clean.new_zeros(())
        sounds, wanted = (torch.stack(parts) for parts in zip(*known, strict=True))
        spectrum = stft(sounds.to(clean.device), self.config.n_fft, self.config.hop_length)
        with torch.no_grad():  # the code learns nothing from this
            errors = self.net.eval().errors(spectrum)
        self.net.train()
        weight = heard(spectrum)
        quality = (self.net.quality(errors) * weight).sum(1) / weight.sum(1).clamp(min=1)
        return (quality - wanted.to(clean.device)).square().mean()

    def judge(
        self, noisy: Tensor, clean: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor] | None:
        """Returns a sound (T,), perhaps denoised, and its quality; None where PESQ finds none.

        Args: noisy, clean (T,).
        """
        name, rate = DENOISERS[rng.integers(len(DENOISERS))], self.config.sample_rate
        if name not in self.denoisers:
            self.denoisers[name] = Denoiser(name)
        sound = self.denoisers[name](noisy.cpu().numpy(), rate)
        metric = METRICS["pesq_wb" if rate == 16_000 else "pesq_nb"]
        try:
            quality = target(metric(sound, clean.cpu().numpy(), rate))
        except AudioError:  # nobody speaks
            return None
        return torch.from_numpy(sound), torch.tensor(quality)

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
