"""Degradations measure what they say and draw from their generator alone."""

import numpy as np
import pytest

from quieten.degrade import (
    active_rms,
    add_noise,
    band_limit,
    change_speed,
    clip,
    clip_at,
    convolve,
    direct_and_tail,
    equalize,
    fft_size,
    fit_length,
    make_noise,
    make_room_response,
    mu_law,
    noise_gain,
    resample,
    resample_down_up,
    reverberate,
    rms,
    shift_formants,
    through_rate,
    whisper,
)

RATE = 16_000
DRAWN = {"equalize": equalize, "band_limit": band_limit, "clip": clip}


@pytest.fixture
def noise(rng):
    return (0.05 * rng.standard_normal(2 * RATE)).astype(np.float32)


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 5.0, 30.0])
def test_mixtures_measure_the_snr_asked_for(speech_like, noise, snr_db):
    """Active speech level over noise RMS; 0.01 dB covers float32 rounding."""
    clean = speech_like()
    noisy = add_noise(clean, noise, RATE, snr_db=snr_db)
    measured_db = 20 * np.log10(active_rms(clean, RATE) / rms(noisy - clean))
    assert measured_db == pytest.approx(snr_db, abs=0.01)
    assert noisy.dtype == np.float32


def test_silence_cannot_be_scaled_to_an_snr(speech_like):
    clean = speech_like()
    silence = np.zeros_like(clean)
    np.testing.assert_array_equal(add_noise(clean, silence, RATE, snr_db=0), clean)
    assert noise_gain(silence, clean, RATE, 0.0) == 0.0


def test_pauses_do_not_change_the_active_level(noise):
    """RMS falls by 6 dB when three quarters are silence; the active level stays (2 %: edges)."""
    sparse = np.concatenate([noise, np.zeros(3 * noise.size, np.float32)])
    assert rms(sparse) == pytest.approx(rms(noise) / 2, rel=1e-6)
    assert active_rms(sparse, RATE) == pytest.approx(active_rms(noise, RATE), rel=0.02)


@pytest.mark.parametrize("length", [0, 1, 100])
def test_levels_of_almost_nothing(length):
    waveform = np.ones(length, np.float32)
    assert rms(waveform) == active_rms(waveform, RATE) == (1.0 if length else 0.0)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 100, 1025, 48_128])
def test_fft_sizes_are_long_enough_and_not_wasteful(length):
    size = fft_size(length)
    assert max(length, 1) <= size <= max(1.34 * length, 2)
    while size % 2 == 0:
        size //= 2
    assert size in (1, 3, 5)


def test_convolution_equals_the_definition(rng):
    x, h = rng.standard_normal(300).astype(np.float32), rng.standard_normal(90).astype(np.float32)
    np.testing.assert_allclose(convolve(x, h), np.convolve(x, h)[:300], atol=1e-4)


def test_early_reflections_stay_in_the_target(speech_like):
    """Direct sound, one reflection at 30 ms, one at 200 ms: the second is reverberation."""
    waveform = speech_like()
    response = np.zeros(RATE // 2, np.float32)
    direct, early_at, late_at = 100, 100 + 480, 100 + 3200
    response[[direct, early_at, late_at]] = 0.5, 0.25, 0.2
    reverberant, early = reverberate(waveform, response, RATE)
    scale = 1 / np.hypot(0.5, 0.25)  # unit energy of the early part
    expected = 0.5 * scale * waveform
    expected[480:] += 0.25 * scale * waveform[:-480]
    np.testing.assert_allclose(early, expected, atol=1e-5)
    expected[3200:] += 0.2 * scale * waveform[:-3200]
    np.testing.assert_allclose(reverberant, expected, atol=1e-5)


def test_a_room_without_echo_changes_nothing(speech_like):
    waveform, response = speech_like(), np.zeros(800, np.float32)
    response[300] = -0.1  # delay, level and sign of the direct sound are taken out, or kept in both
    reverberant, early = reverberate(waveform, response, RATE)
    np.testing.assert_allclose(reverberant, -waveform, atol=1e-6)
    np.testing.assert_array_equal(reverberant, early)


def test_made_rooms_begin_with_the_direct_sound_and_decay():
    for seed in range(20):
        response = make_room_response(RATE, np.random.default_rng(seed))
        assert response[0] == 1.0 and np.argmax(np.abs(response)) == 0
        assert response.dtype == np.float32 and 0.1 * RATE <= response.size <= 0.7 * RATE
        half = response.size // 2
        assert rms(response[half:]) < rms(response[16:half])


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("length", [1, 999, RATE])
def test_same_generator_same_sound(name, length, noise):
    waveform = noise[:length]
    kept = waveform.copy()
    first, again, other = (
        DRAWN[name](waveform, RATE, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(waveform, kept)  # the input is left alone
    assert first.shape == waveform.shape and first.dtype == np.float32
    assert np.all(np.isfinite(first))
    assert length < 999 or np.any(first != other)


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("length", [0, 1000])
def test_silence_stays_silence(name, length, rng):
    waveform = np.zeros(length, np.float32)
    np.testing.assert_array_equal(DRAWN[name](waveform, RATE, rng), waveform)


def test_nothing_is_left_above_the_cutoff(noise):
    """The slope of the filter is 200 Hz wide; the highest cutoff is 95 % of the band."""
    for seed in range(10):
        limited = band_limit(noise, RATE, np.random.default_rng(seed))
        cutoff_hz = np.random.default_rng(seed).uniform(3000, 7600)
        power = np.abs(np.fft.rfft(limited)) ** 2
        frequency_hz = np.fft.rfftfreq(limited.size, 1 / RATE)
        assert power[frequency_hz > cutoff_hz + 250].sum() < 1e-4 * power.sum()
        kept = np.abs(np.fft.rfft(noise))[(frequency_hz > 100) & (frequency_hz < cutoff_hz - 100)]
        found = np.sqrt(power[(frequency_hz > 100) & (frequency_hz < cutoff_hz - 100)])
        assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(kept), rel=0.01)


def test_clipping_cuts_peaks_only(speech_like, rng):
    waveform = speech_like()
    clipped = clip(waveform, RATE, rng)
    limit = np.abs(clipped).max()
    assert 0.3 <= limit / np.abs(waveform).max() <= 0.9
    np.testing.assert_array_equal(clipped, waveform.clip(-limit, limit))


@pytest.mark.parametrize("factor", [0.85, 1.0, 1.18])
def test_speed_changes_length_and_pitch(factor):
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    changed = change_speed(tone, factor)
    assert changed.size == pytest.approx(RATE / factor, abs=2) and changed.dtype == np.float32
    peak_hz = np.argmax(np.abs(np.fft.rfft(changed, RATE)))  # zero-padded: bins of 1 Hz
    assert peak_hz == pytest.approx(1000 * factor, abs=2)


def tone(frequency_hz, rate=RATE, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(rate) / rate)).astype(
        np.float32
    )


@pytest.mark.parametrize(("below_db", "share"), [(0.0, 1.0), (6.0, 0.501187), (20.0, 0.1)])
def test_clipping_stays_as_far_below_the_peak_as_asked(speech_like, below_db, share):
    waveform = speech_like()
    clipped = clip_at(waveform, below_db)
    limit = np.float32(share) * np.abs(waveform).max()
    np.testing.assert_allclose(clipped, waveform.clip(-limit, limit), atol=1e-6)
    assert below_db or np.array_equal(clipped, waveform)
    assert clipped.dtype == np.float32


def test_a_stay_at_a_lower_rate_loses_its_band_and_nothing_else():
    """At 8 kHz there is room below 4 kHz; 0.1 s at the ends belongs to the filters."""
    low, high = tone(1000), tone(6000)
    result = resample_down_up(low + high, RATE, 8000)
    assert result.shape == low.shape and result.dtype == np.float32
    middle = slice(RATE // 10, -RATE // 10)
    np.testing.assert_allclose(result[middle], low[middle], atol=1e-3)  # in phase, at full level


@pytest.mark.parametrize("length", [0, 1, 5, 4001])
@pytest.mark.parametrize("low_rate", [3000, 11_025, RATE])
def test_a_stay_at_a_lower_rate_keeps_the_length(noise, length, low_rate):
    assert resample_down_up(noise[:length], RATE, low_rate).shape == (length,)


def test_resampling_keeps_phase_and_level():
    middle = slice(4800, -4800)
    np.testing.assert_allclose(
        resample(tone(1000), RATE, 48_000)[middle], tone(1000, 48_000)[middle], atol=1e-3
    )


def test_mu_law_has_the_steps_of_its_formula():
    """Step k of 127 lies at (256^(k/127) - 1) / 255 on either side of zero (closed form)."""
    steps = (256.0 ** (np.arange(128) / 127) - 1) / 255
    line = np.linspace(-1.2, 1.2, 200_001).astype(np.float32)
    rounded = mu_law(line)
    np.testing.assert_allclose(np.unique(np.abs(rounded)), steps, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(mu_law(-line), -rounded)
    assert np.all(np.diff(rounded) >= 0)


@pytest.mark.parametrize("level_db", [0, -20, -30])
def test_mu_law_keeps_its_quality_over_a_wide_range(level_db):
    """About 38 dB for a tone at any of these levels: what companding is for (uniform: 50 to 20)."""
    sound = tone(440, amplitude=0.9 * 10 ** (level_db / 20))
    snr_db = 20 * np.log10(rms(sound) / rms(mu_law(sound) - sound))
    assert 34 < snr_db < 42


def test_fitted_lengths():
    waveform = np.arange(1, 4, dtype=np.float32)
    assert fit_length(waveform, 2).tolist() == [1, 2]
    assert fit_length(waveform, 5).tolist() == [1, 2, 3, 0, 0]


@pytest.mark.parametrize(
    ("colour", "slope_db"), [("whitenoise", 0), ("pinknoise", -3.01), ("brownnoise", -6.02)]
)
def test_made_noise_falls_by_its_colour(colour, slope_db):
    """Powers of octave-spaced bands of equal width differ by the slope a octave."""
    noise = make_noise(colour, 2**18, RATE, np.random.default_rng(0))
    assert rms(noise) == pytest.approx(1, rel=0.02)
    power = np.abs(np.fft.rfft(noise)) ** 2
    hz = np.fft.rfftfreq(noise.size, 1 / RATE)
    levels = [
        10 * np.log10(power[(hz > f - 50) & (hz < f + 50)].mean()) for f in (500, 1000, 2000, 4000)
    ]
    assert np.diff(levels) == pytest.approx([slope_db] * 3, abs=0.5)


def test_tpdf_noise_has_a_triangular_density():
    noise = make_noise("tpdfnoise", 200_000, RATE, np.random.default_rng(0))
    assert rms(noise) == pytest.approx(1, rel=0.01)
    assert np.abs(noise).max() <= np.sqrt(6)
    assert np.mean(noise**4) == pytest.approx(2.4, rel=0.02)  # kurtosis of a triangle; Gauss: 3


@pytest.mark.parametrize("filter_name", ["sinc", "usual", "gentle"])
def test_a_lower_rate_keeps_what_lies_below_its_half(filter_name):
    time = np.arange(RATE) / RATE
    low, high = (np.sin(2 * np.pi * f * time).astype(np.float32) for f in (1000, 5000))
    through = through_rate(low + high, RATE, 8000, filter_name)
    middle = slice(2000, -2000)
    np.testing.assert_allclose(through[middle], low[middle], atol=3e-3)
    assert through_rate(low, RATE, RATE) is low


def test_the_direct_sound_passes_as_it_is(rng):
    response = make_room_response(RATE, rng)
    late = np.concatenate([np.zeros(300, np.float32), -0.5 * response])
    room = direct_and_tail(late, RATE, 6.0)
    assert room[0] == 1 and not room[1:40].any()
    assert 10 * np.log10(1 / np.square(room[1:]).sum()) == pytest.approx(6.0, abs=1e-3)
    as_it_is = direct_and_tail(late, RATE)
    np.testing.assert_allclose(
        as_it_is[40:], response[40:] / np.sqrt(np.square(response[:40]).sum()), rtol=1e-5
    )


def test_a_whisper_has_the_envelope_of_the_voice_but_no_pitch(rng):
    """A buzz of 125 Hz in two formants: one period later it is the same, its whisper is not."""
    time = np.arange(2 * RATE) / RATE
    partials = np.arange(125, 4000, 125)
    strength = np.exp(-(((partials - 700) / 300) ** 2)) + np.exp(-(((partials - 2500) / 300) ** 2))
    buzz = (0.05 * strength @ np.sin(2 * np.pi * np.outer(partials, time))).astype(np.float32)
    whispered = whisper(buzz, RATE, rng)
    assert whispered.shape == buzz.shape and rms(whispered) == pytest.approx(rms(buzz), rel=1e-3)
    period = RATE // 125
    for sound, low, high in ((buzz, 0.99, 1.01), (whispered, -0.2, 0.2)):
        assert low < np.corrcoef(sound[period:], sound[:-period])[0, 1] < high
    power = np.square(np.abs(np.fft.rfft(whispered)))  # half a hertz a bin
    formant, valley = power[4600:5400].mean(), power[2800:3600].mean()
    assert formant > 20 * valley


@pytest.mark.parametrize("factor", [0.85, 1.2])
def test_shifted_formants_keep_the_pitch(factor):
    time = np.arange(2 * RATE) / RATE
    partials = np.arange(125, 6000, 125)
    strength = 0.1 + np.exp(-(((partials - 1500) / 300) ** 2))
    buzz = (0.05 * strength @ np.sin(2 * np.pi * np.outer(partials, time))).astype(np.float32)
    shifted = shift_formants(buzz, RATE, factor)
    assert rms(shifted) == pytest.approx(rms(buzz), rel=1e-3)
    power = np.square(np.abs(np.fft.rfft(shifted[: RATE // 125 * 200])))  # 200 periods
    comb = power[::200]
    assert comb.sum() > 0.99 * power.sum()
    assert 125 * np.argmax(comb) == pytest.approx(1500 * factor, abs=125)


def test_formants_where_they_are_leave_the_voice_alone(rng):
    voice = rng.standard_normal(RATE).astype(np.float32)
    np.testing.assert_allclose(shift_formants(voice, RATE, 1.0), voice, atol=1e-4)


@pytest.mark.parametrize("length", [0, 1, 100, 5000])
def test_a_whisper_keeps_the_length(rng, length):
    sound = rng.standard_normal(length).astype(np.float32)
    assert whisper(sound, RATE, rng).shape == sound.shape
