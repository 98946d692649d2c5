"""Samples as numbers: floats inside, what a file's subtype stores outside."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quieten.formats import FLOAT_SUBTYPES, INTEGER_BITS, WIDE_SUBTYPES

Waveform = NDArray[np.float32] | NDArray[np.float64]
"""Samples (C, T) in [-1, 1]."""


def with_channels(waveform: Waveform) -> Waveform:
    """Returns (C, T) for (C, T) or (T,)."""
    samples: NDArray[Any] = np.asarray(waveform)
    return samples if samples.ndim == 2 else samples.reshape(1, -1)


def repair(block: Waveform) -> tuple[Waveform, int]:
    """Returns the block with silence for NaN and infinite samples, and how many those were."""
    finite = np.isfinite(block)
    replaced = block.size - int(np.count_nonzero(finite))
    if replaced == 0:
        return block, 0
    repaired: NDArray[Any] = np.where(finite, block, block.dtype.type(0))
    return repaired, replaced


def to_stored(samples: Waveform, subtype: str) -> tuple[NDArray[Any], Waveform, int]:
    """Returns (data, samples as stored, number limited) for samples that go into a subtype.

    The data are floats, or integers at the top of 16 or 32 bit. Full scale limits all but the
    float subtypes.
    """
    limited = 0
    data: NDArray[Any] = samples
    if subtype not in FLOAT_SUBTYPES:
        limited = int(np.count_nonzero(np.abs(samples) > 1))
        data = np.clip(np.nan_to_num(samples), -1, 1)
    data = data.astype(np.float64 if subtype in WIDE_SUBTYPES else np.float32)
    bits = INTEGER_BITS.get(subtype)
    return (*(_quantise(data, bits) if bits else (data, data)), limited)


def _quantise(samples: NDArray[Any], bits: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns (integers for libsndfile, the same as floats) of samples in [-1, 1].

    libsndfile's own scaling by 2**(bits-1) - 1 would change untouched samples.
    """
    scale = 2.0 ** (bits - 1)
    whole = np.minimum(np.rint(samples.astype(np.float64) * scale), scale - 1)
    stored = (whole / scale).astype(samples.dtype)
    if bits <= 16:
        return whole.astype(np.int16) << (16 - bits), stored
    return (whole.astype(np.int64) << (32 - bits)).astype(np.int32), stored
