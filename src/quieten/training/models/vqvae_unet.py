"""Family `vqvae_unet`: a denoiser for 8 kHz that hears through a discrete code.

A U-Net over time and frequency with squeeze-and-excitation, whose bottleneck is a vector quantizer.
Only the two shallow skips exist, and they see +-64 ms: whatever takes longer to hear (which voice,
which noise, which word) is heard by recurrences below them and passes through the code, so the
model needs its code. The output is a bounded complex mask.

It looks both ways, so it works on windows of frames with margins that do not count.

What it takes from the field: U-Net (Ronneberger et al. 2015), squeeze-and-excitation (Hu et al.
2018), VQ-VAE (van den Oord et al. 2017), dual-path recurrence (DPCRN, Le et al. 2021),
power-compressed spectra (Braun & Tashev 2021).

Letters: B batch, N frames, F frequency bins, C channels, W bands (frequency after striding), D code
dimension.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from quieten.errors import ConfigError
from quieten.training.config import Section, TrainConfig, checked_section
from quieten.training.exportable import Exportable, check_windows
from quieten.training.layers import (
    ABLATIONS,
    Block,
    FullBandRecurrence,
    SubBandRecurrence,
    activate,
    bounded_mask,
    down,
    up,
    without,
)
from quieten.training.losses import (
    check_terms,
    mel_loss,
    resolution_losses,
    same_level,
    snr_loss_db,
    spectral_distances,
    stoi_loss,
    weighted_sum,
)
from quieten.training.optimize import Updater
from quieten.training.quantizer import Quantized, VectorQuantizer, code_losses
from quieten.training.spectral import istft, padded_stft, stft
from quieten.training.tensorfile import load_weights
from quieten.windows import spans

CODE_TERMS = ("commitment", "codebook", "codes", "reconstruction")
TERMS = ("magnitude", "complex", "waveform", "stoi", "mse", "l1", "mel", *CODE_TERMS)
"""The loss terms that can have a weight."""

SILENCE = 1e-6
"""Power of a bin, relative to the mean of a window at level 1, that counts as nothing."""


class VQVAEUNetConfig(Section):
    """Size and choices of the network."""

    sample_rate: int = 8000
    n_fft: int = 512
    hop_length: int = 128
    window_frames: int = Field(192, gt=0)
    """Frames that the model sees at once; longer sounds are cut into windows."""
    margin_frames: int = Field(24, ge=0)
    """Frames at both edges of a window that do not count, where a neighbour has them."""
    compression: float = 0.3
    """Exponent on magnitudes, at the input and in the loss."""
    loss_resolutions: tuple[tuple[int, int], ...] = ((256, 64), (512, 128))
    """STFTs (n_fft, hop_length) in which the loss compares spectra."""
    input: Literal["complex", "magnitude", "real"] = "complex"
    """What of the spectrum is seen; other than complex, the mask is real, too."""
    channels: tuple[int, int, int, int] = (32, 48, 64, 96)
    """Channels at 64, 32, 16 and 8 bands (n_fft 512); multiples of 16 are quickest."""
    head: int = 16
    """Channels at full resolution."""
    hidden: int = 64
    """Units of each direction of the recurrences along time in a band."""
    full_band: int = 128
    """Units of each direction of the recurrence that sees all bands at once."""
    sub_band_layers: int = 2
    squeeze_excitation: bool = True
    skips: tuple[bool, bool, bool] = (True, True, False)
    """Which levels hand their features past the code, the shallowest first."""
    skip_dropout: float = Field(0.0, ge=0, le=1)
    """Share of the training examples that must do without skips."""
    quantizer: Literal["ema", "gradient", "none"] = "ema"
    """How the codebooks learn: by averages or by gradients; or no quantizer."""
    stage: Literal["direct", "clean", "predict"] = "direct"
    """`clean` learns a code of clean speech, which alone gives its magnitudes back. `predict`
    starts from such a model (start_from), keeps its books, and learns to denoise and to choose the
    entries that the clean sound has (the loss `codes`). `direct` does without."""
    quantize_from_step: int = Field(0, ge=0)
    """Until this step the code is not quantized; then the books start from k-means."""
    codebook_size: int = Field(512, gt=1)
    codebook_dim: int = 64
    codebook_groups: int = 4
    codebook_depth: int = 1
    codebook_decay: float = Field(0.99, ge=0, lt=1)
    codebook_restart_below: float = 0.1
    """Entries used less often than this share of even use are placed anew; 0 never."""


class VQVAEUNetNet(nn.Module):
    """Complex mask from the spectrum of a window."""

    def __init__(self, config: VQVAEUNetConfig) -> None:
        super().__init__()
        self.config = config
        c0, c1, c2, c3 = config.channels
        attention = config.squeeze_excitation
        bands = config.n_fft // 2 // 4 // 8
        self.stem = down({"complex": 3}.get(config.input, 1), c0, (1, 4))
        self.encode0, self.down1 = Block(c0, attention), down(c0, c1, (1, 2))
        self.encode1, self.down2 = Block(c1, attention), down(c1, c2, (1, 2))
        self.encode2, self.down3 = Block(c2, attention), down(c2, c3, (2, 2))
        self.encode3 = Block(c3, attention)
        self.sub_bands = nn.ModuleList(
            SubBandRecurrence(c3, bands, config.hidden) for _ in range(config.sub_band_layers)
        )
        self.full_band = FullBandRecurrence(c3, bands, config.full_band)
        self.to_code = nn.Linear(c3, config.codebook_dim)
        self.code_norm = nn.LayerNorm(config.codebook_dim)
        self.quantizer = make_quantizer(config)
        self.from_code = nn.Linear(config.codebook_dim, c3)
        self.decode3, self.up3 = Block(c3, attention, 2), up(c3, c2, (2, 2))
        self.decode2, self.up2 = Block(c2, attention), up(c2, c1, (1, 2))
        self.decode1, self.up1 = Block(c1, attention), up(c1, c0, (1, 2))
        self.decode0, self.leave = Block(c0, attention), up(c0, config.head, (1, 4))
        self.skips = nn.ModuleList(
            nn.Conv2d(2 * c, c, 1) if wanted else nn.Identity()
            for c, wanted in zip((c0, c1, c2), config.skips, strict=True)
        )
        seen, outputs = (3, 2) if config.input == "complex" else (1, 1)
        self.refine = nn.Conv2d(config.head + seen, config.head, 3, padding=1)
        self.mask_out = nn.Conv2d(config.head, outputs, 3, padding=1)
        with torch.no_grad():
            assert self.mask_out.bias is not None
            self.mask_out.bias.zero_()
            self.mask_out.bias[0] = 0.7  # start near a mask that lets pass

    def forward(
        self, spectrum: Tensor, start_code: bool = False, ablation: str = ""
    ) -> tuple[Tensor, Quantized | None]:
        """Returns the complex mask (B, N, F, 2), magnitude below 1, and what the code was.

        Args:
            spectrum: (B, N, F, 2), the real view of the STFT, at any level and for any N.
            start_code: whether a quantizer that has no books yet is to start.
            ablation: one of `ABLATIONS`.
        """
        frames = spectrum.shape[1]
        x = self.features(spectrum)
        z_e, skips = self.encode(x)
        z_q, quantized = self.quantize(z_e, start_code)
        if self.config.stage == "clean":
            return self.gains(self.magnitudes(z_q, x, skips), x)[:, :frames], quantized
        if self.training and self.config.skip_dropout > 0:
            kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.config.skip_dropout
            x, *skips = (kept * skip for skip in (x, *skips))
        if ablation:
            z_q, x, skips = without(ablation, z_q, x, skips)
        return bounded_mask(self.decode(z_q, x, skips))[:, :frames], quantized

    def features(self, spectrum: Tensor) -> Tensor:
        """Returns compressed values without the DC bin (B, 1 or 3, N, F - 1), at level 1.

        An odd N becomes even, for time is halved once.
        """
        more = torch.cat([spectrum, torch.zeros_like(spectrum[:, :1])], dim=1)
        x = more[:, : (spectrum.shape[1] + 1) // 2 * 2, 1:]
        frame_energy = 2 * x.square().sum((2, 3), keepdim=True) / self.config.n_fft
        x = x / torch.sqrt(frame_energy.mean(1, keepdim=True) + 1e-12)
        power = x.square().sum(-1, keepdim=True) + SILENCE
        magnitude = power.pow(self.config.compression / 2)
        if self.config.input == "magnitude":
            x = magnitude
        else:
            x = x * power.pow((self.config.compression - 1) / 2)
            x = x[..., :1] if self.config.input == "real" else torch.cat([x, magnitude], dim=-1)
        return x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

    def encode(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns z_e (B, N / 2, W, D) and the features of the levels above it."""
        x0 = self.encode0(self.stem(x))
        x1 = self.encode1(self.down1(x0))
        x2 = self.encode2(self.down2(x1))
        y = self.encode3(self.down3(x2)).permute(0, 2, 3, 1)  # (B, N / 2, W, C)
        for layer in self.sub_bands:
            y = layer(y)
        return self.code_norm(self.to_code(self.full_band(y))), [x0, x1, x2]

    def code(self, spectrum: Tensor) -> Tensor:
        """Returns the numbers of the entries (B, N / 2, W, depth, G) for (B, N, F, 2)."""
        assert self.quantizer is not None
        z_e, _ = self.encode(self.features(spectrum))
        quantized: Quantized = self.quantizer(z_e)
        return quantized.indices

    def quantize(self, z_e: Tensor, start: bool) -> tuple[Tensor, Quantized | None]:
        """Returns z_q, or z_e as it is without a quantizer or before its start."""
        if self.quantizer is None or not (self.quantizer.ready or start):
            return z_e, None
        quantized: Quantized = self.quantizer(z_e)
        return quantized.z_q, quantized

    def decode(self, z_q: Tensor, x: Tensor, skips: list[Tensor]) -> Tensor:
        """Returns raw values of the mask (B, 1 or 2, N, F - 1)."""
        y = self.from_code(z_q).permute(0, 3, 1, 2)
        y = self.joined(2, self.up3(self.decode3(y)), skips)
        y = self.joined(1, self.up2(self.decode2(y)), skips)
        y = self.joined(0, self.up1(self.decode1(y)), skips)
        y = self.leave(self.decode0(y))
        raw: Tensor = self.mask_out(activate(self.refine(torch.cat([y, x.to(y.dtype)], dim=1))))
        return raw

    def magnitudes(self, z_q: Tensor, x: Tensor, skips: list[Tensor]) -> Tensor:
        """Returns the compressed magnitudes (B, 1, N, F - 1) that the code alone gives."""
        z_q, x, skips = without("skips_zeroed", z_q, x, skips)
        return self.decode(z_q, x, skips)[:, :1].float()

    def gains(self, made: Tensor, x: Tensor) -> Tensor:
        """Returns the mask (B, N, F, 2) that brings the magnitudes of x down to those made."""
        gain = (made.clamp(min=0) / x[:, -1:]).pow(1 / self.config.compression).clamp(max=1)
        gain = functional.pad(gain, (1, 0)).permute(0, 2, 3, 1)
        return torch.cat([gain, torch.zeros_like(gain)], dim=-1)

    def joined(self, level: int, y: Tensor, skips: list[Tensor]) -> Tensor:
        """Returns features with those that the encoder has at this level, where it hands them."""
        if not self.config.skips[level]:
            return y
        joined: Tensor = self.skips[level](torch.cat([y, skips[level]], dim=1))
        return joined


class ExportedNet(nn.Module):
    """The network as ONNX has it: one spectrum in, one mask out."""

    def __init__(self, net: VQVAEUNetNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, spectrum: Tensor) -> Tensor:
        mask: Tensor = self.net(spectrum)[0]
        return mask


def make_quantizer(config: VQVAEUNetConfig) -> VectorQuantizer | None:
    """Returns the quantizer of a configuration, which may have none."""
    if config.quantizer == "none":
        return None
    return VectorQuantizer(
        config.codebook_dim,
        config.codebook_size,
        config.codebook_groups,
        config.codebook_depth,
        learning="none" if config.stage == "predict" else config.quantizer,
        decay=config.codebook_decay,
        restart_below=config.codebook_restart_below,
    )


class VQVAEUNet:
    """The family: how the network is trained, validated and exported.

    Raises: ConfigError if a setting is unknown or does not fit the others.
    """

    config_class: type[Section] = VQVAEUNetConfig

    def __init__(self, config: TrainConfig) -> None:
        self.config = checked_section(VQVAEUNetConfig, config.model, "model")
        check_windows(self.config.window_frames, self.config.margin_frames)
        if self.config.stage == "clean" and self.config.input == "real":
            raise ConfigError("model.stage=clean needs magnitudes: set model.input=complex")
        check_terms(config.loss, TERMS)
        self.weights = config.loss
        self.precision = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
        self.device = torch.device(config.device)
        net = VQVAEUNetNet(self.config).to(self.device)
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        updater = Updater(net, config.optimizer, config.steps, copied=("quantizer",))
        self.updaters = {"net": updater}
        self.start_from = config.start_from
        self.teacher: VQVAEUNetNet | None = None

    def step(self, noisy: Tensor, clean: Tensor, step: int) -> dict[str, float]:
        """Takes one training step and returns its named losses, and the health of the code.

        Args: noisy, clean (B, T), T a multiple of the hop.
        """
        net, weights = self.updaters["net"].net, self.weights
        net.train()
        start = step >= self.config.quantize_from_step
        with torch.autocast(self.device.type, self.precision, self.precision != torch.float32):
            if self.config.stage == "clean":
                losses = self.learn_clean(clean, start)
                weights = {name: weights[name] for name in losses if name in weights}
            else:
                losses = self.learn_pair(noisy, clean, start)
        report = self.updaters["net"].update(weighted_sum(losses, weights), step)
        health = net.quantizer.health if isinstance(net.quantizer, VectorQuantizer) else {}
        return {name: value.item() for name, value in losses.items()} | health | report

    def learn_pair(self, noisy: Tensor, clean: Tensor, start_code: bool) -> dict[str, Tensor]:
        """Returns the losses of denoising, with those of the code."""
        net, config = self.updaters["net"].net, self.config
        spectrum = stft(noisy, config.n_fft, config.hop_length)
        mask, quantized = net(spectrum, start_code=start_code)
        with torch.autocast(self.device.type, enabled=False):
            denoised = self.apply(mask, spectrum)
            losses = self.losses(denoised, clean, noisy) | code_losses(quantized, denoised)
            if config.stage == "predict":
                losses["codes"] = self.prediction_loss(quantized, clean)
        return losses

    def learn_clean(self, clean: Tensor, start_code: bool) -> dict[str, Tensor]:
        """Returns the loss of coding the clean sound, with those of the code."""
        net, config = self.updaters["net"].net, self.config
        assert isinstance(net, VQVAEUNetNet)
        x = net.features(stft(clean, config.n_fft, config.hop_length))
        z_e, skips = net.encode(x)
        z_q, quantized = net.quantize(z_e, start_code)
        error = net.magnitudes(z_q, x, skips) - x[:, -1:]
        return {"reconstruction": error.square().mean()} | code_losses(quantized, error)

    def prediction_loss(self, quantized: Quantized | None, clean: Tensor) -> Tensor:
        """Returns the cross-entropy of the entries that the model of clean speech chooses."""
        if self.teacher is None:
            if not self.start_from:
                raise ConfigError("model.stage=predict needs start_from: a model of stage clean")
            self.teacher = VQVAEUNetNet(self.config).to(self.device).eval()
            load_weights(self.teacher, "net", self.start_from)
        spectrum = stft(clean, self.config.n_fft, self.config.hop_length)
        with torch.no_grad():
            wanted = self.teacher.code(spectrum)
        quantizer = self.updaters["net"].net.quantizer
        assert quantized is not None and isinstance(quantizer, VectorQuantizer)
        return quantizer.cross_entropy(quantized.z_e, wanted)

    def losses(self, denoised: Tensor, clean: Tensor, noisy: Tensor) -> dict[str, Tensor]:
        """Returns the named terms of the sound; those that cost more only if they have a weight."""
        length, config = denoised.shape[-1], self.config  # incomplete samples drop out
        rate = config.sample_rate
        clean, noisy = clean[..., :length], noisy[..., :length]
        denoised, clean, noisy = same_level(denoised, clean, noisy, silence=0.02)
        losses = resolution_losses(denoised, clean, config.compression, config.loss_resolutions)
        losses["waveform"] = snr_loss_db(denoised, clean, noisy)
        if "stoi" in self.weights:
            losses["stoi"] = stoi_loss(denoised, clean, rate)
        if "mel" in self.weights:
            losses["mel"] = mel_loss(denoised, clean, rate)
        if not {"mse", "l1"}.isdisjoint(self.weights):
            losses |= spectral_distances(denoised, clean, config.n_fft, config.hop_length)
        return losses

    def apply(self, mask: Tensor, spectrum: Tensor) -> Tensor:
        """Returns the waveform (B, T) of a spectrum (B, N, F, 2) under a mask of its shape."""
        product = torch.view_as_complex(spectrum) * torch.view_as_complex(mask.contiguous())
        return istft(torch.view_as_real(product), self.config.n_fft, self.config.hop_length)

    @torch.no_grad()
    def denoise(self, noisy: Tensor, ablation: str = "") -> Tensor:
        """Returns (B, T) from the averaged weights in float32, as the exported model gives it.

        Args:
            noisy: (B, T), any T.
            ablation: one of `ABLATIONS`: what is taken away.

        Raises: ConfigError if the ablation is unknown.
        """
        if ablation not in ABLATIONS:
            raise ConfigError(f"no ablation {ablation}: choose among {', '.join(ABLATIONS[1:])}")
        config, net = self.config, self.updaters["net"].averaged
        spectrum = padded_stft(noisy, config.n_fft, config.hop_length)
        masks = []
        for span in spans(spectrum.shape[1], config.window_frames, config.margin_frames):
            mask, _ = net(spectrum[:, span.first : span.last], ablation=ablation)
            masks.append(mask[:, span.start - span.first : span.stop - span.first])
        return self.apply(torch.cat(masks, dim=1), spectrum)[:, : noisy.shape[-1]]

    def exportable(self) -> Exportable:
        """Returns the averaged network as ONNX is to have it."""
        net, config = self.updaters["net"].averaged, self.config
        assert isinstance(net, VQVAEUNetNet)
        return Exportable(
            ExportedNet(net),
            config.sample_rate,
            config.n_fft,
            config.hop_length,
            window_frames=config.window_frames,
            margin_frames=config.margin_frames,
        )
