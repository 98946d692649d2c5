"""Sums of sines in noise: what is drawn is what was asked for."""

import numpy as np
import pytest
from numpy.typing import NDArray

from quieten.errors import ConfigError
from quieten.sines import GENERAL, PAPER, SinesConfig, mix

Array = NDArray[np.float64]


def power(signals: NDArray[np.floating]) -> Array:
    return np.mean(np.square(signals, dtype=np.float64), axis=-1)


def snr_db(clean: Array, rest: Array) -> Array:
    return 10 * np.log10(power(clean) / power(rest))


def test_the_same_seed_gives_the_same_signals_and_another_others():
    first, again, other = (GENERAL.draw(np.random.default_rng(seed), 4) for seed in (1, 1, 2))
    for one, two, three in zip(first, again, other, strict=True):
        assert one.dtype == np.float32 and one.shape == (4, 256)
        assert np.array_equal(one, two) and not np.array_equal(one, three)


def test_draw_gives_the_clean_and_the_noisy_of_all_that_was_drawn():
    clean, noisy = GENERAL.draw(np.random.default_rng(3), 5)
    drawn = GENERAL.draw_mixtures(np.random.default_rng(3), 5)
    assert np.array_equal(clean, drawn.clean) and np.array_equal(noisy, drawn.noisy)


def test_published_signals_are_means_of_three_unit_sines(rng: np.random.Generator):
    drawn = PAPER.draw_mixtures(rng, 100)
    assert drawn.frequency_hz.shape == (100, 3)
    assert drawn.frequency_hz.min() >= 10 and drawn.frequency_hz.max() <= 64
    time_s = np.arange(256) / 256
    expected = np.sin(2 * np.pi * drawn.frequency_hz[:, :, None] * time_s).mean(1)
    np.testing.assert_allclose(drawn.clean, expected, atol=3e-5)  # float32 of up to 64 cycles


def test_published_mixtures_are_at_minus_2_db_and_their_gains_add_up(rng: np.random.Generator):
    drawn = PAPER.draw_mixtures(rng, 2000)
    heard = drawn.gain[:, None] * drawn.clean
    rest = drawn.noisy - heard
    np.testing.assert_allclose(snr_db(heard, rest), -2, atol=1e-4)
    noise_gain = np.sqrt(power(rest) / power(drawn.noise))
    np.testing.assert_allclose(drawn.gain**2 + noise_gain**2, 1, atol=1e-5)
    assert drawn.gain.mean() == pytest.approx(0.695, abs=2e-3)
    assert drawn.noise.std() == pytest.approx(0.5, abs=5e-3)


def test_counts_outside_are_not_heard(rng: np.random.Generator):
    """Signals of one sine have one line in their spectrum."""
    config = SinesConfig(count=(1, 4), random_phase=True, frequency_hz=(20, 20), length=256)
    drawn = config.draw_mixtures(rng, 400)
    assert set(drawn.count.tolist()) == {1, 2, 3, 4}
    single = drawn.clean[drawn.count == 1]
    assert power(single) == pytest.approx(0.5, abs=1e-4)


def test_any_phase_and_unequal_amplitudes(rng: np.random.Generator):
    config = SinesConfig(count=(1, 1), amplitude=(0.5, 2.0), random_phase=True)
    clean, _ = config.draw(rng, 2000)
    assert abs(np.corrcoef(clean[:, 0], np.ones(2000) * np.arange(2000))[0, 1]) < 0.1
    assert clean[:, 0].std() > 0.5  # with phase 0 every signal starts at 0
    assert np.abs(clean).max() == pytest.approx(2.0, abs=0.05)
    assert np.abs(clean).max(1).min() == pytest.approx(0.5, abs=0.05)


def test_a_range_of_levels(rng: np.random.Generator):
    drawn = SinesConfig(snr_db=(-10, 20)).draw_mixtures(rng, 500)
    heard = drawn.gain[:, None] * drawn.clean
    levels = snr_db(heard, drawn.noisy - heard)
    assert levels.min() == pytest.approx(-10, abs=0.5)
    assert levels.max() == pytest.approx(20, abs=0.5)


@pytest.mark.parametrize(("colour", "slope_db"), [(0.0, 0.0), (1.0, -3.0), (2.0, -6.0)])
def test_coloured_noise_falls_by_3_db_an_octave_for_each_step(
    rng: np.random.Generator, colour: float, slope_db: float
):
    config = SinesConfig(noise_colour=(colour, colour), length=1024)
    noise = config.draw_mixtures(rng, 400).noise
    density = np.square(np.abs(np.fft.rfft(noise))).mean(0)
    low, high = density[20:40].mean(), density[160:320].mean()  # three octaves apart
    assert 10 * np.log10(high / low) / 3 == pytest.approx(slope_db, abs=0.3)
    assert noise.std() == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("length", [2, 255, 1001])
def test_any_length_and_rate(rng: np.random.Generator, length: int):
    config = SinesConfig(sample_rate=1000, length=length, noise_colour=(1, 1))
    drawn = config.draw_mixtures(rng, 3)
    for signals in (drawn.clean, drawn.noise, drawn.noisy):
        assert signals.shape == (3, length) and np.isfinite(signals).all()


def test_no_signals_are_no_signals(rng: np.random.Generator):
    clean, noisy = PAPER.draw(rng, 0)
    assert clean.shape == noisy.shape == (0, 256)


def test_mixing_gives_each_signal_its_own_level(rng: np.random.Generator):
    clean, noise = (rng.standard_normal((3, 500)).astype(np.float32) for _ in range(2))
    noisy, gain = mix(clean, noise, np.array([-5.0, 0.0, 5.0]))
    heard = gain[:, None] * clean
    np.testing.assert_allclose(snr_db(heard, noisy - heard), [-5, 0, 5], atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frequency_hz": (10, 200)}, "frequency_hz = 10, 200: use values from 1e-06 to 128"),
        ({"frequency_hz": (60, 10)}, "lowest first"),
        ({"frequency_hz": (0, 10)}, "frequency_hz"),
        ({"count": (0, 3)}, "count = 0, 3: use values from 1"),
        ({"count": (5, 1)}, "count"),
        ({"amplitude": (0, 0)}, "the highest must be above 0"),
        ({"amplitude": (-1, 1)}, "amplitude"),
        ({"snr_db": (float("nan"), 1)}, "snr_db"),
        ({"length": 1}, "length = 1: use values from 2"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"noise_std": 0}, "noise_std"),
        ({"noise_colour": (0, 9)}, "noise_colour"),
    ],
)
def test_models_that_cannot_be_say_why(change: dict[str, object], words: str):
    with pytest.raises(ConfigError) as caught:
        SinesConfig(**change)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_descriptions_say_what_is_drawn():
    assert PAPER.describe() == "3 sines of 10 to 64 Hz and amplitude 1, phase 0"
    expected = "1 to 5 sines of 10 to 64 Hz and amplitude 0.3 to 1, any phase"
    assert GENERAL.describe() == expected
