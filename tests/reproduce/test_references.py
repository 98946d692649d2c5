"""Log-MMSE that knows the level of the noise."""

from collections.abc import Callable

import numpy as np
import pytest

from quieten.denoise import Denoiser
from quieten.metrics import snr_db
from quieten.reproduce.clips import Clip, add_white_noise
from quieten.reproduce.references import known_noise_log_mmse

RATE = 8000


@pytest.mark.parametrize("level", [9.7, -5.47])
def test_knowing_the_level_helps(speech_like: Callable, level: float):
    clip = Clip("x", "x", 0, speech_like(4.0, RATE))
    noisy = add_white_noise(clip, level, 0)
    denoised = known_noise_log_mmse(noisy, noisy - clip.clean, RATE)
    assert denoised.shape == noisy.shape
    by_itself = snr_db(Denoiser("logmmse")(noisy, RATE), clip.clean)
    assert snr_db(denoised, clip.clean) > max(by_itself, level + 4)


def test_noise_alone_falls_to_the_floor(rng: np.random.Generator):
    """The gain at the least a-priori SNR, -25 dB, is about -23 dB on noise."""
    noise = rng.normal(0, 0.1, 4 * RATE).astype(np.float32)
    left = known_noise_log_mmse(noise, noise, RATE)[RATE:]
    assert -30 < 20 * np.log10(left.std() / noise.std()) < -15


def test_without_noise_nothing_changes(speech_like: Callable):
    clean = speech_like(1.0, RATE)
    assert np.array_equal(known_noise_log_mmse(clean, np.zeros_like(clean), RATE), clean)


def test_level_does_not_matter(speech_like: Callable):
    clip = Clip("x", "x", 0, speech_like(2.0, RATE))
    noisy = add_white_noise(clip, 5.0, 0)
    noise = noisy - clip.clean
    loud = known_noise_log_mmse(4 * noisy, 4 * noise, RATE)
    np.testing.assert_allclose(loud, 4 * known_noise_log_mmse(noisy, noise, RATE), atol=1e-5)
