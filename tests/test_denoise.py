"""What a sound must keep: length, place, level, image and, where nothing is removed, every bit."""

from collections.abc import Callable

import numpy as np
import pytest

import tiny_model
from quieten.denoise import Denoiser, Stream
from quieten.errors import AudioError, ConfigError, ModelError, QuietenError
from quieten.runtime import Model, load

RATES = [8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000]
ROUNDING = 1e-6  # of float32 transforms on samples below 1


def make_noise(*shape: int, level: float = 0.1, seed: int = 7) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def level_db(waveform: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(waveform, dtype=np.float64)) + 1e-30))


def band(waveform: np.ndarray, sample_rate: int, low_hz: float, high_hz: float) -> np.ndarray:
    """The part of a waveform (..., T) between two frequencies."""
    spectrum = np.fft.rfft(waveform)
    hz = np.fft.rfftfreq(waveform.shape[-1], 1 / sample_rate)
    spectrum[..., (hz < low_hz) | (hz >= high_hz)] = 0
    return np.fft.irfft(spectrum, waveform.shape[-1])


@pytest.fixture
def constant(tmp_path) -> Callable[[complex], Model]:
    return lambda gain: load(tiny_model.constant(tmp_path, gain))


@pytest.fixture
def smoother(tmp_path) -> Model:
    return load(tiny_model.smoother(tmp_path))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("shape", [(5001,), (1, 5001), (2, 5001)])
def test_identity_gives_the_input_back(constant, rate, shape):
    waveform = make_noise(*shape)
    denoised = Denoiser(constant(1))(waveform, rate)
    assert denoised.shape == waveform.shape and denoised.dtype == np.float32
    np.testing.assert_array_equal(denoised, waveform)  # nothing removed: every bit is kept


@pytest.mark.parametrize("rate", RATES)
def test_a_constant_mask_scales_the_whole_band(constant, rate):
    waveform = make_noise(2, 30_001)
    denoised = Denoiser(constant(0.5))(waveform, rate)
    np.testing.assert_allclose(denoised, 0.5 * waveform, atol=ROUNDING)


def test_a_complex_mask_turns_the_phase(constant):
    seconds = np.arange(16_000) / 16_000
    waveform = np.cos(2 * np.pi * 1000 * seconds).astype(np.float32)
    denoised = Denoiser(constant(0.5j))(waveform, 16_000)
    expected = -0.5 * np.sin(2 * np.pi * 1000 * seconds)
    # the window leaks a little beyond 0 Hz, where the turn goes the other way
    np.testing.assert_allclose(denoised[600:-600], expected[600:-600], atol=2e-4)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("place", [0, 1, 1000, 4999])
def test_an_impulse_stays_in_its_place(constant, rate, place):
    impulse = np.zeros(5000, np.float32)
    impulse[place] = 1
    denoised = Denoiser(constant(0.25))(impulse, rate)
    assert np.argmax(np.abs(denoised)) == place
    np.testing.assert_allclose(denoised, 0.25 * impulse, atol=ROUNDING)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rate", RATES)
def test_limit_0_is_the_input_bit_for_bit(smoother, rate, dtype):
    waveform = np.random.default_rng(1).standard_normal((2, 3001)).astype(dtype)
    denoised = Denoiser(smoother, attenuation_limit_db=0)(waveform, rate)
    assert denoised.dtype == dtype and denoised is not waveform
    np.testing.assert_array_equal(denoised, waveform)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("limit_db", [0.5, 6, 12, 40])
def test_the_limit_is_all_that_silence_takes(constant, rate, limit_db):
    waveform = make_noise(2, 20_000)
    denoised = Denoiser(constant(0), attenuation_limit_db=limit_db)(waveform, rate)
    np.testing.assert_allclose(denoised, waveform * 10 ** (-limit_db / 20), atol=ROUNDING)


@pytest.mark.parametrize("limit_db", [None, float("inf")])
def test_without_a_limit_all_may_go(constant, limit_db):
    denoised = Denoiser(constant(0), attenuation_limit_db=limit_db)(make_noise(9000), 48_000)
    np.testing.assert_allclose(denoised, 0, atol=ROUNDING)


def test_the_limit_blends_input_and_result(smoother):
    waveform, share = make_noise(9000), 10 ** (-12 / 20)
    full = Denoiser(smoother)(waveform, 44_100)
    limited = Denoiser(smoother, attenuation_limit_db=12)(waveform, 44_100)
    np.testing.assert_allclose(limited, share * waveform + (1 - share) * full, atol=ROUNDING)


def test_float64_loses_nothing(constant, smoother):
    waveform = np.random.default_rng(2).uniform(-1, 1, (2, 9000))
    same = Denoiser(constant(1))(waveform, 48_000)
    assert same.dtype == np.float64
    np.testing.assert_array_equal(same, waveform)
    denoised = Denoiser(smoother)(waveform, 48_000)
    coarse = Denoiser(smoother)(waveform.astype(np.float32), 48_000)
    assert denoised.dtype == np.float64
    np.testing.assert_allclose(denoised, coarse, atol=1e-6)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_linked_channels_keep_the_image(smoother, rate):
    mono, gains = make_noise(rate), np.array([[1.0], [0.3], [-0.05]], np.float32)
    waveform = mono * gains
    denoised = Denoiser(smoother)(waveform, rate)
    assert level_db(denoised) < level_db(waveform) - 1  # the mask did something
    np.testing.assert_allclose(denoised, denoised[:1] * gains, atol=ROUNDING)


def test_linked_channels_keep_the_phase_between_them(smoother):
    rate, delay = 16_000, 5
    source = make_noise(rate + delay)
    waveform = np.stack([source[delay:], 0.5 * source[:-delay]])
    denoised = Denoiser(smoother)(waveform, rate)
    for low_hz, high_hz in ((300, 1000), (1000, 4000)):
        before, after = (
            [np.fft.rfft(band(side, rate, low_hz, high_hz)) for side in sound]
            for sound in (waveform, denoised)
        )
        turn = np.angle(np.vdot(before[0], before[1]) / np.vdot(after[0], after[1]))
        assert abs(turn) < 0.05
        ratios = [level_db(a.real) - level_db(b.real) for a, b in (before, after)]
        assert ratios[0] == pytest.approx(ratios[1], abs=0.2)


def test_separate_channels_are_denoised_alone(smoother):
    waveform = np.stack([make_noise(20_000), make_noise(20_000, level=0.5, seed=8)])
    denoised = Denoiser(smoother, channels="separate")(waveform, 22_050)
    for side, alone in zip(denoised, waveform, strict=True):
        np.testing.assert_allclose(side, Denoiser(smoother)(alone, 22_050), atol=ROUNDING)
    assert np.abs(denoised - Denoiser(smoother)(waveform, 22_050)).max() > 0.01


@pytest.mark.parametrize("channels", ["linked", "separate"])
def test_mono_in_stereo_is_mono(smoother, channels):
    mono = make_noise(20_000)
    denoised = Denoiser(smoother, channels=channels)(np.stack([mono, mono]), 48_000)
    np.testing.assert_array_equal(denoised[0], denoised[1])
    np.testing.assert_allclose(denoised[0], Denoiser(smoother)(mono, 48_000), atol=ROUNDING)


def test_channels_in_antiphase_are_denoised_like_one(smoother):
    mono = make_noise(20_000)
    denoised = Denoiser(smoother)(np.stack([mono, -mono]), 48_000)
    np.testing.assert_allclose(denoised[0], Denoiser(smoother)(mono, 48_000), atol=ROUNDING)
    np.testing.assert_array_equal(denoised[0], -denoised[1])


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
def test_noise_above_the_top_goes_with_the_noise_below_it(tmp_path, rate):
    """A mask that varies over time and bins: both bands lose the same, within 0.3 dB."""
    waveform = make_noise(2 * rate)
    model = tiny_model.gate(tmp_path, threshold=1e6, closed=0.1)
    denoised = Denoiser(model)(waveform, rate)
    lost = [
        level_db(band(waveform, rate, *edges)) - level_db(band(denoised, rate, *edges))
        for edges in ((5000, 7500), (8000, 12_000), (12_000, rate / 2))
    ]
    assert lost == pytest.approx([20, 20, 20], abs=0.01)
    varying = Denoiser(tiny_model.smoother(tmp_path))(waveform, rate)
    lost = [
        level_db(band(waveform, rate, *edges)) - level_db(band(varying, rate, *edges))
        for edges in ((5000, 7500), (8500, rate / 2))
    ]
    assert lost[0] > 1 and lost[0] == pytest.approx(lost[1], abs=0.3)


def test_a_sibilant_keeps_its_band_above_the_top(tmp_path):
    rate = 48_000
    background = make_noise(2 * rate, level=0.001)
    burst = np.zeros_like(background)
    inside = slice(int(0.8 * rate), int(1.1 * rate))
    burst[inside] = band(make_noise(2 * rate, seed=9), rate, 5000, 12_000)[inside]
    model = tiny_model.gate(tmp_path, threshold=0.1, closed=0.05)  # background: 0.016 a bin
    denoised = Denoiser(model)(background + burst, rate)

    middle = slice(int(0.85 * rate), int(1.05 * rate))
    kept = band(denoised[middle], rate, 8000, 12_000) - band(burst[middle], rate, 8000, 12_000)
    assert level_db(kept) < level_db(band(burst[middle], rate, 8000, 12_000)) - 30
    pause = slice(int(1.3 * rate), int(1.9 * rate))
    lost = level_db(background[pause]) - level_db(denoised[pause])
    assert lost > 25  # while the background around it goes, above 8 kHz too


@pytest.mark.parametrize("rate", [11_025, 16_000, 48_000])
@pytest.mark.parametrize("channels", ["linked", "separate"])
def test_the_future_never_changes_the_past(smoother, rate, channels):
    waveform = make_noise(2, 20_000)
    other = waveform.copy()
    other[:, 12_000:] = make_noise(2, 8000, level=1.0, seed=11)
    denoiser = Denoiser(smoother, channels=channels)
    safe = 12_000 - denoiser.stream(rate, 2).latency
    one, two = (denoiser(sound, rate)[:, :safe] for sound in (waveform, other))
    np.testing.assert_allclose(one, two, atol=ROUNDING)


def odd_sounds() -> dict[str, np.ndarray]:
    """Sounds that break what is not careful."""
    noise = make_noise(2, 3000)
    broken = noise.copy()
    broken[0, 100], broken[1, 200:300], broken[0, 2999] = np.nan, np.inf, -np.inf
    lsb = np.random.default_rng(3).integers(-1, 2, 3000) / 2**15
    return {
        "not finite": broken,
        "all nan": np.full((2, 3000), np.nan, np.float32),
        "silence": np.zeros((2, 3000), np.float32),
        "one bit": lsb.astype(np.float32),
        "dc": np.ones(3000, np.float32),
        "clipping": np.sign(noise),
        "huge": np.full(3000, 1e30, np.float32),
        "huge64": np.full((2, 3000), -1e300),
        "denormal": np.full(3000, 1e-40, np.float32),
        "nothing": np.zeros(0, np.float32),
        "nothing stereo": np.zeros((2, 0), np.float32),
        "one sample": np.ones(1, np.float32),
        "eight channels": make_noise(8, 3000),
        "eight single samples": make_noise(8, 1),
        "in columns": make_noise(3000, 2).T,
    }


@pytest.mark.parametrize("name", odd_sounds())
@pytest.mark.parametrize("rate", [8000, 44_100, 48_000])
def test_odd_sounds_stay_finite_and_as_long(smoother, name, rate):
    waveform = odd_sounds()[name]
    before = waveform.copy()
    for channels in ("linked", "separate"):
        denoised = Denoiser(smoother, channels=channels)(waveform, rate)
        assert denoised.shape == waveform.shape and denoised.dtype == waveform.dtype
        assert np.isfinite(denoised).all()
    np.testing.assert_array_equal(waveform, before)  # the caller's array is not touched


def test_broken_samples_count_as_silence(constant):
    waveform = make_noise(5000)
    waveform[[10, 2000]] = np.nan, np.inf
    expected = np.where(np.isfinite(waveform), waveform, 0)
    np.testing.assert_array_equal(Denoiser(constant(1))(waveform, 16_000), expected)


def test_a_long_sound_is_the_same_as_its_parts(constant):
    """More frames than one call of the model takes."""
    waveform = make_noise(2, 256 * 128 * 2 + 77)
    denoised = Denoiser(constant(0.5))(waveform, 8000)
    np.testing.assert_allclose(denoised, 0.5 * waveform, atol=ROUNDING)


@pytest.mark.parametrize("shape", [(), (0, 100), (2, 3, 100), (48_000, 2)])
def test_wrong_shapes_say_what_fits(smoother, shape):
    with pytest.raises(AudioError, match=r"use \(samples,\) or \(channels, samples\)"):
        Denoiser(smoother)(np.zeros(shape, np.float32), 16_000)


@pytest.mark.parametrize("dtype", [np.int16, np.float16, np.complex64])
def test_wrong_types_say_what_fits(smoother, dtype):
    with pytest.raises(AudioError, match="use float32 or float64"):
        Denoiser(smoother)(np.zeros(100, dtype), 16_000)


@pytest.mark.parametrize("rate", [0, 7999, 192_001, 16_000.5])
def test_wrong_rates_say_what_fits(smoother, rate):
    with pytest.raises(AudioError, match="from 8000 to 192000 Hz"):
        Denoiser(smoother)(make_noise(100), rate)


@pytest.mark.parametrize("limit_db", [-1, -0.001, float("nan")])
def test_wrong_limits_say_what_fits(smoother, limit_db):
    for make in (Denoiser, lambda model, **given: Stream(16_000, model=model, **given)):
        with pytest.raises(ConfigError, match="use 0"):
            make(smoother, attenuation_limit_db=limit_db)


def test_other_wrong_settings(smoother):
    with pytest.raises(ConfigError, match='"linked" or "separate"'):
        Denoiser(smoother, channels="both")
    with pytest.raises(ModelError, match="unknown model 'none'"):
        Denoiser("none")
    with pytest.raises(QuietenError, match="0 channels"):
        Denoiser(smoother).stream(16_000, 0)
