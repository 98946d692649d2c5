"""Pipelines: a string and a list of tables say the same, draws follow the seed, steps do theirs."""

import numpy as np
import pytest

from quieten.degrade import rms
from quieten.errors import ConfigError
from quieten.testsets.pipeline import degrade, parse_pipeline, rate_of
from quieten.testsets.steps import DEGRADATIONS, NoSounds

RATE = 16_000
ORIGINAL = "sample 5000 10000, whitenoise 0 0.01, reverb 10000"
SETTINGS = {"sample": {"low_hz": 4000}, "lowpass": {"cutoff_hz": 2000}, "codec": {"codec": "mulaw"}}


class Sounds(NoSounds):
    """A hiss and a room with one echo."""

    def noise(self, rng, length, sample_rate):
        return rng.standard_normal(length).astype(np.float32)

    def room(self, rng, sample_rate):
        response = np.zeros(2000, np.float32)
        response[[0, 1000]] = 1, 0.5
        return response


@pytest.fixture
def music(rng):
    time = np.arange(RATE) / RATE
    tones = sum(np.sin(2 * np.pi * f * time) for f in (220, 1500, 3000, 6000))
    return (0.1 * tones).astype(np.float32)


def test_the_original_string_is_understood():
    steps = parse_pipeline(ORIGINAL)
    assert [name for name, _ in steps] == ["sample", "whitenoise", "reverb"]
    sample, noise, reverb = (step for _, step in steps)
    assert (sample.low_hz, sample.high_hz) == (5000, 10000)
    assert (noise.variance, noise.intensity) == (0, 0.01)
    assert reverb.rate_hz == 10000 and rate_of(steps) == 10000


def test_tables_say_the_same():
    tables = [
        {"step": "sample", "low_hz": 5000, "high_hz": 10000},
        {"step": "whitenoise", "variance": 0, "intensity": 0.01},
        {"step": "reverb", "rate_hz": 10000},
    ]
    assert parse_pipeline(tables) == parse_pipeline(ORIGINAL)
    ranges = [{"step": "reverb", "room": "made", "drr_db": [0, 8]}]
    assert parse_pipeline("reverb room=made drr_db=0..8") == parse_pipeline(ranges)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_every_step_draws_from_its_generator_alone(name, music):
    pipeline = parse_pipeline([{"step": name, **SETTINGS.get(name, {})}])
    kept = music.copy()
    first, again, other = (
        degrade(music, RATE, pipeline, np.random.default_rng(seed), Sounds()) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.degraded, again.degraded)
    np.testing.assert_array_equal(music, kept)
    assert first.degraded.shape == first.target.shape == music.shape
    assert first.degraded.dtype == first.target.dtype == np.float32
    assert np.any(first.degraded != music) and [step for step, _ in first.drawn] == [name]
    if "noise" in name:
        assert np.any(first.degraded != other.degraded)


def test_a_chance_moves_no_later_draw(music):
    """What is drawn for the noise is the same whether the step before it is taken or not."""
    noise = {"step": "whitenoise", "snr_db": [0, 20]}
    with_clip, without = (
        degrade(
            music,
            RATE,
            parse_pipeline([{"step": "clip", "below_peak_db": [3, 9], "chance": chance}, noise]),
            np.random.default_rng(0),
        )
        for chance in (1.0, 0.0)
    )
    assert with_clip.drawn[-1] == without.drawn[-1] and len(without.drawn) == 1


def test_a_sampled_target_is_limited_to_the_high_rate(music):
    sound = degrade(music, RATE, parse_pipeline("sample 5000 10000"), np.random.default_rng(0))
    spectra = [
        np.abs(np.fft.rfft(part)) / music.size * 20 for part in (sound.degraded, sound.target)
    ]
    for frequency, expected in ((220, (1, 1)), (3000, (0, 1)), (6000, (0, 0))):
        levels = [spectrum[frequency] for spectrum in spectra]  # a bin a hertz
        assert levels == pytest.approx(expected, abs=0.02)


def test_a_limited_target_has_lost_what_the_sound_has_lost(music):
    given = "sample 4000 limits_target=true, whitenoise snr_db=30"
    sound = degrade(music, RATE, parse_pipeline(given), np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(sound.target)) / music.size * 20
    assert [spectrum[f] for f in (220, 1500, 3000)] == pytest.approx([1, 1, 0], abs=0.02)
    noise = sound.degraded - sound.target
    assert 20 * np.log10(rms(sound.target) / rms(noise)) == pytest.approx(30, abs=0.3)


@pytest.mark.parametrize("name", ["whitenoise", "pinknoise", "brownnoise", "tpdfnoise", "anynoise"])
def test_noise_has_its_level(name, music):
    by_snr = degrade(music, RATE, parse_pipeline(f"{name} snr_db=10"), np.random.default_rng(0))
    noise = by_snr.degraded - music
    assert 20 * np.log10(rms(music) / rms(noise)) == pytest.approx(10, abs=0.2)
    by_intensity = degrade(music, RATE, parse_pipeline(f"{name} 0 0.02"), np.random.default_rng(0))
    assert rms(by_intensity.degraded - music) == pytest.approx(0.02, rel=0.02)


def test_a_variance_spreads_the_intensity(music):
    pipeline = parse_pipeline("whitenoise 0.0001 0.05")
    levels = [
        rms(degrade(music, RATE, pipeline, np.random.default_rng(seed)).degraded - music)
        for seed in range(200)
    ]
    assert np.mean(levels) == pytest.approx(0.05, rel=0.05)
    assert np.std(levels) == pytest.approx(0.01, rel=0.15)


def test_a_measured_room_reverberates_at_its_ratio(music):
    pipeline = parse_pipeline("reverb room=measured drr_db=6")
    sound = degrade(music, RATE, pipeline, np.random.default_rng(0), Sounds())
    echo = sound.degraded - music
    np.testing.assert_array_equal(sound.target, music)
    assert not np.abs(echo[:1000]).max() > 1e-6  # the echo comes 1000 samples late, at -6 dB
    np.testing.assert_allclose(echo[1000:], 10 ** (-6 / 20) * music[:-1000], atol=1e-5)


def test_bits_and_clipping(music):
    eight = degrade(music, RATE, parse_pipeline("quantize 8"), np.random.default_rng(0)).degraded
    assert np.unique(eight).size <= 256 and np.abs(eight - music).max() <= 2**-8 + 1e-7
    clipped = degrade(music, RATE, parse_pipeline("clip 6"), np.random.default_rng(0)).degraded
    assert np.abs(clipped).max() == pytest.approx(np.abs(music).max() * 10 ** (-6 / 20))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("resample 5", "no step is called 'resample'"),
        ("sample", "step sample, low_hz"),
        ("sample 1 2 3", "takes low_hz, high_hz"),
        ("sample five", "step sample, low_hz"),
        ("whitenoise loudness=3", "it knows chance, variance, intensity"),
        ([{"low_hz": 3}], "a step without a name"),
    ],
)
def test_mistakes_are_named(given, message):
    with pytest.raises(ConfigError, match=message):
        parse_pipeline(given)


@pytest.mark.parametrize(
    ("text", "message"), [("noise 5", "no recordings"), ("reverb room=measured", "no room")]
)
def test_what_is_missing_is_named(text, message, music):
    with pytest.raises(ConfigError, match=message):
        degrade(music, RATE, parse_pipeline(text), np.random.default_rng(0))
