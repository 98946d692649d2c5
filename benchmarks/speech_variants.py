"""Variants of the family `realtime` that were tried and not taken: what speech_search.py compares.

    python benchmarks/speech_variants.py train realtime --set family=realtime_coded ...

The command line is that of `quieten`, which knows three more families here.
"""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from quieten import runtime
from quieten.cli import app
from quieten.training.config import TrainConfig
from quieten.training.exportable import Exportable
from quieten.training.models import FAMILIES
from quieten.training.models.realtime import Realtime, RealtimeNet
from quieten.training.models.vqvae_clean import VQVAECleanConfig, VQVAECleanNet
from quieten.training.optimize import Updater
from quieten.training.quantizer import VectorQuantizer
from quieten.training.spectral import stft
from quieten.training.tensorfile import load_weights

COMMITMENT, CODE = 2.0, 0.5
"""Weights of the terms that the variants add: a tenth to a fifth of the whole loss."""

PROGRAM = (str(Path(__file__).resolve()),)
"""What python is to run for a training of these."""

WINDOW_FRAMES, MARGIN_FRAMES = 188, 32


class Coded(nn.Module):
    """A recurrence whose outputs pass through a codebook, band by band: system 1's bottleneck."""

    def __init__(self, recurrence: nn.Module, channels: int) -> None:
        super().__init__()
        self.recurrence = recurrence
        self.quantizer = VectorQuantizer(channels, 256, groups=4)
        self.commitment = torch.zeros(())

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Args: x (N, B, W, C); state as the recurrence has it."""
        y, after = self.recurrence(x, state)
        code = self.quantizer(y)
        self.commitment = code.commitment
        return code.z_q, after


class CodedRealtime(Realtime):
    """With a codebook between encoder and decoder; the skips stay."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        net = self.updaters["net"].net
        net.full_band = Coded(net.full_band, net.config.channels[2])
        updater = Updater(net, config.optimizer, config.steps)
        updater.copied = {name for name, _ in net.named_buffers() if "quantizer" in name}
        self.updaters["net"] = updater
        self.weights = self.weights | {"commitment": COMMITMENT}

    def losses(self, denoised: Tensor, clean: Tensor, noisy: Tensor) -> dict[str, Tensor]:
        """Returns the named loss terms, with that of the code."""
        commitment = self.updaters["net"].net.full_band.commitment
        return super().losses(denoised, clean, noisy) | {"commitment": commitment}


class TaughtRealtime(Realtime):
    """Taught by a code of clean speech: what is denoised is to fall on the entries of the clean.

    The code is that of the model `vqscore`, which has heard clean speech only.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self.teacher = VQVAECleanNet(VQVAECleanConfig()).eval().requires_grad_(False)
        load_weights(self.teacher, "net", str(runtime.WEIGHTS / "vqscore.safetensors"))
        self.weights = self.weights | {"code": CODE}

    def losses(self, denoised: Tensor, clean: Tensor, noisy: Tensor) -> dict[str, Tensor]:
        """Returns the named loss terms, with the cross-entropy of the clean sound's entries."""
        length = denoised.shape[-1]
        with torch.no_grad():
            wanted = self.teacher.quantizer(self.encoded(clean[..., :length])).indices
        code = self.teacher.quantizer.cross_entropy(self.encoded(denoised), wanted)
        return super().losses(denoised, clean, noisy) | {"code": code}

    def encoded(self, waveform: Tensor) -> Tensor:
        """Returns z_e (B, N, D) of (B, T)."""
        features, _, _ = self.teacher.features(stft(waveform, 512, 256))
        z_e: Tensor = self.teacher.spread(self.teacher.encoder(features)).transpose(1, 2)
        return z_e


class BothWays(nn.Module):
    """A recurrence and its twin that hears the sound backwards; what both add is added."""

    def __init__(self, recurrence: nn.Module) -> None:
        super().__init__()
        self.onward, self.back = recurrence, copy.deepcopy(recurrence)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Args: x (N, ...); state of zeros, for the whole sound is there."""
        onward, back = self.onward(x, state)[0], self.back(x.flip(0), state)[0]
        return onward + back.flip(0) - x, state


class OfflineExported(nn.Module):
    """The network as ONNX has it: one spectrum in, one mask out."""

    def __init__(self, net: RealtimeNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, spectrum: Tensor) -> Tensor:
        mask: Tensor = self.net(spectrum, self.net.initial_state(spectrum.shape[0]))[0]
        return mask


class OfflineRealtime(Realtime):
    """The non-causal sibling, for those who can wait."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        net = self.updaters["net"].net
        net.sub_bands = nn.ModuleList(BothWays(layer) for layer in net.sub_bands)
        net.full_band = BothWays(net.full_band)
        self.updaters["net"] = Updater(net, config.optimizer, config.steps)

    def exportable(self) -> Exportable:
        """Returns the averaged network as ONNX is to have it: window by window."""
        net, config = self.updaters["net"].averaged, self.config
        assert isinstance(net, RealtimeNet)
        return Exportable(
            OfflineExported(net),
            config.sample_rate,
            config.n_fft,
            config.hop_length,
            window_frames=WINDOW_FRAMES,
            margin_frames=MARGIN_FRAMES,
        )


FAMILIES |= {
    "realtime_coded": CodedRealtime,
    "realtime_taught": TaughtRealtime,
    "realtime_offline": OfflineRealtime,
}

if __name__ == "__main__":
    app(prog_name="quieten")
