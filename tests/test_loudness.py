"""BS.1770: its filters, its gates, and the cases of EBU Tech 3341 carried over to one channel.

The cases are stereo: one channel that is 3.01 dB louder has the power of both.
"""

import numpy as np
import pytest

from quieten.errors import AudioError
from quieten.loudness import HIGH_PASS, SHELF, k_weighted, loudness

RATES = [8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000]
STEREO_DB = 10 * np.log10(2)


def sine(level_dbfs, duration_s, sample_rate=16_000, frequency_hz=1000.0):
    seconds = np.arange(round(duration_s * sample_rate)) / sample_rate
    return 10 ** (level_dbfs / 20) * np.sin(2 * np.pi * frequency_hz * seconds)


def sequence(*parts):
    """Sines of (level of each stereo channel in dBFS, seconds), one after the other."""
    return np.concatenate([sine(level + STEREO_DB, duration) for level, duration in parts])


@pytest.mark.parametrize("sample_rate", RATES)
def test_a_full_scale_sine_has_minus_3_01_at_every_rate(sample_rate):
    """The standard states the figure for 997 Hz; the filter starts from silence, hence 1e-3."""
    tone = sine(0.0, 5, sample_rate, frequency_hz=997)
    assert loudness(tone, sample_rate) == pytest.approx(-3.01, abs=1e-3)


@pytest.mark.parametrize(
    ("parts", "expected_lufs"),
    [
        ([(-23.0, 20)], -23.0),  # case 1
        ([(-33.0, 20)], -33.0),  # case 2
        ([(-36.0, 10), (-23.0, 60), (-36.0, 10)], -23.0),  # case 3: the relative gate
        ([(-72.0, 10), (-36.0, 10), (-23.0, 60), (-36.0, 10), (-72.0, 10)], -23.0),  # 4: both
        ([(-26.0, 20), (-20.0, 20.1), (-26.0, 20)], -23.0),  # case 5: neither gate
    ],
    ids=["case 1", "case 2", "case 3", "case 4", "case 5"],
)
def test_cases_of_ebu_tech_3341(parts, expected_lufs):
    """The document allows 0.1 LU."""
    assert loudness(sequence(*parts), 16_000) == pytest.approx(expected_lufs, abs=0.1)


def test_without_the_gates_the_cases_would_fail():
    """Mean power of case 3 is 1.2 dB below its loudness: the gate is what the case tests."""
    parts = [(-36.0, 10), (-23.0, 60), (-36.0, 10)]
    powers = np.array([10 ** (level / 10) for level, _ in parts])
    durations = np.array([duration for _, duration in parts])
    ungated = 10 * np.log10(powers @ durations / durations.sum())
    assert ungated < -24 and loudness(sequence(*parts), 16_000) > -23.1


def test_filters_are_the_recursive_ones_of_the_standard(rng):
    signal = pytest.importorskip("scipy.signal", reason='needs pip install "quieten[eval]"')
    noise = rng.standard_normal(48_000)
    expected = signal.lfilter(*HIGH_PASS, signal.lfilter(*SHELF, noise))
    np.testing.assert_allclose(k_weighted(noise, 48_000), expected, atol=1e-10)


@pytest.mark.parametrize("sample_rate", RATES)
@pytest.mark.parametrize("frequency_hz", [40.0, 300.0, 1500.0, 3500.0])
def test_weighting_is_the_same_at_every_rate(sample_rate, frequency_hz):
    """Bilinear designs for each rate differ by 0.2 dB at 8 kHz; the rest is the filter starting."""
    given, expected = (
        np.std(k_weighted(sine(0, 3, rate, frequency_hz), rate)[rate:])
        for rate in (sample_rate, 48_000)
    )
    assert 20 * np.log10(given / expected) == pytest.approx(0.0, abs=2e-3)


def test_weighting_takes_rumble_and_adds_presence():
    """Deep sound falls by 12 dB an octave; above 4 kHz, the shelf adds 4 dB."""

    def gain_db(hertz):
        weighted = k_weighted(sine(0, 3, 48_000, hertz), 48_000)[48_000:]
        return 20 * np.log10(np.std(weighted) * np.sqrt(2))

    assert gain_db(10_000) == pytest.approx(4.04, abs=0.02)
    assert gain_db(997) == pytest.approx(0.691, abs=2e-3)  # what the formula subtracts again
    assert gain_db(5) - gain_db(10) == pytest.approx(-12, abs=1)


def test_nothing_comes_before_a_click_and_its_answer_is_not_folded_back():
    click = np.zeros(16_000)
    click[-1] = 1.0  # with a shorter transform, its answer would stand at the start
    weighted = k_weighted(click, 48_000)
    assert np.abs(weighted[:-1]).max() < 1e-12 and weighted[-1] == pytest.approx(SHELF[0][0])


def test_a_gain_shifts_loudness_by_as_much(speech_like):
    speech = speech_like(4.0)
    assert loudness(0.25 * speech, 16_000) - loudness(speech, 16_000) == pytest.approx(
        20 * np.log10(0.25), abs=1e-6
    )


def test_pauses_do_not_make_speech_quieter(speech_like):
    speech = speech_like(6.0)
    with_pause = np.concatenate([speech, np.zeros(6 * 16_000, np.float32)])
    # three blocks hold both the end of the speech and silence
    assert loudness(with_pause, 16_000) == pytest.approx(loudness(speech, 16_000), abs=0.3)


def test_an_unfinished_block_at_the_end_does_not_count():
    tone = sine(-20, 0.4, 48_000)
    burst = np.concatenate([tone, sine(0, 0.1, 48_000)])
    assert loudness(burst[:-1], 48_000) == pytest.approx(loudness(tone, 48_000), abs=1e-9)
    assert loudness(burst, 48_000) > loudness(tone, 48_000) + 5


@pytest.mark.parametrize(
    ("waveform", "sample_rate", "message"),
    [
        (np.ones((2, 16_000)), 16_000, "one channel"),
        (np.ones(6399), 16_000, r"at least 0\.4 s"),
        (np.ones(0), 16_000, r"at least 0\.4 s"),
        (np.zeros(16_000), 16_000, "give a louder one"),
        (sine(-69, 1), 16_000, "below -70 LUFS"),  # -72 LUFS
        (np.full(16_000, np.nan), 16_000, "NaN"),
        (np.full(16_000, np.inf), 16_000, "infinity"),
        (np.ones(16_000), 0, "sample rate of 0 Hz"),
    ],
)
def test_what_has_no_loudness_is_refused(waveform, sample_rate, message):
    with pytest.raises(AudioError, match=message):
        loudness(waveform, sample_rate)
