"""Family `vqvae_unet_paper`: the VQ-VAE U-Net as it was published, to be measured rightly.

A spectrogram of one second, 260 x 260, standardised, with Gaussian noise on it, goes through a
U-Net with squeeze-and-excitation at every stage and a vector quantizer at the bottleneck, which
gives the clean spectrogram (Rocha & Fernandes, "Vector-Quantized Variational Autoencoder para
Audio Denoising com U-Net e SE blocks"; SE: Hu et al. 2018, squeezing over the whole plane). What
the authors' code does otherwise than their text is a setting: `parts`, `code_order`, the weights
of `loss`.

Such frames (519 samples, every 31) are none of `quieten.stft`, so there is no ONNX form: reproduce
takes the weights.

Letters: B batch, P pieces, T samples, N frames, F frequency bins, C channels, D code dimension.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from quieten.errors import ConfigError
from quieten.training.config import Section, TrainConfig, checked_section
from quieten.training.exportable import Exportable
from quieten.training.layers import ABLATIONS
from quieten.training.losses import check_terms, weighted_sum
from quieten.training.optimize import Updater
from quieten.training.quantizer import Quantized, VectorQuantizer

TERMS = ("mse", "l1", "commitment", "codebook")
"""The loss terms that can have a weight."""


class VQVAEUNetPaperConfig(Section):
    """The choices of the paper."""

    sample_rate: int = 8000
    piece_s: float = Field(1.0, gt=0)
    """Sound is cut into pieces of this length, one spectrogram each."""
    window_length: int = Field(519, gt=1)
    overlap: int = Field(488, ge=0)
    """Samples that neighbouring windows share: with 519 a second is 260 x 260 values."""
    parts: Literal["complex", "real"] = "complex"
    """Of the spectrum; the authors' code keeps the real part only."""
    standardise: Literal["data", "piece"] = "data"
    """Mean and deviation of the first batch, kept with the model; or those of each piece."""
    noise: Literal["bins", "sound", "mixture"] = "bins"
    """Gaussian noise on each bin, as published; the same as a sound has it; or the data's."""
    noise_sigma: float = Field(1.0, ge=0)
    """Of the noise, relative to the standardised spectrogram."""
    width: int = Field(64, gt=0)
    """Channels of the first level; each of four levels doubles them."""
    se_reduction: int = Field(16, gt=0)
    dropout: float = Field(0.1, ge=0, lt=1)
    quantizer: Literal["gradient", "ema", "none"] = "gradient"
    codebook_size: int = Field(512, gt=1)
    codebook_dim: int = Field(64, gt=0)
    code_order: Literal["channels", "pixels"] = "channels"
    """Whether a code stands for one place, or, as in the authors' code, for a run of pixels."""


class SqueezeExcitation(nn.Module):
    """Scales channels by their means over the whole spectrogram."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(2, channels // reduction)
        self.squeeze, self.excite = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        gain = torch.sigmoid(self.excite(functional.relu(self.squeeze(x.mean((2, 3))))))
        return x * gain[:, :, None, None]


class Stage(nn.Module):
    """Two convolutions of 3 x 3 with norm and dropout, then squeeze-and-excitation."""

    def __init__(self, channels: int, channels_out: int, config: VQVAEUNetPaperConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *convolution(channels, channels_out),
            nn.Dropout(config.dropout),
            *convolution(channels_out, channels_out),
            SqueezeExcitation(channels_out, config.se_reduction),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


class PaperNet(nn.Module):
    """Clean spectrogram from a noisy one, both standardised."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: VQVAEUNetPaperConfig) -> None:
        super().__init__()
        self.config = config
        channels = 1 if config.parts == "real" else 2
        widths = [config.width * 2**level for level in range(5)]
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.zeros(()))  # zero: not measured yet
        self.encoder = nn.ModuleList(
            Stage(a, b, config) for a, b in zip([channels, *widths[:3]], widths[:4], strict=True)
        )
        self.bottleneck = Stage(widths[3], widths[4], config)
        places = config.code_order == "channels"
        self.to_code = nn.Conv2d(widths[4], config.codebook_dim, 1) if places else nn.Identity()
        self.from_code = nn.Conv2d(config.codebook_dim, widths[4], 1) if places else nn.Identity()
        self.quantizer = make_quantizer(config)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * c, c, 2, stride=2) for c in reversed(widths[:4])
        )
        self.decoder = nn.ModuleList(Stage(2 * c, c, config) for c in reversed(widths[:4]))
        self.leave = nn.Conv2d(widths[0], channels, 1)

    def forward(self, x: Tensor, ablation: str = "") -> tuple[Tensor, Quantized | None]:
        """Returns the clean spectrogram and what the code was.

        Args: x (B, 1 or 2, F, N), standardised; ablation one of `ABLATIONS`.
        """
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        z_e = self.to_code(self.bottleneck(x))
        z_q, quantized = self.quantize(z_e)
        if ablation == "latent_zeroed":
            z_q = torch.zeros_like(z_q)
        elif ablation == "latent_shuffled":
            order = torch.randperm(z_q.shape[3], generator=torch.Generator().manual_seed(5))
            z_q = z_q[..., order.to(z_q.device)]
        elif ablation == "skips_zeroed":
            skips = [torch.zeros_like(skip) for skip in skips]
        y = self.from_code(z_q)
        for up, stage, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            y = up(y)
            # pooling cuts a size that is odd
            missing = (0, skip.shape[3] - y.shape[3], 0, skip.shape[2] - y.shape[2])
            y = stage(torch.cat([skip, functional.pad(y, missing)], dim=1))
        return self.leave(y), quantized

    def quantize(self, z_e: Tensor) -> tuple[Tensor, Quantized | None]:
        """Returns z_q (B, D, F', N') and what the code was."""
        if self.quantizer is None:
            return z_e, None
        if self.config.code_order == "pixels":  # rows of pixels of one channel, cut to length D
            runs = z_e.reshape(-1, self.config.codebook_dim)
            quantized: Quantized = self.quantizer(runs)
            return quantized.z_q.reshape(z_e.shape), quantized
        quantized = self.quantizer(z_e.permute(0, 2, 3, 1))
        return quantized.z_q.permute(0, 3, 1, 2), quantized


class VQVAEUNetPaper:
    """The family: how the network is trained and validated.

    Raises: ConfigError if a setting is unknown or does not fit the others.
    """

    config_class: type[Section] = VQVAEUNetPaperConfig

    def __init__(self, config: TrainConfig) -> None:
        self.config = checked_section(VQVAEUNetPaperConfig, config.model, "model")
        if self.config.overlap >= self.config.window_length:
            raise ConfigError("model.overlap must be less than model.window_length")
        check_terms(config.loss, TERMS)
        self.weights = config.loss
        self.precision = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
        self.device = torch.device(config.device)
        self.piece = round(self.config.piece_s * self.config.sample_rate)
        net = PaperNet(self.config).to(self.device)
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        copied = ("quantizer", "mean", "deviation")
        self.updaters = {"net": Updater(net, config.optimizer, config.steps, copied)}

    def step(self, noisy: Tensor, clean: Tensor, step: int) -> dict[str, float]:
        """Takes one training step and returns its named losses, and the health of the code.

        Args: noisy, clean (B, T) of one piece; the noise is made here unless `noise` says mixture.
        """
        updater = self.updaters["net"]
        net = updater.net
        assert isinstance(net, PaperNet)
        net.train()
        target = self.seen(self.spectra(clean))
        if not net.deviation:  # step 0
            net.mean.copy_(target.mean())
            net.deviation.copy_(target.std())
        mean, deviation = self.scale(net, target)
        target = (target - mean) / deviation
        given = self.with_noise(target, (self.seen(self.spectra(noisy)) - mean) / deviation)
        with torch.autocast(self.device.type, self.precision, self.precision != torch.float32):
            estimate, quantized = net(given)
        losses = paper_losses(estimate.float(), target, quantized)
        report = updater.update(weighted_sum(losses, self.weights), step)
        health = net.quantizer.health if net.quantizer is not None else {}
        return {name: value.item() for name, value in losses.items()} | health | report

    @torch.no_grad()
    def denoise(self, noisy: Tensor, ablation: str = "") -> Tensor:
        """Returns (B, T) from the averaged weights in float32, piece by piece.

        Args:
            noisy: (B, T), any T; silence fills the last piece.
            ablation: one of `ABLATIONS`: what is taken away.

        Raises: ConfigError if the ablation is unknown.
        """
        if ablation not in ABLATIONS:
            raise ConfigError(f"no ablation {ablation}: choose among {', '.join(ABLATIONS[1:])}")
        net = self.updaters["net"].averaged
        batch, length = noisy.shape
        pieces = functional.pad(noisy, (0, -length % self.piece)).reshape(-1, self.piece)
        denoised = []
        for piece in pieces:  # one at a time: a piece is large
            seen = self.seen(self.spectra(piece[None]))
            mean, deviation = self.scale(net, seen)
            estimate, _ = net((seen - mean) / deviation, ablation)
            denoised.append(self.sound(estimate * deviation + mean))
        return torch.cat(denoised).reshape(batch, -1)[:, :length]

    def exportable(self) -> Exportable:
        """Raises ConfigError: the runtime has no such frames."""
        raise ConfigError(
            "vqvae_unet_paper has no ONNX form, since the runtime has no such frames: export to a "
            ".safetensors file for `quieten reproduce`, or train vqvae_unet"
        )

    def scale(self, net: nn.Module, spectrogram: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and deviation for (B, 1 or 2, F, N): those kept, or each piece's own."""
        assert isinstance(net, PaperNet)
        if self.config.standardise == "data":
            return net.mean, net.deviation + 1e-9
        axes = (1, 2, 3)
        mean = spectrogram.mean(axes, keepdim=True)
        return mean, spectrogram.std(axes, keepdim=True) + 1e-9

    def with_noise(self, target: Tensor, mixture: Tensor) -> Tensor:
        """Returns a spectrogram (B, 1 or 2, F, N) with the noise that `noise` names."""
        config = self.config
        if config.noise == "mixture":
            return mixture
        noisy = target + config.noise_sigma * torch.randn_like(target)
        # as a sound the noise of neighbouring frames agrees: most of what was added is gone
        return noisy if config.noise == "bins" else self.seen(self.spectra(self.sound(noisy)))

    def spectra(self, waveform: Tensor) -> Tensor:
        """Returns `paper_stft` of (B, T)."""
        return paper_stft(waveform, self.config.window_length, self.config.overlap)

    def seen(self, spectrum: Tensor) -> Tensor:
        """Returns the parts of spectra (B, F, N) that the network sees: (B, 1 or 2, F, N)."""
        if self.config.parts == "real":
            return spectrum.real[:, None]
        return torch.stack([spectrum.real, spectrum.imag], dim=1)

    def sound(self, seen: Tensor) -> Tensor:
        """Returns the waveform (B, T) of a piece; a missing imaginary part stays zero."""
        real = seen[:, 0]
        imaginary = seen[:, 1] if seen.shape[1] == 2 else torch.zeros_like(real)
        spectrum = torch.complex(real.contiguous(), imaginary.contiguous())
        return paper_istft(spectrum, self.config.window_length, self.config.overlap, self.piece)


def paper_losses(
    estimate: Tensor, target: Tensor, quantized: Quantized | None
) -> dict[str, Tensor]:
    """Returns the named terms `mse`, `l1`, `commitment` and `codebook`.

    Args: estimate, target (B, 1 or 2, F, N), standardised.
    """
    zero = estimate.new_zeros(())
    return {
        "mse": functional.mse_loss(estimate, target),
        "l1": functional.l1_loss(estimate, target),
        "commitment": zero if quantized is None else quantized.commitment,
        "codebook": zero if quantized is None else quantized.codebook,
    }


def paper_stft(waveform: Tensor, window_length: int, overlap: int) -> Tensor:
    """Returns the spectra (B, F, N) that `scipy.signal.stft` gives with its defaults.

    Hann window, scaled by its sum; zeros before, behind, and to fill the last frame.

    Args: waveform (B, T).
    """
    hop, half = window_length - overlap, window_length // 2
    missing = -(waveform.shape[-1] + 2 * half - window_length) % hop
    padded = functional.pad(waveform, (half, half + missing))
    window = torch.hann_window(window_length, device=waveform.device)
    frames = padded.unfold(-1, window_length, hop) * (window / window.sum())
    spectra: Tensor = torch.fft.rfft(frames)
    return spectra.transpose(1, 2)


def paper_istft(spectrum: Tensor, window_length: int, overlap: int, length: int) -> Tensor:
    """Returns the waveform (B, length) of spectra (B, F, N), as `scipy.signal.istft` does."""
    hop, half = window_length - overlap, window_length // 2
    window = torch.hann_window(window_length, device=spectrum.device)
    frames = torch.fft.irfft(spectrum.transpose(1, 2), window_length) * window * window.sum()
    squares = window.square().expand(1, frames.shape[1], -1)
    total, weight = (overlap_add(part, hop) for part in (frames, squares))
    return (total / weight.clamp(min=1e-10))[:, half : half + length]


def overlap_add(frames: Tensor, hop: int) -> Tensor:
    """Returns the sum (B, T) of frames (B, N, window length), each `hop` after the last."""
    length = frames.shape[2] + hop * (frames.shape[1] - 1)
    columns = frames.transpose(1, 2)
    return functional.fold(columns, (1, length), (1, frames.shape[2]), stride=(1, hop))[:, 0, 0]


def make_quantizer(config: VQVAEUNetPaperConfig) -> VectorQuantizer | None:
    """Returns the quantizer of a configuration; with gradients, it is the plain one of 2017."""
    if config.quantizer == "none":
        return None
    plain = config.quantizer == "gradient"
    return VectorQuantizer(
        config.codebook_dim,
        config.codebook_size,
        learning=config.quantizer,
        start="uniform" if plain else "kmeans",
        restart_below=0.0 if plain else 0.1,
    )


def convolution(channels: int, channels_out: int) -> tuple[nn.Module, ...]:
    """Returns a convolution of 3 x 3 with norm and rectifier."""
    return (
        nn.Conv2d(channels, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )
