"""Networks that judge denoised speech while it is learnt: adversarial terms of a loss.

A metric discriminator learns what PESQ says of a recording, so that its gradient can be followed
(MetricGAN, Fu et al. 2019). Spectrogram discriminators tell clean from denoised at several
resolutions (UnivNet, Jang et al. 2021), with the least-squares losses of Mao et al. 2017; the
denoiser may also match what they see inside (feature matching, Salimans et al. 2016).

Letters: B batch, T samples, N frames, F frequency bins.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from quieten.errors import AudioError
from quieten.metrics import METRICS
from quieten.training.config import TrainConfig
from quieten.training.losses import compress
from quieten.training.optimize import Updater
from quieten.training.spectral import stft

TERMS = ("adversarial", "features", "metric")
RESOLUTIONS = ((256, 64), (512, 128), (1024, 256))
METRIC_RESOLUTION = (512, 256)


class SpectrogramDiscriminator(nn.Module):
    """Convolutions over the compressed magnitudes of one resolution."""

    def __init__(self, n_fft: int, hop_length: int, channels: int = 16) -> None:
        super().__init__()
        self.n_fft, self.hop_length = n_fft, hop_length
        self.layers = nn.ModuleList(
            nn.Conv2d(before, channels, (3, 9), (2 if level else 1, 2), (1, 4))
            for level, before in enumerate((1, channels, channels))
        )
        self.leave = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns a verdict on each region, 1 for clean and 0 for made, and what layers saw."""
        x = magnitudes(waveform, self.n_fft, self.hop_length)[:, None]
        seen = []
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.1)
            seen.append(x)
        return self.leave(x), seen


class MetricDiscriminator(nn.Module):
    """Guesses the PESQ of a recording from it and the clean one."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        sizes = (2, channels, 2 * channels, 4 * channels, 4 * channels)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 5, 2, 2) for before, after in pairwise(sizes)
        )
        self.hidden = nn.Linear(sizes[-1], sizes[-1])
        self.leave = nn.Linear(sizes[-1], 1)

    def forward(self, denoised: Tensor, clean: Tensor) -> Tensor:
        """Returns guesses (B,) on the scale of `as_share`. Args: both (B, T)."""
        x = torch.stack([magnitudes(w, *METRIC_RESOLUTION) for w in (denoised, clean)], dim=1)
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.1)
        y: Tensor = self.leave(functional.leaky_relu(self.hidden(x.mean((2, 3))), 0.1))
        return y[:, 0]


class Judges:
    """The discriminators that the loss asks for, and their training.

    Args:
        config: of the run; `loss` says which terms count.
        metric_items: of how many examples of a batch PESQ is measured: each takes some 50 ms.

    Attributes:
        updaters: one for each discriminator, by name.
    """

    def __init__(self, config: TrainConfig, metric_items: int = 4) -> None:
        nets: dict[str, nn.Module] = {}
        if {"adversarial", "features"} & set(config.loss):
            nets |= {
                f"discriminator_{n_fft}": SpectrogramDiscriminator(n_fft, hop_length)
                for n_fft, hop_length in RESOLUTIONS
            }
        if "metric" in config.loss:
            nets["metric_discriminator"] = MetricDiscriminator()
        self.updaters = {
            name: Updater(net.to(config.device), config.optimizer.of(name), config.steps)
            for name, net in nets.items()
        }
        self.sample_rate = config.data.sample_rate
        self.metric_items = metric_items

    def terms(self, denoised: Tensor, clean: Tensor) -> dict[str, Tensor]:
        """Returns what the denoiser is to make small. Args: both (B, T), at the same level."""
        verdicts, distances = [], []
        for name, updater in self.updaters.items():
            if name == "metric_discriminator":
                continue
            verdict, seen = updater.net(denoised)
            with torch.no_grad():
                _, wanted = updater.net(clean)
            verdicts.append((1 - verdict).square().mean())
            pairs = zip(seen, wanted, strict=True)
            distances += [(a - b).abs().mean() / (b.abs().mean() + 1e-3) for a, b in pairs]
        terms = {}
        if verdicts:
            terms["adversarial"] = torch.stack(verdicts).mean()
            terms["features"] = torch.stack(distances).mean()
        if metric := self.updaters.get("metric_discriminator"):
            terms["metric"] = (1 - metric.net(denoised, clean)).square().mean()
        return terms

    def learn(self, denoised: Tensor, clean: Tensor, noisy: Tensor, step: int) -> dict[str, float]:
        """Takes one step of every discriminator; returns their losses by name.

        Args: all (B, T), at the same level, without gradients.
        """
        losses = {}
        for name, updater in self.updaters.items():
            if isinstance(updater.net, MetricDiscriminator):
                loss = self.metric_loss(updater.net, denoised, clean, noisy)
            else:
                (real, _), (made, _) = updater.net(clean), updater.net(denoised)
                loss = (1 - real).square().mean() + made.square().mean()
            updater.update(loss, step)
            losses[f"{name}_loss"] = loss.item()
        return losses

    def metric_loss(
        self, net: MetricDiscriminator, denoised: Tensor, clean: Tensor, noisy: Tensor
    ) -> Tensor:
        """Returns how wrong the guesses are: of the clean sound, of denoised and of noisy ones."""
        wrong = [(1 - net(clean, clean)).square()]
        count = self.metric_items
        for sounds in (denoised, noisy):
            shares, kept = self.measured(sounds[:count], clean[:count])
            if kept:
                guesses = net(sounds[kept], clean[kept])
                wrong.append((guesses - shares.to(guesses)).square())
        return torch.cat(wrong).mean()

    def measured(self, sounds: Tensor, clean: Tensor) -> tuple[Tensor, list[int]]:
        """Returns PESQ as `as_share` has it, and of which items it could be measured."""
        shares, kept = [], []
        pairs = zip(sounds.float().cpu().numpy(), clean.float().cpu().numpy(), strict=True)
        for index, (sound, target) in enumerate(pairs):
            try:
                pesq = METRICS["pesq_wb"](sound, target, self.sample_rate)
            except AudioError:  # nobody speaks
                continue
            shares.append(as_share(pesq))
            kept.append(index)
        return torch.tensor(shares), kept


def as_share(pesq: float) -> float:
    """Returns PESQ-WB as a share of the best, 4.64; 1.0 is the worst."""
    return (pesq - 1.0) / 3.64


def magnitudes(waveform: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Returns magnitudes to the power of 0.3, (B, N, F)."""
    whole = waveform.shape[-1] // hop_length * hop_length
    _, magnitude = compress(stft(waveform[:, :whole], n_fft, hop_length), 0.3)
    return magnitude[..., 0]
