"""Loss terms of the denoisers, each with a name; a run weighs them by the same names.

Letters: B batch, T samples, N frames, F frequency bins.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

import numpy as np
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
    denoised, clean, noisy = same_level(denoised, clean, noisy)
    estimate, estimate_magnitude = compress(stft(denoised, n_fft, hop_length), exponent)
    target, target_magnitude = compress(stft(clean, n_fft, hop_length), exponent)
    return {
        "magnitude": (estimate_magnitude - target_magnitude).square().mean(),
        "complex": (estimate - target).square().sum(-1).mean(),
        "waveform": snr_loss_db(denoised, clean, noisy),
    }


def same_level(
    denoised: Tensor, clean: Tensor, noisy: Tensor, silence: float = 0.05
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns all three (B, T) with the same gain, such that clean has RMS 0.1.

    Args: silence: this share of the noisy energy stands in where nobody speaks.
    """
    level = torch.maximum(
        clean.square().mean(-1, keepdim=True), silence * noisy.square().mean(-1, keepdim=True)
    )
    scale = 0.1 / torch.sqrt(level + 1e-10)  # (B, 1)
    return denoised * scale, clean * scale, noisy * scale


def resolution_losses(
    denoised: Tensor, clean: Tensor, exponent: float, resolutions: Sequence[tuple[int, int]]
) -> dict[str, Tensor]:
    """Returns the named terms `magnitude` and `complex`, means over several STFTs.

    Args: denoised, clean (B, T); resolutions of (n_fft, hop_length).
    """
    magnitudes, spectra = [], []
    for n_fft, hop_length in resolutions:
        scale = (256 / n_fft) ** 0.5  # noise is as large in long windows as in short ones
        estimate, estimate_magnitude = compress(stft(denoised, n_fft, hop_length) * scale, exponent)
        target, target_magnitude = compress(stft(clean, n_fft, hop_length) * scale, exponent)
        magnitudes.append((estimate_magnitude - target_magnitude).square().mean())
        spectra.append((estimate - target).square().sum(-1).mean())
    return {
        "magnitude": torch.stack(magnitudes).mean(),
        "complex": torch.stack(spectra).mean(),
    }


def lsd_loss(restored: Tensor, clean: Tensor, floor: float = 1e-7) -> Tensor:
    """Returns the log-spectral distance as `metrics.lsd` has it, nearly, over two resolutions.

    The window is the root of the metric's, and powers below `floor` count as that: the gradient
    of a logarithm has no bound.

    Args: restored, clean (B, T).
    """
    distances = []
    for n_fft, hop_length in ((1024, 256), (2048, 512)):
        before, after = (
            torch.log10(stft(waveform, n_fft, hop_length).square().sum(-1) + floor)
            for waveform in (
                clean[:, : clean.shape[-1] // hop_length * hop_length],
                restored[:, : clean.shape[-1] // hop_length * hop_length],
            )
        )
        distances.append(torch.sqrt((before - after).square().mean(-1) + 1e-6).mean())
    return torch.stack(distances).mean()


def stoi_loss(denoised: Tensor, clean: Tensor, sample_rate: int) -> Tensor:
    """Returns one minus the short-time objective intelligibility, nearly.

    Taal, Hendriks, Heusdens, Jensen, "An algorithm for intelligibility prediction of time-frequency
    weighted noisy speech", 2011: the correlation of envelopes in third octaves over 384 ms. It
    differs from `metrics.stoi` in three ways that save time or keep gradients: the rate stays,
    quiet segments weigh less where the original cuts them out, and every fourth segment counts.

    Args: denoised, clean (B, T).
    """
    enveloped, target = (envelopes(waveform, sample_rate) for waveform in (denoised, clean))
    energy = target.square().sum(-1)  # (B, N)
    active = (energy > energy.amax(1, keepdim=True) * 1e-4).to(energy.dtype)  # 40 dB, as in 2011
    weight = active.unfold(1, 30, 4).mean(-1)[..., None].square()  # (B, segments, 1)
    y, x = enveloped.unfold(1, 30, 4), target.unfold(1, 30, 4)  # (B, segments, 15, 30)
    y = y * (x.norm(dim=-1, keepdim=True) / (y.norm(dim=-1, keepdim=True) + 1e-6))
    y = torch.minimum(y, x * (1 + 10 ** (15 / 20)))  # clipped at -15 dB signal to distortion
    x, y = x - x.mean(-1, keepdim=True), y - y.mean(-1, keepdim=True)
    correlation = (x * y).sum(-1) / ((x.norm(dim=-1) + 1e-5) * (y.norm(dim=-1) + 1e-5))
    mean: Tensor = (correlation * weight).sum() / (weight.sum() * correlation.shape[-1] + 1e-6)
    return 1 - mean


def envelopes(waveform: Tensor, sample_rate: int) -> Tensor:
    """Returns the magnitudes (B, N, 15) in third octaves from 150 Hz, every 12.8 ms."""
    length = round(0.0256 * sample_rate)
    transform, bands = third_octaves(length, sample_rate, waveform.device)
    spectrum = waveform.unfold(-1, length, length // 2) @ transform  # (B, N, 2 F)
    magnitude: Tensor = torch.sqrt(spectrum.square() @ bands + 1e-7)
    return magnitude


def fft_length(length: int) -> int:
    """Returns the power of two that is not less."""
    return 1 << (length - 1).bit_length()


@lru_cache(maxsize=8)
def third_octaves(length: int, sample_rate: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns a windowed Fourier transform (length, 2 F), real parts before imaginary ones, and
    which of its parts belong to which third octave (2 F, 15).

    Only bins inside of a third octave are there: as a product of matrices with so few, transform
    and gradient take a fraction of an FFT's time.
    """
    size = fft_length(length)
    frequency_hz = np.fft.rfftfreq(size, 1 / sample_rate)
    centre_hz = 150 * 2 ** (np.arange(15) / 3)
    inside = frequency_hz[:, None] >= centre_hz * 2 ** (-1 / 6)
    inside &= frequency_hz[:, None] < centre_hz * 2 ** (1 / 6)  # (F, 15)
    used = inside.any(1)
    angle = 2 * np.pi * np.outer(np.arange(length), np.flatnonzero(used)) / size
    window = np.hanning(length + 1)[:-1, None]
    transform = np.concatenate([np.cos(angle), -np.sin(angle)], axis=1) * window
    bands = np.concatenate([inside[used]] * 2)
    one, two = (torch.from_numpy(t.astype(np.float32)).to(device) for t in (transform, bands))
    return one, two


def spectral_distances(
    denoised: Tensor, clean: Tensor, n_fft: int, hop_length: int
) -> dict[str, Tensor]:
    """Returns the named terms `mse` and `l1` of uncompressed complex spectra.

    Args: denoised, clean (B, T).
    """
    difference = stft(denoised, n_fft, hop_length) - stft(clean, n_fft, hop_length)
    return {"mse": difference.square().mean(), "l1": difference.abs().mean()}


def mel_loss(denoised: Tensor, clean: Tensor, sample_rate: int, bands: int = 40) -> Tensor:
    """Returns the mean difference of log magnitudes in mel bands, over windows of 32 ms.

    Args: denoised, clean (B, T).
    """
    n_fft = fft_length(round(0.032 * sample_rate))
    weights = mel_bands(n_fft, sample_rate, bands).to(clean.device)

    def log_bands(waveform: Tensor) -> Tensor:
        power = stft(waveform, n_fft, n_fft // 4).square().sum(-1) @ weights
        return 0.5 * torch.log(power + 1e-5)

    return (log_bands(denoised) - log_bands(clean)).abs().mean()


@lru_cache(maxsize=8)
def mel_bands(n_fft: int, sample_rate: int, bands: int) -> Tensor:
    """Returns triangles (F, bands) that are evenly spaced in mel (O'Shaughnessy 1987)."""
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    corners_hz = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    frequency_hz = np.fft.rfftfreq(n_fft, 1 / sample_rate)[:, None]
    low, centre, high = corners_hz[:-2], corners_hz[1:-1], corners_hz[2:]
    rising, falling = (frequency_hz - low) / (centre - low), (high - frequency_hz) / (high - centre)
    triangles = np.minimum(rising, falling).clip(0)
    return torch.from_numpy(triangles.astype(np.float32))


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Returns the sum of the terms that `weights` names.

    Raises: ConfigError if there are no weights, or one has no term of its name.
    """
    check_terms(weights, losses)
    return torch.stack([weights[name] * losses[name] for name in weights]).sum()


def check_terms(weights: Mapping[str, float], known: Collection[str]) -> None:
    """Raises ConfigError if there are no weights, or one has no term of its name."""
    if not weights:
        raise ConfigError(f"no loss has a weight: set loss.{min(known)}, for one")
    unknown = sorted(set(weights) - set(known))
    if unknown:
        raise ConfigError(
            f"no loss is called {', '.join(unknown)}: choose among {', '.join(sorted(known))}"
        )
