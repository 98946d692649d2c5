"""Family `restorer`: super-resolution, denoising and dereverberation of music, or of anything.

System 3: a U-Net with sub-pixels, and what can be switched on beside its reconstruction loss: a
discriminator, the features of an autoencoder (family `restorer_ae`), collaborative sampling and
the shaping of the discriminator for it.
Letters: B batch, T samples, N frames, F bins, W samples of a window.
"""

from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from quieten.errors import ConfigError
from quieten.training.collaborative import Refined, refine
from quieten.training.config import Section, TrainConfig, checked_section
from quieten.training.exportable import Exportable, WaveformExportable, check_windows
from quieten.training.generators import AudioUNet, Discriminator, check_depth
from quieten.training.losses import (
    check_terms,
    lsd_loss,
    resolution_losses,
    snr_loss_db,
    weighted_sum,
)
from quieten.training.optimize import Updater
from quieten.training.restoring import (
    COMPRESSION,
    RestorerConfig,
    SpectralGenerator,
    WaveformGenerator,
    windowed,
)
from quieten.training.tensorfile import below, load_checkpoint, read_weights
from quieten.windows import spans

EXTRAS = ("adversarial", "features")
TERMS = ("l2", "snr", "lsd", "magnitude", "complex", *EXTRAS)
"""The loss terms that can have a weight; the extras join after `model.extras_from_step`."""


class Restorer:
    """The family: how generator and discriminator are trained, validated and exported.

    Raises: ConfigError if a setting is unknown or does not fit the others.
    """

    config_class: type[Section] = RestorerConfig

    def __init__(self, config: TrainConfig) -> None:
        settings = checked_section(RestorerConfig, config.model, "model")
        check_windows(settings.window_frames, settings.margin_frames)
        check_terms(config.loss, TERMS)
        self.config, self.weights = settings, config.loss
        self.spectral = settings.generator == "multiscale" and settings.domain == "spectrogram"
        self.precision = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
        self.device = torch.device(config.device)
        kind = SpectralGenerator if self.spectral else WaveformGenerator
        nets: dict[str, nn.Module] = {"net": kind(settings)}
        if "adversarial" in self.weights or settings.shaping:
            nets["discriminator"] = Discriminator(
                settings.window, settings.judge_depth, settings.judge_width, settings.conditional
            )
        self.updaters = {
            name: Updater(net.to(self.device), config.optimizer.of(name), config.steps)
            for name, net in nets.items()
        }
        self.autoencoder: AudioUNet | None = None
        if "features" in self.weights:
            if not settings.autoencoder:
                raise ConfigError("loss.features needs model.autoencoder: train restorer_ae first")
            self.autoencoder = open_autoencoder(settings.autoencoder).to(self.device)

    def step(self, noisy: Tensor, clean: Tensor, step: int) -> dict[str, float]:
        """Takes one step of the generator, then of the discriminator; returns losses and accuracy.

        Args: noisy, clean (B, T).
        """
        if self.config.shaping:
            return self.shape(noisy, clean, step)
        updater = self.updaters["net"]
        updater.net.train()
        restored = self.generate(updater.net, noisy)
        length = restored.shape[-1]
        clean, noisy = clean[:, :length], noisy[:, :length]
        losses = self.losses(restored, clean, noisy)
        late = step - self.config.extras_from_step
        weights = {
            name: 0.0 if name in EXTRAS and late < 0 else weight
            for name, weight in self.weights.items()
        }
        report = updater.update(weighted_sum(losses, weights), step)
        judged = {}
        if "discriminator" in self.updaters:
            judged = self.judge(restored.detach(), clean, noisy, late)
        return {name: value.item() for name, value in losses.items()} | judged | report

    def generate(self, net: nn.Module, degraded: Tensor) -> Tensor:
        """Returns what a generator makes of (B, T): as long, or shorter by frames not complete."""
        lowered = self.precision != torch.float32
        assert isinstance(net, SpectralGenerator | WaveformGenerator)
        with torch.autocast(self.device.type, self.precision, lowered):
            late = net.late(degraded)
        return net.finish(late.float(), degraded).float()

    def losses(self, restored: Tensor, clean: Tensor, noisy: Tensor) -> dict[str, Tensor]:
        """Returns the terms that have a weight, by name."""
        wanted = self.weights
        losses = {}
        if "l2" in wanted:
            losses["l2"] = (restored - clean).square().mean()
        if "snr" in wanted:
            losses["snr"] = snr_loss_db(restored, clean, noisy, floor_db=40.0)
        if "lsd" in wanted:
            losses["lsd"] = lsd_loss(restored, clean)
        if not {"magnitude", "complex"}.isdisjoint(wanted):
            level = torch.sqrt(clean.square().mean(-1, keepdim=True) + 1e-8) * 10
            sizes = ((512, 128), (2048, 512))
            losses |= resolution_losses(restored / level, clean / level, COMPRESSION, sizes)
        if "features" in wanted:
            assert self.autoencoder is not None
            pieces = self.pieces(restored, clean)
            latents = [self.autoencoder.latent(piece)[0] for piece in pieces]
            losses["features"] = (latents[0] - latents[1]).square().mean()
        if "adversarial" in wanted:
            judge = self.updaters["discriminator"].net.eval()
            logits = judge(*self.pieces(restored, noisy))
            losses["adversarial"] = functional.softplus(-logits).mean()
        return losses

    def judge(self, restored: Tensor, clean: Tensor, noisy: Tensor, late: int) -> dict[str, float]:
        """Takes one step of the discriminator; returns its loss, accuracy and acceptance.

        Args: (B, T) each; late: steps since the extras joined; before, it only looks.
        """
        updater = self.updaters["discriminator"]
        updater.net.train(late >= 0)
        made, real, seen = self.pieces(restored, clean, noisy)
        # in one batch: norms over each alone would tell them apart, and not once it is used
        logits = updater.net(torch.cat([made, real]), torch.cat([seen, seen]))
        accepted, taken = logits.chunk(2)
        loss = functional.softplus(-taken).mean() + functional.softplus(accepted).mean()
        if late >= 0:
            updater.update(loss, late)
        right = ((taken > 0).float().mean() + (accepted <= 0).float().mean()) / 2
        return {
            "discriminator": loss.item(),
            "discriminator_accuracy": right.item(),
            "acceptance": (accepted > 0).float().mean().item(),
        }

    def shape(self, noisy: Tensor, clean: Tensor, step: int) -> dict[str, float]:
        """Takes one step of the discriminator on what it has refined; the generator stays."""
        made, _ = self.refined(noisy)
        length = made.waveform.shape[-1]
        after = self.judge(made.waveform, clean[:, :length], noisy[:, :length], step)
        moved = made.moves.float().mean().item()
        return after | {"moves": moved, "accepted_before": (made.before > 0).float().mean().item()}

    def refined(self, degraded: Tensor) -> tuple[Refined, Tensor]:
        """Returns collaborative samples of windows (B, W), and what the generator gave alone."""
        config, net = self.config, self.updaters["net"].averaged
        assert isinstance(net, SpectralGenerator | WaveformGenerator)
        judge = self.updaters["discriminator"].net.eval()
        with torch.no_grad():
            late = net.late(degraded)
            alone = net.finish(late, degraded)
        seen = self.pieces(degraded[:, : alone.shape[-1]])[0]

        def verdict(waveform: Tensor) -> Tensor:
            logits: Tensor = judge(self.pieces(waveform)[0], seen)
            return logits

        made = refine(
            late,
            lambda moved: net.finish(moved, degraded),
            verdict,
            config.collaborative_step,
            config.collaborative_most,
        )
        return made, alone

    def collaborate(self, degraded: Tensor) -> Tensor:
        """Returns collaborative samples of windows (B, W), as long as they are."""
        length = degraded.shape[-1]
        lost = self.config.n_fft - self.config.hop_length if self.spectral else 0
        return self.refined(functional.pad(degraded, (0, lost)))[0].waveform[:, :length]

    def pieces(self, *waveforms: Tensor) -> list[Tensor]:
        """Returns the same middle W samples of each (B, T), padded where they are shorter."""
        window, length = self.config.window, waveforms[0].shape[-1]
        start = max(0, (length - window) // 2)
        short = max(0, window - length)
        return [functional.pad(w[:, start : start + window], (0, short)) for w in waveforms]

    @torch.no_grad()
    def denoise(self, noisy: Tensor) -> Tensor:
        """Returns (B, T) from the averaged weights in float32, as the exported model gives it."""
        net = self.updaters["net"].averaged
        if isinstance(net, SpectralGenerator):
            config, seen = self.config, net.seen(noisy, padded=True)
            answers = []
            for span in spans(seen.shape[1], config.window_frames, config.margin_frames):
                answer = net(seen[:, span.first : span.last])
                answers.append(answer[:, span.start - span.first : span.stop - span.first])
            return net.waveform(torch.cat(answers, dim=1), seen)[:, : noisy.shape[-1]]
        return windowed(net, noisy, self.config.window)

    def exportable(self) -> Exportable | WaveformExportable:
        """Returns the averaged generator as ONNX is to have it."""
        config, net = self.config, self.updaters["net"].averaged
        if self.spectral:
            return Exportable(
                net,
                config.sample_rate,
                config.n_fft,
                config.hop_length,
                window_frames=config.window_frames,
                margin_frames=config.margin_frames,
                rectified=True,
            )
        example = 0.1 * torch.randn(4, config.window, generator=torch.Generator().manual_seed(0))
        settings = config.model_dump(mode="json")
        return WaveformExportable(net, config.sample_rate, example, "any", settings)


class RestorerAEConfig(Section):
    """The autoencoder of the feature loss: the original generator without skips."""

    sample_rate: int = 22_050
    depth: int = Field(4, ge=1)
    width: float = Field(0.25, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    window: int = 8192


class RestorerAE:
    """The family: an autoencoder of clean sound, from which `restorer` takes features."""

    config_class: type[Section] = RestorerAEConfig

    def __init__(self, config: TrainConfig) -> None:
        settings = checked_section(RestorerAEConfig, config.model, "model")
        check_depth(settings.depth, settings.window)
        check_terms(config.loss, ("l2",))
        self.config = settings
        net = make_autoencoder(settings).to(config.device)
        self.updaters = {"net": Updater(net, config.optimizer, config.steps)}

    def step(self, noisy: Tensor, clean: Tensor, step: int) -> dict[str, float]:
        """Takes one step on clean windows; the degraded ones are not looked at."""
        updater = self.updaters["net"]
        updater.net.train()
        window = self.config.window
        clean = clean[:, : clean.shape[-1] // window * window].reshape(-1, window)
        level = torch.sqrt(clean.square().mean(-1, keepdim=True) + 1e-6)
        loss = ((updater.net(clean / level) - clean / level).square()).mean()
        return {"l2": loss.item()} | updater.update(loss, step)

    @torch.no_grad()
    def denoise(self, noisy: Tensor) -> Tensor:
        """Returns (B, T) as the autoencoder gives it back."""
        net = self.updaters["net"].averaged

        def levelled(waveform: Tensor) -> Tensor:
            level = torch.sqrt(waveform.square().mean(-1, keepdim=True) + 1e-6)
            made: Tensor = net(waveform / level)
            return made * level

        return windowed(levelled, noisy, self.config.window)

    def exportable(self) -> Exportable | WaveformExportable:
        """Raises ConfigError: it restores nothing."""
        raise ConfigError(
            "restorer_ae has no ONNX form: name a .safetensors file for model.autoencoder"
        )


def make_autoencoder(config: RestorerAEConfig) -> AudioUNet:
    """Returns an autoencoder without weights."""
    return AudioUNet(config.depth, config.width, config.dropout, skips=False)


def open_autoencoder(source: str) -> AudioUNet:
    """Returns a trained autoencoder, frozen.

    Raises: ConfigError if the file is missing or of another family.
    """
    _, numbers = load_checkpoint(Path(source))
    settings = numbers.get("config", numbers)["model"]
    net = make_autoencoder(checked_section(RestorerAEConfig, settings, "model"))
    try:
        net.load_state_dict(below("net/", read_weights(source)))
    except RuntimeError:
        raise ConfigError(f"{source} is no autoencoder: train restorer_ae") from None
    return net.requires_grad_(False).eval()
