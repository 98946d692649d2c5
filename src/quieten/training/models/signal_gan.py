"""Family `signal_gan`: short 1-D signals such as vibration, pulse or seismic recordings.

Two generators. `paper` is the convolutional autoencoder of the lightweight GAN denoiser, as
published. `slots` is ours: it knows that many signals are sums of few waves. Each slot attends to
the bins of a fine spectrum of what the other slots leave unexplained, a softmax that is a posterior
over one frequency (matching pursuit, Mallat & Zhang 1993, unrolled and learned; slots after
Locatello et al. 2020); an MLP on the spectra may then correct their sum. Waves are not learned.

Letters: B batch, T samples, K bins, Q quadratures (1 sine; 2 sine and cosine), S slots.
"""

import copy
import math
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from quieten.errors import ConfigError
from quieten.training.config import DataConfig, Section, TrainConfig, checked_section
from quieten.training.exportable import WaveformExportable
from quieten.training.losses import check_terms, weighted_sum
from quieten.training.optimize import Updater

TERMS = ("l1", "snr_db", "earlier", "adversarial")
"""The loss terms that can have a weight."""

LARGEST_BANK = 2**25
"""Values of the waves of a network; more is a mistake in the length of a window."""


class SignalGANConfig(Section):
    """Which generator, and its size; `fitted` takes what is 0 or auto from the data."""

    generator: Literal["paper", "slots"] = "slots"
    sample_rate: int = 0
    length: int = 0
    """Samples of a window; the networks see nothing longer."""
    phase: Literal["auto", "zero", "any"] = "auto"
    """`zero`: sines that start at zero with a known amplitude, as in the published data."""
    slots: int = 0
    passes: int = 3
    low_hz: float = 0.0
    spacing_hz: float = 0.0
    bins: int = 0
    """The fine spectrum of the slots."""
    units: int = -1
    """Of the MLP that corrects the slots; 0 leaves it out, -1 where the data are sines."""
    blocks: int = 1
    band_hz: float = 0.0
    """Highest frequency that the MLP sees and makes."""
    generator_only_steps: int = 0
    """Steps before the discriminator joins (only where loss.adversarial has a weight)."""

    def fitted(self, data: DataConfig) -> Self:
        """Returns these settings with all that was left open taken from the data."""
        if self.length and self.sample_rate:
            return self
        rate, length = data.sample_rate, round(data.segment_s * data.sample_rate)
        resolution_hz = rate / length
        recorded, low, high = bool(data.clean), *data.signals.frequency_hz
        known = not (recorded or data.signals.random_phase) and data.signals.amplitude == (1.0, 1.0)
        phase = self.phase if self.phase != "auto" else "zero" if known else "any"
        spacing_hz = self.spacing_hz or resolution_hz / (2 if recorded else 8 if known else 4)
        low_hz = self.low_hz or (spacing_hz if recorded else max(low - resolution_hz, spacing_hz))
        top_hz = rate / 2 if recorded else min(high + resolution_hz, rate / 2)
        return self.model_copy(
            update={
                "sample_rate": rate,
                "length": length,
                "phase": phase,
                "slots": self.slots or (5 if recorded else data.signals.count[1]),
                "spacing_hz": spacing_hz,
                "low_hz": low_hz,
                "bins": self.bins or math.ceil((top_hz - low_hz) / spacing_hz),
                "units": self.units if self.units >= 0 else 192 if recorded else 0,
                "band_hz": self.band_hz or rate / 2 - resolution_hz,
            }
        )


def waves(
    config: SignalGANConfig, low_hz: float, spacing_hz: float, bins: int, quadratures: int
) -> Tensor:
    """Returns sines (and cosines) of amplitude 1 over a window, as (Q, K, T)."""
    frequency = low_hz + spacing_hz * torch.arange(bins, dtype=torch.float64)
    time = torch.arange(config.length, dtype=torch.float64) / config.sample_rate
    angle = 2 * math.pi * frequency[:, None] * time  # (K, T)
    return torch.stack([angle.sin(), angle.cos()][:quadratures]).float()


class PaperGenerator(nn.Module):
    """The published denoising autoencoder: 282,177 parameters at its defaults."""

    def __init__(self, down: int = 16, up: int = 32, kernel: int = 64, depth: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for _ in range(depth):
            layers += [
                nn.Conv1d(channels, down, kernel, 2, kernel // 2 - 1),
                nn.BatchNorm1d(down),
                nn.LeakyReLU(0.3),
            ]
            channels = down
        for _ in range(depth):
            layers += [
                nn.ConvTranspose1d(channels, up, kernel, 2, kernel // 2 - 1),
                nn.BatchNorm1d(up),
                nn.LeakyReLU(0.3),
            ]
            channels = up
        self.body = nn.Sequential(*layers)
        self.leave = nn.Conv1d(channels, 1, kernel, padding=kernel // 2)
        self.apply(start_weights)

    def forward(self, noisy: Tensor) -> list[Tensor]:
        """Returns [denoised (B, T)], T a multiple of 2 ** depth."""
        denoised: Tensor = self.leave(self.body(noisy[:, None]))  # (B, 1, T + 1)
        return [denoised[:, 0, : noisy.shape[-1]]]


class Discriminator(nn.Module):
    """Tells clean from denoised: 10,577 parameters at its defaults."""

    def __init__(
        self, channels: int = 8, kernel: int = 32, length: int = 256, units: int = 16
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for _ in range(2):
            layers += [
                nn.Conv1d(before, channels, kernel, 2, kernel // 2 - 1),
                nn.BatchNorm1d(channels),
                nn.LeakyReLU(0.01),
            ]
            before = channels
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(channels * (length // 4), units), nn.ReLU(), nn.Linear(units, 1)
        )
        self.apply(start_weights)

    def forward(self, waveform: Tensor) -> Tensor:
        """Returns logits (B,), positive for clean. The paper's sigmoid sits in the losses."""
        logits: Tensor = self.head(self.body(waveform[:, None]).flatten(1))
        return logits[:, 0]


def start_weights(layer: nn.Module) -> None:
    """Draws weights as the original does."""
    if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
        std = math.sqrt(1 / (layer.in_channels * layer.kernel_size[0]))
        nn.init.normal_(layer.weight, 0.0, std)
    elif isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, 0.0, 0.01)
    else:
        return
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class Slots(nn.Module):
    """Waves found one by one: slots take turns on what the others leave, several times."""

    waves: Tensor

    def __init__(self, config: SignalGANConfig) -> None:
        super().__init__()
        self.quadratures = 1 if config.phase == "zero" else 2
        self.slots, self.passes, self.bins = config.slots, config.passes, config.bins
        made = waves(config, config.low_hz, config.spacing_hz, config.bins, self.quadratures)
        self.register_buffer("waves", made.flatten(0, 1), persistent=False)  # (QK, T)
        # Sharpness of a softmax: the last near the factor of the log-likelihood, the first softer.
        zero = config.phase == "zero"
        sharpest = 200.0 if zero else 100.0
        ramp = torch.linspace(0, 1, config.passes)[:, None].repeat(1, config.slots)
        self.log_sharpness = nn.Parameter(math.log(sharpest / 4) + math.log(4) * ramp)
        self.null = nn.Parameter(torch.zeros_like(ramp))
        # Of the published data: each of three sines has 0.695 / 3 in the mixture, 1 / 3 when clean.
        self.gain = nn.Parameter(torch.full_like(ramp, 0.232 if zero else 1.0))
        self.slope = nn.Parameter(torch.zeros_like(ramp))
        self.scale = nn.Parameter(torch.tensor(1.44 if zero else 1.0))

    def forward(self, noisy: Tensor) -> list[Tensor]:
        """Returns the sum of the slots (B, T) after each pass, in the clean signal's scale."""
        parts = [torch.zeros_like(noisy)] * self.slots
        total, sums = torch.zeros_like(noisy), []
        for i in range(self.passes):
            for s in range(self.slots):
                others = total - parts[s]
                parts[s] = self.find(noisy - others, i, s)
                total = others + parts[s]
            sums.append(self.scale * total)
        return sums

    def find(self, residual: Tensor, i: int, s: int) -> Tensor:
        """Returns one slot's wave (B, T) in a residual (B, T)."""
        length = residual.shape[-1]
        amplitude = functional.linear(residual, self.waves) * (2 / length)  # (B, QK)
        pair = amplitude.reshape(-1, self.quadratures, self.bins)  # (B, Q, K)
        known = self.quadratures == 1
        evidence = pair[:, 0] if known else pair.square().sum(1)  # (B, K)
        null = self.null[i, s] + torch.zeros_like(residual[:, :1])  # "no wave is left"
        logits = torch.cat([self.log_sharpness[i, s].exp() * evidence, null], 1)
        attention = logits.softmax(1)[:, :-1]  # (B, K)
        if known:
            heard = (attention * evidence).sum(1, keepdim=True)
            parts: Tensor = attention * (self.gain[i, s] + self.slope[i, s] * heard)
        else:
            parts = self.gain[i, s] * (attention[:, None] * pair).flatten(1)
        return parts @ self.waves


class Correction(nn.Module):
    """Residual MLP on coarse spectra of the mixture and of an estimate."""

    waves: Tensor

    def __init__(self, config: SignalGANConfig) -> None:
        super().__init__()
        quadratures = 1 if config.phase == "zero" else 2
        spacing = config.sample_rate / config.length * quadratures / 2  # an orthonormal basis
        bins = int(config.band_hz / spacing)
        made = waves(config, spacing, spacing, bins, quadratures).flatten(0, 1)
        self.register_buffer("waves", made * math.sqrt(2 / config.length), persistent=False)
        self.enter = nn.Linear(2 * len(made), config.units)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(config.units),
                nn.Linear(config.units, config.units),
                nn.GELU(),
                nn.Linear(config.units, config.units),
            )
            for _ in range(config.blocks)
        )
        self.leave = nn.Linear(config.units, len(made))
        nn.init.zeros_(self.leave.weight)

    def forward(self, noisy: Tensor, estimate: Tensor) -> Tensor:
        """Returns what is to be added to the estimate, (B, T)."""
        h = self.enter(torch.cat([noisy @ self.waves.T, estimate @ self.waves.T], 1))
        for block in self.blocks:
            h = h + block(h)
        correction: Tensor = self.leave(h).float() @ self.waves
        return correction


class SlotGenerator(nn.Module):
    """Slots, then the correction."""

    def __init__(self, config: SignalGANConfig) -> None:
        super().__init__()
        self.normalise = config.phase == "any"
        self.slots = Slots(config)
        self.correction = Correction(config) if config.units else None

    def forward(self, noisy: Tensor) -> list[Tensor]:
        """Returns estimates (B, T), ever better; the last is the answer."""
        level = torch.ones_like(noisy[:, :1])
        if self.normalise:  # the unit may be anything
            level = noisy.square().mean(-1, keepdim=True).sqrt() + 1e-8
        x = noisy / level
        with torch.autocast(noisy.device.type, enabled=False):
            estimates: list[Tensor] = self.slots(x)
        if self.correction:
            estimates.append(estimates[-1] + self.correction(x, estimates[-1]))
        return [level * estimate for estimate in estimates]


class SignalGAN:
    """The family: how generator and discriminator are trained, validated and exported.

    Raises: ConfigError if a setting is unknown or does not fit the others.
    """

    config_class: type[Section] = SignalGANConfig

    def __init__(self, config: TrainConfig) -> None:
        settings = checked_section(SignalGANConfig, config.model, "model").fitted(config.data)
        check_size(settings)
        check_terms(config.loss, TERMS)
        self.config = settings
        self.weights = config.loss
        self.precision = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
        self.device = torch.device(config.device)
        paper = settings.generator == "paper"
        nets: dict[str, nn.Module] = {
            "net": PaperGenerator() if paper else SlotGenerator(settings),
        }
        if "adversarial" in self.weights:
            nets["discriminator"] = Discriminator(length=settings.length)
        self.updaters = {
            name: Updater(net.to(self.device), config.optimizer.of(name), config.steps)
            for name, net in nets.items()
        }

    def step(self, noisy: Tensor, clean: Tensor, step: int) -> dict[str, float]:
        """Takes one step of the generator, then of the discriminator; returns losses and accuracy.

        Args: noisy, clean (B, T), T the window.
        """
        updater = self.updaters["net"]
        updater.net.train()
        enabled = self.precision != torch.float32
        with torch.autocast(self.device.type, self.precision, enabled=enabled):
            estimates = [estimate.float() for estimate in updater.net(noisy)]
        losses = reconstruction_losses(estimates, clean, noisy)
        weights, judged = dict(self.weights), {}
        late = step - self.config.generator_only_steps  # of the discriminator's own schedule
        if "discriminator" in self.updaters:
            judge = self.updaters["discriminator"].net.eval()
            losses["adversarial"] = functional.softplus(-judge(estimates[-1])).mean()
            if late < 0:
                weights["adversarial"] = 0.0
        report = updater.update(weighted_sum(losses, weights), step)
        if "discriminator" in self.updaters:
            judged = self.judge(estimates[-1].detach(), clean, late)
        return {name: value.item() for name, value in losses.items()} | judged | report

    def judge(self, denoised: Tensor, clean: Tensor, step: int) -> dict[str, float]:
        """Takes one step of the discriminator; returns its loss and accuracy.

        Args: denoised, clean (B, T); step: negative before it joins, when it only looks.
        """
        updater = self.updaters["discriminator"]
        updater.net.train(step >= 0)
        real, made = updater.net(clean), updater.net(denoised)
        loss = functional.softplus(-real).mean() + functional.softplus(made).mean()
        if step >= 0:
            updater.update(loss, step)
        right = ((real > 0).float().mean() + (made <= 0).float().mean()) / 2
        return {"discriminator": loss.item(), "discriminator_accuracy": right.item()}

    @torch.no_grad()
    def denoise(self, noisy: Tensor) -> Tensor:
        """Returns (B, T) from the averaged weights in float32, T the window."""
        estimates: list[Tensor] = self.updaters["net"].averaged(noisy)
        return estimates[-1]

    def exportable(self) -> WaveformExportable:
        """Returns the averaged generator as ONNX is to have it."""
        net = copy.deepcopy(self.updaters["net"].averaged)
        for module in net.modules():
            # A constant is written once for each use, a persistent buffer once.
            module._non_persistent_buffers_set.clear()
        config = self.config
        assert config.phase != "auto"
        generator = torch.Generator().manual_seed(0)
        bank = waves(config, config.low_hz, config.spacing_hz, 64, 1)[0]
        clean = bank[torch.randint(64, (8, 3), generator=generator)].mean(1)  # (B, T)
        noisy = clean + 0.5 * torch.randn(clean.shape, generator=generator)
        settings = config.model_dump(mode="json")
        return WaveformExportable(
            LastEstimate(net), config.sample_rate, noisy, config.phase, settings
        )


class LastEstimate(nn.Module):
    """A generator without the estimates on its way."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, noisy: Tensor) -> Tensor:
        """Returns denoised (B, T)."""
        denoised: Tensor = self.net(noisy)[-1]
        return denoised


def check_size(config: SignalGANConfig) -> None:
    """Raises ConfigError if a window is too short or too long for the network."""
    remedy = f"a window has {config.length} samples: change data.segment_s"
    if config.generator == "paper" and config.length % 16:
        raise ConfigError(f"{remedy}; the published generator needs a multiple of 16")
    if config.length < 16 or 2 * config.bins * config.length > LARGEST_BANK:
        raise ConfigError(f"{remedy}; some periods of the slowest wave are enough")


def reconstruction_losses(
    estimates: list[Tensor], clean: Tensor, noisy: Tensor
) -> dict[str, Tensor]:
    """Returns `l1` and `snr_db` of the answer, and `earlier`: both of the estimates before it.

    `snr_db` is the negative SNR, with no reward beyond 30 dB.

    Args: estimates of (B, T); clean, noisy (B, T).
    """
    # a share of the noisy energy stands in where a window of a recording is quiet
    energy = clean.square().sum(-1) + 1e-2 * noisy.square().sum(-1) + 1e-8
    snrs = [
        10 * torch.log10((e - clean).square().sum(-1) / energy + 1e-3).mean() for e in estimates
    ]
    l1s = [(e - clean).abs().mean() for e in estimates]
    earlier = sum(snrs[:-1], clean.new_zeros(())) + 20 * sum(l1s[:-1], clean.new_zeros(()))
    return {"l1": l1s[-1], "snr_db": snrs[-1], "earlier": earlier}
