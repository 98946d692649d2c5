"""A differentiable likeness of PESQ, to train for what listeners mind.

It follows the perceptual model of ITU-T Recommendation P.862 (2001; wide-band: P.862.2, 2005) as a
loss, as Martin-Donas et al., "A deep learning loss function based on the perceptual evaluation of
the speech quality", 2018, do. What differs: no alignment in time, bands and hearing threshold by
formulas instead of tables, no special treatment of long silences and of badly disturbed stretches.

Letters: B batch, T samples, N frames, F frequency bins, K Bark bands.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from quieten.training.spectral import stft

BANDS = 49
FRAME_S = 0.032
LEVEL = 1e8
"""Power of speech between 350 and 3250 Hz, in units of the threshold at 1 kHz: about 80 dB."""
LOUDNESS_SCALE = 0.1866
DISTURBANCE, ASYMMETRIC = 0.093, 0.043
"""What the two disturbances take from the score: fitted to PESQ-WB of mixtures and of denoised
mixtures; the recommendation, with tables of its own, has 0.1 and 0.0309."""
BEST = 4.1


def pesq_loss(denoised: Tensor, clean: Tensor, sample_rate: int) -> Tensor:
    """Returns minus the mean quality on the scale of raw PESQ, at best -4.1.

    Items without speech do not count.

    Args: denoised, clean (B, T).
    """
    spoken = clean.square().mean(-1) > 1e-8
    if not spoken.any():
        return denoised.sum() * 0
    symmetric, asymmetric = disturbances(denoised[spoken], clean[spoken], sample_rate)
    score: Tensor = BEST - DISTURBANCE * symmetric - ASYMMETRIC * asymmetric
    return -score.mean()


def disturbances(denoised: Tensor, clean: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Returns the symmetric and the asymmetric disturbance (B,); the latter minds what is added.

    Args: denoised, clean (B, T).
    """
    _, threshold, _, width = bark_tables(sample_rate, clean.device)
    target, received = bark_power(clean, sample_rate), bark_power(denoised, sample_rate)
    audible = (target * (target > 100 * threshold)).sum(-1)  # (B, N)
    target = equalized(target, received, audible, threshold)
    received = levelled(received, target, threshold)
    loud, wanted = loudness(received, sample_rate), loudness(target, sample_rate)
    difference = loud - wanted
    masked = 0.25 * torch.minimum(loud, wanted)  # differences below are not heard
    heard = torch.sign(difference) * torch.relu(difference.abs() - masked)
    factor = ((received + 50) / (target + 50)).clamp(max=1e6) ** 1.2
    factor = torch.where(factor < 3, torch.zeros_like(factor), factor.clamp(max=12))
    weight = ((audible + 1e5) / 1e7) ** 0.04  # quiet frames weigh more
    symmetric = width.sum().sqrt() * ((heard * width).square().sum(-1) + 1e-12).sqrt() / weight
    asymmetric = (heard.abs() * factor * width).sum(-1) / weight
    return over_time(symmetric.clamp(max=45)), over_time(asymmetric.clamp(max=45))


def bark_power(waveform: Tensor, sample_rate: int) -> Tensor:
    """Returns powers (B, N, K) of (B, T), brought to the level of listening."""
    n_fft = round(FRAME_S * sample_rate)
    hop_length = n_fft // 2
    pooling, *_ = bark_tables(sample_rate, waveform.device)
    waveform = waveform[:, : waveform.shape[-1] // hop_length * hop_length]
    power = stft(waveform, n_fft, hop_length).square().sum(-1)  # (B, N, F)
    first, last = round(350 * FRAME_S), round(3250 * FRAME_S)
    level = power[..., first + 1 : last].sum(-1).mean(-1) + 1e-8  # (B,)
    banded: Tensor = power @ pooling * (LEVEL / level)[:, None, None]
    return banded


def equalized(target: Tensor, received: Tensor, audible: Tensor, threshold: Tensor) -> Tensor:
    """Returns the target with the mean spectrum of what is received: filters matter little."""
    active = (audible > 1e-3 * LEVEL).to(target.dtype)[..., None]  # (B, N, 1)
    count = active.sum(1) + 1e-6
    before, after = (
        (power * (power > 100 * threshold) * active).sum(1) / count for power in (target, received)
    )
    return target * ((after + 1000) / (before + 1000)).clamp(0.01, 100)[:, None]


def levelled(received: Tensor, target: Tensor, threshold: Tensor) -> Tensor:
    """Returns what is received with its level, frame by frame, moved towards the target's."""
    wanted, level = ((power * (power > threshold)).sum(-1) for power in (target, received))
    gain = ((wanted + 5e3) / (level + 5e3)).clamp(3e-4, 5)
    gain = torch.cat([gain[:, :1], 0.2 * gain[:, :-1] + 0.8 * gain[:, 1:]], dim=1)
    return received * gain[..., None]


def loudness(power: Tensor, sample_rate: int) -> Tensor:
    """Returns the loudness densities (B, N, K) in sone per Bark (Zwicker & Feldtkeller 1967)."""
    _, threshold, exponent, _ = bark_tables(sample_rate, power.device)
    excess = (0.5 + 0.5 * power / threshold) ** exponent - 1
    return LOUDNESS_SCALE * (2 * threshold) ** exponent * excess.clamp_min(0)


def over_time(disturbance: Tensor) -> Tensor:
    """Returns (B,) for (B, N): the worst frames of each 320 ms count, then all stretches alike."""
    stretches = disturbance.unfold(1, min(20, disturbance.shape[1]), 10)
    return ((stretches**6).mean(-1) + 1e-9).pow(1 / 3).mean(-1).sqrt()


@lru_cache(maxsize=4)
def bark_tables(sample_rate: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns, for even bands in Bark (Schroeder 1979), which share of a bin each holds (F, K), the
    threshold of hearing (Terhardt 1979), the exponent of loudness, and the width in Bark, (K,).
    """
    n_fft = round(FRAME_S * sample_rate)
    frequency_hz = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    half = frequency_hz[1] / 2
    edges = np.linspace(0, bark(sample_rate / 2), BANDS + 1)
    low, high = (
        bark(np.maximum(frequency_hz - half, 0))[:, None],
        bark(frequency_hz + half)[:, None],
    )
    share = np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1])
    pooling = np.maximum(share, 0) / (high - low)
    pooling[0] = 0
    centre = (edges[:-1] + edges[1:]) / 2
    khz = np.maximum(0.65 * np.sinh(centre / 7), 0.06)
    threshold_db = 3.64 * khz**-0.8 - 6.5 * np.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
    exponent = 0.23 * np.where(centre < 4, np.minimum(6 / (centre + 2), 2) ** 0.15, 1)
    tables = pooling, 10 ** (threshold_db / 10), exponent, np.diff(edges)
    one, two, three, four = (
        torch.tensor(table, dtype=torch.float32, device=device) for table in tables
    )
    return one, two, three, four


def bark(frequency_hz: np.ndarray | float) -> np.ndarray:
    """Returns the critical-band rate in Bark."""
    return np.asarray(7 * np.arcsinh(np.asarray(frequency_hz) / 650))
