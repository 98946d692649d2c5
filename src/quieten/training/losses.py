"""Loss terms of the denoisers, each with a name; a run weighs them by the same names.

Letters: B batch, T samples, N frames, F frequency bins.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from quieten.errors import ConfigError
from quieten.training.spectral import stft


def compress(spectrum: Tensor, exponent: float) -> tuple[Tensor, Tensor]:
    """Returns (complex spectrum, magnitude) with the magnitude raised to `exponent`.

    Braun & Tashev, "A consolidated view of loss functions for supervised deep learning-based
    speech enhancement", 2021.

    Args: spectrum (..., 2), a real view.
    """
    power = spectrum.square().sum(-1, keepdim=True) + 1e-8
    compressed = spectrum * power.pow((exponent - 1) / 2)
    return compressed, power.pow(exponent / 2)


def snr_loss_db(denoised: Tensor, clean: Tensor, noisy: Tensor, floor_db: float = 30.0) -> Tensor:
    """Returns the mean negative SNR in dB, with no reward beyond `floor_db`.

    The thresholded SNR of Wisdom et al., "Unsupervised sound separation using mixture invariant
    training", 2020; a share of the noisy energy keeps it finite where nobody speaks.

    Args: all (B, T).
    """
    reference = clean.square().sum(-1) + 1e-3 * noisy.square().sum(-1) + 1e-6
    error = (denoised - clean).square().sum(-1)
    floor = 10.0 ** (-floor_db / 10)
    return (10 * torch.log10(error / reference + floor)).mean()


def denoising_losses(
    denoised: Tensor, clean: Tensor, noisy: Tensor, exponent: float, n_fft: int, hop_length: int
) -> dict[str, Tensor]:
    """Returns the named terms `magnitude`, `complex` and `waveform`.

    Each item is first brought to the same level, so that quiet recordings count like loud ones.

    Args: denoised, clean, noisy (B, T).
    """
    level = torch.maximum(
        clean.square().mean(-1, keepdim=True), 0.05 * noisy.square().mean(-1, keepdim=True)
    )
    scale = 0.1 / torch.sqrt(level + 1e-10)  # (B, 1)
    denoised, clean, noisy = denoised * scale, clean * scale, noisy * scale
    estimate, estimate_magnitude = compress(stft(denoised, n_fft, hop_length), exponent)
    target, target_magnitude = compress(stft(clean, n_fft, hop_length), exponent)
    return {
        "magnitude": (estimate_magnitude - target_magnitude).square().mean(),
        "complex": (estimate - target).square().sum(-1).mean(),
        "waveform": snr_loss_db(denoised, clean, noisy),
    }


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Returns the sum of the terms that `weights` names.

    Raises: ConfigError if there are no weights, or one has no term of its name.
    """
    if not weights:
        raise ConfigError(f"no loss has a weight: set loss.{min(losses)}, for one")
    unknown = sorted(set(weights) - set(losses))
    if unknown:
        raise ConfigError(
            f"no loss is called {', '.join(unknown)}: choose among {', '.join(sorted(losses))}"
        )
    return torch.stack([weights[name] * losses[name] for name in weights]).sum()
