"""What a pair of sounds scores: every metric, or the reason why there is no number.

Here is what a metric by itself does not do: channels, lengths that differ a little, a delay, and
the rate that perceptual measures want. Waveforms are (C, T).
"""

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from quieten.errors import AudioError, MissingExtra
from quieten.metrics import METRICS, NO_REFERENCE, delay

Waveform = NDArray[np.float32]

PERCEPTUAL_RATE = 16_000  # Hz; PESQ and DNSMOS know nothing above
PERCEPTUAL = frozenset(name for name in METRICS if name.startswith(("pesq", "dnsmos")))
TOLERANCE_S = 0.1  # results may be this much shorter or longer than the noisy sound


def score_sounds(
    denoised: Waveform,
    clean: Waveform | None,
    sample_rate: int,
    metrics: Sequence[str] = tuple(METRICS),
    *,
    align: bool = False,
) -> tuple[dict[str, float], dict[str, str]]:
    """Returns (metric -> number, metric -> why there is none).

    A metric of several channels is the mean over them, and missing where it is so for one.
    Above 16 kHz, PESQ and DNSMOS hear both sounds resampled to 16 kHz. A value that is not
    finite, such as the SNR of a perfect result, counts as missing: no mean could hold it.

    Args:
        denoised: (C, T).
        clean: (C, T), or None where there is no reference.
        sample_rate: of both, Hz.
        metrics: keys of `METRICS`.
        align: whether a constant delay, found on the mean of the channels, is cut off first;
            `delay_ms` still reports it.
    """
    if clean is not None and clean.shape != denoised.shape:
        raise AudioError(f"cannot compare shapes {denoised.shape} and {clean.shape}: make them one")
    given: tuple[Waveform, Waveform | None] = denoised, clean
    aligned = _aligned(denoised, clean, sample_rate) if align and clean is not None else given
    resampled = cache(lambda: _resampled(*aligned, sample_rate))
    values: dict[str, float] = {}
    missing: dict[str, str] = {}
    for name in metrics:
        sounds, rate = given if name == "delay_ms" else aligned, sample_rate
        if name in PERCEPTUAL and sample_rate > PERCEPTUAL_RATE:
            sounds, rate = resampled(), PERCEPTUAL_RATE
        try:
            values[name] = _mean_over_channels(name, *sounds, rate)
        except (AudioError, MissingExtra) as error:
            missing[name] = " ".join(str(error).split())
    return values, missing


def _mean_over_channels(
    name: str, denoised: Waveform, clean: Waveform | None, sample_rate: int
) -> float:
    if clean is None and name not in NO_REFERENCE:
        raise AudioError("there is no clean file: add one")
    references = denoised if clean is None else clean
    metric: Callable[[Waveform, Waveform, int], float] = METRICS[name]
    value = float(
        np.mean([metric(*pair, sample_rate) for pair in zip(denoised, references, strict=True)])
    )
    if not math.isfinite(value):
        what = "infinite" if math.isinf(value) else "undefined"
        raise AudioError(f"{what}: the sounds are the same, or one is silent")
    return value


def _aligned(
    denoised: Waveform, clean: Waveform, sample_rate: int
) -> tuple[Waveform, Waveform | None]:
    """Cuts both to what they share once the delay is out; leaves them where none can be found."""
    try:
        lag = delay(denoised.mean(axis=0), clean.mean(axis=0), sample_rate)
    except (AudioError, MissingExtra):
        return denoised, clean
    length = denoised.shape[1] - abs(lag)
    start, reference = max(lag, 0), max(-lag, 0)
    return denoised[:, start : start + length], clean[:, reference : reference + length]


def _resampled(
    denoised: Waveform, clean: Waveform | None, sample_rate: int
) -> tuple[Waveform, Waveform | None]:
    """Both at `PERCEPTUAL_RATE`."""
    import soxr

    def resample(sound: Waveform) -> Waveform:
        return np.ascontiguousarray(soxr.resample(sound.T, sample_rate, PERCEPTUAL_RATE, "HQ").T)

    return resample(denoised), None if clean is None else resample(clean)


def fit(
    denoised: Waveform, sample_rate: int, noisy: Waveform, noisy_rate: int
) -> tuple[Waveform, str]:
    """Returns a foreign result (C, T) as long as the noisy sound, and what was done to it.

    Raises:
        AudioError: rate or channels differ, or the length by more than `TOLERANCE_S`.
    """
    if sample_rate != noisy_rate:
        raise AudioError(f"the result has {sample_rate} Hz instead of {noisy_rate}: keep the rate")
    channels, length = noisy.shape
    if len(denoised) != channels:
        raise AudioError(f"the result has {len(denoised)} channels instead of {channels}")
    longer = denoised.shape[1] - length
    if abs(longer) > TOLERANCE_S * sample_rate:
        seconds = abs(longer) / sample_rate
        what = "longer" if longer > 0 else "shorter"
        raise AudioError(f"the result is {seconds:.2f} s {what} than the noisy one: keep it whole")
    if longer > 0:
        return denoised[:, :length], f"cut by {longer} samples"
    if longer < 0:
        return np.pad(denoised, [(0, 0), (0, -longer)]), f"padded by {-longer} samples"
    return denoised, ""
